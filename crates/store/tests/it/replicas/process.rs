//! What a process does: join, declare others dead, claim, own, give away.

use std::{cell::Cell, rc::Rc};

use troupe_types::{Epoch, Fence, Incarnation};

use super::{
    cluster::{Lease, Lwt, Shard, lease, shard},
    owner::{Activation, Process, open},
    world::{Flaw, Handle, NODES},
};

/// The life of one process, until it crashes.
pub(super) async fn live(handle: Handle, node: usize) {
    loop {
        let Some(inc) = join(&handle, node).await else { continue };
        let process = Rc::new(Process {
            handle: handle.clone(),
            node,
            inc: Cell::new(inc),
            fenced: Cell::new(false),
            newest: Cell::new(Fence::ZERO),
            released: Cell::new(Epoch::ZERO),
        });
        let mut owned: Option<Epoch> = None;
        let mut at: Option<Rc<Activation>> = None;
        while !process.fenced.get() {
            let pause = handle.with(|world| 1 + world.below(world.odds.pause));
            handle.sleep(pause).await;
            crash_or_kill(&handle, node).await;
            if let Some(epoch) = owned {
                act(&process, epoch, &mut owned, &mut at).await;
            } else {
                owned = look(&process).await;
            }
        }
    }
}

async fn join(handle: &Handle, node: usize) -> Option<Incarnation> {
    let pause = handle.with(|world| world.below(30));
    handle.sleep(pause).await;
    let found = handle.serial(lease, node).await?;
    let inc = found.inc.next();
    let take = move |now: &Lease| (now.inc == found.inc).then_some(Lease { inc, dead: false });
    match handle.lwt(lease, node, take).await {
        Lwt::Applied => Some(inc),
        // It may be done yet: the next try finds another incarnation, or this one still free.
        Lwt::Refused | Lwt::Unknown => None,
    }
}

async fn crash_or_kill(handle: &Handle, node: usize) {
    if handle.with(|world| world.chance(world.odds.crash)) {
        handle.with(|world| {
            world.report.crashes += 1;
            world.crashed.push(node);
        });
        handle.sleep(1_000_000).await;
    }
    if !handle.with(|world| world.chance(world.odds.kill)) {
        return;
    }
    let other = handle.with(|world| usize::try_from(world.below(NODES as u64)).unwrap());
    let Some(seen) = handle.plain(lease, other).await else { return };
    let kill =
        move |now: &Lease| (*now == seen && !now.dead).then_some(Lease { dead: true, ..seen });
    if handle.lwt(lease, other, kill).await == Lwt::Applied {
        handle.with(|world| world.report.kills += 1);
    }
}

/// Looks at the row; claims the shard if its owner is over. The epoch, if it is this node's.
async fn look(process: &Process) -> Option<Epoch> {
    let (handle, node, inc) = (&process.handle, process.node, process.inc.get());
    let found = handle.plain(shard, 0).await?;
    if found.owner == node && found.inc == inc {
        // A claim or a move whose answer was lost. What was given away stays given away.
        let found = handle.serial(shard, 0).await?;
        if found.owner != node || found.inc != inc {
            return None;
        }
        if found.epoch > process.released.get() {
            return Some(found.epoch);
        }
        return replace(process, found, node, inc).await.then(|| found.epoch.next());
    }
    // The rule: a SERIAL read, so that what it shows is at a quorum before the claim.
    let plain = handle.with(|world| world.flaw == Flaw::PlainLeaseRead);
    let owner = if plain {
        handle.plain(lease, found.owner).await?
    } else {
        handle.serial(lease, found.owner).await?
    };
    let over = owner.inc > found.inc || (owner.inc == found.inc && owner.dead);
    let never = found.epoch == Epoch::ZERO;
    if (over || never) && replace(process, found, node, inc).await {
        handle.with(|world| world.report.claims += 1);
        return Some(found.epoch.next());
    }
    None
}

/// Changes the row from what was found. `false`: it did not happen, or nobody knows.
async fn replace(process: &Process, found: Shard, owner: usize, inc: Incarnation) -> bool {
    let new = Shard { owner, inc, epoch: found.epoch.next() };
    let change = move |now: &Shard| (*now == found).then_some(new);
    process.handle.lwt(shard, 0, change).await == Lwt::Applied
}

/// One step of an owner.
async fn act(
    process: &Rc<Process>,
    epoch: Epoch,
    owned: &mut Option<Epoch>,
    at: &mut Option<Rc<Activation>>,
) {
    let handle = &process.handle;
    let Some(activation) = at.clone().filter(|activation| !activation.is_over()) else {
        *at = open(process, epoch).await;
        if at.is_none() {
            // Perhaps it is not the owner any more.
            let found = handle.serial(shard, 0).await;
            let mine = |found: Shard| found.owner == process.node && found.epoch == epoch;
            if found.is_some_and(|found| !mine(found)) {
                *owned = None;
            }
        }
        return;
    };
    let roll = |odds: fn(&super::world::Odds) -> u32| {
        handle.with(|world| {
            let odds = odds(&world.odds);
            world.chance(odds)
        })
    };
    if roll(|odds| odds.snapshot) {
        handle.spawn(process.node, activation.snapshot());
    } else if roll(|odds| odds.reopen) {
        activation.end();
    } else if roll(|odds| odds.give) {
        *owned = give(process, epoch, &activation).await;
        if *owned != Some(epoch) {
            *at = None;
        }
    } else {
        for _ in 0..handle.with(|world| 1 + world.below(3)) {
            activation.append();
        }
    }
}

/// A planned hand-off. The epoch under which this node goes on, if it does.
async fn give(process: &Process, epoch: Epoch, activation: &Activation) -> Option<Epoch> {
    let handle = &process.handle;
    for _ in 0..20 {
        if activation.is_idle() {
            break;
        }
        handle.sleep(5).await;
    }
    let to = handle.with(|world| usize::try_from(world.below(NODES as u64)).unwrap());
    let target = handle.plain(lease, to).await.filter(|lease| !lease.dead && to != process.node);
    let Some(Lease { inc: to_inc, .. }) = target else { return Some(epoch) };
    // From here on the old epoch is over, whatever becomes of the move.
    let before = process.released.replace(epoch);
    let found = Shard { owner: process.node, inc: process.inc.get(), epoch };
    if replace(process, found, to, to_inc).await {
        handle.with(|world| world.report.moves += 1);
        return None;
    }
    loop {
        if process.fenced.get() {
            return None;
        }
        let Some(now) = handle.serial(shard, 0).await else { continue };
        if now != found {
            let mine = now.owner == process.node && now.inc == process.inc.get();
            return mine.then_some(now.epoch);
        }
        if handle.with(|world| world.flaw == Flaw::GoBack) {
            process.released.set(before);
            return Some(epoch);
        }
        // The move may be done yet: a bump makes sure that it is not, or finds that it was.
        if replace(process, found, process.node, process.inc.get()).await {
            return Some(epoch.next());
        }
    }
}
