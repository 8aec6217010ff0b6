//! People who keep Tasks running on nodes that fail, and those who look on.

pub(crate) mod board;
pub(crate) mod person;
pub(crate) mod stranger;
pub(crate) mod viewer;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Result, ensure};
use rand::{SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::{sync::watch, task::JoinSet};
use troupe_testkit::{
    Answer, Script,
    client::{
        rest::{Person as Account, Rest},
        scene::{self, Pace, load_script},
    },
    try_until,
};

use self::{board::Board, person::Person, stranger::Stranger};
use crate::history::History;

/// One call; a node that takes longer is as good as away.
pub(crate) const CALL: Duration = Duration::from_secs(5);
/// All that runs comes to rest within this, once nothing new is asked for.
const REST: Duration = Duration::from_secs(120);
/// In the text of a message that is to be answered at once.
pub(crate) const QUICK: &str = "quick question";
/// In the text of a message, before the seconds that its answer is to take.
const STEP: &str = "a step of ";

/// A message whose answer takes so long.
pub(crate) fn step_of(span: Duration) -> String {
    format!("{STEP}{} s", span.as_secs())
}

fn step_in(message: &str) -> Option<Duration> {
    let seconds = message.split_once(STEP)?.1.split(' ').next()?;
    Some(Duration::from_secs(seconds.parse().ok()?))
}

/// Words that come evenly over so long.
fn long_answer(span: Duration) -> Answer {
    const CHUNK: usize = 7;
    let text = scene::words(20);
    let events = u32::try_from(text.chars().count() / CHUNK).unwrap_or(1).max(1);
    Answer::text(text).chunked(CHUNK).slow(span / events)
}

/// Where the nodes are; clients know no more of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Roster(Arc<RwLock<Vec<(String, String)>>>);

impl Roster {
    /// Name and URL of each.
    pub(crate) fn set(&self, nodes: Vec<(String, String)>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    pub(crate) fn all(&self) -> Vec<(String, String)> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Any of them, another one than `not` if there is one.
    pub(crate) fn pick(&self, rng: &mut StdRng, not: &[&str]) -> (String, String) {
        let all = self.all();
        let others: Vec<_> = all.iter().filter(|(name, _)| !not.contains(&&**name)).collect();
        let picked = others.choose(rng).map(|node| (*node).clone());
        picked.or_else(|| all.first().cloned()).unwrap_or_default()
    }
}

/// What all clients share.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) roster: Roster,
    pub(crate) history: Arc<History>,
    pub(crate) board: Arc<Board>,
    /// By an API key, which outlives any access token.
    pub(crate) who: Account,
    /// Whether new Tasks and turns are begun.
    pub(crate) open: watch::Sender<bool>,
}

/// Everybody.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) around: Surroundings,
    running: JoinSet<()>,
}

impl Load {
    /// `people` who work and one who may not see any of it.
    pub(crate) fn start(around: Surroundings, eve: Account, people: u64, seed: u64) -> Self {
        let mut running = JoinSet::new();
        for n in 0..people {
            let rng = StdRng::seed_from_u64(seed.wrapping_add(n));
            running.spawn(Person::new(n, around.clone(), rng).live());
        }
        let rng = StdRng::seed_from_u64(seed.wrapping_add(people));
        running.spawn(Stranger::new(around.clone(), eve, rng).live());
        Self { around, running }
    }

    /// Begins nothing new and waits until all that runs is at rest and every viewer has seen it.
    pub(crate) async fn settle(&self) -> Result<()> {
        self.around.open.send_replace(false);
        let board = &self.around.board;
        let rested = try_until(REST, async || board.at_work() == 0).await;
        ensure!(rested, "{} people are still at work: {:?}", board.at_work(), board.unfinished());
        board.heal_streams(false);
        // Whoever does not catch up is found by the check of streams.
        try_until(Duration::from_secs(20), async || board.behind().is_empty()).await;
        Ok(())
    }

    /// Ends everybody.
    pub(crate) async fn stop(mut self) {
        self.running.shutdown().await;
        self.around.board.close_viewers();
    }
}

/// Words for all, a short answer to a quick question, and a count where counting is on offer.
pub(crate) fn script() -> Script {
    let slow = load_script(Pace { words: 10, gap: Duration::from_millis(60) });
    Script::new(move |turn| {
        if turn.human.contains(QUICK) {
            return Answer::text("{request}: yes.");
        }
        if let Some(span) = step_in(&turn.human) {
            return long_answer(span);
        }
        slow.answer(turn)
    })
}

/// What is applied before a load.
pub(crate) fn resources(model: &troupe_testkit::FakeModel, tools: &str) -> String {
    let mut yaml = scene::cast(model, Some(tools));
    scene::teams().iter().for_each(|(_, team)| yaml.push_str(team));
    yaml.push_str(&scene::team("probe", "solo", &[scene::ANTHROPIC]));
    yaml
}

/// Clients by address: making one takes a debug build tens of milliseconds, and hundreds may be
/// wanted at once.
static CLIENTS: LazyLock<Mutex<HashMap<String, Rest>>> = LazyLock::new(Mutex::default);

/// A client of one node, as patient as clients here are.
pub(crate) fn rest(url: &str) -> Result<Rest> {
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = clients.get(url) {
        return Ok(known.clone());
    }
    let new = Rest::new(url)?.patient(CALL);
    clients.insert(url.to_owned(), new.clone());
    Ok(new)
}
