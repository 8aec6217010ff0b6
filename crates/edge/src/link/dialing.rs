//! Dialling until there is a connection.
//!
//! A try that is refused is followed by a wait of 0.2 to 5 s with jitter. Where packets vanish
//! a try says nothing for long, so a next one begins beside it after 0.6 s, and the first that
//! succeeds wins: whatever the packets of one try wait for, some packet is sent every few
//! hundred milliseconds. After a quarter of an hour the pace falls to one try in 5 s. A change
//! of the machine's network begins a try at once.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use troupe_link::{Connection, LinkError, LinkOptions, Redial, device::Dialler};

/// When the next try begins beside one that says nothing.
const STAGGER: Duration = Duration::from_millis(600);
/// For so long the pace is kept up.
const BRISK_FOR: Duration = Duration::from_secs(15 * 60);
/// Tries under way at once.
const TRIES_MAX: usize = 8;

/// When a try began, and what came of it.
type Tried = (Instant, Result<Arc<dyn Connection>, LinkError>);

/// Dials until there is a connection; `trouble` hears why there is none yet.
pub(super) async fn dial(
    dialler: &Arc<dyn Dialler>,
    options: &LinkOptions,
    redial: &mut Redial,
    network: &mut watch::Receiver<u64>,
    first_wait: Duration,
    trouble: impl Fn(&LinkError),
) -> Arc<dyn Connection> {
    let begun = Instant::now();
    let mut tries: JoinSet<Tried> = JoinSet::new();
    let mut next = begun + first_wait;
    let mut watched = true;
    loop {
        tokio::select! {
            biased;
            Some(tried) = tries.join_next(), if !tries.is_empty() => match tried {
                Ok((_, Ok(connection))) => return connection,
                Ok((since, Err(error))) => {
                    trouble(&error);
                    // Somebody refused it. What heard nothing for long is no reason to wait.
                    if since.elapsed() < STAGGER {
                        next = next.max(Instant::now() + redial.failed());
                    }
                }
                Err(error) => tracing::error!(%error, "a try to dial panicked"),
            },
            changed = network.changed(), if watched => {
                watched = changed.is_ok();
                dialler.network_changed();
                redial.held();
                next = Instant::now();
            }
            () = sleep_until(next), if tries.len() < TRIES_MAX => {
                let (dialler, deadline) = (Arc::clone(dialler), options.ready_deadline);
                tries.spawn(async move {
                    let since = Instant::now();
                    let tried = timeout(deadline, dialler.dial()).await;
                    (since, tried.unwrap_or(Err(LinkError::Deadline)))
                });
                let pace =
                    if begun.elapsed() < BRISK_FOR { STAGGER } else { options.redial_max };
                next = Instant::now() + pace;
            }
        }
    }
}
