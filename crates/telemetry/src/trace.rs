//! Where a piece of work stands in a trace, as W3C names it, and how that is carried on: into
//! a queue, over the wire, into a task that begins later.
//!
//! Spans of this house are `debug_span!`s, so that they cost one look at a flag while no traces
//! are collected ([`crate::traces`]). A span lives as long as any clone of it: what waits holds a
//! [`TraceParent`] and not a span, or the time that it waits is taken for work.

use std::{
    cell::Cell,
    fmt,
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
};

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use thiserror::Error;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Longest header that is read.
const TEXT_BYTES_MAX: usize = 128;
/// `00-<32>-<16>-<2>`.
const TEXT_BYTES: usize = 55;

static COLLECTED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static AMBIENT: Cell<Option<TraceParent>> = const { Cell::new(None) };
}

/// A place in a trace. Its text is W3C's `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; not all zeros.
    pub trace: [u8; 16],
    /// The span; not all zeros.
    pub span: [u8; 8],
    /// W3C's flags; the lowest bit says that the trace is collected.
    pub flags: u8,
}

/// It is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a traceparent of the form 00-TRACE-SPAN-FLAGS")]
pub struct NotATraceParent;

impl TraceParent {
    fn context(self) -> Context {
        Context::new().with_remote_span_context(SpanContext::new(
            TraceId::from_bytes(self.trace),
            SpanId::from_bytes(self.span),
            TraceFlags::new(self.flags),
            true,
            TraceState::NONE,
        ))
    }

    fn of(span: &Span) -> Option<Self> {
        let context = span.context();
        let span = context.span();
        let here = span.span_context();
        here.is_valid().then(|| Self {
            trace: here.trace_id().to_bytes(),
            span: here.span_id().to_bytes(),
            flags: here.trace_flags().to_u8(),
        })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

impl FromStr for TraceParent {
    type Err = NotATraceParent;

    /// As W3C wants it: lower case, any version but `ff`, a newer version may have more parts.
    fn from_str(text: &str) -> Result<Self, NotATraceParent> {
        let bytes = text.as_bytes();
        let dashes = [2, 35, 52].iter().all(|at| bytes.get(*at) == Some(&b'-'));
        let longer_is_newer = match bytes.get(TEXT_BYTES) {
            None => true,
            Some(next) => *next == b'-' && !text.starts_with("00"),
        };
        if bytes.len() > TEXT_BYTES_MAX || !dashes || !longer_is_newer {
            return Err(NotATraceParent);
        }
        let [version]: [u8; 1] = hex(bytes.get(..2))?;
        let (trace, span) = (hex(bytes.get(3..35))?, hex(bytes.get(36..52))?);
        let [flags]: [u8; 1] = hex(bytes.get(53..55))?;
        if version == u8::MAX || trace == [0; 16] || span == [0; 8] {
            return Err(NotATraceParent);
        }
        Ok(Self { trace, span, flags })
    }
}

fn hex<const N: usize>(digits: Option<&[u8]>) -> Result<[u8; N], NotATraceParent> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(NotATraceParent),
    };
    let digits = digits.filter(|digits| digits.len() == N * 2).ok_or(NotATraceParent)?;
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

pub(crate) fn set_collected(collected: bool) {
    COLLECTED.store(collected, Ordering::Relaxed);
}

/// Whether traces are collected in this process.
#[must_use]
pub fn is_collected() -> bool {
    COLLECTED.load(Ordering::Relaxed)
}

/// Where the calling code stands: in its span, else in what [`within`] says.
#[must_use]
pub fn current() -> Option<TraceParent> {
    if !is_collected() {
        return None;
    }
    TraceParent::of(&Span::current()).or_else(|| AMBIENT.get())
}

/// Runs `work` as a part of a trace without a span of its own. It must not wait; tasks that it
/// starts are not part of the trace.
pub fn within<T>(parent: Option<TraceParent>, work: impl FnOnce() -> T) -> T {
    /// Put back however `work` ends.
    struct Before(Option<TraceParent>);
    impl Drop for Before {
        fn drop(&mut self) {
            AMBIENT.set(self.0);
        }
    }
    let _before = Before(AMBIENT.replace(parent));
    work()
}

/// A span below `parent`; no span without one, so that only what somebody asked for is traced.
pub fn child_of(parent: Option<TraceParent>, make: impl FnOnce() -> Span) -> Span {
    let Some(parent) = parent.filter(|_| is_collected()) else { return Span::none() };
    let span = make();
    // Refused only where there is no such span: then there is nothing to be put in its place.
    let _ = span.set_parent(parent.context());
    span
}

/// A span below the one of the calling code, or below what [`within`] says; none without.
pub fn child(make: impl FnOnce() -> Span) -> Span {
    child_of(current(), make)
}

/// Puts the span of the calling code below a parent from outside. It is too late for that once
/// there is anything below the span itself: then nothing changes.
pub fn adopt(parent: TraceParent) {
    if is_collected() {
        let _ = Span::current().set_parent(parent.context());
    }
}

/// Records a number in a span.
pub fn record(span: &Span, field: &'static str, number: u64) {
    span.record(field, i64::try_from(number).unwrap_or(i64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_reads_and_writes() {
        let parent: TraceParent = TEXT.parse().unwrap();
        assert_eq!((parent.trace[0], parent.span[7], parent.flags), (0x4b, 0xb7, 1));
        assert_eq!(parent.to_string(), TEXT);
        let newer = TEXT.replacen("00", "01", 1) + "-more";
        assert_eq!(newer.parse::<TraceParent>().unwrap().trace, parent.trace);
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        for bad in [
            String::new(),
            TEXT.to_uppercase(),
            TEXT[..54].to_owned(),
            format!("{TEXT}-more"),
            format!("{TEXT}0"),
            TEXT.replacen("00", "ff", 1),
            TEXT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            TEXT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            TEXT.replace('-', "_"),
            TEXT.replacen("00", "01", 1) + "-" + &"x".repeat(200),
            "é".repeat(28),
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(NotATraceParent), "{bad}");
        }
    }
}
