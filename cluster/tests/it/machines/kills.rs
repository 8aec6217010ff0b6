//! kill -9 of the agent under each runtime, and under Claude Code among other faults: what was done
//! is told once, and the session goes on.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::Instant;
use troupe_testkit::{Answer, FakeModel, Gate, Piece, Rule, Script, Turn, try_until};

use super::{
    faults::{Door, number},
    kit::{
        Begun, KEY, Machine, answer, asked, asked_now, is_free, last_answer, model, runtimes, team,
    },
    router::Router,
};
use crate::node::{PATIENCE, Person, Rest};

/// A model whose second answer hangs at the gate; a session that goes on gets another one.
pub(super) fn cut_in_two(gate: &Gate) -> Vec<Rule> {
    let bash = json!({"command": "echo ran >> b.txt", "description": "d"});
    cut_after(Answer::tool("Bash", bash), gate)
}

/// The same with the call of any runtime's tool.
fn cut_after(call: Answer, gate: &Gate) -> Vec<Rule> {
    let rule = Rule::any()
        .human("the job")
        .then(call)
        .then(Answer::text("So far, so good. ").held_by(gate, 4))
        .then(Answer::text("never"));
    let again = Rule::any().human("was started anew").then(Answer::text("All done."));
    vec![again, rule, Rule::any().then(Answer::text("All done."))]
}

/// What the model is asked after its agent was killed is the session that it was asked in before.
pub(super) fn goes_on(fake: &FakeModel, before: u64) -> Result<()> {
    knows(fake, before, 2)
}

/// It is asked for the job, and told of its call this often: by whoever asks again, and by a
/// session that holds the call itself.
fn knows(fake: &FakeModel, before: u64, calls: usize) -> Result<()> {
    let later = fake.requests().into_iter().find(|request| request.number > before);
    let body = later.context("the model was not asked after the kill")?.body.to_string();
    let told = body.matches("echo ran").count();
    ensure!(body.contains("the job") && told >= calls, "told {told} times");
    Ok(())
}

#[tokio::test]
async fn a_killed_agent_goes_on_in_the_same_session() -> Result<()> {
    let bash = json!({"command": "echo ran >> b.txt", "description": "d"});
    killed_in_the_middle("ClaudeCode", Answer::tool("Bash", bash)).await
}

#[tokio::test]
async fn a_killed_agent_goes_on_in_the_same_thread_of_codex() -> Result<()> {
    let exec = json!({"cmd": "echo ran >> b.txt"});
    killed_in_the_middle("Codex", Answer::tool("exec_command", exec)).await
}

#[tokio::test]
async fn a_killed_agent_goes_on_in_the_same_session_of_agno() -> Result<()> {
    let run = json!({"command": "echo ran >> b.txt"});
    killed_in_the_middle("Agno", Answer::tool("run_command", run)).await
}

async fn killed_in_the_middle(shell: &str, call: Answer) -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let gate = Gate::closed();
    let fake = model(cut_after(call, &gate)).await?;
    let mut begun = Begun::new(&runtimes, shell, &fake).await?;
    let Begun { node, who, machine, device, task, .. } = &mut begun;
    let asks = try_until(PATIENCE, async || fake.request_count() >= 2);
    ensure!(asks.await, "the model was not asked again");
    machine.kill().await?;
    gate.open();
    let before = fake.request_count();
    machine.run()?;
    node.settled(who, task, "COMPLETED").await?;
    assert_eq!(
        machine.worked("b.txt").as_deref(),
        Some("ran\n"),
        "what was done is not done again"
    );
    assert!(last_answer(node, who, task).await?.ends_with("All done."));
    node.assert_fold(who, task).await?;
    // Agno keeps whole turns only: it knows of this one from what it is told.
    knows(&fake, before, if shell == "Agno" { 1 } else { 2 })?;
    is_free(node, who, device).await
}

/// Faults unless `TROUPE_TEST_CUTS` says otherwise; a third of them kill the agent.
const FAULTS: u64 = 6;

/// A model that has a file written in each step, until it is told to end.
#[derive(Clone, Default)]
struct Steps {
    given: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    /// It was asked in a session that does not know the first step.
    forgot: Arc<AtomicBool>,
}

impl Steps {
    fn script(&self) -> Script {
        let this = self.clone();
        Script::new(move |turn| this.answer(turn))
    }

    fn answer(&self, turn: &Turn) -> Answer {
        if !turn.offers("Write") {
            return Answer::text("A title");
        }
        if self.end.load(Ordering::SeqCst) {
            return Answer::text("All done.");
        }
        let step = self.given.fetch_add(1, Ordering::SeqCst) + 1;
        if step > 1 && !turn.body.to_string().contains("Step 1. ") {
            self.forgot.store(true, Ordering::SeqCst);
        }
        let write = json!({"file_path": format!("step-{step}"), "content": format!("{step}\n")});
        let write = Piece::Tool { name: "Write".into(), args: write };
        Answer::text(format!("Step {step}. ")).and(write).slow(Duration::from_millis(20))
    }

    fn given(&self) -> u64 {
        self.given.load(Ordering::SeqCst)
    }
}

/// The steps that a Task's turns tell of, in order: its texts, and its calls with what they came
/// to.
#[derive(Debug, Default)]
struct Told {
    texts: Vec<u64>,
    calls: Vec<(u64, String)>,
}

impl Told {
    async fn of(node: &Rest, who: &Person, task: &str) -> Result<Self> {
        let (_, turns) = node.turns(who, task).await?;
        let mut told = Self::default();
        told.read(&json!(turns));
        Ok(told)
    }

    fn read(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.read(item)),
            Value::Object(fields) if fields.get("type") == Some(&json!("text")) => {
                let text = value["content"].as_str().unwrap_or_default();
                let steps = text.split("Step ").skip(1).filter_map(|rest| rest.split_once(". "));
                self.texts.extend(steps.filter_map(|(step, _)| step.parse::<u64>().ok()));
            }
            Value::Object(fields) if fields.get("type") == Some(&json!("tool")) => {
                let file = value["tool_input"]["file_path"].as_str().unwrap_or_default();
                let step = file.rsplit_once("step-").and_then(|(_, step)| step.parse().ok());
                let status = value["status"].as_str().unwrap_or_default();
                self.calls.extend(step.map(|step| (step, status.to_owned())));
            }
            Value::Object(fields) => fields.values().for_each(|field| self.read(field)),
            _ => {}
        }
    }
}

/// Waits until a Task tells of a step, or of a later one.
async fn tells(node: &Rest, who: &Person, task: &str, step: u64) -> Result<()> {
    let mut told = Told::default();
    let there = try_until(PATIENCE, async || {
        told = Told::of(node, who, task).await.unwrap_or_default();
        told.texts.last().is_some_and(|last| *last >= step)
    });
    ensure!(there.await, "no step {step}: {told:?}; asked: {:?}", asked_now(node, who, task).await);
    Ok(())
}

/// A Task that works on without a person.
async fn allowed_for_good(node: &Rest, who: &Person) -> Result<String> {
    let task = node.run(who, "devs", "the job").await?;
    let block = asked(node, who, &task).await?;
    let always = json!({"answer": "allow_always"});
    assert_eq!(answer(node, who, &task, &block, always).await?, 204);
    // That it was allowed for good has reached the machine.
    tells(node, who, &task, 3).await?;
    Ok(task)
}

/// Random faults while an agent works, its own end among them: the turn goes on after each, in
/// one session, and tells of every step once.
#[tokio::test]
async fn any_faults_and_kills_in_a_row_tell_every_step_once() -> Result<()> {
    let Some(runtimes) = runtimes() else { return Ok(()) };
    let seed = number("TROUPE_TEST_SEED", rand::random());
    let faults = number("TROUPE_TEST_CUTS", FAULTS);
    println!("TROUPE_TEST_SEED={seed} TROUPE_TEST_CUTS={faults}");
    let mut dice = StdRng::seed_from_u64(seed);
    let steps = Steps::default();
    let Some(router) = Router::new()? else { return Ok(()) };
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let fake = FakeModel::start_at(anywhere, steps.script()).await?;
    fake.require_key(KEY);
    let (door, mut node) = Door::outside(router.here()).await?;
    let who = node.with_key(&node.setup().await?).await?;
    let url = format!("http://{}:{}", router.here().ip(), fake.addr().port());
    node.apply(&who, &team("ClaudeCode", &url)).await?;
    let mut machine = Machine::new(Some(&runtimes))?.within(&router.prefix());
    let device = machine.join(&node, &who).await?;
    let task = allowed_for_good(&node, &who).await?;
    let (mut kills, mut slowest) = (0, Duration::ZERO);
    for fault in 0..faults {
        let until = Instant::now() + Duration::from_millis(dice.random_range(0..3_000));
        // One at least.
        let kind = if fault == 0 { 8 } else { dice.random_range(0..12) };
        match kind {
            0..2 => router.cut(true, true)?,
            2 => router.cut(dice.random_bool(0.5), true)?,
            3..5 => router.rebind()?,
            5..7 => router.lose(dice.random_range(10..300))?,
            7 => {
                node.kill().await?;
                node = door.again().await?;
            }
            _ => {
                machine.kill().await?;
                kills += 1;
                machine.run()?;
            }
        }
        try_until(Duration::from_secs(5), async || Instant::now() >= until).await;
        router.clear()?;
        let back = Instant::now();
        let tells = tells(&node, &who, &task, steps.given() + 1).await;
        tells.with_context(|| format!("fault {fault} ({kind})\n{}", machine.log()))?;
        slowest = slowest.max(back.elapsed());
    }
    steps.end.store(true, Ordering::SeqCst);
    node.settled(&who, &task, "COMPLETED").await?;
    println!(
        "{faults} faults, {kills} of the agent; on again within {:.2} s",
        slowest.as_secs_f64()
    );
    node.assert_fold(&who, &task).await?;
    let told = Told::of(&node, &who, &task).await?;
    println!("{} steps given, told: {told:?}", steps.given());
    ensure!(!steps.forgot.load(Ordering::SeqCst), "all of it in one session");
    let lost: Vec<_> = (1..=steps.given()).filter(|step| !told.texts.contains(step)).collect();
    ensure!(lost.len() <= kills, "an answer is lost with its agent alone: {lost:?}, {kills} kills");
    for step in 1..=steps.given() {
        let call = told.calls.iter().find(|(call, _)| *call == step).map(|(_, how)| how.as_str());
        let written = machine.worked(&format!("step-{step}")).is_some();
        ensure!(!written || call.is_some(), "step {step} was done and is not told: {told:?}");
        ensure!(written || call != Some("done"), "step {step} is told and was not done: {told:?}");
    }
    let rises = |steps: &mut dyn Iterator<Item = u64>| steps.is_sorted_by(|a, b| a < b);
    ensure!(rises(&mut told.texts.iter().copied()), "once, in order: {told:?}");
    ensure!(rises(&mut told.calls.iter().map(|(step, _)| *step)), "once, in order: {told:?}");
    is_free(&node, &who, &device).await
}
