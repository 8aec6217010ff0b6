//! Forms with files (`multipart/form-data`), as far as they are in memory already.

use std::convert::Infallible;

use axum::http::header;
use bytes::Bytes;
use futures::stream;
use multer::Multipart;
use troupe_services::Problem;

/// Fields of a form.
const FIELDS_MAX: usize = 16;
/// Bytes of the headers of one.
const HEAD_MAX: usize = 4 * 1024;

/// The fields of a form by their names, in order; `kind`: its content type, with the boundary.
pub(super) async fn fields(body: Bytes, kind: &str) -> Result<Vec<(String, Bytes)>, Problem> {
    let boundary = multer::parse_boundary(kind).map_err(|error| malformed(&error.to_string()))?;
    let whole = stream::once(async { Ok::<_, Infallible>(body) });
    let mut form = Multipart::new(whole, boundary);
    let mut found = Vec::new();
    while let Some(field) =
        form.next_field().await.map_err(|error| malformed(&error.to_string()))?
    {
        if found.len() >= FIELDS_MAX {
            return Err(malformed("it has more than 16 fields"));
        }
        let head = field.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
        if head.sum::<usize>() > HEAD_MAX {
            return Err(malformed("a field has headers of more than 4 KiB"));
        }
        let disposition = field.headers().get(header::CONTENT_DISPOSITION);
        let name = disposition.and_then(|value| value.to_str().ok()).and_then(name_of);
        let name = name.ok_or_else(|| malformed("a field has no name"))?;
        let value = field.bytes().await.map_err(|error| malformed(&error.to_string()))?;
        found.push((name, value));
    }
    Ok(found)
}

/// The parameter `name` of a header's value, quoted or not. multer 3.1 finds one within the quotes of
/// a file's name, too.
fn name_of(value: &str) -> Option<String> {
    let mut rest = value;
    loop {
        let (_, next) = rest.split_once(';')?;
        let (name, text) = next.split_once('=')?;
        let text = text.trim_start();
        let (text, left) = match text.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => text.split_at(text.find(';').unwrap_or(text.len())),
        };
        if name.trim().eq_ignore_ascii_case("name") {
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

    async fn read(body: &str) -> Result<Vec<(String, String)>, String> {
        let found = fields(Bytes::copy_from_slice(body.as_bytes()), KIND).await;
        let text = |bytes: Bytes| String::from_utf8(bytes.into()).unwrap();
        let found = found.map_err(|problem| problem.detail)?;
        Ok(found.into_iter().map(|(name, value)| (name, text(value))).collect())
    }

    fn field(head: &str, value: &str) -> String {
        format!("--x-y\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n")
    }

    #[tokio::test]
    async fn the_fields_of_a_form_are_what_stands_between_boundaries() {
        let file = field("filename=\"a;name=z.zip\"; name=\"file\"", "P\r\n--x\r\n-y K");
        let body = file + &field("name=name", "") + "--x-y--\r\n";
        let told = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = vec![told("file", "P\r\n--x\r\n-y K"), told("name", "")];
        assert_eq!(read(&body).await, Ok(expected.clone()));
        assert_eq!(read(&format!("preamble\r\n{body}")).await, Ok(expected));
        assert_eq!(read("--x-y--").await, Ok(vec![]));
    }

    #[tokio::test]
    async fn what_is_cut_or_odd_is_refused_at_every_place() {
        let body = field("name=\"file\"", "PK") + "--x-y--";
        for end in 0..body.len() - 2 {
            assert!(read(&body[..end]).await.is_err(), "{end}: {:?}", &body[..end]);
        }
        let refused = async |body: String| read(&(body + "--x-y--")).await.unwrap_err();
        assert!(refused(field("filename=x", "")).await.contains("no name"));
        assert!(refused(field("name=x", "").repeat(17)).await.contains("16"));
        let long = field(&format!("name=x; y={}", "y".repeat(HEAD_MAX)), "");
        assert!(refused(long).await.contains("4 KiB"));
        let without = fields(Bytes::from_static(b"--x-y--"), "multipart/form-data").await;
        assert!(without.is_err());
    }
}
