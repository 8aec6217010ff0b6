//! The words of a hand-off as they go over the node link.

use troupe_placement::{HandoffId, PeerMessage};
use troupe_types::{Epoch, Incarnation, ShardId};
use troupe_wire::{Handoff, HandoffStep};

/// What a peer's word means; `None`: a newer one.
pub(super) fn read(word: Handoff) -> Option<PeerMessage> {
    let Handoff { shard, epoch, source_inc, count, target_inc, step } = word;
    let id = HandoffId { inc: source_inc, count };
    Some(match step {
        HandoffStep::Prepare => PeerMessage::Prepare { id, shard, epoch },
        HandoffStep::Ready => PeerMessage::Ready { id, shard, inc: target_inc },
        HandoffStep::Refused => PeerMessage::Refuse { id, shard },
        HandoffStep::Cancelled => PeerMessage::Cancel { id, shard },
        HandoffStep::Committed => PeerMessage::Committed { id, shard, epoch },
        HandoffStep::FlushMarker => PeerMessage::FlushMarker { id, shard },
        HandoffStep::Other(_) => return None,
    })
}

/// The word for it; `None`: it is none of a hand-off.
pub(super) fn write(message: &PeerMessage) -> Option<Handoff> {
    let word = |id: HandoffId, shard: ShardId, step| Handoff {
        shard,
        epoch: Epoch::ZERO,
        source_inc: id.inc,
        count: id.count,
        target_inc: Incarnation::ZERO,
        step,
    };
    Some(match *message {
        PeerMessage::Heartbeat { .. } => return None,
        PeerMessage::Prepare { id, shard, epoch } => {
            Handoff { epoch, ..word(id, shard, HandoffStep::Prepare) }
        }
        PeerMessage::Ready { id, shard, inc } => {
            Handoff { target_inc: inc, ..word(id, shard, HandoffStep::Ready) }
        }
        PeerMessage::Refuse { id, shard } => word(id, shard, HandoffStep::Refused),
        PeerMessage::Cancel { id, shard } => word(id, shard, HandoffStep::Cancelled),
        PeerMessage::Committed { id, shard, epoch } => {
            Handoff { epoch, ..word(id, shard, HandoffStep::Committed) }
        }
        PeerMessage::FlushMarker { id, shard } => word(id, shard, HandoffStep::FlushMarker),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_as_it_was_meant() {
        let id = HandoffId { inc: Incarnation(3), count: 7 };
        let (shard, epoch, inc) = (ShardId(9), Epoch(4), Incarnation(5));
        let all = [
            PeerMessage::Prepare { id, shard, epoch },
            PeerMessage::Ready { id, shard, inc },
            PeerMessage::Refuse { id, shard },
            PeerMessage::Cancel { id, shard },
            PeerMessage::Committed { id, shard, epoch },
            PeerMessage::FlushMarker { id, shard },
        ];
        for message in all {
            assert_eq!(read(write(&message).unwrap()), Some(message));
        }
        let step = HandoffStep::Other(77);
        let newer = Handoff { step, ..write(&PeerMessage::Cancel { id, shard }).unwrap() };
        assert_eq!(read(newer), None);
    }
}
