//! Enough of a Rust lexer to tell code from comments and text, and to measure functions.

/// A source split in two of the same length and lines: what is not there is blank.
#[derive(Debug)]
pub(super) struct Masked {
    /// Code, with comments gone and the inside of string and character literals blank.
    pub(super) code: String,
    /// Comments only.
    pub(super) comments: String,
}

/// One function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: String,
    /// Where `fn` stands, counted from 1.
    pub(super) line: usize,
    /// Lines strictly between its outer braces.
    pub(super) body_lines: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

pub(super) fn mask(source: &str) -> Masked {
    let bytes = source.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut comments = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let (kind, end) = token(bytes, at);
        // Quotes and hashes of a literal stay, so that `= ""` can be told from `= "x"`.
        let is_edge = |i: usize| kind == Kind::Literal && (i == at || i + 1 == end);
        for (i, &byte) in bytes.iter().enumerate().take(end).skip(at) {
            let keep = |wanted: bool| if wanted || byte == b'\n' { byte } else { b' ' };
            code.push(keep(kind == Kind::Code || is_edge(i)));
            comments.push(keep(kind == Kind::Comment));
        }
        at = end;
    }
    let text = |bytes| String::from_utf8(bytes).expect("only whole tokens are blanked");
    Masked { code: text(code), comments: text(comments) }
}

/// What starts at `at`, and where it ends.
fn token(bytes: &[u8], at: usize) -> (Kind, usize) {
    let rest = &bytes[at..];
    let in_word = at > 0 && is_word(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => (Kind::Comment, at + line_length(rest)),
        [b'/', b'*', ..] => (Kind::Comment, at + block_length(rest)),
        [b'"', ..] => (Kind::Literal, at + string_length(rest)),
        [b'r', ..] if !in_word || is_raw_prefix(bytes, at) => match raw_length(rest) {
            Some(length) => (Kind::Literal, at + length),
            None => (Kind::Code, at + 1),
        },
        [b'\'', ..] => match char_length(rest) {
            Some(length) => (Kind::Literal, at + length),
            None => (Kind::Code, at + 1),
        },
        _ => (Kind::Code, at + 1),
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// `r` of `br"` or `cr"`.
fn is_raw_prefix(bytes: &[u8], at: usize) -> bool {
    matches!(bytes[at - 1], b'b' | b'c') && (at < 2 || !is_word(bytes[at - 2]))
}

fn line_length(rest: &[u8]) -> usize {
    rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())
}

/// Block comments nest.
fn block_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// `r"..."`, `r##"..."##`; not `r#name`.
fn raw_length(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let body = 2 + hashes;
    let found = rest[body..].windows(end.len()).position(|window| window == end);
    Some(found.map_or(rest.len(), |at| body + at + end.len()))
}

/// A character literal; `None` for a lifetime.
fn char_length(rest: &[u8]) -> Option<usize> {
    match rest {
        [_, b'\\', _, more @ ..] => more.iter().position(|&byte| byte == b'\'').map(|at| at + 4),
        [_, first, ..] => {
            let width = match first {
                0x00..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            (rest.get(1 + width) == Some(&b'\'')).then_some(2 + width)
        }
        _ => None,
    }
}

/// All functions with a body in masked code, inner ones too.
pub(super) fn functions(code: &str) -> Vec<Function> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    let mut line = 1;
    for at in 0..bytes.len() {
        if bytes[at] == b'\n' {
            line += 1;
        }
        let starts_word = at == 0 || !is_word(bytes[at - 1]);
        if !(starts_word && bytes[at..].starts_with(b"fn ")) {
            continue;
        }
        let name: String = code[at + 3..]
            .chars()
            .skip_while(|c| c.is_whitespace())
            .take_while(|c| c.is_alphanumeric() || *c == '_' || *c == '#')
            .collect();
        if name.is_empty() {
            continue;
        }
        if let Some(body_lines) = body_lines(&bytes[at..]) {
            found.push(Function { name, line, body_lines });
        }
    }
    found
}

/// Lines inside the first brace pair, or `None` if a semicolon ends the item first.
fn body_lines(rest: &[u8]) -> Option<usize> {
    let mut nesting = 0_i32;
    let open = rest.iter().position(|&byte| {
        match byte {
            b'(' | b'[' => nesting += 1,
            b')' | b']' => nesting -= 1,
            _ => (),
        }
        nesting == 0 && (byte == b'{' || byte == b';')
    })?;
    if rest[open] == b';' {
        return None;
    }
    let (mut depth, mut lines) = (0_usize, 0);
    for &byte in &rest[open..] {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b'\n' => lines += 1,
            _ => (),
        }
        if depth == 0 {
            break;
        }
    }
    Some(usize::saturating_sub(lines, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_comments_are_masked() {
        let source = r####"let a = "// no {"; // yes {
let b = r#"raw " }"#; /* one /* two */ { */ let c = '{'; let d = '\''; let e = b'"';
fn f<'a>(x: &'a str) {} // end
let r#type = br"\"; let g = '中';"####;
        let Masked { code, comments } = mask(source);
        assert_eq!(code.len(), source.len());
        assert_eq!(code.lines().count(), source.lines().count());
        for gone in ["// no", "raw", "one", "yes", "中"] {
            assert!(!code.contains(gone), "{gone} in {code}");
        }
        assert!(comments.contains("yes {") && comments.contains("two") && comments.contains("end"));
        assert!(!comments.contains("no {"));
        assert_eq!(code.matches('{').count(), 1);
        assert!(code.contains("fn f<'a>(x: &'a str) {}") && code.contains("let r#type = b"));
    }

    #[test]
    fn functions_are_measured() {
        let source = "trait T { fn none(&self); fn one(&self) {\n  1\n} }\n\
                      fn outer(a: [u8; 2]) -> impl Fn(u8) {\n  fn inner() {}\n  x(fn_name)\n}\n";
        let found = functions(&mask(source).code);
        let named: Vec<(&str, usize, usize)> =
            found.iter().map(|f| (f.name.as_str(), f.line, f.body_lines)).collect();
        assert_eq!(named, [("one", 1, 1), ("outer", 4, 2), ("inner", 5, 0)]);
    }
}
