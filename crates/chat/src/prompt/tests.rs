use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use troupe_domain::task::{
    CollaborationModel, ContextPassing, HistoryItem, MemberPlan, ModelPlan, TeamPlan, Work,
};
use troupe_llm::{Message, Part, Role};

use super::*;
use crate::caps::message_tokens;

/// A team whose first member leads.
pub(crate) fn team(names: &[&str]) -> TeamPlan {
    let member = |name: &&str| MemberPlan {
        name: (*name).to_owned(),
        shell_type: "Chat".into(),
        system_prompt: format!("I am {name}."),
        prompt: String::new(),
        require_confirmation: false,
        context_passing: ContextPassing::None,
        on: None,
        base_image: None,
        model: Some(model(200_000)),
        mcp_servers: BTreeMap::new(),
        skills: Vec::new(),
        skill_texts: Vec::new(),
    };
    TeamPlan {
        hash: "h".into(),
        name: "team".into(),
        namespace: "default".into(),
        display_name: "The Team".into(),
        model: CollaborationModel::Solo,
        max_rounds: 4,
        max_concurrent_tasks: 10,
        members: names.iter().map(member).collect(),
        leader: 0,
        deep_thinking: false,
    }
}

fn model(context_window: u64) -> ModelPlan {
    ModelPlan {
        name: "m".into(),
        provider: "demo".into(),
        model_id: "demo".into(),
        base_url: None,
        headers: BTreeMap::new(),
        sealed_key: None,
        bearer: false,
        small_model: None,
        context_window,
        max_output_tokens: None,
        thinking: None,
        trusted: false,
    }
}

pub(crate) fn person(name: &str, text: &str) -> HistoryItem {
    HistoryItem::Person { name: name.into(), text: text.into() }
}

pub(crate) fn said(index: u32, name: &str, text: &str) -> HistoryItem {
    let kind = troupe_types::MessageKind::Answer;
    HistoryItem::Member { name: name.into(), index, kind, text: text.into() }
}

fn texts(messages: &[Message]) -> Vec<String> {
    let line = |m: &Message| format!("{:?}: {}", m.role, m.text());
    messages.iter().map(line).collect()
}

#[test]
fn one_person_and_one_member_need_no_marks() {
    let plan = team(&["ann"]);
    let items = [person("Eve", "hello"), said(0, "ann", "hi"), person("Eve", "more")];
    let messages = history(&plan, 0, &Work::Answer, &items);
    assert_eq!(texts(&messages), ["User: hello", "Assistant: hi", "User: more"]);
    assert_eq!(system(&plan, 0, &Work::Answer), "I am ann.");
}

#[test]
fn voices_are_told_apart() {
    let plan = team(&["lead", "ann", "ann"]);
    let items = [
        person("E[v]e\n", "which one?"),
        said(1, "ann", "mine"),
        said(2, "ann", "other"),
        said(0, "lead", "own"),
    ];
    let work = Work::Discuss { round: 2 };
    let messages = history(&plan, 1, &work, &items);
    assert_eq!(
        texts(&messages),
        [
            "User: [person: Eve] which one?",
            "Assistant: mine",
            "User: [member: ann#2] other",
            "User: [member: lead] own\n\n[task] Round 2 of at most 4: it is your turn.",
        ]
    );
    let system = system(&plan, 1, &work);
    assert!(system.starts_with("I am ann.\n\nYou are `ann#1`"), "{system}");
    assert!(system.contains("- `lead`: I am lead.\n- `ann#2`"), "{system}");
}

#[test]
fn a_leader_is_told_of_the_others() {
    let plan = team(&["lead", "ann", "bob"]);
    for work in [Work::Choose, Work::Split] {
        let system = system(&plan, 0, &work);
        assert!(system.contains("- `ann`: I am ann.\n- `bob`: I am bob."), "{system}");
        assert!(!system.contains("- `lead`"), "{system}");
    }
    let messages = history(&plan, 0, &Work::Choose, &[person("Eve", "hello ann")]);
    assert_eq!(texts(&messages), ["User: hello ann"], "the request stays as it is");
}

#[test]
fn stages_read_their_hand_off() {
    let mut plan = team(&["first", "second"]);
    plan.model = CollaborationModel::Pipeline;
    let work = Work::Stage { stage: 1 };
    let handed = |text: &str| [HistoryItem::Handoff { text: text.into() }];
    assert_eq!(texts(&history(&plan, 1, &work, &handed("do it"))), ["User: [hand-off]\ndo it"]);
    let empty = texts(&history(&plan, 1, &work, &handed(" ")));
    assert!(empty[0].contains("Nothing was handed over"), "{empty:?}");
    let system = system(&plan, 1, &work);
    assert!(system.contains("stage 2 of 2") && !system.contains("first"), "{system}");
    let item = Work::Item { item: 0, instructions: "x".into() };
    let part = texts(&history(&plan, 1, &item, &handed("x")));
    assert_eq!(part, ["User: [task] Your part of this work:\nx"]);
}

#[test]
fn the_last_message_is_a_users() {
    let plan = team(&["lead", "ann"]);
    let last = |work: &Work, items: &[HistoryItem]| {
        texts(&history(&plan, 0, work, items)).pop().unwrap_or_default()
    };
    assert!(last(&Work::Merge, &[said(0, "lead", "x")]).starts_with("User: [task] The parts"));
    assert_eq!(last(&Work::Answer, &[said(0, "lead", "x")]), "User: [task] Go on.");
    assert_eq!(last(&Work::Answer, &[]), "User: [task] Go on.");
}

#[test]
fn windows_leave_room_for_the_answer() {
    let window = |w: u64, out: Option<u64>| {
        let plan = ModelPlan { max_output_tokens: out, ..model(w) };
        Window::of(&plan)
    };
    assert_eq!(window(200_000, None), Window { trigger: 162_000, target: 126_000 });
    assert_eq!(window(0, None), Window { trigger: 100_800, target: 78_400 });
    assert_eq!(window(1_000_000, None).trigger, 856_800);
    assert_eq!(window(200_000, Some(4_000)).trigger, 176_400);
    assert_eq!(window(8_000, None), Window { trigger: 3_600, target: 2_800 });
}

pub(crate) fn call(id: &str) -> Message {
    let part = Part::ToolCall { id: id.into(), name: "t".into(), args: json!({}) };
    Message { role: Role::Assistant, parts: vec![part] }
}

pub(crate) fn result(id: &str, content: &str) -> Message {
    let (id, content) = (id.to_owned(), content.to_owned());
    Message::results(vec![Part::ToolResult { id, content, is_error: false, unknown: false }])
}

/// Every result follows its call, every call has its result.
pub(crate) fn is_paired(messages: &[Message]) -> bool {
    let mut open: Vec<String> = Vec::new();
    for message in messages {
        let mut calls = Vec::new();
        for part in &message.parts {
            match part {
                Part::ToolCall { id, .. } => calls.push(id.clone()),
                Part::ToolResult { id, .. } => {
                    let Some(at) = open.iter().position(|call| call == id) else { return false };
                    open.remove(at);
                }
                _ => {}
            }
        }
        if !open.is_empty() {
            return false;
        }
        open = calls;
    }
    open.is_empty()
}

#[test]
fn the_middle_goes_first() {
    let long = "word ".repeat(400);
    let all: Vec<Message> = (0..30).map(|n| Message::user(format!("{n} {long}"))).collect();
    let window = Window { trigger: 8_000, target: 7_000 };
    let fitted = fit(&all, None, &[], 100, window);
    let compaction = fitted.compaction.unwrap();
    assert_eq!((compaction.dropped_messages, compaction.shortened_texts), (18, 0));
    assert_eq!(fitted.messages.len(), 13);
    assert_eq!(fitted.messages[2].text(), "[18 earlier messages left out]");
    assert!(fitted.messages[12].text().starts_with("29 "));
    assert_eq!(fit(&all[..3], None, &[], 100, window).compaction, None);
}

#[test]
fn long_tool_loops_lose_old_results() {
    let long = "x".repeat(60_000);
    let asked = [Message::user("do it")];
    let own: Vec<Message> =
        (0..10).flat_map(|n| [call(&format!("c{n}")), result(&format!("c{n}"), &long)]).collect();
    let window = Window { trigger: 60_000, target: 50_000 };
    let fitted = fit(&asked, None, &own, 0, window);
    assert!(fitted.tokens <= window.trigger, "{}", fitted.tokens);
    assert_eq!(fitted.messages[0].text(), "do it");
    assert_eq!(fitted.messages.last(), own.last(), "the newest result stays whole");
    assert!(is_paired(&fitted.messages));
}

#[test]
fn one_text_that_is_too_long_is_cut() {
    let asked = [Message::user("x".repeat(4_000_000))];
    let window = Window { trigger: 50_000, target: 40_000 };
    assert!(fit(&asked, None, &[], 0, window).tokens <= window.target);
}

pub(crate) fn turns() -> impl Strategy<Value = Vec<Message>> {
    let turn = prop_oneof![
        "[a-z ]{1,400}".prop_map(|text| vec![Message::user(text)]),
        "[a-z ]{1,400}".prop_map(|text| vec![Message::assistant(text)]),
        ("[a-z]{8}", "[a-z ]{0,2000}").prop_map(|(id, text)| vec![call(&id), result(&id, &text)]),
    ];
    prop::collection::vec(turn, 1..40).prop_map(|turns| turns.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_cut_calls_keep_their_results(
        history in turns(), own in turns(), trigger in 50_u64..4_000,
    ) {
        let window = Window { trigger, target: trigger / 10 * 8 };
        let fitted = fit(&history, None, &own, 10, window);
        prop_assert!(is_paired(&fitted.messages));
        prop_assert_eq!(
            fitted.tokens,
            10 + fitted.messages.iter().map(message_tokens).sum::<u64>()
        );
        prop_assert!(!fitted.messages.is_empty());
    }
}
