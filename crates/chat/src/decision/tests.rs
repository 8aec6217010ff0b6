use troupe_domain::task::leader::WorkItem;

use super::*;
use crate::prompt::tests::team;

fn choose(member: &str) -> LeaderDecision {
    LeaderDecision::ChooseMember { member: member.into(), reason: "r".into() }
}

#[test]
fn arguments_are_judged() {
    let plan = team(&["lead", "ann", "bob"]);
    let tool = LeaderTool::ChooseMember;
    let args = json!({"member": "ann", "reason": "r", "more": 1});
    assert_eq!(tool.judge(&plan, &args), Ok(choose("ann")));
    let wrong = |args: Value| tool.judge(&plan, &args).unwrap_err();
    assert!(wrong(json!("{\"member\"")).contains("not a JSON object"));
    assert!(wrong(json!({"reason": "r"})).contains("member"));
    assert!(wrong(json!({"member": "lead"})).contains("ann, bob"));
    assert!(wrong(json!({"member": 7})).contains("do not fit"));
    let split = LeaderTool::SplitWork;
    assert!(split.judge(&plan, &json!({"items": []})).unwrap_err().contains("1 to 8"));
    let item = json!({"member": "bob", "instructions": "x"});
    let items = vec![WorkItem { member: "bob".into(), instructions: "x".into() }];
    let args = json!({"items": [item]});
    assert_eq!(split.judge(&plan, &args), Ok(LeaderDecision::SplitWork { items }));
}

#[test]
fn one_fenced_block_counts() {
    let plan = team(&["lead", "ann"]);
    let read = |text: &str| LeaderTool::ChooseMember.judge_text(&plan, text);
    let bare = "I think:\n```json\n{\"member\": \"ann\", \"reason\": \"r\"}\n```\n";
    assert_eq!(read(bare), Some(Ok(choose("ann"))));
    let tagged =
        "```JSON\n{\"tool\": \"choose_member\", \"member\": \"ann\", \"reason\": \"r\"}\n```";
    assert_eq!(read(tagged), Some(Ok(choose("ann"))));
    let nested = "```json\n{\"choose_member\": {\"member\": \"ann\", \"reason\": \"r\"}}\n```";
    assert_eq!(read(nested), Some(Ok(choose("ann"))));
    assert_eq!(read("ann answers"), None);
    assert_eq!(read("```\n{\"member\": \"ann\"}\n```"), None);
    assert_eq!(read("```json\n{\"member\": \"ann\"}"), None, "a block that never ends");
    assert!(read(&format!("{bare}{bare}")).unwrap().unwrap_err().contains("more than one"));
    assert!(read("```json\n{\n```").unwrap().unwrap_err().contains("cannot be read"));
    let other = "```json\n{\"tool\": \"invalid\", \"error\": \"x\"}\n```";
    assert!(read(other).unwrap().unwrap_err().contains("choose_member"));
}

#[test]
fn schemas_name_the_members() {
    let plan = team(&["lead", "ann", "ann"]);
    let names = json!(["ann#1", "ann#2"]);
    let choose = LeaderTool::ChooseMember.definition(&plan).input_schema;
    assert_eq!(choose["properties"]["member"]["enum"], names);
    let split = LeaderTool::SplitWork.definition(&plan).input_schema;
    assert_eq!(split["properties"]["items"]["items"]["properties"]["member"]["enum"], names);
}

#[test]
fn decisions_are_said_in_words() {
    assert_eq!(in_words(&choose("ann")), "r");
    let item = |n: &str, t: &str| WorkItem { member: n.into(), instructions: t.into() };
    let items = vec![item("ann", "one\ntwo"), item("bob", "three")];
    let words = in_words(&LeaderDecision::SplitWork { items });
    assert_eq!(words, "1. **ann**: one\n   two\n2. **bob**: three");
    let done = LeaderDecision::Conclude { done: true, summary: String::new() };
    assert_eq!(in_words(&done), "I have nothing to add.");
}
