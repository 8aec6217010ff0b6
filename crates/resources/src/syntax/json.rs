//! JSON to trees with positions. Escapes and numbers are decoded by `serde_json`.

use std::collections::HashSet;

use serde_json::Number;

use super::{
    DEPTH_MAX, DOCUMENT_BYTES_MAX, DOCUMENTS_MAX, Data, Entry, Node, Tree, VALUES_MAX, too_deep,
    too_large, too_many_values,
};
use crate::{
    path::{push_index, push_key},
    problem::{Code, Position, Problem, Problems},
};

/// Reads the values that stand one after another; a syntax error ends the reading.
pub(super) fn read(text: &str, line: u32, problems: &mut Problems, documents: &mut Vec<Tree>) {
    let mut reader = Reader {
        text,
        at: 0,
        counted: 0,
        place: Position::new(line, 1),
        values: 0,
        path: String::new(),
        problems,
    };
    loop {
        reader.skip_space();
        if reader.at == text.len() || documents.len() > DOCUMENTS_MAX {
            return;
        }
        let (start, at) = (reader.at, reader.position());
        reader.values = 0;
        let errors_before = reader.problems.errors();
        match reader.value(1) {
            Ok(_) if reader.at - start > DOCUMENT_BYTES_MAX => reader.problems.push(too_large(at)),
            Ok(Node { data: Data::Null, .. }) => {}
            Ok(root) => {
                let broken = reader.problems.errors() > errors_before;
                documents.push(Tree { root, broken });
            }
            Err(problem) => {
                reader.problems.push(*problem);
                return;
            }
        }
    }
}

/// Boxed: a problem is large and an error is rare.
type Step<T> = Result<T, Box<Problem>>;

struct Reader<'a> {
    text: &'a str,
    /// Byte offset of what is read next.
    at: usize,
    /// Byte offset that `place` belongs to.
    counted: usize,
    place: Position,
    values: usize,
    path: String,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }

    /// Where the reader stands; each byte is counted once over the whole text.
    fn position(&mut self) -> Position {
        for byte in &self.text.as_bytes()[self.counted..self.at] {
            match byte {
                b'\n' => self.place = Position::new(self.place.line.saturating_add(1), 1),
                0x80..=0xbf => {}
                _ => self.place.column = self.place.column.saturating_add(1),
            }
        }
        self.counted = self.at;
        self.place
    }

    fn fail<T>(&mut self, message: &str) -> Step<T> {
        let at = self.position();
        let problem = Problem::new(at, &self.path, Code::Syntax, message);
        let found = self.text[self.at..].chars().next();
        Err(Box::new(match found {
            Some(c) => problem.with_found(&format!("`{c}`")),
            None => problem.with_found("the end of the text"),
        }))
    }

    fn value(&mut self, depth: usize) -> Step<Node> {
        let at = self.position();
        self.values += 1;
        if self.values > VALUES_MAX {
            let message = format!("more than {VALUES_MAX} values");
            return Err(Box::new(too_many_values(at, message)));
        }
        let data = match self.peek() {
            Some(b'{' | b'[') if depth > DEPTH_MAX => {
                return Err(Box::new(too_deep(at, &self.path)));
            }
            Some(b'{') => self.map(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Data::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number(at)?,
            Some(b'a'..=b'z') => self.word()?,
            _ => return self.fail("a JSON value is wanted here"),
        };
        Ok(Node { at, data })
    }

    fn map(&mut self, depth: usize) -> Step<Data> {
        let mut entries = Vec::new();
        let mut seen = HashSet::new();
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Data::Map(entries));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return self.fail("a key in double quotes is wanted here");
            }
            let at = self.position();
            let key = self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return self.fail("`:` is wanted here");
            }
            self.at += 1;
            self.skip_space();
            let length = self.path.len();
            push_key(&mut self.path, &key);
            let value = self.value(depth + 1)?;
            if seen.insert(key.clone()) {
                entries.push(Entry { key, at, value });
            } else {
                let message = "the key is there twice";
                self.problems.push(Problem::new(at, &self.path, Code::DuplicateKey, message));
            }
            self.path.truncate(length);
            if self.ends(b'}')? {
                return Ok(Data::Map(entries));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Step<Data> {
        let mut items = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Data::List(items));
        }
        loop {
            self.skip_space();
            let length = self.path.len();
            push_index(&mut self.path, items.len());
            items.push(self.value(depth + 1)?);
            self.path.truncate(length);
            if self.ends(b']')? {
                return Ok(Data::List(items));
            }
        }
    }

    /// After an item: whether `end` follows; otherwise a comma does.
    fn ends(&mut self, end: u8) -> Step<bool> {
        self.skip_space();
        match self.peek() {
            Some(b',') => self.at += 1,
            Some(byte) if byte == end => {
                self.at += 1;
                return Ok(true);
            }
            _ => return self.fail(&format!("`,` or `{}` is wanted here", end as char)),
        }
        Ok(false)
    }

    fn string(&mut self) -> Step<String> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
                None => return self.fail("this text has no closing quote"),
            }
        }
        match serde_json::from_str(&self.text[start..=end]) {
            Ok(text) => {
                self.at = end + 1;
                Ok(text)
            }
            Err(_) => self.fail("this text holds a bad escape or a control character"),
        }
    }

    fn number(&mut self, at: Position) -> Step<Data> {
        let rest = &self.text[self.at..];
        let length = rest
            .find(|c: char| !matches!(c, '-' | '+' | '.' | 'e' | 'E' | '0'..='9'))
            .unwrap_or(rest.len());
        let raw = &rest[..length];
        match serde_json::from_str::<Number>(raw) {
            Ok(value) => {
                self.at += length;
                Ok(Data::Number { value, raw: raw.into() })
            }
            Err(error) if error.to_string().starts_with("number out of range") => {
                self.at += length;
                let message = "the number does not fit";
                self.problems.push(Problem::new(at, &self.path, Code::OutOfRange, message));
                Ok(Data::Bad)
            }
            Err(_) => self.fail("this is no JSON number"),
        }
    }

    fn word(&mut self) -> Step<Data> {
        for (word, data) in
            [("null", Data::Null), ("true", Data::Bool(true)), ("false", Data::Bool(false))]
        {
            let rest = &self.text[self.at..];
            let ends = rest.as_bytes().get(word.len()).is_none_or(|b| !b.is_ascii_alphanumeric());
            if rest.starts_with(word) && ends {
                self.at += word.len();
                return Ok(data);
            }
        }
        self.fail("a JSON value is wanted here")
    }
}
