//! The verdicts of a run as a table.

use std::{fmt::Write as _, time::Duration};

use crate::{
    check::{Invariant, Violation},
    stage::Figure,
};

/// One scenario of one round.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) round: u64,
    pub(crate) took: Duration,
    pub(crate) figures: Vec<Figure>,
    pub(crate) violations: Vec<Violation>,
    /// What the harness could not do.
    pub(crate) error: Option<String>,
}

impl Row {
    fn is_well(&self, lenient: bool) -> bool {
        let kept = self.figures.iter().all(|figure| figure.within != Some(false));
        self.violations.is_empty() && self.error.is_none() && (lenient || kept)
    }
}

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<Row>);

impl Report {
    pub(crate) fn add(&mut self, row: Row) {
        self.0.push(row);
    }

    /// No violation, no error, and no bound exceeded; `lenient`: bounds do not count.
    pub(crate) fn is_well(&self, lenient: bool) -> bool {
        self.0.iter().all(|row| row.is_well(lenient))
    }

    pub(crate) fn render(&self, seed: u64, took: Duration) -> String {
        let mut text = String::from("\n");
        let names: String =
            Invariant::ALL.iter().map(|i| format!("{:>5}", i.to_string())).collect();
        let _ = writeln!(text, "{:<16} {:>6} {names}  bounds", "scenario", "took");
        for row in &self.0 {
            let _ = write!(text, "{:<16} {:>5.0}s ", row.name, row.took.as_secs_f64());
            for invariant in Invariant::ALL {
                let broken = row.violations.iter().filter(|v| v.invariant == invariant).count();
                let mark = if broken > 0 { format!("x{broken}") } else { "ok".to_owned() };
                let _ = write!(text, "{mark:>5}");
            }
            let late = row.figures.iter().filter(|f| f.within == Some(false)).count();
            let verdict = match (&row.error, late) {
                (Some(_), _) => "ERROR".to_owned(),
                (None, 0) => "ok".to_owned(),
                (None, late) => format!("{late} exceeded"),
            };
            let _ = writeln!(text, "  {verdict}");
        }
        text.push_str("\nmeasured\n");
        for row in &self.0 {
            for figure in &row.figures {
                let mark = if figure.within == Some(false) { "  EXCEEDED" } else { "" };
                let _ = writeln!(text, "  {:<16} {}{mark}", row.name, figure.text);
            }
        }
        for row in self.0.iter().filter(|row| !row.violations.is_empty() || row.error.is_some()) {
            let _ = writeln!(text, "\n{} (round {})", row.name, row.round + 1);
            for Violation { invariant, what } in &row.violations {
                let _ = writeln!(text, "  {invariant}: {what}");
            }
            if let Some(error) = &row.error {
                let _ = writeln!(text, "  error: {error}");
            }
        }
        let count: usize = self.0.iter().map(|row| row.violations.len()).sum();
        let verdict = if self.is_well(false) { "all is well" } else { "NOT WELL" };
        let took = took.as_secs_f64();
        let _ = writeln!(text, "\nseed {seed}: {verdict}, {count} violations, {took:.0} s");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(violations: Vec<Violation>, within: Option<bool>, error: Option<&str>) -> Row {
        Row {
            name: "crash".to_owned(),
            round: 0,
            took: Duration::from_secs(3),
            figures: vec![Figure { text: "fail-over 1 s".to_owned(), within }],
            violations,
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn one_bad_thing_is_enough() {
        let verdict = |row: Row| {
            let mut report = Report::default();
            report.add(row);
            (report.is_well(false), report.render(7, Duration::from_secs(4)))
        };
        let (well, text) = verdict(row(Vec::new(), Some(true), None));
        assert!(well && text.contains("seed 7: all is well"), "{text}");
        let mut late = Report::default();
        late.add(row(Vec::new(), Some(false), None));
        assert!(late.is_well(true) && !late.is_well(false), "bounds of time may not count");
        let violation = Violation::new(Invariant::I4, "lost");
        for bad in [
            row(vec![violation], None, None),
            row(Vec::new(), Some(false), None),
            row(Vec::new(), None, Some("no such program")),
        ] {
            let (well, text) = verdict(bad);
            assert!(!well && text.contains("NOT WELL"), "{text}");
        }
    }
}
