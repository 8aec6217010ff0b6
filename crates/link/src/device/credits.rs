//! What one end of a device link may still send to the other.

use tokio::sync::Semaphore;
use troupe_wire::Credit;

use super::error::DeviceLinkError;

/// Credit that the other end gave and that is not used up.
#[derive(Debug)]
pub struct Credits {
    bytes: Semaphore,
    items: Semaphore,
}

/// Far below what a semaphore can hold: what is paid in part and given back still fits.
const KEPT_MAX: usize = Semaphore::MAX_PERMITS / 2;

fn permits(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

impl Credits {
    /// What the other end gives from the start.
    #[must_use]
    pub fn new(credit: Credit) -> Self {
        let of = |count| Semaphore::new(permits(count).min(KEPT_MAX));
        Self { bytes: of(credit.bytes), items: of(u64::from(credit.items)) }
    }

    /// Pays for a frame of this size, if that can be done at once.
    #[must_use]
    pub fn try_pay(&self, size: usize) -> bool {
        let Ok(size) = u32::try_from(size) else { return false };
        let Ok(bytes) = self.bytes.try_acquire_many(size) else { return false };
        let Ok(items) = self.items.try_acquire() else { return false };
        bytes.forget();
        items.forget();
        true
    }

    /// Pays for a frame of this size, as soon as there is credit.
    ///
    /// # Errors
    /// The link is gone.
    pub async fn pay(&self, size: usize) -> Result<(), DeviceLinkError> {
        let gone = |_| DeviceLinkError::Unexpected { what: "the end of the link" };
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let bytes = self.bytes.acquire_many(size).await.map_err(gone)?;
        self.items.acquire().await.map_err(gone)?.forget();
        bytes.forget();
        Ok(())
    }

    /// The other end gives more. `false`: more than can be kept, so some of it was not.
    #[must_use]
    pub fn add(&self, credit: Credit) -> bool {
        let add = |to: &Semaphore, count: u64| {
            let room = KEPT_MAX.saturating_sub(to.available_permits());
            let count = permits(count);
            to.add_permits(count.min(room));
            count <= room
        };
        let kept = add(&self.bytes, credit.bytes);
        add(&self.items, u64::from(credit.items)) && kept
    }

    /// The link is gone: nobody waits for credit any more.
    pub fn close(&self) {
        self.bytes.close();
        self.items.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_paid_in_part() {
        let credits = Credits::new(Credit { bytes: 10, items: 1 });
        assert!(!credits.try_pay(11));
        assert!(credits.try_pay(6));
        assert!(!credits.try_pay(4), "no items are left");
        assert!(credits.add(Credit { bytes: 0, items: 1 }));
        assert!(credits.try_pay(4), "the bytes are still there");
    }

    #[tokio::test]
    async fn who_waits_is_served_and_told_of_the_end() {
        let credits = Credits::new(Credit { bytes: 0, items: 0 });
        let given = async { credits.add(Credit { bytes: 5, items: 1 }) };
        let (paid, kept) = tokio::join!(credits.pay(5), given);
        paid.unwrap();
        assert!(kept);
        let end = async { credits.close() };
        let (paid, ()) = tokio::join!(credits.pay(1), end);
        assert!(paid.is_err());
    }

    #[test]
    fn more_than_can_be_kept_is_told() {
        let credits = Credits::new(Credit { bytes: u64::MAX, items: 1 });
        assert!(!credits.add(Credit { bytes: 1, items: 1 }));
        assert!(credits.try_pay(1));
        assert!(credits.add(Credit { bytes: 1, items: 1 }));
    }
}
