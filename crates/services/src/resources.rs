//! The declarative API: apply, get, list, delete, watch, explain.

mod deleted;
mod documents;
mod labels;
mod live;
mod problems;
mod read;
mod skills;
mod teams;
mod templates;
mod used;
mod visible;
mod write;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use troupe_api::{
    Problem,
    resource::{ApplyAnswer, UsedBy, WatchItem},
};
use troupe_types::Seq;

use crate::caller::Caller;

pub use live::{LiveResources, PUBLIC_NAMESPACE, namespace_id, seal_path};

/// How to apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Name of the file, for error messages.
    pub file: String,
    /// Decide, but write nothing.
    pub dry_run: bool,
    /// Unknown fields are warnings.
    pub ignore_unknown: bool,
    /// Documents without a namespace go here; with `Some`, others are refused.
    pub namespace: Option<String>,
}

/// How to delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removal<'a> {
    /// Only if this is its `resourceVersion`.
    pub if_version: Option<&'a str>,
    /// For good, its secrets with it, also if it is deleted already.
    pub purge: bool,
}

/// A Skill that comes as a ZIP.
#[derive(Clone, Debug)]
pub struct SkillUpload {
    /// The Skill that it replaces; `None`: the one of this namespace and name, which is made if it
    /// is not there.
    pub id: Option<String>,
    /// Where.
    pub namespace: String,
    /// `None`: as the folder in the package is called.
    pub name: Option<String>,
    /// The ZIP.
    pub bytes: Bytes,
}

/// The ZIP of a Skill.
#[derive(Clone, Debug)]
pub struct SkillPackage {
    /// The Skill's name.
    pub name: String,
    /// The ZIP, as it was uploaded.
    pub bytes: Bytes,
    /// Its SHA-256, as hexadecimal digits.
    pub hash: String,
}

/// Use cases of the declarative API. `kind` is what a person types or a URL holds: name, plural,
/// singular or short form. Answers never hold a secret.
#[async_trait]
pub trait Resources: fmt::Debug + Send + Sync + 'static {
    /// Applies YAML or JSON documents, all or nothing per Namespace.
    ///
    /// # Errors
    /// 422 with every fault of the text; 404 for references that do not exist, naming the kind;
    /// 409 for a stale `metadata.resourceVersion`; 403 for a Namespace that is not the caller's.
    async fn apply(
        &self,
        caller: &Caller,
        body: &[u8],
        options: ApplyOptions,
    ) -> Result<ApplyAnswer, Problem>;

    /// Makes one resource; 409 if it exists.
    async fn create(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<Value, Problem>;

    /// Replaces one resource; 404 if it does not exist, 409 if its version is another one.
    async fn replace(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        name: &str,
        body: &[u8],
    ) -> Result<Value, Problem>;

    /// One resource. In `default`, public resources are found too. With `min_version` the
    /// Namespace is at that version or a later one; 503 `version_not_reached` if it does not get
    /// there within 3 s.
    async fn get(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        name: &str,
        min_version: Option<Seq>,
    ) -> Result<Value, Problem>;

    /// A `<Kind>List` of one Namespace, or (`None`) of all that the caller sees, public ones
    /// included. `selector`: `label=value,other!=value`. `min_version` as for
    /// [`get`](Self::get), of one Namespace only.
    async fn list(
        &self,
        caller: &Caller,
        namespace: Option<&str>,
        kind: &str,
        selector: Option<&str>,
        min_version: Option<Seq>,
    ) -> Result<Value, Problem>;

    /// Who refers to a resource that [`get`](Self::get) finds; only what the caller sees too.
    async fn used_by(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        name: &str,
    ) -> Result<UsedBy, Problem>;

    /// Deletes one resource and answers the Namespace's version; 409 with the list of users if
    /// others refer to it. It can be brought back ([`restore`](Self::restore)) unless it is purged.
    async fn delete(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        name: &str,
        removal: Removal<'_>,
    ) -> Result<Seq, Problem>;

    /// What was deleted in a Namespace that the caller may write, and can be brought back: a
    /// `List` of all kinds, with `metadata.deletedAt`.
    async fn deleted(&self, caller: &Caller, namespace: &str) -> Result<Value, Problem>;

    /// Brings a deleted resource back as it was, secrets included.
    ///
    /// # Errors
    /// 404 if nothing of that name is kept, or if something that it refers to is gone (restore
    /// that first); 409 if there is another one of that name by now.
    async fn restore(
        &self,
        caller: &Caller,
        namespace: &str,
        kind: &str,
        name: &str,
    ) -> Result<Value, Problem>;

    /// Makes what a Template holds (`of`: kind and name, as [`get`](Self::get) finds it) in the
    /// caller's personal namespace; all of it or nothing.
    ///
    /// # Errors
    /// 409 if something of a name is there already, 404 if something that it refers to is not, 422
    /// for a resource of another kind.
    async fn instantiate(
        &self,
        caller: &Caller,
        namespace: &str,
        of: (&str, &str),
        dry_run: bool,
    ) -> Result<ApplyAnswer, Problem>;

    /// Deletes the resources that the documents name (kind and metadata are enough), all or
    /// nothing per Namespace.
    async fn delete_many(
        &self,
        caller: &Caller,
        body: &[u8],
        options: ApplyOptions,
    ) -> Result<ApplyAnswer, Problem>;

    /// What changed in a Namespace after a version; answers a bookmark after about 10 s without
    /// news. 410 when the log does not reach back that far. What `selector` does not choose is
    /// told as deleted: it may be so for who watches. One item per change, so that a watch that
    /// goes on in the middle of a version can count them.
    async fn watch(
        &self,
        caller: &Caller,
        namespace: &str,
        since: &str,
        selector: Option<&str>,
    ) -> Result<Vec<WatchItem>, Problem>;

    /// Makes a Skill from its package, or replaces one. What stands in `SKILL.md` becomes its
    /// resource.
    ///
    /// # Errors
    /// 400 `bad_package` names the file that is at fault, 413 for a package that is too large, 422
    /// with every fault of the front matter; else as [`apply`](Self::apply).
    async fn upload_skill(&self, caller: &Caller, upload: SkillUpload) -> Result<Value, Problem>;

    /// A Skill by its `uid`, of those that the caller sees.
    async fn skill(&self, caller: &Caller, id: &str) -> Result<Value, Problem>;

    /// The package of a Skill; 404 if it has none.
    async fn skill_package(&self, caller: &Caller, id: &str) -> Result<SkillPackage, Problem>;

    /// Deletes a Skill as [`delete`](Self::delete) does.
    async fn delete_skill(&self, caller: &Caller, id: &str) -> Result<Seq, Problem>;

    /// The fields of a kind, or of one path of it, with types, defaults and words.
    fn explain(&self, kind: &str, path: Option<&str>) -> Result<Value, Problem>;

    /// The JSON Schema of a kind.
    fn schema(&self, kind: &str) -> Result<Value, Problem>;
}
