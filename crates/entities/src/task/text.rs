//! Text of an execution on its way into a frame.
//!
//! Text that arrives while an append of its Task is under way joins one frame before it gets
//! its seq; nothing is merged afterwards. So grouping follows the store's latency by itself:
//! no window when idle, larger frames under load.

use tokio::sync::OwnedSemaphorePermit;
use troupe_domain::task::Output;
use troupe_types::limits;

/// Pieces of one attempt that are not staged yet.
#[derive(Debug, Default)]
pub(super) struct TextBuffer {
    pieces: Vec<Output>,
    bytes: usize,
    permits: Vec<OwnedSemaphorePermit>,
}

impl TextBuffer {
    pub(super) const fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) const fn is_full(&self) -> bool {
        self.bytes >= limits::TEXT_BUFFER_BYTES_MAX
    }

    /// Adds a piece; joins it with the one before if both are of one sort.
    pub(super) fn push(&mut self, piece: Output, permit: Option<OwnedSemaphorePermit>) {
        let bytes = match &piece {
            Output::Text(t) | Output::Thinking(t) => t.len(),
        };
        if bytes == 0 {
            // Nothing of it will be committed, so nothing would give the permit back.
            return;
        }
        self.permits.extend(permit);
        self.bytes += bytes;
        match (self.pieces.last_mut(), piece) {
            (Some(Output::Text(a)), Output::Text(b))
            | (Some(Output::Thinking(a)), Output::Thinking(b)) => a.push_str(&b),
            (_, piece) => self.pieces.push(piece),
        }
    }

    /// Everything, split so that no single piece is larger than the bound.
    pub(super) fn take(&mut self) -> (Vec<Output>, Vec<OwnedSemaphorePermit>) {
        self.bytes = 0;
        let pieces = std::mem::take(&mut self.pieces).into_iter().flat_map(split).collect();
        (pieces, std::mem::take(&mut self.permits))
    }
}

fn split(piece: Output) -> Vec<Output> {
    let (text, make): (String, fn(String) -> Output) = match piece {
        Output::Text(text) => (text, Output::Text),
        Output::Thinking(text) => (text, Output::Thinking),
    };
    if text.len() <= limits::TEXT_BUFFER_BYTES_MAX * 2 {
        return vec![make(text)];
    }
    let mut parts = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let mut end = rest.len().min(limits::TEXT_BUFFER_BYTES_MAX);
        while !rest.is_char_boundary(end) {
            end -= 1;
        }
        let (head, tail) = rest.split_at(end);
        parts.push(make(head.to_owned()));
        rest = tail;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_one_sort_join_and_order_stays() {
        let mut buffer = TextBuffer::default();
        for piece in [
            Output::Thinking("a".into()),
            Output::Thinking("b".into()),
            Output::Text("c".into()),
            Output::Text(String::new()),
            Output::Text("d".into()),
        ] {
            buffer.push(piece, None);
        }
        let (pieces, _) = buffer.take();
        assert_eq!(pieces, vec![Output::Thinking("ab".into()), Output::Text("cd".into())]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_piece_without_text_keeps_no_permit() {
        let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
        let mut buffer = TextBuffer::default();
        let permit = std::sync::Arc::clone(&permits).try_acquire_owned().unwrap();
        buffer.push(Output::Text(String::new()), Some(permit));
        assert!(buffer.is_empty());
        assert_eq!(permits.available_permits(), 1);
    }

    #[test]
    fn a_giant_piece_is_split_between_characters() {
        let text = "汉字🙂".repeat(20_000);
        let mut buffer = TextBuffer::default();
        buffer.push(Output::Text(text.clone()), None);
        assert!(buffer.is_full());
        let (pieces, _) = buffer.take();
        let joined: String = pieces
            .iter()
            .map(|p| match p {
                Output::Text(t) | Output::Thinking(t) => {
                    assert!(t.len() <= limits::TEXT_BUFFER_BYTES_MAX);
                    t.as_str()
                }
            })
            .collect();
        assert_eq!(joined, text);
    }
}
