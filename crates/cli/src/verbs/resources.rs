//! `apply`, `get`, `describe`, `delete`, `explain`.
#![expect(clippy::print_stdout, reason = "a client prints")]
#![expect(clippy::print_stderr, reason = "warnings go to standard error")]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use troupe_api::resource::ApplyAnswer;

use super::stdin_text;
use crate::{
    args::{ApplyArgs, DeleteArgs, DescribeArgs, Format, GetArgs},
    client::{Client, segment},
    error::CliError,
    output::{self, Table},
};

/// Largest file that is sent.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

pub(super) async fn apply(
    client: &Client,
    format: Format,
    args: ApplyArgs,
) -> Result<(), CliError> {
    let mut query = format!("?dry-run={}&ignore-unknown={}", args.dry_run, args.ignore_unknown);
    let path = match &args.namespace {
        Some(namespace) => format!("/api/v1/namespaces/{}/apply", segment(namespace)),
        None => "/api/v1/apply".to_owned(),
    };
    for (name, text) in read_all(&args.file)? {
        query.truncate(query.find("&file=").unwrap_or(query.len()));
        query.push_str(&format!("&file={}", segment(&name)));
        let answer: ApplyAnswer = client.post_text(&format!("{path}{query}"), text).await?;
        print_answer(format, &answer);
    }
    Ok(())
}

fn print_answer(format: Format, answer: &ApplyAnswer) {
    for warning in &answer.warnings {
        let line = warning.line.map(|l| format!("{l}: ")).unwrap_or_default();
        eprintln!("warning: {line}{}: {}", warning.path, warning.message);
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

/// Files, directories (their .yaml, .yml and .json files by name) and standard input.
fn read_all(paths: &[PathBuf]) -> Result<Vec<(String, Vec<u8>)>, CliError> {
    let mut texts = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            texts.push(("-".to_owned(), stdin_text(FILE_BYTES_MAX)?.into_bytes()));
        } else if path.is_dir() {
            let mut files = list(path)?;
            files.sort();
            if files.is_empty() {
                let shown = path.display();
                return Err(CliError::Usage(format!("{shown} holds no .yaml, .yml or .json file")));
            }
            for file in files {
                texts.push(read(&file)?);
            }
        } else {
            texts.push(read(path)?);
        }
    }
    Ok(texts)
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, CliError> {
    let fail = |e| CliError::local(format!("cannot read {}", directory.display()), e);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let known = |e: &std::ffi::OsStr| e == "yaml" || e == "yml" || e == "json";
        if path.is_file() && path.extension().is_some_and(known) {
            files.push(path);
        }
    }
    Ok(files)
}

fn read(path: &Path) -> Result<(String, Vec<u8>), CliError> {
    let fail = |e| CliError::local(format!("cannot read {}", path.display()), e);
    let size = std::fs::metadata(path).map_err(fail)?.len();
    if size > FILE_BYTES_MAX {
        let shown = path.display();
        return Err(CliError::Usage(format!("{shown} has {size} bytes, 16 MiB are allowed")));
    }
    Ok((path.display().to_string(), std::fs::read(path).map_err(fail)?))
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
    let min = args.min_version.map(|min| format!("min_version={min}"));
    let own = args.namespace.as_deref().unwrap_or("default");
    let value = if args.names.is_empty() {
        // A version, to begin from or to watch after, is of one namespace.
        let one = args.watch || min.is_some();
        let namespace = if one { Some(own) } else { args.namespace.as_deref() };
        let selector = args.selector.as_ref().map(|s| format!("labelSelector={}", segment(s)));
        let query: Vec<String> = selector.into_iter().chain(min).collect();
        let mut path = list_path(namespace, kind);
        if !query.is_empty() {
            path.push_str(&format!("?{}", query.join("&")));
        }
        client.get::<Value>(&path).await?
    } else {
        let query = min.map(|min| format!("?{min}")).unwrap_or_default();
        let mut items = Vec::new();
        for name in &args.names {
            let path = format!("{}/{}{query}", list_path(Some(own), kind), segment(name));
            items.push(client.get::<Value>(&path).await?);
        }
        match items.len() {
            1 => items.remove(0),
            _ => json!({"apiVersion": "agent.wecode.io/v1", "kind": "List", "items": items}),
        }
    };
    print_resources(format, &value);
    if args.watch {
        watch(client, format, own, kind, &value).await?;
    }
    Ok(())
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

async fn watch(
    client: &Client,
    format: Format,
    namespace: &str,
    kind: &str,
    listed: &Value,
) -> Result<(), CliError> {
    let since = listed["metadata"]["resourceVersion"].as_u64().unwrap_or(0);
    let path = format!("/api/v1/namespaces/{}/watch?since={since}", segment(namespace));
    let mut response = client.lines(&path).await?;
    let mut buffer = Vec::new();
    let broke = |e| CliError::local("the watch broke", e);
    while let Some(chunk) = response.chunk().await.map_err(broke)? {
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let Ok(event) = serde_json::from_slice::<Value>(&line) else { continue };
            let wanted = event["resource"]["kind"].as_str().and_then(|k| plural(k).ok());
            if event["type"] == "BOOKMARK" || wanted != Some(kind) {
                continue;
            }
            if format == Format::Json {
                println!("{event}");
            } else {
                let name = event["resource"]["metadata"]["name"].as_str().unwrap_or_default();
                println!("{} {name}", event["type"].as_str().unwrap_or_default().to_lowercase());
            }
        }
    }
    Ok(())
}

pub(super) async fn describe(
    client: &Client,
    format: Format,
    args: DescribeArgs,
) -> Result<(), CliError> {
    let kind = plural(&args.kind)?;
    let path = format!("{}/{}", list_path(Some(&args.namespace), kind), segment(&args.name));
    let value: Value = client.get(&path).await?;
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
            client.delete(&path).await?;
            println!("{kind}/{name} deleted");
        }
        return Ok(());
    }
    for (_, text) in read_all(&args.file)? {
        let path = format!("/api/v1/namespaces/{}/delete", segment(&args.namespace));
        let answer: ApplyAnswer = client.post_text(&path, text).await?;
        print_answer(format, &answer);
    }
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
