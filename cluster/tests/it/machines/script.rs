//! One job for every runtime, in the words of its model: a file is written, a command is run,
//! and another one that its person denies.

use serde_json::json;
use troupe_testkit::{Answer, Piece, Rule};

use super::kit::team;

/// What the model of a runtime says.
pub(super) struct Script {
    shell: &'static str,
    /// It speaks as OpenAI's do.
    pub(super) openai: bool,
    /// A leader has a member of its Team do it.
    delegates: bool,
    steps: [Answer; 3],
}

impl Script {
    pub(super) fn claude_code() -> Self {
        let bash =
            |command: &str| Answer::tool("Bash", json!({"command": command, "description": "d"}));
        let write = Answer::text("I will write. ").and(Piece::Tool {
            name: "Write".into(),
            args: json!({"file_path": "a.txt", "content": "one\ntwo\n"}),
        });
        let steps = [write, bash("echo ran > b.txt"), bash("touch denied.txt")];
        Self { shell: "ClaudeCode", openai: false, delegates: false, steps }
    }

    pub(super) fn codex() -> Self {
        let exec = |command: &str| Answer::tool("exec_command", json!({"cmd": command}));
        let patch = "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: a.txt\n+one\n+two\n\
                     *** End Patch\nEOF\n";
        let steps = [exec(patch), exec("echo ran > b.txt"), exec("touch denied.txt")];
        Self { shell: "Codex", openai: true, delegates: false, steps }
    }

    pub(super) fn agno() -> Self {
        let run = |command: &str| Answer::tool("run_command", json!({"command": command}));
        let write = json!({"path": "a.txt", "content": "one\ntwo\n"});
        let write = Answer::tool("write_file", write);
        let steps = [write, run("echo ran > b.txt"), run("touch denied.txt")];
        Self { shell: "Agno", openai: true, delegates: false, steps }
    }

    /// An Agno team: its leader has a member do all of it.
    pub(super) fn agno_team() -> Self {
        Self { delegates: true, ..Self::agno() }
    }

    /// The Team `devs`, with a model at this address.
    pub(super) fn team(&self, base_url: &str) -> String {
        let team = team(self.shell, base_url);
        if !self.delegates {
            return team;
        }
        team.replace("collaborationModel: solo\n", "collaborationModel: coordinate\n")
            + "  - {botRef: {name: hand}, prompt: You do the steps.}\n---\n\
             kind: Bot\nmetadata: {name: hand}\nspec:\n  ghostRef: {name: dev}\n  \
             shellRef: {name: sh}\n  modelRef: {name: fake}\n"
    }

    /// What the Task shows of it, besides the end.
    pub(super) const fn shows(&self) -> &'static [&'static str] {
        if self.delegates {
            &["hand: do the steps", "hand, a member of the team, asks.", "I did what I may."]
        } else {
            &[]
        }
    }

    /// The rules of a model that is asked for `the job`; ends with `All done.`.
    pub(super) fn rules(&self) -> Vec<Rule> {
        let [write, ran, denied] = self.steps.clone();
        let last = Answer::text("All done.").thinking("hm");
        let asked = if self.delegates { "do the steps" } else { "the job" };
        let rule = Rule::any().human(asked).then(write).then(ran).then(denied);
        if self.delegates {
            let to = json!({"member_id": "hand", "task": "do the steps"});
            let give = Answer::tool("delegate_task_to_member", to);
            let leader = Rule::any().human("the job").then(give).then(last);
            return vec![rule.then(Answer::text("I did what I may.")), leader];
        }
        // Codex hears why as a message of its person.
        vec![rule.then(last.clone()), Rule::any().human("not today").then(last)]
    }
}
