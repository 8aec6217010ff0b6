//! Cuts a YAML stream at its document markers.
//!
//! A line that begins with `---` or `...` is a marker wherever it stands, in block and
//! quoted text too, so the cut needs no parser. It lets one broken document leave the others
//! readable, and bounds a document before anything is parsed.

/// A document's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    pub(super) text: &'a str,
    /// Line of the whole input at which it starts, from 1.
    pub(super) line: u32,
}

/// The documents, each with its own marker; parts without any content are left out.
pub(super) fn split(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line, mut offset, mut has_content) = (0, 1_u32, 0, false);
    let mut cut = |from: usize, to: usize, line: u32, has_content: bool| {
        if has_content {
            chunks.push(Chunk { text: &text[from..to], line });
        }
    };
    for (line, number) in text.split_inclusive('\n').zip(1_u32..) {
        if is_marker(line, "---") {
            // Comments and directives before the marker belong to the document after it.
            if has_content {
                cut(start, offset, start_line, true);
                (start, start_line) = (offset, number);
            }
            has_content = true;
        } else if is_marker(line, "...") {
            cut(start, offset + line.len(), start_line, has_content);
            (start, start_line, has_content) = (offset + line.len(), number + 1, false);
        } else {
            let trimmed = line.trim_start();
            has_content |=
                !(trimmed.is_empty() || line.starts_with('%') || trimmed.starts_with('#'));
        }
        offset += line.len();
    }
    cut(start, text.len(), start_line, has_content);
    chunks
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<(&str, u32)> {
        split(text).into_iter().map(|chunk| (chunk.text, chunk.line)).collect()
    }

    #[test]
    fn documents_keep_their_lines() {
        assert_eq!(
            texts("a: 1\n---\nb: 2\n---\n\nc: 3"),
            [("a: 1\n", 1), ("---\nb: 2\n", 2), ("---\n\nc: 3", 4)]
        );
    }

    #[test]
    fn comments_and_directives_go_with_the_next_document() {
        assert_eq!(
            texts("# hello\n%YAML 1.2\n---\na: 1\n...\n# bye\n"),
            [("# hello\n%YAML 1.2\n---\na: 1\n...\n", 1)]
        );
    }

    #[test]
    fn only_whole_markers_count() {
        assert_eq!(texts("----\n--- x\n"), [("----\n", 1), ("--- x\n", 2)]);
        assert_eq!(texts(" ---\n"), [(" ---\n", 1)]);
        assert_eq!(texts("\n# nothing\n"), []);
    }
}
