//! Server-sent events out of bytes, as the HTML standard says, without IO.
//!
//! The result does not depend on how the bytes were split. `id` and `retry` are not used.

use std::collections::VecDeque;

use crate::error::{ModelError, capped};

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SseEvent {
    /// Its `event` field; empty when there was none.
    pub event: String,
    /// Its `data` lines, joined by line feeds.
    pub data: String,
}

/// Collects bytes until they are events.
#[derive(Debug)]
pub(crate) struct SseDecoder {
    line: Vec<u8>,
    event: String,
    data: String,
    has_data: bool,
    /// The last line ended with a carriage return: a line feed right after it belongs to it.
    after_cr: bool,
    first_line: bool,
    event_bytes_max: usize,
    ready: VecDeque<SseEvent>,
}

impl SseDecoder {
    /// A decoder that refuses an event (and a line) of more than `event_bytes_max` bytes.
    pub(crate) const fn new(event_bytes_max: usize) -> Self {
        Self {
            line: Vec::new(),
            event: String::new(),
            data: String::new(),
            has_data: false,
            after_cr: false,
            first_line: true,
            event_bytes_max,
            ready: VecDeque::new(),
        }
    }

    /// Takes bytes in.
    ///
    /// # Errors
    /// `TooLarge`, or `Protocol` for bytes that are no UTF-8; the decoder is of no use then.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), ModelError> {
        while let Some(&first) = bytes.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|&b| b == b'\n' || b == b'\r');
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + piece.len() + self.data.len() > self.event_bytes_max {
                return Err(ModelError::TooLarge { what: "an event", limit: self.event_bytes_max });
            }
            self.line.extend_from_slice(piece);
            let Some(end) = end else { break };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.end_line()?;
        }
        Ok(())
    }

    /// The next complete event.
    pub(crate) fn pop(&mut self) -> Option<SseEvent> {
        self.ready.pop_front()
    }

    /// The bytes have ended: an event whose last blank line is missing still counts if it is
    /// otherwise whole.
    pub(crate) fn finish(&mut self) -> Result<(), ModelError> {
        let whole = self.line.is_empty() || self.line == b"data: [DONE]";
        if whole && !self.line.is_empty() {
            self.end_line()?;
        }
        if whole && self.has_data {
            self.dispatch();
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), ModelError> {
        let mut bytes = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.first_line) && bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        if bytes.is_empty() {
            if self.has_data {
                self.dispatch();
            }
            self.event.clear();
            return Ok(());
        }
        let Ok(line) = std::str::from_utf8(&bytes) else {
            let detail = "an event is no UTF-8".to_owned();
            return Err(ModelError::Protocol { detail });
        };
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.has_data = true;
                self.data.push_str(value);
            }
            _ => {} // Comments (an empty field name), `id`, `retry`, unknown fields.
        }
        bytes.clear();
        self.line = bytes; // Keeps its room for the next line.
        Ok(())
    }

    fn dispatch(&mut self) {
        self.has_data = false;
        self.ready.push_back(SseEvent {
            event: std::mem::take(&mut self.event),
            data: std::mem::take(&mut self.data),
        });
    }
}

impl SseEvent {
    /// The data as JSON.
    ///
    /// # Errors
    /// `Protocol` with an excerpt of the data.
    pub(crate) fn json(&self) -> Result<serde_json::Value, ModelError> {
        serde_json::from_str(&self.data).map_err(|error| {
            let excerpt = capped(&self.data, 120);
            ModelError::Protocol { detail: format!("malformed event ({error}): {excerpt}") }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<Vec<SseEvent>, String> {
        let mut decoder = SseDecoder::new(10_000);
        let mut events = Vec::new();
        for piece in pieces {
            decoder.push(piece).map_err(|e| e.to_string())?;
            events.extend(std::iter::from_fn(|| decoder.pop()));
        }
        decoder.finish().map_err(|e| e.to_string())?;
        events.extend(std::iter::from_fn(|| decoder.pop()));
        Ok(events)
    }

    fn event(event: &str, data: &str) -> SseEvent {
        SseEvent { event: event.into(), data: data.into() }
    }

    #[test]
    fn reads_what_the_standard_allows() {
        let text = "\u{feff}: ping\n\nevent: a\ndata: 1\n\ndata:2\r\ndata: 3\r\n\r\n\
                    event: lost\n\nid: 7\rdata\r\rdata:  x\nretry: 5\n\ndata: cut";
        assert_eq!(
            decode(&[text.as_bytes()]).unwrap(),
            [event("a", "1"), event("", "2\n3"), event("", ""), event("", " x")]
        );
    }

    #[test]
    fn a_last_event_without_its_blank_line_counts_when_it_is_whole() {
        assert_eq!(decode(&[b"data: [DONE]"]).unwrap(), [event("", "[DONE]")]);
        assert_eq!(decode(&[b"data: {}\n"]).unwrap(), [event("", "{}")]);
        assert_eq!(decode(&[b"data: {\"a\":"]).unwrap(), []);
    }

    #[test]
    fn bounds_and_bad_bytes_are_errors() {
        let mut decoder = SseDecoder::new(100);
        let error = (0..100).find_map(|_| decoder.push(b"data: 0123456789").err());
        assert!(matches!(error, Some(ModelError::TooLarge { limit: 100, .. })));
        let mut decoder = SseDecoder::new(100);
        let error = (0..100).find_map(|_| decoder.push(b"data: 0123456789\n").err());
        assert!(matches!(error, Some(ModelError::TooLarge { limit: 100, .. })));
        assert!(decode(&[b"data: \xff\n\n"]).is_err());
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        let text = prop_oneof![
            Just(String::new()),
            "(data|event|id|x)?:? ?[a-c你🙂 :]{0,6}",
            Just("data: [DONE]".to_owned()),
        ];
        (text, prop_oneof![Just("\n"), Just("\r\n"), Just("\r")])
            .prop_map(|(text, end)| format!("{text}{end}").into_bytes())
    }

    proptest! {
        #[test]
        fn splits_do_not_matter(
            lines in prop::collection::vec(line(), 0..12),
            tail in "(data: )?[a你]{0,3}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        ) {
            let mut bytes = lines.concat();
            bytes.extend_from_slice(tail.as_bytes());
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.push(0);
            at.push(bytes.len());
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(decode(&pieces), decode(&[bytes.as_slice()]));
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(decode(&single), decode(&[bytes.as_slice()]));
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&[&bytes]);
        }
    }
}
