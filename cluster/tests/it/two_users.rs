//! Two users of one node: what is another's answers exactly as what is not there, in every
//! operation that the node itself tells of. An operation that says not how it is asked fails.

mod operations;
mod revoked;
mod rows;
mod sio;
mod world;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    node::{Answer, Home, Node, Person},
    stream::Socket,
};
use operations::{Operation, Operations};
use rows::{Call, Check, LiveCheck, LiveRow, Row, live, rows};
use sio::Sio;
use world::{Ids, MARK, World};

/// Somebody who asks, with a Task of their own.
struct Stranger {
    how: &'static str,
    who: Person,
    hers: Ids,
    nobodys: Ids,
}

impl Stranger {
    async fn new(world: &World, how: &'static str, who: Person) -> Result<Self> {
        let mine = world.node.run(&who, "assistant", "What can you do?").await?;
        world.node.settled(&who, &mine, "COMPLETED").await?;
        let (hers, nobodys) = (world.hers.for_owner_of(&mine), world.nobodys.for_owner_of(&mine));
        Ok(Self { how, who, hers, nobodys })
    }

    /// By a login, by an API key, and an administrator, who is a stranger here like others.
    async fn all(world: &World) -> Result<[Self; 3]> {
        let bob = world.node.user(&world.admin, "bob").await?;
        let carl = world.node.user(&world.admin, "carl").await?;
        let carl = world.node.with_key(&carl).await?;
        Ok([
            Self::new(world, "a login", bob).await?,
            Self::new(world, "an API key", carl).await?,
            Self::new(world, "an administrator", world.admin.clone()).await?,
        ])
    }

    fn is_admin(&self) -> bool {
        self.who.name == "admin"
    }
}

/// An answer without what differs by design: when, under which id of a request, and how long it is.
fn comparable(answer: &Answer, ids: &Ids) -> (u16, Vec<String>, String) {
    let told = answer
        .headers
        .iter()
        .filter(|(name, _)| !["date", "x-request-id", "content-length"].contains(&name.as_str()));
    let mut headers: Vec<String> = told.map(|(name, value)| format!("{name}: {value:?}")).collect();
    headers.sort_unstable();
    let text = match answer.body.clone() {
        Value::Object(mut fields) => {
            fields.remove("request_id");
            Value::Object(fields).to_string()
        }
        _ => answer.text.clone(),
    };
    (answer.status, headers, ids.anonymous(&text))
}

/// Names of fields, at any depth.
fn form(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}:{}", form(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(form).collect::<String>()),
        _ => "_".to_owned(),
    }
}

/// Calls about hers, and the same about what nobody has.
fn pairs(stranger: &Stranger, calls: rows::Calls) -> Vec<(Call, Call)> {
    calls(&stranger.hers).into_iter().zip(calls(&stranger.nobodys)).collect()
}

async fn same(
    world: &World,
    (operation, stranger): (&Operation, &Stranger),
    calls: rows::Calls,
    status: u16,
) -> Result<()> {
    for (hers, nobodys) in pairs(stranger, calls) {
        let what = format!("{} by {}: {hers:?}", operation.id, stranger.how);
        let told = operation.ask(&world.node, Some(&stranger.who), &hers).await?;
        let nothing = operation.ask(&world.node, Some(&stranger.who), &nobodys).await?;
        let (told, nothing) =
            (comparable(&told, &stranger.hers), comparable(&nothing, &stranger.nobodys));
        assert_eq!(told, nothing, "{what}");
        assert_eq!(told.0, status, "{what}: {}", told.2);
    }
    Ok(())
}

async fn check(
    world: &World,
    (operation, stranger): (&Operation, &Stranger),
    check: Check,
) -> Result<()> {
    let node = &world.node;
    let asking = (operation, stranger);
    match check {
        Check::Nothing(why) => assert!(!why.is_empty(), "{}", operation.id),
        Check::Hidden { status, calls, .. } => same(world, asking, calls, status).await?,
        Check::Forbidden(calls) if !stranger.is_admin() => same(world, asking, calls, 403).await?,
        Check::Forbidden(_) => {}
        Check::Alike(status, calls) => {
            for (hers, nobodys) in pairs(stranger, calls) {
                let what = format!("{} by {}: {hers:?}", operation.id, stranger.how);
                let done = operation.ask(node, Some(&stranger.who), &hers).await?;
                let other = operation.ask(node, Some(&stranger.who), &nobodys).await?;
                let told = (done.status, form(&done.body));
                assert_eq!(told, (other.status, form(&other.body)), "{what}");
                assert_eq!(done.status, status, "{what}: {}", done.text);
                let found = world.hers.within(&done.text, &format!("{hers:?}"));
                assert_eq!(found, None, "{what}: {}", done.text);
            }
        }
        Check::Own(calls) => {
            for call in calls(&stranger.hers) {
                let answer = operation.ask(node, Some(&stranger.who), &call).await?;
                let what = format!("{} by {}: {}", operation.id, stranger.how, answer.text);
                assert_eq!(answer.status, 200, "{what}");
                let found = world.hers.within(&answer.text, "");
                assert!(found.is_none() && !answer.text.contains(MARK), "{found:?} in {what}");
            }
        }
    }
    Ok(())
}

/// What changes by itself is left out.
fn still(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(still),
        Value::Object(fields) => {
            for moving in ["path", "links", "last_used_at"] {
                fields.remove(moving);
            }
            fields.values_mut().for_each(still);
        }
        _ => {}
    }
}

/// All that she can read of hers.
async fn seen(
    world: &World,
    operations: &Operations,
    rows: &[Row],
) -> Result<BTreeMap<String, Value>> {
    let mut seen = BTreeMap::new();
    for row in rows {
        let operation = operations.named(row.id);
        for check in row.checks.iter().filter(|_| operation.method == "GET") {
            let calls = match check {
                Check::Hidden { calls, owner: true, .. } | Check::Own(calls) => calls,
                _ => continue,
            };
            for call in calls(&world.hers.for_owner_of("")) {
                let answer = operation.ask(&world.node, Some(&world.ulla), &call).await?;
                ensure!(answer.status == 200, "{} {call:?}: {}", row.id, answer.text);
                let mut body = answer.body;
                still(&mut body);
                seen.insert(format!("{} {call:?}", row.id), body);
            }
        }
    }
    Ok(seen)
}

/// Her ids are right: asked by herself, each operation gets further than "there is no such thing".
async fn she_gets_further(world: &World, operations: &Operations, rows: &[Row]) -> Result<()> {
    let mine = world.hers.for_owner_of(&world.hers["task"]);
    // What takes away comes last, and once: its second way finds nothing any more.
    let takes_away = |row: &Row| operations.named(row.id).method == "DELETE";
    let (last, first): (Vec<_>, Vec<_>) = rows.iter().partition(|row| takes_away(row));
    for row in first.into_iter().chain(last) {
        for check in &row.checks {
            let Check::Hidden { calls, owner: true, status } = check else { continue };
            let once = if takes_away(row) { 1 } else { usize::MAX };
            for call in calls(&mine).into_iter().take(once) {
                let operation = operations.named(row.id);
                let answer = operation.ask(&world.node, Some(&world.ulla), &call).await?;
                let refused = answer.status == *status || answer.status == 404;
                assert!(!refused, "{} {call:?} by its owner: {}", row.id, answer.text);
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_anothers_answers_as_what_is_not_there() -> Result<()> {
    let Some(world) = World::new().await? else { return Ok(()) };
    let operations = Operations::of(&world.node).await?;
    let (rows, live) = (rows(), live());
    let strangers = Stranger::all(&world).await?;
    let before = seen(&world, &operations, &rows).await?;
    let mut listening = Vec::new();
    for stranger in &strangers {
        for row in &rows {
            for one in &row.checks {
                check(&world, (operations.named(row.id), stranger), *one).await?;
            }
        }
        listening.push(over_sockets(&world, stranger, &live).await?);
    }
    let after = seen(&world, &operations, &rows).await?;
    for (what, was) in &before {
        assert_eq!(Some(was), after.get(what), "{what} has changed");
    }
    for (stranger, both) in strangers.iter().zip(listening) {
        hears_nothing(&world, stranger, both).await?;
    }
    let mut own = Both::open(&world, &world.ulla).await?;
    for payload in live.iter().flat_map(|(name, checks)| reads(&world, name, checks)) {
        own.reads(payload).await?;
    }
    she_gets_further(&world, &operations, &rows).await
}

fn reads(world: &World, name: &'static str, checks: &[LiveCheck]) -> Vec<(&'static str, Value)> {
    let hers = world.hers.for_owner_of(&world.hers["task"]);
    let payloads = checks.iter().filter_map(|check| match check {
        LiveCheck::Hidden { payloads, reads: true, .. } => Some(payloads(&hers)),
        _ => None,
    });
    payloads.flatten().map(|payload| (name, payload)).collect()
}

/// Socket.IO and the stream.
struct Both {
    sio: Sio,
    stream: Socket,
}

impl Both {
    async fn open(world: &World, who: &Person) -> Result<Self> {
        let sio = Sio::connect(&world.node.url, &who.token).await?;
        let sio = sio.map_err(|refused| anyhow::anyhow!("refused: {refused}"))?;
        Ok(Self { sio, stream: Socket::open(&world.node.url, &who.token).await? })
    }

    /// The same on both; what each of them says.
    async fn call(&mut self, op: &str, payload: &Value) -> Result<[Value; 2]> {
        let by_sio = self.sio.call(op, payload).await?;
        // Beside `op`, which some payloads have themselves.
        let by_stream = self.stream.call(op, json!({"data": payload})).await?;
        Ok([by_sio, by_stream])
    }

    async fn reads(&mut self, (op, payload): (&str, Value)) -> Result<()> {
        for ack in self.call(op, &payload).await? {
            assert!(ack["error"].is_null(), "{op} {payload} by its owner: {ack}");
        }
        Ok(())
    }
}

async fn over_sockets(world: &World, stranger: &Stranger, live: &[LiveRow]) -> Result<Both> {
    let mut both = Both::open(world, &stranger.who).await?;
    for (op, checks) in live {
        for check in checks {
            let (payloads, code) = match check {
                LiveCheck::Nothing(why) => {
                    assert!(!why.is_empty(), "{op}");
                    continue;
                }
                LiveCheck::Hidden { payloads, code, .. } => (payloads, Some(*code)),
                LiveCheck::Alike(payloads) => (payloads, None),
            };
            let pairs = payloads(&stranger.hers).into_iter().zip(payloads(&stranger.nobodys));
            for (hers, nobodys) in pairs {
                let what = format!("{op} {hers} by {}", stranger.how);
                let told = both.call(op, &hers).await?;
                let nothing = both.call(op, &nobodys).await?;
                for (told, nothing) in told.iter().zip(&nothing) {
                    let text = stranger.hers.anonymous(&told.to_string());
                    assert_eq!(text, stranger.nobodys.anonymous(&nothing.to_string()), "{what}");
                    assert_eq!(told["code"].as_str(), code, "{what}: {told}");
                }
            }
        }
    }
    Ok(both)
}

/// Whatever they tried to look at, nothing of hers comes to them; their own Task does.
async fn hears_nothing(world: &World, stranger: &Stranger, mut both: Both) -> Result<()> {
    let mine = stranger.hers["mine"].clone();
    for ack in both.call("chat:resume", &json!({"task_id": mine, "after": 0})).await? {
        assert_eq!(ack["success"], true, "{ack}");
    }
    // It says more now, and she is listened to meanwhile.
    let title = json!({"title": "hers, and she alone hears of ulla's"});
    let path = format!("/api/v1/tasks/{}", world.hers["running"]);
    world.node.call("PATCH", &path, Some(&world.ulla), Some(&title)).await?;
    let last = world.node.frames(&stranger.who, &mine, 0).await?.last().context("none")?.seq;
    let mut heard = Vec::new();
    loop {
        let event = both.stream.next(crate::node::PATIENCE).await?.context("it ended")?;
        let is_last = event.1["seq"] == last && event.1["task_id"] == mine.as_str();
        heard.push(event);
        if is_last {
            break;
        }
    }
    // A round trip behind all that was sent to it before.
    both.sio.call("task:leave", &json!({"task_id": mine})).await?;
    let by_sio = both.sio.taken();
    assert!(by_sio.iter().any(|(_, data)| data["task_id"] == mine.as_str()), "{by_sio:?}");
    heard.extend(by_sio);
    for (event, data) in heard {
        let text = data.to_string();
        let found = world.hers.within(&text, "");
        assert!(found.is_none() && !text.contains(MARK), "{found:?} in {event} {text}");
    }
    Ok(())
}

/// Also where no agent is installed, so that nothing else here can be asked.
#[tokio::test]
async fn every_operation_has_a_row() -> Result<()> {
    let home = Home::new()?;
    let node = Node::start(&home).await?;
    Operations::of(&node).await?.assert_covered(&rows(), &live());
    Ok(())
}

#[tokio::test]
async fn nothing_but_what_is_open_answers_without_a_login() -> Result<()> {
    let home = Home::new()?;
    let node = Node::start(&home).await?;
    node.setup().await?;
    let operations = Operations::of(&node).await?;
    for operation in &operations.rest {
        if matches!(operation.access.as_str(), "open" | "proof") {
            continue;
        }
        let answer = operation.ask(&node, None, &operation.of_garbage()).await?;
        assert_eq!(answer.status, 401, "{}: {}", operation.id, answer.text);
        assert_eq!(answer.headers["www-authenticate"], "Bearer", "{}", operation.id);
    }
    Ok(())
}

/// What is no id at all is not found either, in the same words as an unknown one.
#[tokio::test]
async fn what_is_no_id_answers_as_an_unknown_one() -> Result<()> {
    let home = Home::new()?;
    let node = Node::start(&home).await?;
    let who = node.setup().await?;
    let operations = Operations::of(&node).await?;
    for id in ["get_task", "delete_task", "cancel_task", "list_frames", "delete_api_key"] {
        let operation = operations.named(id);
        let garbage = operation.ask(&node, Some(&who), &operation.of_garbage()).await?;
        let mut call = operation.of_garbage();
        call.parts[0] = match operation.access.as_str() {
            "task" => troupe_types::TaskId::derived(&["nothing"]).to_string(),
            _ => troupe_types::ApiKeyId::derived(&["nothing"]).to_string(),
        };
        let unknown = operation.ask(&node, Some(&who), &call).await?;
        assert_eq!(
            (garbage.status, garbage.body["detail"].clone()),
            (404, unknown.body["detail"].clone())
        );
        assert_eq!(unknown.status, 404, "{id}: {}", unknown.text);
    }
    Ok(())
}
