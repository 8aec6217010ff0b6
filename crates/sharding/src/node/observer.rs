//! What the node link tells about peers, and asks of the membership.

use std::fmt;

use troupe_link::LinkStream;
use troupe_types::Uuid;
use troupe_wire::{Handoff, Heartbeat, Hello};

use crate::placement::NodeName;

/// Hears of peers. All methods are called from the link's tasks and must not block.
pub trait NodeObserver: fmt::Debug + Send + Sync + 'static {
    /// What the next heartbeat says.
    fn heartbeat(&self) -> Heartbeat {
        Heartbeat { inc: 0, seq: 0 }
    }

    /// The boot that the newest lease of a node names, as far as is known: the link is for that
    /// one. `None`: its name has no lease, or one that is over.
    fn leased_boot(&self, node: &NodeName) -> Option<Uuid> {
        let _ = node;
        None
    }

    /// A link with a peer is ready.
    fn up(&self, peer: &Hello) {
        let _ = peer;
    }

    /// The link is gone.
    fn down(&self, node: &NodeName) {
        let _ = node;
    }

    /// A peer is alive.
    fn heard(&self, node: &NodeName, beat: Heartbeat) {
        let _ = (node, beat);
    }

    /// A word of a hand-off, in its order with the envelopes of that peer.
    fn handoff(&self, node: &NodeName, handoff: Handoff) {
        let _ = (node, handoff);
    }

    /// A peer opened a stream for large data. Dropped, it is closed.
    fn bulk(&self, node: &NodeName, stream: LinkStream) {
        let _ = (node, stream);
    }
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl NodeObserver for NoObserver {}
