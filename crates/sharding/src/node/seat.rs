//! Which process of a name the link with that name is for.

use std::collections::VecDeque;

use tokio_util::sync::CancellationToken;
use troupe_actor::TaskHandle;
use troupe_types::Uuid;

/// Boots of a peer that were followed by another one, and are remembered as over.
const PAST_BOOTS: usize = 16;

/// What is known of the links with one peer. Locked while one follows another.
///
/// Boots have no order of their own; the lease tells which one is the newest, a few seconds late.
/// So a boot that it does not name may be its successor as well as its predecessor.
#[derive(Debug, Default)]
pub(super) struct Seat {
    boot: Option<Uuid>,
    past: VecDeque<Uuid>,
    /// Ends the link that is there.
    pub(super) stop: Option<CancellationToken>,
    pub(super) running: Option<TaskHandle>,
}

impl Seat {
    /// Whether a boot may have the seat. `leased`: the boot that the name's lease names, if any;
    /// `up`: the one whose link is up.
    ///
    /// The leased one always may, even if it is thought to be over. Another one may while the
    /// leased one's link is down: a successor comes when the process before it is gone, which is
    /// seen after the idle time at the latest, and a predecessor has to go when the leased one
    /// comes.
    pub(super) fn may_have(&self, boot: Uuid, leased: Option<Uuid>, up: Option<Uuid>) -> bool {
        leased == Some(boot) || !self.past.contains(&boot) && (leased.is_none() || leased != up)
    }

    /// Gives it the seat. Whoever had it is over, unless the lease says otherwise.
    pub(super) fn give(&mut self, boot: Uuid, leased: Option<Uuid>) {
        self.past.retain(|past| *past != boot);
        let before = self.boot.replace(boot);
        if let Some(before) = before.filter(|before| *before != boot && Some(*before) != leased) {
            self.past.push_back(before);
            if self.past.len() > PAST_BOOTS {
                self.past.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Uuid = Uuid::from_u128(1);
    const NEW: Uuid = Uuid::from_u128(2);

    /// Lets a boot come; answers whether it has the seat.
    fn comes(seat: &mut Seat, boot: Uuid, leased: Option<Uuid>, up: &mut Option<Uuid>) -> bool {
        let may = seat.may_have(boot, leased, *up);
        if may {
            seat.give(boot, leased);
            *up = Some(boot);
        }
        may
    }

    #[test]
    fn without_leases_the_last_one_to_come_for_the_first_time_stays() {
        let (mut seat, mut up) = (Seat::default(), None);
        assert!(comes(&mut seat, OLD, None, &mut up));
        assert!(comes(&mut seat, OLD, None, &mut up), "again");
        assert!(comes(&mut seat, NEW, None, &mut up));
        assert!(!comes(&mut seat, OLD, None, &mut up));
    }

    #[test]
    fn the_leased_one_is_never_over() {
        let (mut seat, mut up) = (Seat::default(), None);
        // The older one comes last, and nobody knows better.
        assert!(comes(&mut seat, NEW, None, &mut up));
        assert!(comes(&mut seat, OLD, None, &mut up));
        assert!(!comes(&mut seat, NEW, None, &mut up));
        // The lease is seen.
        assert!(comes(&mut seat, NEW, Some(NEW), &mut up));
        assert!(!comes(&mut seat, OLD, Some(NEW), &mut up));
        // A link may break; what the lease then says late is put right by the lease.
        up = None;
        assert!(!comes(&mut seat, OLD, None, &mut up));
        assert!(comes(&mut seat, OLD, Some(OLD), &mut up));
        assert!(comes(&mut seat, NEW, Some(NEW), &mut up));
    }

    #[test]
    fn one_whose_lease_is_not_seen_yet_waits_for_the_end_of_the_one_before() {
        let (mut seat, mut up) = (Seat::default(), None);
        assert!(comes(&mut seat, OLD, Some(OLD), &mut up));
        assert!(!comes(&mut seat, NEW, Some(OLD), &mut up), "who of them is older?");
        up = None;
        assert!(comes(&mut seat, NEW, Some(OLD), &mut up));
        assert!(comes(&mut seat, OLD, Some(OLD), &mut up), "it was not over after all");
        assert!(comes(&mut seat, NEW, Some(NEW), &mut up));
        assert!(!comes(&mut seat, OLD, Some(NEW), &mut up));
    }
}
