//! Reads what a program puts out, with a bound on memory whatever it puts out.

use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// Longest line that is kept whole; of a longer one only its beginning is.
pub(crate) const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What is kept of a line that is too long.
const HEAD_BYTES: usize = 2 * 1024;
/// Bytes that are read at once.
const READ_BYTES: usize = 16 * 1024;

/// A piece of output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line without its end, or (in pieces) whatever there was.
    Whole(Vec<u8>),
    /// The beginning of a line that was too long, and how long it was.
    TooLong { head: Vec<u8>, bytes: u64 },
}

/// How output is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// At line ends.
    Lines,
    /// As it comes.
    Pieces,
}

/// Reads lines; [`Lines::next`] can be dropped and called again.
pub(crate) struct Lines {
    from: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    framing: Framing,
    part: Vec<u8>,
    /// Bytes of the current line, if it is too long.
    skipped: Option<u64>,
}

impl Lines {
    pub(crate) fn new(from: Box<dyn AsyncRead + Send + Unpin>, framing: Framing) -> Self {
        let from = BufReader::with_capacity(READ_BYTES, from);
        Self { from, framing, part: Vec::new(), skipped: None }
    }

    /// The next one; `None` at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let bytes = self.from.fill_buf().await?;
            if bytes.is_empty() {
                return Ok(self.last());
            }
            if self.framing == Framing::Pieces {
                let piece = bytes.to_vec();
                self.from.consume(piece.len());
                return Ok(Some(Line::Whole(piece)));
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (taken, used) = (&bytes[..end.unwrap_or(bytes.len())], end.map(|at| at + 1));
            let (used, taken_len) = (used.unwrap_or(bytes.len()), taken.len());
            match &mut self.skipped {
                Some(skipped) => *skipped += u64::try_from(taken_len).unwrap_or(u64::MAX),
                None if self.part.len() + taken_len > LINE_BYTES_MAX => {
                    let all = self.part.len() + taken_len;
                    self.skipped = Some(u64::try_from(all).unwrap_or(u64::MAX));
                    self.part.extend_from_slice(&taken[..taken_len.min(HEAD_BYTES)]);
                    self.part.truncate(HEAD_BYTES);
                    self.part.shrink_to_fit();
                }
                None => self.part.extend_from_slice(taken),
            }
            self.from.consume(used);
            if end.is_some() {
                return Ok(Some(self.take()));
            }
        }
    }

    /// What came without a line end.
    fn last(&mut self) -> Option<Line> {
        let is_nothing = self.part.is_empty() && self.skipped.is_none();
        (!is_nothing).then(|| self.take())
    }

    fn take(&mut self) -> Line {
        let part = std::mem::take(&mut self.part);
        match self.skipped.take() {
            Some(bytes) => Line::TooLong { head: part, bytes },
            None => Line::Whole(part),
        }
    }
}

/// The end of what a program said on standard error, and nothing before it.
#[derive(Debug, Default)]
pub(crate) struct Tail(std::collections::VecDeque<u8>);

/// Bytes that a [`Tail`] keeps.
pub(crate) const TAIL_BYTES_MAX: usize = 8 * 1024;

impl Tail {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(TAIL_BYTES_MAX)..];
        let over = (self.0.len() + bytes.len()).saturating_sub(TAIL_BYTES_MAX);
        self.0.drain(..over.min(self.0.len()));
        self.0.extend(bytes);
    }

    pub(crate) fn text(&self) -> String {
        let bytes: Vec<u8> = self.0.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(text: &'static [u8]) -> Vec<Line> {
        let mut lines = Lines::new(Box::new(text), Framing::Lines);
        let mut out = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            out.push(line);
        }
        out
    }

    #[tokio::test]
    async fn lines_come_whole() {
        let whole = |text: &[u8]| Line::Whole(text.to_vec());
        assert_eq!(all(b"a\nbc\n\nd").await, [whole(b"a"), whole(b"bc"), whole(b""), whole(b"d")]);
        assert_eq!(all(b"").await, []);
    }

    #[tokio::test]
    async fn a_giant_line_costs_little() {
        let mut giant = vec![b'x'; LINE_BYTES_MAX + 3 * READ_BYTES];
        giant.extend_from_slice(b"\nnext\n");
        let mut lines = Lines::new(Box::new(std::io::Cursor::new(giant)), Framing::Lines);
        let Some(Line::TooLong { head, bytes }) = lines.next().await.unwrap() else {
            panic!("the line is too long");
        };
        assert_eq!(head.len(), HEAD_BYTES);
        assert_eq!(bytes, u64::try_from(LINE_BYTES_MAX + 3 * READ_BYTES).unwrap());
        assert_eq!(lines.next().await.unwrap(), Some(Line::Whole(b"next".to_vec())));
        assert_eq!(lines.next().await.unwrap(), None);
    }

    #[test]
    fn a_tail_keeps_the_end() {
        let mut tail = Tail::default();
        tail.push(&vec![b'a'; 2 * TAIL_BYTES_MAX]);
        tail.push(b"the end");
        let text = tail.text();
        assert!(text.ends_with("athe end"));
        assert_eq!(text.len(), TAIL_BYTES_MAX);
    }
}
