//! What test runners say in their closing lines, added up.

/// Tests that passed, failed and were left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// The plain closing line: "12 passed, 0 failed, 1 skipped".
    pub(crate) fn closing_line(self) -> String {
        let Self { passed, failed, skipped } = self;
        let tail = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
        format!("{passed} passed, {failed} failed{tail}")
    }

    /// Adds what `line` reports, if it is the closing line of a runner that we use:
    /// libtest, nextest, vitest, node's own, pytest, or the plain form.
    pub(crate) fn read_line(&mut self, line: &str) {
        let line = strip_colour(line);
        // What nextest shows of a failed test is indented, and counted in its summary.
        let nested = line.starts_with(char::is_whitespace);
        let line = line.trim();
        let reported = if (line.starts_with("test result:") && !nested)
            || line.starts_with("Summary [")
            || (line.starts_with("Tests ") && line.ends_with(')'))
            || (line.starts_with("==") && line.ends_with("==") && line.contains(" in "))
            || is_plain(line)
        {
            pairs(line)
        } else if let Some(tally) = node_tally(line) {
            tally
        } else {
            return;
        };
        self.add(reported);
    }
}

/// "N passed, N failed[, N skipped]", perhaps behind one word with a colon.
fn is_plain(line: &str) -> bool {
    let body = match line.split_once(": ") {
        Some((word, rest)) if !word.contains(' ') => rest,
        _ => line,
    };
    let mut parts = body.split(", ");
    let mut is = |word: &str| {
        parts.next().is_some_and(|part| {
            part.split_once(' ').is_some_and(|(n, w)| w == word && n.parse::<u64>().is_ok())
        })
    };
    is("passed") && is("failed")
}

/// Sums up "N passed", "N failed", "N skipped", "N ignored" wherever they stand.
fn pairs(line: &str) -> Counts {
    let mut counts = Counts::default();
    let words: Vec<&str> = line
        .split(|c: char| c.is_whitespace() || ",;()=|".contains(c))
        .filter(|word| !word.is_empty())
        .collect();
    for pair in words.windows(2) {
        let Ok(number) = pair[0].parse::<u64>() else { continue };
        match pair[1] {
            "passed" => counts.passed += number,
            "failed" | "errors" | "error" => counts.failed += number,
            "skipped" | "ignored" | "todo" => counts.skipped += number,
            _ => (),
        }
    }
    counts
}

/// node's runner closes with one number a line: "# pass 3" (TAP) or "ℹ pass 3".
fn node_tally(line: &str) -> Option<Counts> {
    let rest = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ "))?;
    let (word, number) = rest.split_once(' ')?;
    let number = number.parse().ok()?;
    let mut counts = Counts::default();
    match word {
        "pass" => counts.passed = number,
        "fail" | "cancelled" => counts.failed = number,
        "skipped" | "todo" => counts.skipped = number,
        _ => return None,
    }
    Some(counts)
}

/// Drops terminal colour codes.
fn strip_colour(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            for code in chars.by_ref() {
                if code.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> (u64, u64, u64) {
        let mut counts = Counts::default();
        for line in lines {
            counts.read_line(line);
        }
        (counts.passed, counts.failed, counts.skipped)
    }

    #[test]
    fn every_runner_is_understood() {
        let libtest = "test result: ok. 5 passed; 1 failed; 2 ignored; 0 measured; 3 filtered out";
        assert_eq!(read(&[libtest, libtest]), (10, 2, 4));
        let nextest =
            "     Summary [   0.021s] 9 tests run: 7 passed (1 flaky), 2 failed, 25 skipped";
        assert_eq!(read(&[nextest]), (7, 2, 25));
        let nested = "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured";
        assert_eq!(read(&[nested, nextest]), (7, 2, 25));
        let vitest =
            "\u{1b}[2m      Tests \u{1b}[22m \u{1b}[31m2 failed\u{1b}[39m | 10 passed (12)";
        assert_eq!(read(&[vitest]), (10, 2, 0));
        let pytest = "=========== 1 failed, 3 passed, 1 skipped in 0.12s ===========";
        assert_eq!(read(&[pytest]), (3, 1, 1));
        assert_eq!(read(&["ℹ tests 4", "ℹ pass 3", "ℹ fail 1", "ℹ skipped 0"]), (3, 1, 0));
        assert_eq!(read(&["# pass 3", "# fail 0"]), (3, 0, 0));
        assert_eq!(read(&["clients: 4 passed, 0 failed"]), (4, 0, 0));
    }

    #[test]
    fn other_lines_do_not_count() {
        let chatter =
            ["3 passed away", "Test Files  2 passed (2)", "== 3 of 4 ==", "the 5 passed, 1 failed"];
        assert_eq!(read(&chatter), (0, 0, 0));
    }

    #[test]
    fn the_closing_line_has_the_plain_form() {
        let mut counts = Counts { passed: 12, failed: 0, skipped: 0 };
        assert_eq!(counts.closing_line(), "12 passed, 0 failed");
        counts.skipped = 1;
        assert_eq!(counts.closing_line(), "12 passed, 0 failed, 1 skipped");
    }
}
