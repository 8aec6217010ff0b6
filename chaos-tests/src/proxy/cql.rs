//! Enough of CQL's framing to lose the answer of a write that took place.

use std::collections::HashMap;

/// Version, flags, stream (2), opcode, length (4).
const HEADER: usize = 9;
const EXECUTE: u8 = 0x0a;
const BATCH: u8 = 0x0d;
/// Requests of one connection whose answers are waited for; more than the protocol has.
const STREAMS_MAX: usize = 32_768;

/// Splits a stream of bytes into frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
}

/// Its opcode, its stream, and all of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) opcode: u8,
    pub(crate) stream: i16,
    pub(crate) bytes: Vec<u8>,
}

impl Frames {
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.buffer.extend_from_slice(bytes);
        let mut frames = Vec::new();
        let mut at = 0;
        while let Some(&[_, _, s0, s1, opcode, l0, l1, l2, l3]) = self.buffer.get(at..at + HEADER) {
            let body = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
            let Some(bytes) = self.buffer.get(at..at + HEADER + body) else { break };
            let stream = i16::from_be_bytes([s0, s1]);
            frames.push(Frame { opcode, stream, bytes: bytes.to_vec() });
            at += HEADER + body;
        }
        self.buffer.drain(..at);
        frames
    }
}

/// Which streams wait for the answer of a statement.
#[derive(Debug, Default)]
pub(crate) struct Asked(HashMap<i16, u8>);

impl Asked {
    pub(crate) fn request(&mut self, frame: &Frame) {
        if self.0.len() < STREAMS_MAX {
            self.0.insert(frame.stream, frame.opcode);
        }
    }

    /// Whether this is the answer to a statement (not to a handshake, or a ping).
    pub(crate) fn is_statement(&mut self, answer: &Frame) -> bool {
        matches!(self.0.remove(&answer.stream), Some(EXECUTE | BATCH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: i16, opcode: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![4, 0];
        bytes.extend(stream.to_be_bytes());
        bytes.push(opcode);
        bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn frames_are_found_however_the_bytes_come() {
        let mut all = frame(7, EXECUTE, b"abc");
        all.extend(frame(8, 5, b""));
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        for byte in &all {
            found.extend(frames.push(&[*byte]));
        }
        assert_eq!(found, Frames::default().push(&all));
        assert_eq!(found.iter().map(|f| f.stream).collect::<Vec<_>>(), [7, 8]);
        assert_eq!(found[0].bytes, frame(7, EXECUTE, b"abc"));
    }

    #[test]
    fn answers_are_told_apart() {
        let mut asked = Asked::default();
        let one = |stream, opcode| Frames::default().push(&frame(stream, opcode, b"")).remove(0);
        asked.request(&one(1, EXECUTE));
        asked.request(&one(2, 5));
        assert!(asked.is_statement(&one(1, 8)));
        assert!(!asked.is_statement(&one(1, 8)), "answered once");
        assert!(!asked.is_statement(&one(2, 6)));
    }
}
