//! What the targets start from: files that other crates' tests keep, cut to inputs.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use troupe_domain::namespace::{Item, ItemChange, Key, NamespaceEntry};
use troupe_records::encode;
use troupe_types::{Seq, Timestamp, Uuid};

use crate::records::VERSION;

/// The targets by name.
pub const TARGETS: [&str; 4] = ["documents", "frames", "payloads", "records"];
/// Longest word of a dictionary, in bytes.
const WORD_BYTES_MAX: usize = 60;

/// The inputs that a target starts from.
///
/// # Errors
/// If a file is not where it was, or there is no such target.
pub fn of(target: &str) -> Result<Vec<Vec<u8>>> {
    match target {
        "documents" => documents(),
        "frames" => frames(),
        "payloads" => payloads(),
        "records" => records(),
        other => anyhow::bail!("no such fuzz target: {other}"),
    }
}

/// Words that are worth putting anywhere, in libFuzzer's form: names and texts of the seeds.
#[must_use]
pub fn dictionary(seeds: &[Vec<u8>]) -> String {
    let mut words = BTreeSet::new();
    for seed in seeds {
        let text = String::from_utf8_lossy(seed);
        let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
        words.extend(
            text.split(|c| !is_word(c))
                .filter(|word| (2..=WORD_BYTES_MAX).contains(&word.len()))
                .map(|word| format!("\"{word}\"\n")),
        );
    }
    words.into_iter().collect()
}

/// A file of this repository.
fn read(path: &str) -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read(&path).with_context(|| format!("read {}", path.display()))
}

fn documents() -> Result<Vec<Vec<u8>>> {
    let mut seeds = Vec::new();
    for dir in ["resources/tests/corpus", "resources/public"] {
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(dir);
        for file in fs::read_dir(all).with_context(|| format!("list {dir}"))? {
            let file = file.with_context(|| format!("list {dir}"))?.path();
            if !file.to_string_lossy().ends_with(".expected.json") {
                seeds.push(fs::read(&file).with_context(|| format!("read {}", file.display()))?);
            }
        }
    }
    seeds.push(read("resources/tests/it/examples.yaml")?);
    Ok(seeds)
}

/// The released bytes of the node link, alone and several in one batch.
fn frames() -> Result<Vec<Vec<u8>>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/tests/golden");
    let mut files = Vec::new();
    for file in fs::read_dir(dir).context("list the golden frames")? {
        files.push(file.context("list the golden frames")?.path());
    }
    files.sort();
    let mut seeds = Vec::new();
    for file in files {
        seeds.push(fs::read(&file).with_context(|| format!("read {}", file.display()))?);
    }
    // Batches differ in their items only: head, then items.
    let batches: Vec<Vec<u8>> =
        seeds.iter().filter(|seed| seed.get(9..11) == Some(&[0, 1])).cloned().collect();
    for several in batches.chunks(4) {
        let mut whole = several[0].clone();
        whole[10] = u8::try_from(several.len()).unwrap_or(1);
        several[1..].iter().for_each(|batch| whole.extend_from_slice(&batch[11..]));
        seeds.push(whole);
    }
    Ok(seeds)
}

fn payloads() -> Result<Vec<Vec<u8>>> {
    let lines = String::from_utf8(read("fuzz/seeds/payloads.jsonl")?).context("UTF-8")?;
    let mut seeds: Vec<Vec<u8>> = lines.lines().map(|line| line.as_bytes().to_vec()).collect();
    for file in ["frames", "events", "states"] {
        for value in golden(file)? {
            seeds.push(value.to_string().into_bytes());
        }
    }
    Ok(seeds)
}

fn records() -> Result<Vec<Vec<u8>>> {
    let (events, frames, states) = (golden("events")?, golden("frames")?, golden("states")?);
    let at = "2026-01-02T03:04:05.678Z";
    let entry = |events: &[Value], frames: &[Value]| {
        encode(VERSION, &json!({"at": at, "events": events, "frames": frames})).map(Vec::from)
    };
    let mut seeds = Vec::new();
    for event in &events {
        seeds.push(entry(std::slice::from_ref(event), &[])?);
    }
    for frame in &frames {
        seeds.push(entry(&[], std::slice::from_ref(frame))?);
    }
    let whole = entry(&events, &frames)?;
    let steps = [entry(&events, &[])?, entry(&[], &frames)?].join(&b'\n');
    for state in states {
        let state = encode(VERSION, &state)?.to_vec();
        seeds.push([state.clone(), whole.clone()].join(&b'\n'));
        seeds.push([state, steps.clone()].join(&b'\n'));
    }
    seeds.push(whole);
    seeds.push(namespace()?);
    Ok(seeds)
}

/// The golden records of the domain.
fn golden(file: &str) -> Result<Vec<Value>> {
    let bytes = read(&format!("domain/tests/golden/{file}.json"))?;
    serde_json::from_slice(&bytes).with_context(|| format!("read {file}.json"))
}

/// The public resources, written into a Namespace, and one of them taken away.
fn namespace() -> Result<Vec<u8>> {
    let text = read("resources/public/plan-then-build.yaml")?;
    let parsed = troupe_resources::parse_bytes(&text, &Default::default());
    let at = Timestamp::from_millis(1_700_000_000_123);
    let mut changes = Vec::new();
    for located in parsed.documents {
        let resource = located.resource;
        let key = Key::new(resource.kind, resource.metadata.name.clone());
        let item = Item {
            document: serde_json::to_value(&resource).context("a resource as JSON")?,
            secrets: [("spec.key".to_owned(), "sealed:v1:k:c".to_owned())].into(),
            uid: Uuid::from_u128(7),
            version: Seq(1),
            generation: 1,
            created_at: at,
            updated_at: at,
            references: Vec::new(),
        };
        changes.push(ItemChange::Written { key, item: Box::new(item) });
    }
    let gone = changes.iter().take(1).filter_map(|change| match change {
        ItemChange::Written { key, .. } => {
            Some(ItemChange::Removed { key: key.clone(), purge: false })
        }
        ItemChange::Removed { .. } => None,
    });
    let gone: Vec<_> = gone.collect();
    let made = encode(VERSION, &NamespaceEntry { at, changes })?.to_vec();
    let gone = encode(VERSION, &NamespaceEntry { at, changes: gone })?.to_vec();
    Ok([made, gone].join(&b'\n'))
}
