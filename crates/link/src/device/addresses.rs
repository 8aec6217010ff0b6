//! Where a device dials: names, looked up anew for every try.

use std::{
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;

use crate::error::LinkError;

/// How long a name may take to be looked up before the addresses of last time are used.
const LOOKUP_MAX: Duration = Duration::from_secs(1);

/// Addresses (`host:port`) that are tried in turn.
#[derive(Debug)]
pub(super) struct Addresses {
    named: Vec<String>,
    known: Mutex<Vec<SocketAddr>>,
    turn: AtomicUsize,
}

impl Addresses {
    pub(super) const fn new(named: Vec<String>) -> Self {
        Self { named, known: Mutex::new(Vec::new()), turn: AtomicUsize::new(0) }
    }

    /// Where to dial now: looked up anew, or as it was when that takes too long.
    pub(super) async fn next(&self) -> Result<SocketAddr, LinkError> {
        let lookup = async {
            let mut found = Vec::new();
            let mut last = None;
            for address in &self.named {
                match tokio::net::lookup_host(address.as_str()).await {
                    Ok(addresses) => found.extend(addresses),
                    Err(error) => last = Some(error),
                }
            }
            (found, last)
        };
        let (found, error) = timeout(LOOKUP_MAX, lookup).await.unwrap_or((Vec::new(), None));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.is_empty() {
            *known = found;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        known.get(turn % known.len().max(1)).copied().ok_or_else(|| LinkError::Connection {
            reason: match error {
                Some(error) => format!("{} is not found: {error}", self.named.join(", ")),
                None => format!("{} is not found in time", self.named.join(", ")),
            },
        })
    }
}
