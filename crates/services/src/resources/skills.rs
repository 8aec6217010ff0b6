//! Skills as packages: a ZIP comes in, is looked through, and is kept by its hash; what the Skill
//! says of itself becomes its resource.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use troupe_api::Problem;
use troupe_domain::namespace::{Apply, Change, Precondition};
use troupe_packages::{self as packages, Package, PackageError};
use troupe_resources::{Kind, parse::Located};
use troupe_store::BlobHash;
use troupe_types::Seq;

use super::{
    ApplyOptions, Removal, Resources as _, SkillPackage, SkillUpload, live::LiveResources,
};
use crate::caller::Caller;

/// How long the store may take for a package.
const STORE_MAX: Duration = Duration::from_secs(30);
/// Packages that are looked through at once.
static READS: Semaphore = Semaphore::const_new(2);
/// For messages.
const FILE: &str = "SKILL.md";

impl LiveResources {
    pub(super) async fn put_package(
        &self,
        caller: &Caller,
        upload: SkillUpload,
    ) -> Result<Value, Problem> {
        let SkillUpload { id, mut namespace, mut name, bytes } = upload;
        let mut only_if = Precondition::Any;
        if let Some(id) = id {
            let (there, called) = self.skill_named(caller, &id).await?;
            (namespace, name, only_if) = (there, Some(called), Precondition::Present);
        }
        // Before anything is unpacked or kept.
        let place = Self::place(caller, &namespace, true)?;
        let size = bytes.len();
        let read = bytes.clone();
        // Never closed. A directory of a million forged entries is large in memory.
        let reading = READS.acquire().await;
        let read = tokio::task::spawn_blocking(move || packages::read(&read)).await;
        drop(reading);
        let package = read.map_err(|_| super::documents::internal())?.map_err(|e| refused(&e))?;
        let name = name.unwrap_or_else(|| package.folder.clone());
        let located = document(&package, &namespace, &name)?;
        let shared = self.shared(caller, &place).await?;
        let (mut change, external) = self.put(&place, &shared, &located, Some(only_if))?;
        let hash = self.keep(bytes).await?;
        if let Change::Put { document, .. } = &mut change {
            let hash = hash.to_string();
            document["status"] = json!({"state": "Available", "fileSize": size, "fileHash": hash});
        }
        let apply = Apply { changes: vec![change], external, dry_run: false };
        let (_, version) = self.write(&place, apply, &[located]).await?;
        self.get(caller, &namespace, Kind::Skill.plural(), &name, Some(version)).await
    }

    pub(super) async fn package_of(
        &self,
        caller: &Caller,
        id: &str,
    ) -> Result<SkillPackage, Problem> {
        let skill = self.skill_of(caller, id).await?;
        let hash = skill["status"]["fileHash"].as_str();
        let hash: Option<BlobHash> = hash.and_then(|hash| hash.parse().ok());
        let none = || Problem::not_found("package of this Skill");
        let hash = hash.ok_or_else(none)?;
        let read = in_time(self.blobs.get(hash)).await?;
        let bytes = read.map_err(|error| unavailable(&error))?.ok_or_else(none)?;
        let name = skill["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Ok(SkillPackage { name, bytes, hash: hash.to_string() })
    }

    /// A Skill that the caller sees, by its `uid`.
    pub(super) async fn skill_of(&self, caller: &Caller, id: &str) -> Result<Value, Problem> {
        let mut all = self.read_all(caller, None, Kind::Skill, None, None).await?;
        let items = all["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let mut items = items.into_iter();
        let found = items.find(|item| item["metadata"]["uid"].as_str() == Some(id));
        found.ok_or_else(|| Problem::not_found("Skill"))
    }

    pub(super) async fn delete_by_id(&self, caller: &Caller, id: &str) -> Result<Seq, Problem> {
        let (namespace, name) = self.skill_named(caller, id).await?;
        self.delete(caller, &namespace, Kind::Skill.plural(), &name, Removal::default()).await
    }

    /// Namespace and name.
    async fn skill_named(&self, caller: &Caller, id: &str) -> Result<(String, String), Problem> {
        let skill = self.skill_of(caller, id).await?;
        let word = |field: &str| skill["metadata"][field].as_str().unwrap_or_default().to_owned();
        Ok((word("namespace"), word("name")))
    }

    /// The same bytes are kept once, whoever brings them.
    async fn keep(&self, bytes: Bytes) -> Result<BlobHash, Problem> {
        in_time(self.blobs.put(bytes)).await?.map_err(|error| unavailable(&error))
    }
}

/// The resource that a package says it is; its faults have the lines of `SKILL.md`.
fn document(package: &Package, namespace: &str, name: &str) -> Result<Located, Problem> {
    // Each line stands where it stands in the file, and below `spec`, whatever it says.
    let front: String = package.front.lines().map(|line| format!("  {line}\n")).collect();
    let metadata = json!({"name": name, "namespace": namespace});
    let text = format!(
        "spec:\n{front}apiVersion: agent.wecode.io/v1\nkind: Skill\nmetadata: {metadata}\n"
    );
    let options = ApplyOptions {
        file: FILE.to_owned(),
        // Packages made for other programs say more than we know.
        ignore_unknown: true,
        namespace: Some(namespace.to_owned()),
        ..ApplyOptions::default()
    };
    let (mut documents, _) = LiveResources::parse(text.as_bytes(), &options, false)?;
    let one = documents.pop().filter(|_| documents.is_empty());
    let mut located = one.ok_or_else(|| Problem::invalid("", "give exactly one document"))?;
    let spec = &mut located.resource.spec;
    spec["prompt"] = json!(package.text);
    spec["source"] = json!({"type": "upload"});
    Ok(located)
}

fn refused(error: &PackageError) -> Problem {
    match error.is_size() {
        true => Problem::new(413, "payload_too_large", error.to_string()),
        false => Problem::new(400, "bad_package", error.to_string()),
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T, Problem> {
    let late = |_| Problem::new(503, "store", "the store does not answer; repeat later");
    tokio::time::timeout(STORE_MAX, work).await.map_err(late)
}

fn unavailable(error: &dyn std::error::Error) -> Problem {
    tracing::warn!(%error, "a package was neither kept nor read");
    Problem::new(503, "store", "the store is not available; repeat later")
}
