//! The declarative kinds: what they may hold, how they are read, how they refer to each other.
//!
//! Pure: no async, no IO, no clock. Invariants:
//! - Everything from outside goes through [`parse()`]: one path for YAML and JSON, all problems
//!   at once, bounded in size, depth, count and time. No input makes it panic.
//! - The tables of [`schema`] are the only source of what a document may hold; validator,
//!   defaults, [`explain()`], [`json_schema()`] and the masking of secrets are driven by them.
//! - No `Debug`, no problem and no resolved plan shows a secret.
//!
//! The words of the outside contract (Ghost, Shell..) stop here, in `api` and in `gateway`.

pub mod explain;
pub mod json_schema;
pub mod kind;
pub mod lookup;
pub mod parse;
mod path;
pub mod print;
pub mod problem;
pub mod public;
pub mod reference;
pub mod resolve;
pub mod resource;
pub mod schema;
pub mod secret;
pub mod selector;
pub mod spec;
pub mod syntax;
pub mod template;
mod validate;

pub use explain::{ExplainError, Explanation, explain};
pub use json_schema::json_schema;
pub use kind::{Kind, UnknownKind};
pub use lookup::{Caller, Found, Lookup, ResourceSet, default_model, find, find_for};
pub use parse::{Located, ParseOptions, Parsed, Rejected, Source, parse, parse_bytes};
pub use print::{to_yaml, to_yaml_documents, value_to_yaml};
pub use problem::{Code, Position, Problem, Severity, suggest};
pub use reference::{Reference, references};
pub use resolve::{ResolveError, ResolveOptions, ResolvedTeam, SecretRef, resolve_team};
pub use resource::{DEFAULT_NAMESPACE, Metadata, Owner, Resource, ResourceKey, SpecError};
pub use secret::{
    CarryOverError, SecretText, Taken, carry_over, is_masked, mask, mask_text, masks, put_secrets,
    take_secrets,
};
pub use syntax::Format;
pub use template::instantiate;
