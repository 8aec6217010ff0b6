//! The resources of these tests and the words of their model.

use std::time::Duration;

use crate::{Answer, FakeModel, Piece, Script, Turn};
use serde_json::json;

/// How the model behaves in a load.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Words of an answer.
    pub words: usize,
    /// Before each event.
    pub gap: Duration,
}

/// Members of every team: one on each wire format.
pub const ANTHROPIC: &str = "ann";
pub const OPENAI: &str = "oskar";
/// Has the tools of an MCP server.
pub const TOOLSMITH: &str = "tim";

/// Models, Bots (`ann`, `oskar`, `tim`).
pub fn cast(fake: &FakeModel, mcp: Option<&str>) -> String {
    let url = fake.url();
    let mut yaml = String::new();
    for (name, provider) in [("fake-claude", "claude"), ("fake-openai", "openai")] {
        yaml.push_str(&format!(
            "kind: Model\nmetadata: {{name: {name}}}\nspec:\n  modelConfig:\n    \
             env: {{model: {provider}, model_id: fake-1, api_key: sk-test-0123456789, \
             base_url: \"{url}\"}}\n---\n"
        ));
    }
    yaml.push_str(&bot(ANTHROPIC, "fake-claude", None));
    yaml.push_str(&bot(OPENAI, "fake-openai", None));
    yaml.push_str(&bot(TOOLSMITH, "fake-claude", mcp));
    yaml
}

/// A Bot with a Ghost of its own.
pub fn bot(name: &str, model: &str, mcp: Option<&str>) -> String {
    let servers = mcp.map_or(String::new(), |url| {
        format!("\n  mcpServers: {{tools: {{type: streamable-http, url: \"{url}\"}}}}")
    });
    format!(
        "kind: Ghost\nmetadata: {{name: {name}}}\nspec:\n  systemPrompt: I am {name} myself.{servers}\n\
         ---\nkind: Bot\nmetadata: {{name: {name}}}\nspec:\n  ghostRef: {{name: {name}}}\n  \
         shellRef: {{name: Chat}}\n  modelRef: {{name: {model}}}\n---\n"
    )
}

/// A Team; a member `name!` has a gate after its stage.
pub fn team(name: &str, model: &str, members: &[&str]) -> String {
    let mut yaml = format!(
        "kind: Team\nmetadata: {{name: {name}}}\nspec:\n  collaborationModel: {model}\n  \
         maxConcurrentTasks: 100\n  maxRounds: 2\n  members:\n"
    );
    for member in members {
        let bot = member.trim_end_matches('!');
        let gate = member.ends_with('!');
        yaml.push_str(&format!(
            "    - {{botRef: {{name: {bot}}}, requireConfirmation: {gate}, \
             contextPassing: original_and_previous}}\n"
        ));
    }
    yaml.push_str("---\n");
    yaml
}

/// The five models of a load: name of the Team, its YAML.
pub fn teams() -> Vec<(&'static str, String)> {
    vec![
        ("alone", team("alone", "solo", &[TOOLSMITH])),
        ("line", team("line", "pipeline", &["ann!", OPENAI, TOOLSMITH])),
        ("desk", team("desk", "route", &[ANTHROPIC, OPENAI, TOOLSMITH])),
        ("crew", team("crew", "coordinate", &[ANTHROPIC, OPENAI, TOOLSMITH])),
        ("table", team("table", "collaborate", &[ANTHROPIC, OPENAI])),
    ]
}

/// The words of one model call: every word names its request, its place and how many there are,
/// so that a text tells whether it is whole and of one attempt.
pub fn words(count: usize) -> String {
    let word = |n| format!("⟨{{request}}:{n}/{count}⟩ 漢字🙂 ");
    (1..=count).map(word).collect()
}

/// Checks that a text holds only whole answers; how many.
pub fn whole_answers(text: &str) -> Result<usize, String> {
    let mut answers = 0;
    let mut open: Option<(u64, u64)> = None;
    for mark in text.split('⟨').skip(1) {
        let Some((mark, _)) = mark.split_once('⟩') else {
            return Err(format!("a torn word ⟨{mark}"));
        };
        let numbers: Option<Vec<u64>> = mark.split([':', '/']).map(|n| n.parse().ok()).collect();
        let Some([request, n, count]) = numbers.as_deref() else {
            return Err(format!("a torn word ⟨{mark}⟩"));
        };
        let expected = open.map_or((*request, 1), |(request, last)| (request, last + 1));
        if (*request, *n) != expected {
            return Err(format!("⟨{mark}⟩ stands where {expected:?} belongs"));
        }
        open = (n < count).then_some((*request, *n));
        answers += usize::from(n == count);
    }
    match open {
        Some((request, last)) => Err(format!("request {request} ends after {last} words")),
        None => Ok(answers),
    }
}

/// Answers in words, leads sensibly, and counts (once, as the first thing) where that is on offer.
pub fn load_script(pace: Pace) -> Script {
    Script::new(move |turn| {
        let mut answer = lead(turn).unwrap_or_else(|| {
            let text = Answer::text(words(pace.words)).thinking("I think, {request}.");
            let counts = turn.step == 0 && turn.offers("count");
            let call = Piece::Tool { name: "count".to_owned(), args: json!({}) };
            if counts { text.and(call) } else { text }
        });
        answer = answer.chunked(7).slow(pace.gap);
        answer
    })
}

fn lead(turn: &Turn) -> Option<Answer> {
    if turn.step > 0 {
        return None;
    }
    if turn.offers("choose_member") {
        let args = json!({"member": OPENAI, "reason": "He knows."});
        return Some(Answer::tool("choose_member", args));
    }
    if turn.offers("split_work") {
        let items = json!([{"member": OPENAI, "instructions": "The first half."},
            {"member": TOOLSMITH, "instructions": "The second half."}]);
        return Some(Answer::tool("split_work", json!({"items": items})));
    }
    if turn.offers("conclude") {
        let call = json!({"done": turn.number.is_multiple_of(2), "summary": "So it is."});
        let text = Answer::text(words(12));
        return Some(text.and(Piece::Tool { name: "conclude".to_owned(), args: call }));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(request: u64, count: usize) -> String {
        words(count).replace("{request}", &request.to_string())
    }

    #[test]
    fn torn_and_mixed_answers_are_found() {
        let (one, two) = (said(1, 3), said(2, 3));
        assert_eq!(whole_answers(&format!("{one}\n\n{two}")), Ok(2));
        assert_eq!(whole_answers("no words at all"), Ok(0));
        for at in 1..one.chars().count() - 8 {
            let half: String = one.chars().take(at).collect();
            assert!(whole_answers(&format!("{half}{two}")).is_err(), "{half:?}");
        }
        let rest: String = two.chars().skip(12).collect();
        assert!(whole_answers(&rest).is_err());
        assert!(whole_answers(&format!("{one}⟨1:3/3⟩")).is_err());
    }
}
