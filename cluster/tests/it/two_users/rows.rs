//! For every operation: how it is asked for a thing that is named by its id, and how it answers
//! those whose it is not.

mod admin;
mod kinds;
mod live;
mod tasks;

use std::fmt;

use serde_json::{Value, json};

use super::world::Ids;

pub(super) use live::{LiveCheck, LiveRow, live};

/// One request: what the path of its operation is filled with, and the rest.
#[derive(Clone, Default)]
pub(super) struct Call {
    pub(super) parts: Vec<String>,
    pub(super) query: &'static str,
    /// Media type and bytes.
    pub(super) body: Option<(&'static str, Vec<u8>)>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.as_ref().map(|(_, bytes)| String::from_utf8_lossy(bytes));
        write!(f, "{:?}?{} {}", self.parts, self.query, body.unwrap_or_default())
    }
}

impl Call {
    fn query(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    fn json(self, body: Value) -> Self {
        Self { body: Some(("application/json", body.to_string().into())), ..self }
    }

    fn yaml(self, text: String) -> Self {
        Self { body: Some(("application/yaml", text.into())), ..self }
    }

    fn zip(self, package: Vec<u8>) -> Self {
        Self { body: Some(("application/zip", package)), ..self }
    }

    /// A package in a form that says where it belongs.
    fn form(self, namespace: &str, name: &str, package: &[u8]) -> Self {
        let field = |name: &str, value: &str| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let head = field("namespace", namespace) + &field("name", name);
        let file = "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n";
        let body = [head.as_bytes(), file.as_bytes(), package, b"\r\n--b--\r\n"].concat();
        Self { body: Some(("multipart/form-data; boundary=b", body)), ..self }
    }
}

fn at<const N: usize>(parts: [&str; N]) -> Call {
    Call { parts: parts.map(str::to_owned).into(), ..Call::default() }
}

pub(super) type Calls = fn(&Ids) -> Vec<Call>;

/// What is asked of an operation.
#[derive(Clone, Copy, Debug)]
pub(super) enum Check {
    /// It names nothing that could be somebody else's: why.
    Nothing(&'static str),
    /// It is refused, and exactly alike for what is hers and for what nobody has.
    Hidden {
        status: u16,
        calls: Calls,
        /// The owner herself gets further, which shows that the id is right.
        owner: bool,
    },
    /// It is for administrators.
    Forbidden(Calls),
    /// It is done, as the name of a thing is free for everybody, and nothing of hers comes of it.
    Alike(u16, Calls),
    /// It gives what is the caller's own.
    Own(Calls),
}

/// An operation by the name that the OpenAPI document gives it.
pub(super) struct Row {
    pub(super) id: &'static str,
    pub(super) checks: Vec<Check>,
}

fn row<const N: usize>(id: &'static str, checks: [Check; N]) -> Row {
    Row { id, checks: checks.into() }
}

const fn hidden(calls: Calls) -> Check {
    Check::Hidden { status: 404, calls, owner: true }
}

/// Hidden from its owner too: there is no such way to name it.
const fn nowhere(status: u16, calls: Calls) -> Check {
    Check::Hidden { status, calls, owner: false }
}

/// In the order in which they are asked: what is done stays done for the rows below.
pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        row("get_setup", [Check::Nothing("it says whether there is an administrator")]),
        row("setup", [Check::Nothing("the one-time token alone counts")]),
        row(
            "login",
            [nowhere(401, |i| {
                vec![at([]).json(json!({"user_name": i["user_name"], "password": "a-wrong-one"}))]
            })],
        ),
        row("refresh", [Check::Nothing("whoever has the token is its user")]),
        row("logout", [Check::Nothing("whoever has the token is its user")]),
        row("get_me", [Check::Own(|_| vec![at([])])]),
        row("patch_me", [Check::Nothing("it changes the caller")]),
        row("list_git_tokens", [Check::Own(|_| vec![at([])])]),
        row("delete_git_token", [hidden(|i| vec![at([&i["host"]])])]),
        row(
            "put_git_token",
            [Check::Alike(200, |i| {
                vec![at([&i["put_host"]]).json(json!({"token": "a-token-of-my-own"}))]
            })],
        ),
        row("list_api_keys", [Check::Own(|_| vec![at([])])]),
        row("create_api_key", [Check::Nothing("a name of the caller's own")]),
        row("delete_api_key", [hidden(|i| vec![at([&i["key"]])])]),
        row("list_devices", [Check::Own(|_| vec![at([])])]),
        row("invite_device", [Check::Nothing("a name of the caller's own")]),
        row("get_invitation", [hidden(|i| vec![at([&i["invitation"]])])]),
        row("get_device", [hidden(devices)]),
        row(
            "patch_device",
            [hidden(|i| {
                let change = json!({"alias": "taken", "slots": 1, "draining": true});
                devices(i).into_iter().map(|call| call.json(change.clone())).collect()
            })],
        ),
        row("revoke_device", [hidden(devices)]),
    ];
    rows.extend(tasks::rows());
    rows.extend(kinds::rows());
    rows.extend(admin::rows());
    rows
}

/// By its id, and by its name.
fn devices(i: &Ids) -> Vec<Call> {
    vec![at([&i["device"]]), at([&i["device_name"]])]
}
