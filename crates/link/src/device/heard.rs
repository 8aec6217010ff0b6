//! What a device says, and the credit for it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, mpsc};
use troupe_types::DeviceId;
use troupe_wire::{
    Credit,
    device::{
        DeviceFrame,
        limits::{DEVICE_CREDIT_BYTES, DEVICE_CREDIT_ITEMS},
    },
};

use super::{error::DeviceLinkError, session::AT_ONCE};

/// What a device may still send, and what it is to be given back.
#[derive(Debug)]
pub(super) struct Allowed {
    credit: Mutex<Credits>,
    /// There is enough to be given back.
    due: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Credits {
    left: Credit,
    owed: Credit,
}

const NONE: Credit = Credit { bytes: 0, items: 0 };

impl Default for Allowed {
    fn default() -> Self {
        let left = Credit { bytes: DEVICE_CREDIT_BYTES, items: DEVICE_CREDIT_ITEMS };
        Self { credit: Mutex::new(Credits { left, owed: NONE }), due: Notify::new() }
    }
}

impl Credits {
    /// Credit goes back in pieces of an eighth of the window.
    const fn is_due(&self) -> bool {
        self.owed.bytes >= DEVICE_CREDIT_BYTES / 8 || self.owed.items >= DEVICE_CREDIT_ITEMS / 8
    }
}

impl Allowed {
    fn credit(&self) -> MutexGuard<'_, Credits> {
        self.credit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device sent something.
    pub(super) fn pay(&self, size: usize) -> Result<(), DeviceLinkError> {
        let mut credit = self.credit();
        let bytes = u64::try_from(size).unwrap_or(u64::MAX);
        let left = (credit.left.bytes.checked_sub(bytes), credit.left.items.checked_sub(1));
        let (Some(bytes), Some(items)) = left else { return Err(DeviceLinkError::OverCredit) };
        credit.left = Credit { bytes, items };
        Ok(())
    }

    fn owe(&self, size: usize) {
        let mut credit = self.credit();
        credit.owed.bytes += u64::try_from(size).unwrap_or(0);
        credit.owed.items += 1;
        if credit.is_due() {
            self.due.notify_one();
        }
    }

    /// What the device is to be given back now: resolves when it is worth a frame. Cancel safe.
    pub(super) async fn due(&self) -> Credit {
        loop {
            self.due.notified().await;
            let mut credit = self.credit();
            if credit.is_due() {
                let back = std::mem::replace(&mut credit.owed, NONE);
                credit.left.bytes += back.bytes;
                credit.left.items += back.items;
                return back;
            }
        }
    }
}

/// The credit that a frame cost; dropping it gives the device credit for another.
pub struct Held {
    size: usize,
    allowed: Arc<Allowed>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Held {
    /// The frame's size on the link.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.allowed.owe(self.size);
    }
}

/// What a device says, in order per stream.
pub struct DeviceFrames {
    device: DeviceId,
    frames: mpsc::Receiver<(DeviceFrame, usize)>,
    /// Some of them, taken out of the queue together; the last one comes first.
    at_hand: Vec<(DeviceFrame, usize)>,
    allowed: Arc<Allowed>,
}

impl fmt::Debug for DeviceFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceFrames").field("device", &self.device).finish_non_exhaustive()
    }
}

impl DeviceFrames {
    pub(super) const fn new(
        device: DeviceId,
        frames: mpsc::Receiver<(DeviceFrame, usize)>,
        allowed: Arc<Allowed>,
    ) -> Self {
        Self { device, frames, at_hand: Vec::new(), allowed }
    }

    /// The next frame: assignment and input answers, attach, output, ended, secrets wanted,
    /// capabilities, drain, and kinds that this version does not know. `None`: the link is
    /// gone. Cancel safe. Taking it gives the device credit for another.
    pub async fn next(&mut self) -> Option<DeviceFrame> {
        self.next_held().await.map(|(frame, _)| frame)
    }

    /// The next frame as [`next`](Self::next) gives it, and the credit that it cost, for who
    /// lets the device wait until it is done with a frame.
    pub async fn next_held(&mut self) -> Option<(DeviceFrame, Option<Held>)> {
        if self.at_hand.is_empty() {
            self.frames.recv_many(&mut self.at_hand, AT_ONCE).await;
            self.at_hand.reverse();
        }
        let (frame, size) = self.at_hand.pop()?;
        let allowed = frame.costs_credit().then(|| Arc::clone(&self.allowed));
        Some((frame, allowed.map(|allowed| Held { size, allowed })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn credit_goes_back_when_a_frame_is_let_go_and_not_before() {
        let allowed = Arc::<Allowed>::default();
        let hold = |size| {
            allowed.pay(size).unwrap();
            Held { size, allowed: Arc::clone(&allowed) }
        };
        let held: Vec<Held> = (0..DEVICE_CREDIT_ITEMS).map(|_| hold(1)).collect();
        assert!(matches!(allowed.pay(1), Err(DeviceLinkError::OverCredit)));
        {
            let mut waiting = Box::pin(allowed.due());
            assert!(futures::poll!(waiting.as_mut()).is_pending(), "nothing was let go");
        }
        drop(held);
        assert_eq!(allowed.due().await.items, DEVICE_CREDIT_ITEMS);
        allowed.pay(1).unwrap();
    }
}
