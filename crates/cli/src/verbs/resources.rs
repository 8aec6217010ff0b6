//! `apply`, `get`, `describe`, `delete`, `undelete`, `instantiate`, `explain`.
#![expect(clippy::print_stdout, reason = "a client prints")]
#![expect(clippy::print_stderr, reason = "warnings go to standard error")]

mod deleted;
mod files;
mod seen;
mod watch;

use serde_json::{Value, json};
use troupe_api::resource::{ApplyAnswer, ResourceUser, UsedBy};
use troupe_resources::print::value_to_yaml;

pub(super) use self::deleted::undelete;
use self::{
    files::Files,
    seen::Changes,
    watch::{Seen, Watch, version},
};
use crate::{
    args::{ApplyArgs, DeleteArgs, DescribeArgs, Format, GetArgs, InstantiateArgs},
    client::{Client, segment},
    error::CliError,
    output::{self, Table},
};

pub(super) async fn apply(
    client: &Client,
    format: Format,
    args: ApplyArgs,
) -> Result<(), CliError> {
    let query = format!("?dry-run={}&ignore-unknown={}", args.dry_run, args.ignore_unknown);
    let path = match &args.namespace {
        Some(namespace) => format!("/api/v1/namespaces/{}/apply{query}", segment(namespace)),
        None => format!("/api/v1/apply{query}"),
    };
    let answer = Files::read(&args.file)?.send(client, path).await?;
    print_answer(format, &answer);
    Ok(())
}

pub(super) async fn instantiate(
    client: &Client,
    format: Format,
    args: InstantiateArgs,
) -> Result<(), CliError> {
    let path = format!("{}/{}", list_path(Some(&args.namespace), "templates"), segment(&args.name));
    let path = format!("{path}/instantiate?dry-run={}", args.dry_run);
    let answer: ApplyAnswer = client.post(&path, &json!({})).await?;
    print_answer(format, &answer);
    Ok(())
}

fn print_answer(format: Format, answer: &ApplyAnswer) {
    for warning in &answer.warnings {
        let file = warning.file.as_ref().map(|f| format!("{f}:")).unwrap_or_default();
        let line = warning.line.map(|l| format!("{l}: ")).unwrap_or_default();
        eprintln!("warning: {file}{line}{}: {}", warning.path, warning.message);
    }
    let dry = if answer.dry_run { " (dry run)" } else { "" };
    let lines = || {
        let line = |r: &troupe_api::resource::ApplyResult| {
            format!("{}/{} {}{dry}", r.kind.to_lowercase(), r.name, r.operation)
        };
        answer.results.iter().map(line).collect::<Vec<_>>()
    };
    let value = serde_json::to_value(answer).unwrap_or_default();
    let names =
        || answer.results.iter().map(|r| format!("{}/{}", r.kind.to_lowercase(), r.name)).collect();
    output::print(format, &value, || lines().join("\n") + "\n", names);
}

fn list_path(namespace: Option<&str>, kind: &str) -> String {
    match namespace {
        Some(namespace) => format!("/api/v1/namespaces/{}/{}", segment(namespace), segment(kind)),
        None => format!("/api/v1/{}", segment(kind)),
    }
}

/// The plural that URLs hold.
fn plural(kind: &str) -> Result<&'static str, CliError> {
    let parsed = kind.parse::<troupe_resources::Kind>();
    parsed.map(troupe_resources::Kind::plural).map_err(|unknown| {
        let hint = unknown.suggestion.as_ref().map(|s| format!("; did you mean `{s}`?"));
        CliError::Usage(format!("{unknown}{}", hint.unwrap_or_default()))
    })
}

pub(super) async fn get(client: &Client, format: Format, args: GetArgs) -> Result<(), CliError> {
    let kind = plural(&args.kind)?;
    if kind == "tasks" && args.names.is_empty() {
        return Err(CliError::Usage("tasks are listed with: troupe ls".into()));
    }
    if args.selector.is_some() && !args.names.is_empty() {
        let what = "give names or a selector (-l), not both";
        return Err(CliError::Usage(what.into()));
    }
    if args.deleted {
        let namespace = args.namespace.as_deref().unwrap_or("default");
        return deleted::list(client, format, namespace, kind, &args.names).await;
    }
    let min = args.min_version.map(|min| format!("min_version={min}"));
    let own = args.namespace.as_deref().unwrap_or("default");
    // A version, to begin from or to watch after, is of one namespace.
    let one = args.watch || min.is_some() || !args.names.is_empty();
    let namespace = if one { Some(own) } else { args.namespace.as_deref() };
    let selector = args.selector.as_ref().map(|s| format!("labelSelector={}", segment(s)));
    let query: Vec<String> = selector.into_iter().chain(min.clone()).collect();
    let mut list = list_path(namespace, kind);
    if !query.is_empty() {
        list.push_str(&format!("?{}", query.join("&")));
    }
    let mut since = None;
    let value = if args.names.is_empty() {
        let listed = client.get::<Value>(&list).await?;
        since = version(&listed);
        listed
    } else {
        if args.watch {
            // Before they are read, so that nothing is missed in between.
            since = version(&client.get(&list).await?);
        }
        let query = min.map(|min| format!("?{min}")).unwrap_or_default();
        named(client, &list_path(namespace, kind), &args.names, &query).await?
    };
    print_resources(format, &value);
    if args.watch {
        let selector = args.selector.as_deref();
        let watch = Watch::new(client, own, list, selector, since);
        let mut changes = Changes::new(kind, args.names, selector.is_some(), &value);
        watch.run(|seen| print_seen(format, &mut changes, seen)).await?;
    }
    Ok(())
}

/// One resource as it is, several as a list.
async fn named(
    client: &Client,
    list: &str,
    names: &[String],
    query: &str,
) -> Result<Value, CliError> {
    let mut items = Vec::new();
    for name in names {
        items.push(client.get::<Value>(&format!("{list}/{}{query}", segment(name))).await?);
    }
    Ok(match items.len() {
        1 => items.remove(0),
        _ => json!({"apiVersion": "agent.wecode.io/v1", "kind": "List", "items": items}),
    })
}

/// Prints what a watch tells, as far as it was asked for.
fn print_seen(format: Format, changes: &mut Changes, seen: Seen<'_>) {
    match seen {
        Seen::Listed(listed) => print_resources(format, &changes.listed(listed)),
        Seen::Changed(event) if changes.tells(event) => match format {
            Format::Json => println!("{event}"),
            Format::Yaml => print!("---\n{}", value_to_yaml(event)),
            _ => {
                let change = event["type"].as_str().unwrap_or_default().to_lowercase();
                println!("{change} {}", seen::name(&event["resource"]));
            }
        },
        Seen::Changed(_) => {}
        Seen::Lost(error) => eprintln!("-- connection lost ({error}); trying again"),
    }
}

fn print_resources(format: Format, value: &Value) {
    let one = [value.clone()];
    let items = value["items"].as_array().map_or(&one[..], Vec::as_slice);
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let table = || {
        let mut table = Table::new(&["namespace", "name", "kind", "owner", "version", "about"]);
        for item in items {
            let metadata = &item["metadata"];
            let version = metadata["resourceVersion"].as_u64();
            table.row(vec![
                text(&metadata["namespace"]),
                text(&metadata["name"]),
                text(&item["kind"]),
                text(&metadata["owner"]),
                version.map(|v| v.to_string()).unwrap_or_default(),
                about(item),
            ]);
        }
        table.render()
    };
    let names = || {
        let name = |item: &Value| {
            format!("{}/{}", text(&item["kind"]).to_lowercase(), text(&item["metadata"]["name"]))
        };
        items.iter().map(name).collect()
    };
    output::print(format, value, table, names);
}

/// The most telling line of a resource.
fn about(item: &Value) -> String {
    let spec = &item["spec"];
    let candidates = [
        &item["metadata"]["displayName"],
        &spec["description"],
        &spec["collaborationModel"],
        &spec["shellType"],
        &spec["modelConfig"]["env"]["model_id"],
        &spec["systemPrompt"],
    ];
    let line = candidates.into_iter().find_map(Value::as_str).unwrap_or_default();
    line.chars().take(60).collect()
}

pub(super) async fn describe(
    client: &Client,
    format: Format,
    args: DescribeArgs,
) -> Result<(), CliError> {
    let kind = plural(&args.kind)?;
    let path = format!("{}/{}", list_path(Some(&args.namespace), kind), segment(&args.name));
    let mut value: Value = client.get(&path).await?;
    let used: Option<UsedBy> = match client.get(&format!("{path}/used-by")).await {
        Ok(used) => Some(used),
        // A node before there was that.
        Err(CliError::Problem(problem)) if problem.status == 404 => None,
        Err(error) => return Err(error),
    };
    if let Some(used) = &used {
        value["usedBy"] = json!(used.used_by);
    }
    let text = || {
        let metadata = &value["metadata"];
        let mut text = String::new();
        let mut line = |name: &str, value: &Value| {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if !value.is_null() {
                text.push_str(&format!("{name:<14}{shown}\n"));
            }
        };
        line("Name:", &metadata["name"]);
        line("Display name:", &metadata["displayName"]);
        line("Namespace:", &metadata["namespace"]);
        line("Kind:", &value["kind"]);
        line("Owner:", &metadata["owner"]);
        line("Version:", &metadata["resourceVersion"]);
        line("Generation:", &metadata["generation"]);
        line("Created:", &metadata["createdAt"]);
        line("Updated:", &metadata["updatedAt"]);
        line("Labels:", &metadata["labels"]);
        text.push_str(&used.as_ref().map(used_by).unwrap_or_default());
        text.push_str("Spec:\n");
        for row in troupe_resources::print::value_to_yaml(&value["spec"]).lines() {
            text.push_str(&format!("  {row}\n"));
        }
        text
    };
    let names = || vec![format!("{}/{}", args.kind.to_lowercase(), args.name)];
    output::print(format, &value, text, names);
    Ok(())
}

/// A line for each resource that refers to it.
fn used_by(used: &UsedBy) -> String {
    if used.used_by.is_empty() {
        return "Used by:      nothing that you see\n".to_owned();
    }
    let mut text = "Used by:\n".to_owned();
    for user in &used.used_by {
        let ResourceUser { kind, name, namespace, paths } = user;
        text.push_str(&format!("  {kind} {namespace}/{name} ({})\n", paths.join(", ")));
    }
    text
}

pub(super) async fn delete(
    client: &Client,
    format: Format,
    args: DeleteArgs,
) -> Result<(), CliError> {
    if let Some(kind) = &args.kind {
        let kind = plural(kind)?;
        if args.names.is_empty() {
            return Err(CliError::Usage("name what to delete: troupe delete KIND NAME".into()));
        }
        for name in &args.names {
            let path = format!("{}/{}", list_path(Some(&args.namespace), kind), segment(name));
            let purge = if args.purge { "?purge=true" } else { "" };
            client.delete(&format!("{path}{purge}")).await?;
            println!("{kind}/{name} deleted{}", if args.purge { " for good" } else { "" });
        }
        return Ok(());
    }
    let path = format!("/api/v1/namespaces/{}/delete?dry-run=false", segment(&args.namespace));
    let answer = Files::read(&args.file)?.send(client, path).await?;
    print_answer(format, &answer);
    Ok(())
}

pub(super) async fn explain(client: &Client, format: Format, what: &str) -> Result<(), CliError> {
    // The fields are the same for every node of this build, so none is asked.
    let _ = client;
    let explained = troupe_resources::explain::explain(what)
        .map_err(|error| CliError::Usage(error.to_string()))?;
    let value = serde_json::to_value(&explained).unwrap_or_default();
    output::print(format, &value, || explained.to_string(), || vec![what.to_owned()]);
    Ok(())
}
