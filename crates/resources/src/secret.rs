//! Secrets inside resources: found by the tables, taken out before anything is stored, masked
//! wherever a resource is read.
//!
//! Invariant: after [`take_secrets`] a resource holds masks only. A mask that is written back
//! means "as it was" ([`Taken::unchanged`], [`carry_over`]).

use std::{collections::BTreeMap, fmt};

use serde_json::Value;
use thiserror::Error;

use crate::{
    path::{push_index, push_key},
    resource::Resource,
    schema::{self, Field, Form, Object, Type},
};

/// How every mask begins; no secret can begin like this.
const MASK: &str = "***";
/// Shorter secrets show nothing of themselves.
const SHOWN_FROM_CHARS: usize = 16;
/// How much of the end is shown.
const SHOWN_CHARS: usize = 4;

/// Text that nobody prints by accident: it has no `Display`, no `Serialize`, and its `Debug`
/// shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for sealing it or for the wire.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(***)")
    }
}

/// What [`take_secrets`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Path and secret, for sealing.
    pub secrets: Vec<(String, SecretText)>,
    /// Paths that hold a mask already: the secret shall stay as it was.
    pub unchanged: Vec<String>,
}

/// Masks that keep no secret: none is stored there, or it would go to another address.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the secret itself is needed at {}", paths.join(", "))]
pub struct CarryOverError {
    /// Where they stand.
    pub paths: Vec<String>,
}

/// What is shown instead of a secret: `***`, and its last four characters if it is long.
#[must_use]
pub fn mask_text(secret: &str) -> String {
    let length = secret.chars().count();
    let shown = if length >= SHOWN_FROM_CHARS { SHOWN_CHARS } else { 0 };
    MASK.chars().chain(secret.chars().skip(length - shown)).collect()
}

/// Whether a text is a mask.
#[must_use]
pub fn is_masked(text: &str) -> bool {
    text.strip_prefix(MASK)
        .is_some_and(|rest| rest.is_empty() || rest.chars().count() == SHOWN_CHARS)
}

/// Whether a header or a variable of this name holds a credential.
#[must_use]
pub fn is_secret_key(name: &str) -> bool {
    const PARTS: [&str; 7] =
        ["token", "secret", "passw", "credential", "cookie", "apikey", "authorization"];
    let name = name.to_ascii_lowercase();
    let joined: String = name.chars().filter(|c| !matches!(c, '-' | '_' | '.')).collect();
    let mut words = name.split(['-', '_', '.']);
    PARTS.iter().any(|part| joined.contains(part))
        || words.any(|word| matches!(word, "auth" | "key" | "pat" | "pwd" | "dsn"))
}

/// Whether a text is filled in later as a whole, like `Bearer ${{task.token}}`.
fn is_template(text: &str) -> bool {
    let mut rest = text.trim();
    for scheme in ["Bearer ", "Basic ", "Token "] {
        rest = rest.strip_prefix(scheme).unwrap_or(rest).trim();
    }
    let inner = rest.strip_prefix("${{").and_then(|rest| rest.strip_suffix("}}"));
    inner.is_some_and(|inner| !inner.contains("}}"))
}

/// A place that holds a secret.
struct Slot<'a> {
    path: &'a str,
    /// Where the secret is sent, as JSON: addresses, provider and commands beside it.
    destination: &'a str,
}

type Visit<'v> = dyn FnMut(Slot<'_>, &mut String) + 'v;

/// Shows every secret of a spec to `visit`.
fn each(resource: &mut Resource, visit: &mut Visit<'_>) {
    let object = schema::spec_of(resource.kind);
    each_of_object(&mut resource.spec, object, &mut "spec".to_owned(), visit);
}

fn each_of_object(
    value: &mut Value,
    object: &'static Object,
    path: &mut String,
    visit: &mut Visit<'_>,
) {
    let Value::Object(fields) = value else { return };
    let addresses = object.fields.iter().filter(|field| is_destination(field));
    let addresses: Vec<_> = addresses.map(|field| fields.get(field.name)).collect();
    let destination = serde_json::to_string(&addresses).unwrap_or_default();
    for (key, value) in fields {
        let Some(field) = object.field(key) else { continue };
        let length = path.len();
        push_key(path, key);
        each_of_type(value, &field.ty, (field.secret, &destination), path, visit);
        path.truncate(length);
    }
}

fn is_destination(field: &Field) -> bool {
    matches!(field.ty, Type::Text(text) if text.form == Form::Url)
        || matches!(field.name, "model" | "command" | "args")
}

fn each_of_type(
    value: &mut Value,
    ty: &Type,
    (secret, destination): (bool, &str),
    path: &mut String,
    visit: &mut Visit<'_>,
) {
    match (value, ty) {
        (Value::String(text), _) if secret && !is_template(text) => {
            visit(Slot { path, destination }, text);
        }
        (value, Type::Object(object)) => each_of_object(value, object, path, visit),
        (Value::Object(entries), Type::Map(map)) => {
            for (key, value) in entries {
                let length = path.len();
                push_key(path, key);
                let secret = map.secret_by_key && is_secret_key(key);
                each_of_type(value, map.value, (secret, destination), path, visit);
                path.truncate(length);
            }
        }
        (Value::Array(items), Type::List(list)) => {
            for (index, value) in items.iter_mut().enumerate() {
                let length = path.len();
                push_index(path, index);
                each_of_type(value, list.item, (false, destination), path, visit);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// Where a value with these fields holds secrets, or masks of them.
pub(crate) fn places(value: &Value, object: &'static Object) -> Vec<String> {
    let mut found = Vec::new();
    let mut visit = |slot: Slot<'_>, _: &mut String| found.push(slot.path.to_owned());
    each_of_object(&mut value.clone(), object, &mut String::new(), &mut visit);
    found
}

/// The resource as people may read it.
#[must_use]
pub fn mask(resource: &Resource) -> Resource {
    let mut masked = resource.clone();
    drop(take_secrets(&mut masked));
    masked
}

/// Takes the secrets out; masks stay in their places.
#[must_use]
pub fn take_secrets(resource: &mut Resource) -> Taken {
    let mut taken = Taken::default();
    each(resource, &mut |slot, text| {
        if is_masked(text) {
            taken.unchanged.push(slot.path.to_owned());
        } else {
            let masked = mask_text(text);
            let secret = SecretText(std::mem::replace(text, masked));
            taken.secrets.push((slot.path.to_owned(), secret));
        }
    });
    taken
}

/// Puts secrets back where they were taken; the paths that have no place are returned.
pub fn put_secrets<'a>(
    resource: &mut Resource,
    secrets: impl IntoIterator<Item = (&'a str, &'a SecretText)>,
) -> Vec<String> {
    let mut left: BTreeMap<&str, &SecretText> = secrets.into_iter().collect();
    each(resource, &mut |slot, text| {
        if let Some(secret) = left.remove(slot.path) {
            secret.expose().clone_into(text);
        }
    });
    left.into_keys().map(str::to_owned).collect()
}

/// Where the resource holds secrets, with the masks that stand there.
#[must_use]
pub fn masks(resource: &Resource) -> BTreeMap<String, String> {
    slots(resource).into_iter().map(|(path, (mask, _))| (path, mask)).collect()
}

/// By path: the mask, and where the secret is sent.
fn slots(resource: &Resource) -> BTreeMap<String, (String, String)> {
    let mut masked = mask(resource);
    let mut found = BTreeMap::new();
    each(&mut masked, &mut |slot, text| {
        found.insert(slot.path.to_owned(), (text.clone(), slot.destination.to_owned()));
    });
    found
}

/// Checks that each unchanged secret of a new version is the one that the old version has at
/// the same path, and that it goes to the same address: who may change a resource without
/// knowing its secret must not be able to send it elsewhere.
///
/// # Errors
/// If a mask belongs to no secret of the old version, stands elsewhere than before, or the
/// address beside it changed. The secret itself has to be written then.
pub fn carry_over(
    unchanged: &[String],
    new: &Resource,
    old: Option<&Resource>,
) -> Result<(), CarryOverError> {
    let (new, old) = (slots(new), old.map(slots).unwrap_or_default());
    let same = |path: &&String| new.get(*path).is_some_and(|slot| old.get(*path) == Some(slot));
    let paths: Vec<String> = unchanged.iter().filter(|path| !same(path)).cloned().collect();
    if paths.is_empty() { Ok(()) } else { Err(CarryOverError { paths }) }
}

#[cfg(test)]
mod tests;
