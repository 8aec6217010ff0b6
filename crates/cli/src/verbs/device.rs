//! `device ..`, `approve`, `deny`, `answer`.
#![expect(clippy::print_stdout, reason = "a client prints")]

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use troupe_api::{
    device::{DeviceInvitation, DevicePath, DevicePresence, DeviceView, InvitationView, LinkSpan},
    task::Page,
};
use troupe_types::{Clock as _, SystemClock, Timestamp};

use super::{fresh_key, tasks::resolve};
use crate::{
    args::{AnswerArgs, ApproveArgs, DenyArgs, DeviceVerb, Format},
    client::{Client, segment},
    error::CliError,
    output::{self, Table},
};

const PATH: &str = "/api/v1/devices";
/// How often an invitation is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

fn path_of(device: &str) -> String {
    format!("{PATH}/{}", segment(device))
}

pub(super) async fn run(client: &Client, format: Format, verb: DeviceVerb) -> Result<(), CliError> {
    match verb {
        DeviceVerb::Invite { name, address, no_wait } => {
            let body = json!({"name": name, "address": address});
            invite(client, format, &body, no_wait).await
        }
        DeviceVerb::Ls => list(client, format).await,
        DeviceVerb::Describe { device } => {
            let view: DeviceView = client.get(&path_of(&device)).await?;
            show(format, &view);
            Ok(())
        }
        DeviceVerb::Set { device, alias, labels, slots, default } => {
            let mut patch = json!({"alias": alias, "slots": slots});
            if default {
                patch["is_default"] = true.into();
            }
            if !labels.is_empty() {
                patch["labels"] = json!(read_labels(&labels)?);
            }
            let view: DeviceView = client.patch(&path_of(&device), &patch).await?;
            show(format, &view);
            Ok(())
        }
        DeviceVerb::Revoke { device } => client.delete(&path_of(&device)).await,
        DeviceVerb::Drain { device, undo } => {
            let patch = json!({"draining": !undo});
            let view: DeviceView = client.patch(&path_of(&device), &patch).await?;
            show(format, &view);
            Ok(())
        }
    }
}

fn read_labels(given: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let label = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(CliError::Usage(format!("--label: `{text}` is not KEY=VALUE"))),
    };
    given.iter().map(label).collect()
}

async fn invite(
    client: &Client,
    format: Format,
    body: &Value,
    no_wait: bool,
) -> Result<(), CliError> {
    let invitation: DeviceInvitation = client.post(&format!("{PATH}/invitations"), body).await?;
    let value = serde_json::to_value(&invitation).unwrap_or_default();
    let line = || format!("troupe-edge join {}\n", invitation.url);
    output::print(format, &value, line, || vec![invitation.url.clone()]);
    if no_wait || format != Format::Table {
        return Ok(());
    }
    println!("Run this on the machine; it is good once, until {}.", invitation.expires_at);
    let path = format!("{PATH}/invitations/{}", segment(&invitation.id));
    loop {
        let view: InvitationView = client.get(&path).await?;
        if let Some(device) = view.device.filter(|d| d.status == DevicePresence::Online) {
            println!("{} joined: {}", device.name, tools(&device));
            return Ok(());
        }
        use troupe_types::Clock as _;
        if troupe_types::SystemClock::new().now() >= invitation.expires_at {
            let message = "the invitation has ended, nothing joined".to_owned();
            return Err(CliError::TaskEnded { message, code: 1 });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn tools(device: &DeviceView) -> String {
    let words = device.tools.iter().map(|tool| match tool.version.as_str() {
        "" => tool.name.clone(),
        version => format!("{} {version}", tool.name),
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() { "no tools found".to_owned() } else { words.join(", ") }
}

/// `quic, 0.4 ms there and back`
fn link(path: &DevicePath) -> String {
    let millis = |us: u64| Duration::from_micros(us).as_secs_f64() * 1_000.0;
    let rtt = path.rtt_us.map(|us| format!(", {:.1} ms there and back", millis(us)));
    path.carrier.clone() + &rtt.unwrap_or_default()
}

/// `linked for 93 % of the last 24 h, 2 cuts, the longest 12 min`; of what is known of the day.
fn last_day(links: &[LinkSpan], now: Timestamp) -> Option<String> {
    let ms = |at: Timestamp| at.as_millis();
    let begin = ms(links.first()?.from);
    // The node's clock may be ahead of this one.
    let now = links.iter().map(|link| link.to.unwrap_or(link.from)).fold(now, Timestamp::max);
    let (mut linked, mut cuts, mut longest, mut reached) = (0, 0, 0, begin);
    for LinkSpan { from, to } in links {
        let (from, to) = (ms(*from), ms(to.unwrap_or(now)));
        if from > reached {
            cuts += 1;
            longest = longest.max(from - reached);
        }
        linked += (to - from.max(reached)).max(0);
        reached = reached.max(to);
    }
    let share = (linked * 100).checked_div(ms(now) - begin).unwrap_or(100).clamp(0, 100);
    let longest = span_words(longest);
    let cuts = match cuts {
        0 => "no cut".to_owned(),
        1 => format!("1 cut of {longest}"),
        cuts => format!("{cuts} cuts, the longest {longest}"),
    };
    Some(format!("linked for {share} % of the last {}, {cuts}", span_words(ms(now) - begin)))
}

fn span_words(ms: i64) -> String {
    match ms / 1_000 {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3_600),
    }
}

fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

async fn list(client: &Client, format: Format) -> Result<(), CliError> {
    let page: Page<DeviceView> = client.get(PATH).await?;
    let value = serde_json::to_value(&page).unwrap_or_default();
    let table = || {
        let mut table = Table::new(&["name", "status", "slots", "os", "tools", "node"]);
        for device in &page.items {
            let draining = if device.draining { " (draining)" } else { "" };
            let default = if device.is_default { " (default)" } else { "" };
            table.row(vec![
                format!("{}{default}", device.name),
                format!("{}{draining}", word(&device.status)),
                format!("{}/{}{}", device.slots_used, device.slots, in_line(device)),
                device.os.clone(),
                tools(device),
                device.node.clone().unwrap_or_default(),
            ]);
        }
        table.render()
    };
    output::print(format, &value, table, || page.items.iter().map(|d| d.name.clone()).collect());
    Ok(())
}

/// Who waits for a slot, if anybody does.
fn in_line(device: &DeviceView) -> String {
    if device.queued == 0 { String::new() } else { format!(" (+{} wait)", device.queued) }
}

fn show(format: Format, device: &DeviceView) {
    let value = serde_json::to_value(device).unwrap_or_default();
    let text = || {
        let mut table = Table::new(&["field", "value"]);
        let mut row = |name: &str, value: String| table.row(vec![name.to_owned(), value]);
        row("id", device.id.to_string());
        row("name", device.name.clone());
        row("alias", device.alias.clone());
        row("status", word(&device.status));
        row("draining", device.draining.to_string());
        row("default", device.is_default.to_string());
        let (used, slots) = (device.slots_used, device.slots);
        row("slots", format!("{used} of {slots} taken{}", in_line(device)));
        let labels = device.labels.iter().map(|(key, value)| format!("{key}={value}"));
        row("labels", labels.collect::<Vec<_>>().join(", "));
        row("machine", format!("{} {} {}", device.host, device.os, device.arch));
        row("agent", device.build.clone());
        row("tools", tools(device));
        row("node", device.node.clone().unwrap_or_default());
        if let Some(path) = &device.path {
            row("link", link(path));
        }
        if let Some(day) = last_day(&device.links, SystemClock::new().now()) {
            row("last 24 h", day);
        }
        row("enrolled", device.enrolled_at.to_string());
        if let Some(task) = device.task_id {
            row("container of", task.to_string());
        }
        for work in &device.work {
            row("runs", format!("{} attempt {}", work.task_id, work.attempt));
        }
        table.render()
    };
    output::print(format, &value, text, || vec![device.name.clone()]);
}

pub(super) async fn approve(client: &Client, args: ApproveArgs) -> Result<(), CliError> {
    let word = if args.always { "allow_always" } else { "allow" };
    say(client, &args.task, args.block, "approval", |_| json!({"answer": word})).await
}

pub(super) async fn deny(client: &Client, args: DenyArgs) -> Result<(), CliError> {
    let message = args.message;
    let body = |_: &Value| json!({"answer": "deny", "message": message});
    say(client, &args.task, args.block, "approval", body).await
}

pub(super) async fn answer(client: &Client, args: AnswerArgs) -> Result<(), CliError> {
    let given = args.answers;
    let body = |block: &Value| {
        let questions = block["questions"].as_array().cloned().unwrap_or_default();
        let ids: Vec<&str> = questions.iter().filter_map(|q| q["id"].as_str()).collect();
        let mut answers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for text in &given {
            let named = text.split_once('=').filter(|(id, _)| ids.contains(id));
            let (id, said) = named.unwrap_or((ids.first().copied().unwrap_or_default(), text));
            answers.entry(id.to_owned()).or_default().push(said.to_owned());
        }
        json!({"answer": "reply", "answers": answers})
    };
    say(client, &args.task, args.block, "question", body).await
}

/// Answers a block of a Task: the one that is named, else the only one that waits.
async fn say(
    client: &Client,
    task: &str,
    block: Option<String>,
    kind: &str,
    body: impl FnOnce(&Value) -> Value,
) -> Result<(), CliError> {
    let task = resolve(client, task).await?;
    let joined: Value = client.get(&format!("/api/v1/tasks/{task}/join?turns=1")).await?;
    let mut asked = Vec::new();
    collect(&joined["turns"], kind, &mut asked);
    match &block {
        // Whether it still waits is the node's to say: it knows how it ended.
        Some(wanted) => asked.retain(|one| one["id"].as_str() == Some(wanted)),
        None => asked.retain(|one| one["status"] == "pending"),
    }
    let one = match asked.as_slice() {
        [one] => one,
        [] => {
            let which = block.map(|id| format!(" {id}")).unwrap_or_default();
            return Err(CliError::Usage(format!("{task} waits for no {kind}{which}")));
        }
        several => {
            let ids: Vec<&str> = several.iter().filter_map(|one| one["id"].as_str()).collect();
            let text = format!("{task} waits for several: name one of {}", ids.join(", "));
            return Err(CliError::Usage(text));
        }
    };
    let mut body = body(one);
    body["block_id"] = one["id"].clone();
    body["client_message_id"] = json!(fresh_key());
    client.post_nothing(&format!("/api/v1/tasks/{task}/answer"), &body).await
}

/// Blocks of a kind, at whatever depth.
fn collect(value: &Value, kind: &str, into: &mut Vec<Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, kind, into)),
        Value::Object(fields) => {
            if fields.get("type").and_then(Value::as_str) == Some(kind) {
                into.push(value.clone());
            } else {
                fields.values().for_each(|item| collect(item, kind, into));
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_in_words() {
        let at = |minutes: i64| Timestamp::from_millis(minutes * 60_000);
        let span = |from, to: Option<i64>| LinkSpan { from: at(from), to: to.map(at) };
        let say = |links: &[LinkSpan], now| last_day(links, at(now));
        assert_eq!(say(&[], 9), None);
        assert_eq!(say(&[span(5, None)], 5).unwrap(), "linked for 100 % of the last 0 s, no cut");
        let cut = [span(0, Some(60)), span(61, None)];
        assert_eq!(say(&cut, 100).unwrap(), "linked for 99 % of the last 100 min, 1 cut of 60 s");
        let overlap =
            [span(0, Some(20)), span(10, Some(30)), span(40, Some(50)), span(90, Some(100))];
        let told = "linked for 50 % of the last 100 min, 2 cuts, the longest 40 min";
        assert_eq!(say(&overlap, 100).unwrap(), told);
    }
}
