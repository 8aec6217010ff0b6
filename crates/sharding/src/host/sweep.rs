//! Looks for idle activations, now and then.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use troupe_types::{EntityId, EntityKind, MonoTime};

use super::shared::HostShared;

/// Time between a refusal for want of room and the sweep that it leads to.
const SOON: Duration = Duration::from_millis(50);

/// Sweeps until it is stopped.
pub(super) async fn run(host: Arc<HostShared>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(host.options.sweep_every) => {}
            // A pause, so that many refusals lead to few sweeps.
            () = soon(&host) => {}
        }
        sweep(&host);
    }
}

async fn soon(host: &HostShared) {
    host.sweep_soon.notified().await;
    tokio::time::sleep(SOON.min(host.options.sweep_every)).await;
}

fn sweep(host: &HostShared) {
    let now = host.clock.mono();
    let idle_for =
        |id: EntityId| host.kind(id.kind).map_or(Duration::ZERO, |kind| kind.host.idle_for());
    let mut idle = Vec::new();
    for shard in host.used_shards() {
        let mut table = shard.lock();
        table.sweep(now, idle_for, &mut idle);
        if let Some(actor) = table.retire() {
            actor.stop(None);
        }
    }
    let live = gauge(host);
    let above = live.saturating_sub(host.options.activations_max);
    if above > 0 {
        passivate_oldest(host, idle, above);
    }
}

/// Beyond the bound the least recently used idle ones go, those first that are longest unused.
fn passivate_oldest(host: &HostShared, mut idle: Vec<(MonoTime, EntityId)>, count: usize) {
    if count < idle.len() {
        idle.select_nth_unstable(count);
        idle.truncate(count);
    }
    for (_, id) in idle {
        if let Ok(shard) = host.shard(id.shard()) {
            shard.lock().passivate(id);
        }
    }
}

/// Sets the gauges; answers how many activations are live.
fn gauge(host: &HostShared) -> usize {
    let stats = host.stats();
    let mut live = 0;
    for kind in host.kinds() {
        let number: EntityKind = kind.host.kind();
        let of = stats.kinds.get(&number).copied().unwrap_or_default();
        live += of.live;
        kind.metrics.entities.set(f64::from(u32::try_from(of.live).unwrap_or(u32::MAX)));
        kind.metrics.queued.set(f64::from(u32::try_from(of.queued).unwrap_or(u32::MAX)));
    }
    live
}
