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

/// The statements of one connection and their answers. Both directions are always followed, so
/// that a loss can begin at any frame.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    up: Frames,
    down: Frames,
    /// Opcodes of the requests that wait for an answer, by stream.
    waiting: HashMap<i16, u8>,
}

impl Statements {
    /// Bytes of the client.
    pub(crate) fn asked(&mut self, bytes: &[u8]) {
        for frame in self.up.push(bytes) {
            if self.waiting.len() < STREAMS_MAX {
                self.waiting.insert(frame.stream, frame.opcode);
            }
        }
    }

    /// The whole frames that bytes of the server complete, without the answers to statements
    /// (not to a handshake, or a ping) that are to be lost.
    pub(crate) fn keep(&mut self, bytes: &[u8], mut lose: impl FnMut() -> bool) -> Vec<u8> {
        let mut kept = Vec::with_capacity(bytes.len());
        for frame in self.down.push(bytes) {
            let asked = self.waiting.remove(&frame.stream);
            if !(matches!(asked, Some(EXECUTE | BATCH)) && lose()) {
                kept.extend(frame.bytes);
            }
        }
        kept
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
        let mut statements = Statements::default();
        statements.asked(&frame(1, EXECUTE, b""));
        statements.asked(&frame(2, 5, b""));
        let all = || true;
        assert!(statements.keep(&frame(1, 8, b""), all).is_empty());
        assert!(!statements.keep(&frame(1, 8, b""), all).is_empty(), "answered once");
        assert!(!statements.keep(&frame(2, 6, b""), all).is_empty());
    }
}
