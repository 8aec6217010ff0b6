//! When the device was linked, a day back. Only the device knows it through restarts of either side,
//! so it tells the cluster with each hello.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use troupe_types::Timestamp;
use troupe_wire::device::{LinkAgo, limits::LINK_SPANS_MAX};

/// When this device was linked, in the agent's directory.
pub const FILE: &str = "links.json";
/// Written first, then moved over the other: it is there if the agent ended in between.
const PART: &str = "new";

/// The files with when this device was linked, in the agent's directory.
#[must_use]
pub fn files(dir: &Path) -> [PathBuf; 2] {
    let file = dir.join(FILE);
    [file.with_extension(PART), file]
}

/// So often the end of a live link is noted, for the case that the agent is killed.
pub(super) const NOTE_EVERY: Duration = Duration::from_secs(60);
/// Nothing was noted for longer: the machine slept, or its clock jumped.
const ASLEEP_MS: i64 = 2 * 60 * 1_000;
const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// A time with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    from: Timestamp,
    to: Timestamp,
}

/// All links of a day, in the order in which they came up.
#[derive(Debug, Default)]
pub(super) struct Past {
    file: PathBuf,
    spans: Vec<Span>,
}

impl Past {
    /// What is kept in `file`; nothing if it does not read.
    pub(super) fn load(file: PathBuf) -> Self {
        let kept = fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { file, spans: kept.unwrap_or_default() }
    }

    /// A link came up.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.spans.push(Span { from: now, to: now });
        self.forget(now);
        self.keep();
    }

    /// The link that came up last still holds. If it does so after a sleep, it came back with it.
    pub(super) fn note(&mut self, now: Timestamp) {
        if self.slept(now) { self.begin(now) } else { self.end(now) }
    }

    /// The link that came up last is gone: now, or since the machine fell asleep.
    pub(super) fn end(&mut self, now: Timestamp) {
        if !self.slept(now)
            && let Some(last) = self.spans.last_mut()
        {
            last.to = last.to.max(now);
        }
        self.keep();
    }

    fn slept(&self, now: Timestamp) -> bool {
        self.spans.last().is_some_and(|last| now.as_millis() - last.to.as_millis() > ASLEEP_MS)
    }

    /// What a hello says, oldest first: the day before `now`. A clock that goes back hides what is
    /// ahead of it, until it has caught up.
    pub(super) fn told(&self, now: Timestamp) -> Vec<LinkAgo> {
        let ago = |at: Timestamp| (now.as_millis() - at.as_millis()).clamp(0, DAY_MS);
        let ms = |at: Timestamp| u32::try_from(ago(at)).unwrap_or(u32::MAX);
        let since = now.as_millis() - DAY_MS;
        let spans = self.spans.iter().filter(|s| s.to.as_millis() >= since && s.from <= now);
        let told = spans.map(|span| LinkAgo { began: ms(span.from), ended: ms(span.to) });
        let mut told: Vec<_> = told.collect();
        told.sort_by_key(|span| std::cmp::Reverse(span.began));
        told
    }

    /// Links of yesterday, and of a clock that was a day ahead. Of too many, those that are the
    /// closest become one.
    fn forget(&mut self, now: Timestamp) {
        let (since, until) = (now.as_millis() - DAY_MS, now.as_millis() + DAY_MS);
        self.spans.retain(|span| span.to.as_millis() >= since && span.from.as_millis() <= until);
        while self.spans.len() > LINK_SPANS_MAX {
            let gap =
                |n: &usize| self.spans[*n].from.as_millis() - self.spans[n - 1].to.as_millis();
            let Some(closest) = (1..self.spans.len()).min_by_key(gap) else { return };
            let to = self.spans.remove(closest).to;
            self.spans[closest - 1].to = self.spans[closest - 1].to.max(to);
        }
    }

    /// A few KiB at most, and not synced: it is for people to look at, and without it everything
    /// works.
    fn keep(&self) {
        let part = self.file.with_extension(PART);
        let text = serde_json::to_vec(&self.spans).unwrap_or_default();
        let kept = fs::write(&part, text).and_then(|()| fs::rename(&part, &self.file));
        if let Err(error) = kept {
            tracing::debug!(%error, "when it was linked is not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_795_000_000_000 + seconds * 1_000)
    }

    fn told(past: &Past, now: i64) -> Vec<(u32, u32)> {
        past.told(at(now)).iter().map(|ago| (ago.began / 1_000, ago.ended / 1_000)).collect()
    }

    #[test]
    fn links_of_a_day_outlive_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        let mut past = Past::load(file.clone());
        assert_eq!(told(&past, 0), []);
        past.begin(at(0));
        past.note(at(60));
        past.begin(at(100));
        past.end(at(160));
        let past = Past::load(file.clone());
        assert_eq!(told(&past, 200), [(200, 140), (100, 40)]);
        assert_eq!(told(&past, 24 * 3_600 + 30), [(86_400, 86_370), (86_330, 86_270)]);
        assert_eq!(told(&past, 24 * 3_600 + 100), [(86_400, 86_340)]);
        fs::write(&file, "no json").unwrap();
        assert_eq!(told(&Past::load(file), 200), []);
    }

    #[test]
    fn a_machine_that_sleeps_is_not_linked() {
        let slept = |wakes: fn(&mut Past, Timestamp)| {
            let dir = tempfile::tempdir().unwrap();
            let mut past = Past::load(dir.path().join(FILE));
            past.begin(at(0));
            past.note(at(60));
            wakes(&mut past, at(8 * 3_600));
            told(&past, 8 * 3_600 + 10)
        };
        assert_eq!(slept(Past::end), [(28_810, 28_750)], "the link broke meanwhile");
        assert_eq!(slept(Past::note), [(28_810, 28_750), (10, 10)], "it holds");
    }

    #[test]
    fn a_clock_that_goes_back_and_many_cuts_are_borne() {
        let dir = tempfile::tempdir().unwrap();
        let mut past = Past::load(dir.path().join(FILE));
        past.begin(at(0));
        past.note(at(100));
        assert_eq!(told(&past, 99), [(99, 0)], "a little behind");
        assert_eq!(told(&past, -3_600), []);
        past.begin(at(-3_600));
        assert_eq!(told(&past, 200), [(3_800, 3_800), (200, 100)], "it has caught up");
        for n in 2..300 {
            past.begin(at(n * 100));
            past.note(at(n * 100 + 50 + n % 3));
        }
        let spans = past.told(at(30_000));
        assert_eq!(spans.len(), LINK_SPANS_MAX);
        assert!(spans.iter().all(|span| span.began >= span.ended));
        assert!(spans.is_sorted_by_key(|span| std::cmp::Reverse(span.began)));
        past.begin(at(-50 * 3_600));
        assert_eq!(past.spans.len(), 1, "a clock that was days ahead");
    }
}
