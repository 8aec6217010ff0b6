//! One job for every runtime, in the words of its model: a file is written, a command is run,
//! and another one that its person denies.

use serde_json::json;
use troupe_testkit::{Answer, Piece, Rule};

/// What the model of a runtime says.
pub(super) struct Script {
    /// It speaks as OpenAI's do.
    pub(super) openai: bool,
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
        Self { openai: false, steps }
    }

    pub(super) fn codex() -> Self {
        let exec = |command: &str| Answer::tool("exec_command", json!({"cmd": command}));
        let patch = "apply_patch <<'EOF'\n*** Begin Patch\n*** Add File: a.txt\n+one\n+two\n\
                     *** End Patch\nEOF\n";
        let steps = [exec(patch), exec("echo ran > b.txt"), exec("touch denied.txt")];
        Self { openai: true, steps }
    }

    pub(super) fn agno() -> Self {
        let run = |command: &str| Answer::tool("run_command", json!({"command": command}));
        let write = json!({"path": "a.txt", "content": "one\ntwo\n"});
        let write = Answer::tool("write_file", write);
        let steps = [write, run("echo ran > b.txt"), run("touch denied.txt")];
        Self { openai: true, steps }
    }

    /// The rules of a model that is asked for `the job`; ends with `All done.`.
    pub(super) fn rules(self) -> Vec<Rule> {
        let [write, ran, denied] = self.steps;
        let last = Answer::text("All done.").thinking("hm");
        let rule =
            Rule::any().human("the job").then(write).then(ran).then(denied).then(last.clone());
        // Codex hears why as a message of its person.
        vec![rule, Rule::any().human("not today").then(last)]
    }
}
