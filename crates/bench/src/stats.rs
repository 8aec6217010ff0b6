//! Rows, percentiles, and what `/proc` says about a process.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "rows and progress of a program")]

use std::{fmt, fs, time::Duration};

use anyhow::{Context, Result};

/// One line of the table.
pub(crate) fn row(what: &str, figure: impl std::fmt::Display) {
    println!("{what}\t{figure}");
}

/// A word to whoever watches.
pub(crate) fn note(line: &str) {
    eprintln!("{line}");
}

/// Measured times.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// "p50 1.20 ms, p99 3.10 ms, max 8.00 ms".
    pub(crate) fn summary(&mut self) -> String {
        self.0.sort_unstable();
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|part| ms(self.at(part)));
        format!("p50 {p50}, p99 {p99}, max {max}")
    }

    /// The same in microseconds, without the last.
    pub(crate) fn micros(&mut self) -> String {
        self.0.sort_unstable();
        let [p50, p99] = [0.5, 0.99].map(|part| grouped(self.at(part).as_secs_f64() * 1e6));
        format!("p50 {p50} µs, p99 {p99} µs")
    }

    pub(crate) fn p50(&mut self) -> Duration {
        self.0.sort_unstable();
        self.at(0.5)
    }

    /// Of sorted times.
    fn at(&self, part: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        let at = (last as f64 * part).round() as usize;
        self.0.get(at).copied().unwrap_or_default()
    }
}

/// So many in so much time, over several rounds.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    count: usize,
    took: Duration,
    cpu: Duration,
}

impl Rate {
    pub(crate) fn add(&mut self, count: usize, took: Duration) {
        self.count += count;
        self.took += took;
    }

    /// Processor time that it took besides.
    pub(crate) fn spend(&mut self, cpu: Duration) {
        self.cpu += cpu;
    }

    /// "8.1 µs of processor each": unlike a rate, it stays the same beside other work.
    pub(crate) fn cost(&self) -> String {
        let each = self.cpu.as_secs_f64() * 1e6 / self.count.max(1) as f64;
        format!("{each:.1} µs of processor each")
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// How many times as fast as another one.
    pub(crate) fn over(&self, other: &Self) -> f64 {
        self.per_second() / other.per_second().max(1e-9)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&grouped(self.per_second()))
    }
}

/// What is said of an aim.
pub(crate) const fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "missed" }
}

pub(crate) fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// "30,412".
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Processor time that a process has used so far.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("read the node's times")?;
    let after = stat.rsplit_once(')').context("a process has a name")?.1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let ticks = ticks(11).context("user time")? + ticks(12).context("system time")?;
    // USER_HZ is 100 on every Linux that we run on.
    Ok(Duration::from_millis(ticks * 10))
}

/// Resident memory in bytes.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read the memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line.context("a resident size")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0)
}

/// "1.62 of 2 cores".
pub(crate) fn cores(used: Duration, over: Duration) -> String {
    let all = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("{:.2} of {all} cores", used.as_secs_f64() / over.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!(grouped(999.0), "999");
        let mut times = Times::default();
        (1..=100).for_each(|n| times.push(Duration::from_millis(n)));
        assert_eq!(times.summary(), "p50 51.00 ms, p99 99.00 ms, max 100.00 ms");
        assert_eq!(times.micros(), "p50 51,000 µs, p99 99,000 µs");
        assert_eq!(Times::default().summary(), "p50 0.00 ms, p99 0.00 ms, max 0.00 ms");
        let (mut rate, mut other) = (Rate::default(), Rate::default());
        rate.add(1_000, Duration::from_millis(400));
        rate.add(500, Duration::from_millis(100));
        other.add(1_500, Duration::from_secs(1));
        assert_eq!((rate.to_string().as_str(), rate.over(&other)), ("3,000", 2.0));
        rate.spend(Duration::from_millis(15));
        assert_eq!(rate.cost(), "10.0 µs of processor each");
    }
}
