//! Answers of the declarative API.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::problem::FieldError;

/// Answer to an apply or a batch delete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ApplyAnswer {
    /// Everything was (or would be) done.
    pub success: bool,
    /// Nothing was written.
    #[serde(default)]
    pub dry_run: bool,
    /// Versions of the Namespaces that were written, in order. Each Namespace is all or
    /// nothing; they are applied one after the other.
    pub namespaces: Vec<NamespaceVersion>,
    /// One per document, in order.
    pub results: Vec<ApplyResult>,
    /// What was ignored or has no effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<FieldError>,
}

/// A Namespace and its version after a write; reads may ask for at least it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct NamespaceVersion {
    /// The Namespace.
    pub namespace: String,
    /// Its version.
    pub resource_version: u64,
}

/// What became of one document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApplyResult {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its Namespace.
    pub namespace: String,
    /// `created`, `updated`, `unchanged`, `deleted`.
    pub operation: String,
    /// Whether it was (or would be) done.
    pub success: bool,
}

/// Who refers to a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct UsedBy {
    /// Those that the caller sees, by namespace, kind and name. Of these, the ones of the
    /// resource's own namespace stand in the way of a delete.
    pub used_by: Vec<ResourceUser>,
}

/// A resource that refers to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ResourceUser {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its Namespace.
    pub namespace: String,
    /// Where it refers to it: `spec.members[0].botRef`.
    pub paths: Vec<String>,
}

/// One line of a watch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WatchItem {
    /// `PUT` or `DELETE`; `BOOKMARK`: nothing changed, but the version is this. With a
    /// selector, a change that it does not choose is a `DELETE`, whether it did before or not.
    #[serde(rename = "type")]
    pub kind: String,
    /// The resource (after a delete: kind and metadata only); null for a bookmark.
    #[serde(default)]
    pub resource: Value,
    /// Give this as `since` to go on.
    pub resource_version: u64,
}
