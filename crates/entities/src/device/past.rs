//! When a device was linked, a day back.

use std::time::Duration;

use troupe_api::device::LinkSpan;
use troupe_types::Timestamp;

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Links that are remembered.
const SPANS_MAX: usize = 160;

/// What the device said, and what was seen since.
#[derive(Debug, Default)]
pub(super) struct Past(Vec<LinkSpan>);

impl Past {
    /// A link came up; the device says when there were earlier ones. One that says nothing leaves
    /// what was seen here.
    pub(super) fn begin(&mut self, said: Vec<LinkSpan>, now: Timestamp) {
        self.end(now);
        if !said.is_empty() {
            self.0 = said;
        }
        self.0.push(LinkSpan { from: now, to: None });
        let more = self.0.len().saturating_sub(SPANS_MAX);
        self.0.drain(..more);
    }

    /// The link is gone.
    pub(super) fn end(&mut self, now: Timestamp) {
        if let Some(last) = self.0.last_mut() {
            last.to.get_or_insert(now);
        }
    }

    /// What is known of the day before `now`.
    pub(super) fn shown(&self, now: Timestamp) -> Vec<LinkSpan> {
        let day = i64::try_from(DAY.as_millis()).unwrap_or(i64::MAX);
        let since = Timestamp::from_millis(now.as_millis() - day);
        let recent = self.0.iter().filter(|span| span.to.is_none_or(|to| to > since));
        recent.map(|span| LinkSpan { from: span.from.max(since), ..*span }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_millis(1_795_000_000_000 + hours * HOUR)
    }

    fn span(from: i64, to: Option<i64>) -> LinkSpan {
        LinkSpan { from: at(from), to: to.map(at) }
    }

    #[test]
    fn what_the_device_says_counts_and_a_day_is_shown() {
        let mut past = Past::default();
        past.begin(Vec::new(), at(0));
        past.end(at(1));
        past.end(at(2));
        assert_eq!(past.shown(at(3)), [span(0, Some(1))]);
        past.begin(Vec::new(), at(3));
        assert_eq!(past.shown(at(4)), [span(0, Some(1)), span(3, None)]);
        // Another link before the end of the old one was noticed.
        past.begin(Vec::new(), at(5));
        assert_eq!(past.shown(at(5)).len(), 3);
        past.begin(vec![span(-30, Some(-20)), span(-10, Some(4))], at(6));
        assert_eq!(past.shown(at(6)), [span(-10, Some(4)), span(6, None)]);
        assert_eq!(past.shown(at(3))[0], span(-21, Some(-20)), "cut where the day begins");
        assert_eq!(past.shown(at(29)), [span(6, None)]);
        (0..1_000).for_each(|n| past.begin(Vec::new(), at(n)));
        assert_eq!(past.0.len(), SPANS_MAX);
    }
}
