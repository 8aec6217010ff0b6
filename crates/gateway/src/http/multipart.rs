//! Forms with files (`multipart/form-data`), as far as they are in memory already.

use std::ops::Range;

use troupe_services::Problem;

/// Fields of a form.
const PARTS_MAX: usize = 16;
/// Bytes of the headers of one.
const HEAD_MAX: usize = 4 * 1024;
/// What RFC 2046 allows.
const BOUNDARY_MAX: usize = 70;

/// A field of a form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    /// Where its value stands in the body.
    pub(super) data: Range<usize>,
}

/// The fields of a form; `kind`: its content type, with the boundary.
pub(super) fn parts(body: &[u8], kind: &str) -> Result<Vec<Part>, Problem> {
    let boundary = parameter(kind, "boundary").unwrap_or_default();
    if boundary.is_empty() || boundary.len() > BOUNDARY_MAX {
        return Err(malformed("its content type has no boundary"));
    }
    let line = format!("\r\n--{boundary}");
    let mut found = Vec::new();
    // The first one may stand at the very beginning.
    let mut at = match body.starts_with(&line.as_bytes()[2..]) {
        true => line.len() - 2,
        false => after(body, 0, line.as_bytes())?,
    };
    while !body[at..].starts_with(b"--") {
        if found.len() >= PARTS_MAX {
            return Err(malformed("it has more than 16 fields"));
        }
        // Nothing but the line's end stands behind a boundary.
        let head = after(body, at, b"\r\n")?;
        let data = after(body, head - 2, b"\r\n\r\n")?;
        if data - head > HEAD_MAX {
            return Err(malformed("a field has headers of more than 4 KiB"));
        }
        at = after(body, data - 2, line.as_bytes())?;
        let end = (at - line.len()).max(data);
        let name = std::str::from_utf8(&body[head..data]).ok().and_then(name_of);
        let name = name.ok_or_else(|| malformed("a field has no name"))?;
        found.push(Part { name, data: data..end });
    }
    Ok(found)
}

/// The place behind the first `needle` from `from` on.
fn after(body: &[u8], from: usize, needle: &[u8]) -> Result<usize, Problem> {
    let mut at = from;
    while let Some(step) = body[at..].iter().position(|byte| *byte == needle[0]) {
        at += step;
        if body[at..].starts_with(needle) {
            return Ok(at + needle.len());
        }
        at += 1;
    }
    Err(malformed("it ends in the middle of a field"))
}

fn name_of(head: &str) -> Option<String> {
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-disposition"))?;
    parameter(value, "name")
}

/// A parameter of a header's value, quoted or not.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value;
    loop {
        let (_, next) = rest.split_once(';')?;
        let (name, text) = next.split_once('=')?;
        let text = text.trim_start();
        let (text, left) = match text.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => text.split_at(text.find(';').unwrap_or(text.len())),
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(text.trim().to_owned());
        }
        rest = left;
    }
}

fn malformed(why: &str) -> Problem {
    Problem::new(400, "bad_request", format!("The form cannot be read: {why}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "multipart/form-data; charset=utf-8; boundary=\"x-y\"";

    fn read(body: &str) -> Result<Vec<(String, String)>, String> {
        let parts = parts(body.as_bytes(), KIND).map_err(|problem| problem.detail)?;
        let told = |part: Part| (part.name, body[part.data].to_owned());
        Ok(parts.into_iter().map(told).collect())
    }

    fn field(head: &str, value: &str) -> String {
        format!("--x-y\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n")
    }

    #[test]
    fn the_fields_of_a_form_are_what_stands_between_boundaries() {
        let file = field("filename=\"a;name=z.zip\"; name=\"file\"", "P\r\n--x\r\n-y K");
        let body = file + &field("name=name", "") + "--x-y--\r\n";
        let told = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = vec![told("file", "P\r\n--x\r\n-y K"), told("name", "")];
        assert_eq!(read(&body), Ok(expected.clone()));
        assert_eq!(read(&format!("preamble\r\n{body}")), Ok(expected));
        assert_eq!(read("--x-y--"), Ok(vec![]));
    }

    #[test]
    fn what_is_cut_or_odd_is_refused_at_every_place() {
        let body = field("name=\"file\"", "PK") + "--x-y--";
        for end in 0..body.len() - 2 {
            assert!(read(&body[..end]).is_err(), "{end}: {:?}", &body[..end]);
        }
        assert!(read(&(field("filename=x", "") + "--x-y--")).unwrap_err().contains("no name"));
        assert!(read(&(field("name=x", "").repeat(17) + "--x-y--")).unwrap_err().contains("16"));
        let long = field(&format!("name=x; y={}", "y".repeat(HEAD_MAX)), "");
        assert!(read(&(long + "--x-y--")).unwrap_err().contains("4 KiB"));
        assert!(parts(b"--x-y--", "multipart/form-data").is_err());
    }
}
