//! Packages of Skills over HTTP: forms and plain ZIPs in, the same bytes out.

use reqwest::{Response, StatusCode};
use serde_json::Value;
use troupe_services::PACKAGE_BYTES_MAX;

use crate::node::{Node, Person};

const FORM: &str = "multipart/form-data; boundary=b";

fn form(fields: &[(&str, &str)]) -> String {
    let field = |(name, value): &(&str, &str)| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    fields.iter().map(field).collect::<String>() + "--b--\r\n"
}

async fn send(
    node: &Node,
    who: &Person,
    (method, path): (&str, &str),
    kind: &str,
    body: impl Into<reqwest::Body>,
) -> Response {
    let request = node.http.request(method.parse().unwrap(), node.at(path));
    let request = request.header("content-type", kind).bearer_auth(&who.token);
    request.body(body).send().await.unwrap()
}

#[tokio::test]
async fn a_package_comes_as_a_form_or_as_it_is_and_goes_out_the_same() {
    let mut node = Node::start().await;
    let (_, ann, bob) = node.people().await;
    let upload = ("POST", "/api/v1/kinds/skills/upload");
    let body = form(&[("name", "sum"), ("namespace", "default"), ("file", "PK1\r\n--x \r\n")]);
    let made = send(&node, &ann, upload, FORM, body).await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: Value = made.json().await.unwrap();
    assert_eq!(made["metadata"]["name"], "sum");
    let one = "/api/v1/kinds/skills/id-sum";
    let out = format!("{one}/download");
    let get = async |who: &Person| send(&node, who, ("GET", &out), "", "").await;
    let whole = get(&ann).await;
    let head = |name: &str| whole.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(head("content-type"), "application/zip");
    assert_eq!(head("content-disposition"), "attachment; filename=\"sum.zip\"");
    assert_eq!(head("etag"), format!("\"{}\"", "0".repeat(64)));
    assert_eq!(whole.text().await.unwrap(), "PK1\r\n--x \r\n");
    assert_eq!(get(&bob).await.status(), StatusCode::NOT_FOUND);

    let other = send(&node, &ann, ("PUT", one), "application/zip", "PK2").await;
    assert_eq!(other.status(), StatusCode::OK);
    assert_eq!(get(&ann).await.text().await.unwrap(), "PK2");
    assert_eq!(send(&node, &ann, ("DELETE", one), "", "").await.status(), StatusCode::NO_CONTENT);
    assert_eq!(get(&ann).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_no_package_is_refused() {
    let mut node = Node::start().await;
    let (_, ann, _) = node.people().await;
    let upload = ("POST", "/api/v1/kinds/skills/upload?name=x");
    let refused = async |kind: &str, body: String| {
        let answer = send(&node, &ann, upload, kind, body).await;
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap()["code"].as_str().unwrap().to_owned())
    };
    let told = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(refused("text/plain", "PK".into()).await, told(415, "unsupported_media_type"));
    assert_eq!(refused("application/zip", "no".into()).await, told(400, "bad_package"));
    assert_eq!(refused(FORM, "--b\r\n".into()).await, told(400, "bad_request"));
    assert_eq!(refused(FORM, form(&[("name", "x")])).await, told(422, "invalid"));
    let large = "P".repeat(PACKAGE_BYTES_MAX + 65 * 1024);
    assert_eq!(refused("application/zip", large).await, told(413, "payload_too_large"));
}
