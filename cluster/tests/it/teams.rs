//! All five team models against a fake server on both wire formats.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use troupe_testkit::{Answer, FakeModel, Gate, Piece, Script, wait_until};

use crate::{
    fold::{Event, Row},
    node::{Home, Node, PATIENCE, Person},
    scene::{self, Pace, team, words},
};

struct Stage {
    _home: Home,
    node: Node,
    who: Person,
    fake: FakeModel,
}

impl Stage {
    async fn new(script: Script, teams: &[String]) -> Result<Self> {
        let fake = FakeModel::start(script).await?;
        let home = Home::new()?;
        let node = Node::start(&home).await?;
        let who = node.setup().await?;
        let yaml = format!("{}{}", scene::cast(&fake, None), teams.concat());
        node.apply(&who, &yaml).await?;
        Ok(Self { _home: home, node, who, fake })
    }

    /// Runs one turn to its end; its rows and frames.
    async fn turn(&self, team: &str, ends: &str) -> Result<(Vec<Row>, Vec<Event>)> {
        let task = self.node.run(&self.who, team, "Do it.").await?;
        self.node.settled(&self.who, &task, ends).await?;
        let fold = self.node.assert_fold(&self.who, &task).await?;
        let frames = self.node.frames(&self.who, &task, 0).await?;
        Ok((fold.rows().to_vec(), frames))
    }
}

fn kinds(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.kind.as_str()).collect()
}

fn sender(frames: &[Event], row: &Row) -> String {
    let message =
        frames.iter().find(|e| e.name == "chat:message" && e.data["subtask_id"] == row.id.as_str());
    let sender = message.map(|e| &e.data["sender"]).unwrap_or(&Value::Null);
    sender["name"].as_str().or(sender["type"].as_str()).unwrap_or_default().to_owned()
}

/// Codes of the fall-backs that people were shown.
fn fallbacks(frames: &[Event]) -> Vec<String> {
    let shown = frames.iter().filter(|e| e.name == "chat:status_updated");
    let shown = shown.filter(|e| e.data["phase"] == "fallback");
    shown
        .map(|e| {
            assert!(e.data["text"].as_str().is_some_and(|t| t.len() > 10), "in words: {e:?}");
            e.data["wait"]["code"].as_str().unwrap_or_default().to_owned()
        })
        .collect()
}

fn call(tool: &str, args: Value) -> Piece {
    Piece::Tool { name: tool.to_owned(), args }
}

#[tokio::test]
async fn all_five_models_answer_in_their_rows() -> Result<()> {
    let pace = Pace { words: 6, gap: Duration::ZERO };
    let teams: Vec<String> = scene::teams().into_iter().map(|(_, yaml)| yaml).collect();
    let stage = Stage::new(scene::load_script(pace), &teams).await?;

    let (rows, frames) = stage.turn("alone", "COMPLETED").await?;
    assert_eq!(kinds(&rows), ["user", "answer"]);
    assert_eq!(sender(&frames, &rows[1]), "tim");
    assert_eq!(scene::whole_answers(&rows[1].text()), Ok(1));

    let (rows, frames) = stage.turn("desk", "COMPLETED").await?;
    assert_eq!(kinds(&rows), ["user", "routing", "answer"]);
    assert_eq!(sender(&frames, &rows[1]), "ann");
    assert_eq!(sender(&frames, &rows[2]), "oskar", "the leader's choice answers");
    assert_eq!(rows[1].text(), "He knows.", "who and why");

    let (rows, frames) = stage.turn("crew", "COMPLETED").await?;
    assert_eq!(kinds(&rows), ["user", "plan", "answer", "answer", "merge"]);
    let senders: Vec<String> = rows.iter().skip(1).map(|row| sender(&frames, row)).collect();
    assert_eq!(senders, ["ann", "oskar", "tim", "ann"]);

    let (rows, frames) = stage.turn("table", "COMPLETED").await?;
    assert_eq!(rows.last().map(|row| row.kind.as_str()), Some("conclusion"));
    let speakers = rows.len() - 2;
    assert!(speakers == 2 || speakers == 4, "one or two rounds: {:?}", kinds(&rows));
    let order: Vec<String> = rows[1..=speakers].iter().map(|row| sender(&frames, row)).collect();
    assert_eq!(order, ["ann", "oskar", "ann", "oskar"][..speakers]);

    let (rows, _) = stage.turn("line", "PENDING_CONFIRMATION").await?;
    assert_eq!(kinds(&rows), ["user", "answer"], "the gate is after the first stage");
    Ok(())
}

#[tokio::test]
async fn members_of_coordinate_work_at_the_same_time() -> Result<()> {
    let gate = Gate::closed();
    let held = gate.clone();
    let script = Script::new(move |turn| {
        if turn.offers("split_work") {
            let items = json!([{"member": "oskar", "instructions": "Part one."},
                {"member": "tim", "instructions": "Part two."},
                {"member": "oskar", "instructions": "Part three."}]);
            return Answer::tool("split_work", json!({"items": items}));
        }
        Answer::text(words(3)).held_by(&held, 1)
    });
    let crew = team("crew", "coordinate", &["ann", "oskar", "tim"]);
    let stage = Stage::new(script, &[crew]).await?;
    let task = stage.node.run(&stage.who, "crew", "Do it.").await?;
    wait_until(PATIENCE, async || stage.fake.active() == 3).await;
    assert_eq!(stage.fake.active_max(), 3, "three parts of the work at once");
    gate.open();
    stage.node.settled(&stage.who, &task, "COMPLETED").await?;
    let fold = stage.node.assert_fold(&stage.who, &task).await?;
    assert_eq!(kinds(fold.rows()), ["user", "plan", "answer", "answer", "answer", "merge"]);
    Ok(())
}

#[tokio::test]
async fn a_leader_who_never_decides_validly_is_replaced_in_plain_sight() -> Result<()> {
    let script = Script::new(|turn| {
        let nobody = json!({"member": "nobody", "reason": "I like the name"});
        let answer = if turn.offers("choose_member") {
            Answer::tool("choose_member", nobody)
        } else if turn.offers("split_work") {
            Answer::tool("split_work", json!({"items": []}))
        } else if turn.offers("conclude") {
            Answer::text(words(2)).and(call("conclude", json!({"done": "perhaps"})))
        } else {
            Answer::text(words(4))
        };
        answer.with_any_tool()
    });
    let of = |name, model| team(name, model, &["ann", "oskar", "tim"]);
    let teams = [of("desk", "route"), of("crew", "coordinate"), of("table", "collaborate")];
    let stage = Stage::new(script, &teams).await?;

    let (rows, frames) = stage.turn("desk", "COMPLETED").await?;
    assert_eq!(fallbacks(&frames), ["route_leader_answers"]);
    assert_eq!(sender(&frames, rows.last().context("no rows")?), "ann", "the leader answers");

    let (rows, frames) = stage.turn("crew", "COMPLETED").await?;
    assert_eq!(fallbacks(&frames), ["coordinate_one_member"]);
    assert_eq!(kinds(&rows), ["user", "plan", "answer", "merge"]);
    assert_eq!(sender(&frames, &rows[2]), "oskar", "the first other member does all of it");

    let (rows, frames) = stage.turn("table", "COMPLETED").await?;
    assert_eq!(fallbacks(&frames), ["collaborate_round_ends"; 2], "one for each of two rounds");
    assert_eq!(kinds(&rows), ["user", "answer", "answer", "conclusion"], "each ends at once");
    // The error was quoted to the model once before the fall-back.
    let quoted = |text: &str| {
        let asked = stage.fake.requests();
        asked.iter().filter(|r| r.body.to_string().contains(text)).count()
    };
    assert!(quoted("there is no member `nobody`") >= 1, "the re-ask quotes the error");
    Ok(())
}

#[tokio::test]
async fn a_second_try_of_the_leader_counts_and_so_does_plain_json() -> Result<()> {
    let right = json!({"member": "tim", "reason": "Second thoughts."});
    let fenced = "```json\n{\"member\": \"tim\", \"reason\": \"In text.\"}\n```";
    let script = Script::new(move |turn| {
        let choice = |args: &Value| Answer::tool("choose_member", args.clone());
        if !turn.offers("choose_member") {
            return Answer::text(words(3));
        }
        match (turn.system.starts_with("I am ann myself."), turn.step) {
            (true, 0) => choice(&json!({"member": "nobody", "reason": ""})),
            (true, _) => choice(&right),
            (false, _) => Answer::text(fenced),
        }
    });
    let teams = [
        team("desk", "route", &["ann", "oskar", "tim"]),
        team("desk-two", "route", &["oskar", "ann", "tim"]),
    ];
    let stage = Stage::new(script, &teams).await?;
    for name in ["desk", "desk-two"] {
        let (rows, frames) = stage.turn(name, "COMPLETED").await?;
        assert_eq!(fallbacks(&frames), [] as [String; 0], "{name}");
        assert_eq!(kinds(&rows), ["user", "routing", "answer"], "{name}");
        assert_eq!(sender(&frames, &rows[2]), "tim", "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_failed_part_is_told_and_a_failed_speaker_is_left_out() -> Result<()> {
    let script = Script::new(|turn| {
        if turn.offers("split_work") {
            let items = json!([{"member": "oskar", "instructions": "Part one."},
                {"member": "tim", "instructions": "Part two."}]);
            return Answer::tool("split_work", json!({"items": items}));
        }
        if turn.system.starts_with("I am oskar myself.") {
            let kind = "invalid_request_error";
            let fault = troupe_testkit::Fault::status(400, kind, "Oskar is on leave", None);
            return Answer::fault(fault);
        }
        if turn.offers("conclude") {
            let done = json!({"done": true, "summary": "So it is."});
            return Answer::text(words(2)).and(call("conclude", done));
        }
        Answer::text(words(4))
    });
    let of = |name, model| team(name, model, &["ann", "oskar", "tim"]);
    let stage = Stage::new(script, &[of("crew", "coordinate"), of("table", "collaborate")]).await?;
    let (rows, _) = stage.turn("crew", "COMPLETED").await?;
    assert_eq!(kinds(&rows), ["user", "plan", "answer", "answer", "merge"]);
    let statuses: Vec<&str> = rows.iter().map(|row| row.status.as_str()).collect();
    assert_eq!(statuses[2..], ["FAILED", "COMPLETED", "COMPLETED"]);
    let (rows, frames) = stage.turn("table", "COMPLETED").await?;
    assert_eq!(fallbacks(&frames), ["collaborate_left_out"]);
    assert_eq!(kinds(&rows), ["user", "answer", "answer", "answer", "conclusion"]);
    let told = frames.iter().find(|e| e.name == "chat:error").context("no error is shown")?;
    assert!(told.data["error"].as_str().is_some_and(|t| t.contains("on leave")), "{told:?}");
    Ok(())
}
