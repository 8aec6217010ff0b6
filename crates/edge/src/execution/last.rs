//! The session of a Bot's last turn, so that the next one goes on in it; one run at a time.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use troupe_executor::{Job, RuntimeKind, SessionId};
use troupe_types::TurnId;

const FILE: &str = "last-turn.json";

/// The seats of Bots: of one Bot's runs in one Task one sits, the next waits until it is gone.
#[derive(Clone, Debug, Default)]
pub struct Seats(Arc<Mutex<BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>>>);

impl Seats {
    /// The seat of a Bot, by its directory.
    pub(super) fn of(&self, dir: &Path) -> Arc<tokio::sync::Mutex<()>> {
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody sits there or waits for it.
        seats.retain(|_, seat| Arc::strong_count(seat) > 1);
        Arc::clone(seats.entry(dir.to_owned()).or_default())
    }
}

/// A turn that ended, and the runtime's session of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LastTurn {
    pub(super) turn: TurnId,
    pub(super) runtime: RuntimeKind,
    pub(super) session: String,
}

impl LastTurn {
    /// `None`: there is none, or it does not read.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(FILE)).ok()?).ok()
    }

    /// Whole or not at all; after a power failure it may be missing.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let part = dir.join("last-turn.part");
        fs::write(&part, serde_json::to_vec(self)?)?;
        fs::rename(part, dir.join(FILE))
    }

    /// The session, if the job follows right after this turn. Any other conversation in between
    /// is not in the session: the job is told as text then.
    pub(super) fn session_for(self, job: &Job) -> Option<SessionId> {
        let follows = job.previous == Some(self.turn) && job.runtime == self.runtime;
        follows.then_some(SessionId(self.session))
    }
}
