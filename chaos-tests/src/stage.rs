//! What a scenario works with, what it measured, and the checks that close it.

mod doctor;
mod inspect;
mod probe;

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use rand::{RngExt as _, rngs::StdRng};
use serde_json::json;
use tokio::time::Instant;
use troupe_testkit::client::rest::Person as Account;

use self::probe::Probe;
use crate::{
    check::{Invariant, Violation},
    cluster::{Cluster, NODES, Plan},
    history::{History, What},
    load::{self, Load, Surroundings, board::Board},
    print,
};

/// Shards go back to where they belong within this.
const BALANCE: Duration = Duration::from_secs(30);
/// How long a scenario waits until nothing moves any more.
const REST: Duration = Duration::from_secs(90);
/// By how much any process may grow within a scenario, in KiB.
pub(crate) const GROWTH_KIB_MAX: u64 = 256 * 1024;

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Set {
    /// Every row once, as short as it proves something.
    Ci,
    /// Every row many times, as long as the tables say.
    Full,
}

/// What a scenario measured.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) text: String,
    /// Whether it is within its bound, if it has one.
    pub(crate) within: Option<bool>,
}

/// The cluster under load, and one scenario at a time.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) load: Load,
    pub(crate) history: Arc<History>,
    pub(crate) set: Set,
    pub(crate) plan: Plan,
    pub(crate) admin: Account,
    /// Decides what happens in this scenario; nothing else draws from it.
    pub(crate) rng: StdRng,
    pub(crate) name: String,
    pub(crate) began: u64,
    pub(crate) figures: Vec<Figure>,
    pub(crate) violations: Vec<Violation>,
    pub(crate) probes: Vec<Probe>,
    /// Further Tasks whose logs are read at the end.
    pub(crate) others: Vec<String>,
    /// Violations that were told before.
    told: BTreeSet<String>,
}

impl Stage {
    /// Cluster, people, resources, load.
    pub(crate) async fn set_up(plan: Plan, set: Set, rng: StdRng) -> Result<Self> {
        let history = Arc::new(History::create(&plan.dir.join("history.jsonl"))?);
        let cluster = Cluster::start(&plan, Arc::clone(&history)).await?;
        let first = cluster.nodes.first().context("no nodes")?;
        let rest = first.rest(Duration::from_secs(60))?;
        let token = first.setup_token().context("the first node tells no setup token")?;
        let password = troupe_testkit::client::rest::PASSWORD;
        let body = json!({"token": token, "password": password});
        let admin = Account::of(&rest.post("/api/v1/setup", None, &body).await?)?;
        let who = rest.with_key(&admin).await?;
        let eve = rest.user(&admin, "eve").await?;
        let eve = rest.with_key(&eve).await?;
        rest.apply(&who, &load::resources(&cluster.model, &cluster.tools.url())).await?;
        let around = Surroundings {
            roster: cluster.roster.clone(),
            history: Arc::clone(&history),
            board: Arc::new(Board::new()),
            who: who.clone(),
            open: tokio::sync::watch::Sender::new(true),
        };
        let load = Load::start(around, eve, plan.people, plan.seed);
        let mut stage = Self {
            cluster,
            load,
            history,
            set,
            plan,
            admin: who,
            rng,
            name: "set-up".to_owned(),
            began: 0,
            figures: Vec::new(),
            violations: Vec::new(),
            probes: Vec::new(),
            others: Vec::new(),
            told: BTreeSet::new(),
        };
        stage.make_probes().await?;
        Ok(stage)
    }

    /// Begins a scenario with its own source of chance.
    pub(crate) async fn begin(&mut self, name: &str, rng: StdRng) -> Result<()> {
        self.name = name.to_owned();
        self.rng = rng;
        self.figures.clear();
        self.violations.clear();
        let began = Instant::now();
        let balanced = self.cluster.balanced(BALANCE).await;
        self.began = self.history.now();
        self.cluster.look().await?;
        self.cluster.weigh();
        let waited = began.elapsed().as_secs_f64();
        if balanced {
            self.note(format!("begins; every node owned its part after {waited:.1} s"));
        } else {
            self.note(format!("begins although not every node owns its part after {waited:.1} s"));
        }
        Ok(())
    }

    /// Waits until nothing moves by itself any more, so that what moves later is the fault's doing.
    pub(crate) async fn rest(&mut self) {
        let began = Instant::now();
        let rests = self.cluster.at_rest(REST).await;
        let waited = began.elapsed().as_secs_f64();
        let how = if rests { "nothing moves any more" } else { "something still moves" };
        self.figure(format!("{how} after {waited:.1} s"), Some(rests));
    }

    /// So long in the short set, or in the long one.
    pub(crate) const fn span(&self, ci: u64, full: u64) -> Duration {
        match self.set {
            Set::Ci => Duration::from_secs(ci),
            Set::Full => Duration::from_secs(full),
        }
    }

    /// Any node.
    pub(crate) fn any_node(&mut self) -> usize {
        self.rng.random_range(0..NODES)
    }

    /// Any node that owns something: on a machine that is too busy to move shards, one may own
    /// all of them.
    pub(crate) async fn any_owner(&mut self) -> Result<usize> {
        let first = self.any_node();
        for step in 0..NODES {
            let node = (first + step) % NODES;
            if !self.probes_of(node).await?.is_empty() {
                return Ok(node);
            }
        }
        Ok(first)
    }

    /// Two nodes, in a random order.
    pub(crate) fn any_pair(&mut self) -> (usize, usize) {
        let one = self.any_node();
        let step = self.rng.random_range(1..NODES);
        (one, (one + step) % NODES)
    }

    /// Says what is done to the cluster.
    pub(crate) fn note(&self, text: impl Into<String>) {
        let text = text.into();
        let at = self.history.now() / 1_000;
        print(&format!("  {:>4}.{:03} {}: {text}", at / 1_000, at % 1_000, self.name));
        self.history.add(What::Fault { scenario: self.name.clone(), text });
    }

    /// Keeps a figure.
    pub(crate) fn figure(&mut self, text: impl fmt::Display, within: Option<bool>) {
        let text = text.to_string();
        self.note(format!("measured {text}"));
        let scenario = self.name.clone();
        self.history.add(What::Measured { scenario, text: text.clone() });
        self.figures.push(Figure { text, within });
    }

    /// Keeps a time and whether it is within its bound.
    pub(crate) fn took(&mut self, what: &str, took: Duration, most: Duration) {
        let text =
            format!("{what} {:.1} s (at most {:.0} s)", took.as_secs_f64(), most.as_secs_f64());
        self.figure(text, Some(took <= most));
    }

    pub(crate) fn violates(&mut self, invariant: Invariant, what: impl Into<String>) {
        self.keep(vec![Violation::new(invariant, what)]);
    }

    /// Keeps violations that were not told in an earlier scenario.
    pub(crate) fn keep(&mut self, found: Vec<Violation>) {
        for violation in found {
            if self.told.insert(violation.what.clone()) {
                self.note(format!("VIOLATION of {}: {}", violation.invariant, violation.what));
                self.violations.push(violation);
            }
        }
    }

    /// How often shards changed hands since the scenario began.
    pub(crate) async fn moves(&mut self, before: usize) -> Result<usize> {
        let after = self.cluster.witness().await?.shard_log().await?.len();
        Ok(after.saturating_sub(before))
    }

    pub(crate) async fn claims(&mut self) -> Result<usize> {
        Ok(self.cluster.witness().await?.shard_log().await?.len())
    }

    /// The load must be seen to go on: viewers are shown frames, within `limit`.
    pub(crate) async fn expect_progress(&mut self, what: &str, limit: Duration) {
        let board = Arc::clone(&self.load.around.board);
        let shown = |history: &History| history.now();
        let from = shown(&self.history);
        let began = Instant::now();
        let history = Arc::clone(&self.history);
        let moved = troupe_testkit::try_until(limit, async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let records = history.records().unwrap_or_default();
            let seen = records.iter().rev().take_while(|record| record.at >= from);
            seen.filter(|record| matches!(record.what, What::Shown { .. })).count() >= 20
        })
        .await;
        if moved {
            self.took(what, began.elapsed(), limit);
        } else {
            let open = board.unfinished();
            self.violates(Invariant::I6, format!("{what}: nothing moves: {open:?}"));
        }
    }
}
