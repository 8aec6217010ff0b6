//! A resource: what it is, what it is called, what it shall be, how it is.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;
use thiserror::Error;
use troupe_types::{Timestamp, UserId};

use crate::{
    kind::Kind,
    schema::{self, Object, Type},
    spec,
};

/// The personal namespace, and the one of public resources.
pub const DEFAULT_NAMESPACE: &str = "default";
/// The namespace of templates.
pub const SYSTEM_NAMESPACE: &str = "system";

/// A resource as it is stored: the spec as it was applied, with defaults filled in.
///
/// `Debug` shows its identity only, because the spec may hold secrets.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// Version of the form, always the same.
    pub api_version: String,
    /// What it is.
    pub kind: Kind,
    /// What it is called.
    pub metadata: Metadata,
    /// What it shall be; see the typed access ([`Resource::team`]..).
    pub spec: Value,
    /// How it is; written by the system.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub status: Value,
}

/// What a resource is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Unique for its owner, kind and namespace; at most 100 characters, safe in a URL's path.
    pub name: String,
    /// `default` is personal; anything else is a group. May hold slashes.
    pub namespace: String,
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Seq of the namespace's change that wrote it; in a write: the version it is based on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<u64>,
    /// Grows with each change of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Given once, when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// When it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// When it was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
}

impl Metadata {
    /// The name for people, else the name.
    #[must_use]
    pub fn shown_name(&self) -> &str {
        self.display_name.as_deref().unwrap_or(&self.name)
    }
}

/// Whose Namespace holds a resource. Outside: `public`, `usr_..`, `group:parent/child`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// Visible to everybody.
    Public,
    /// A person.
    User(UserId),
    /// A group, by its name, which is the namespace of its resources.
    Group(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("public"),
            Self::User(id) => fmt::Display::fmt(id, f),
            Self::Group(name) => write!(f, "group:{name}"),
        }
    }
}

/// A text names no owner.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("expected `public`, `group:NAME` or the id of a user")]
pub struct OwnerError;

impl FromStr for Owner {
    type Err = OwnerError;

    fn from_str(text: &str) -> Result<Self, OwnerError> {
        if text == "public" {
            return Ok(Self::Public);
        }
        match text.strip_prefix("group:") {
            Some(name) if !name.is_empty() => Ok(Self::Group(name.to_owned())),
            _ => text.parse().map(Self::User).map_err(|_| OwnerError),
        }
    }
}

impl Serialize for Owner {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Owner {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a resource is called, all of it but its owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceKey {
    /// What it is.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ResourceKey {
    /// `Team research/plan-then-build`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A resource cannot be read as the kind that was asked for.
#[derive(Debug, Error)]
pub enum SpecError {
    /// It is of another kind.
    #[error("{key} is no {wanted}")]
    OtherKind {
        /// What it is.
        key: ResourceKey,
        /// What was asked for.
        wanted: Kind,
    },
    /// Its spec was stored by something that did not check it.
    #[error("the spec of {key} has not the form of its kind")]
    Form {
        /// What it is.
        key: ResourceKey,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resource({})", self.key())
    }
}

impl Resource {
    /// What it is called.
    #[must_use]
    pub fn key(&self) -> ResourceKey {
        ResourceKey {
            kind: self.kind,
            namespace: self.metadata.namespace.clone(),
            name: self.metadata.name.clone(),
        }
    }

    /// A label's value.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.metadata.labels.get(key).map(String::as_str)
    }

    fn typed<T: DeserializeOwned>(&self, kind: Kind) -> Result<T, SpecError> {
        if self.kind != kind {
            return Err(SpecError::OtherKind { key: self.key(), wanted: kind });
        }
        self.read(&self.spec, schema::spec_of(kind))
    }

    fn read<T: DeserializeOwned>(
        &self,
        value: &Value,
        object: &'static Object,
    ) -> Result<T, SpecError> {
        // Rows that were written before a field was added have no value for it.
        let mut value =
            if value.is_null() { Value::Object(serde_json::Map::new()) } else { value.clone() };
        fill_defaults(&mut value, object);
        serde_json::from_value(value).map_err(|source| SpecError::Form { key: self.key(), source })
    }
}

macro_rules! typed_access {
    ($($method:ident $kind:ident $spec:ident;)*) => {
        impl Resource {
            $(
                #[doc = concat!("The spec of a ", stringify!($kind), ".")]
                ///
                /// # Errors
                /// If it is of another kind, or was stored without a check.
                pub fn $method(&self) -> Result<spec::$spec, SpecError> {
                    self.typed(Kind::$kind)
                }
            )*
        }
    };
}

typed_access! {
    ghost Ghost GhostSpec;
    model Model ModelSpec;
    shell Shell ShellSpec;
    bot Bot BotSpec;
    team Team TeamSpec;
    skill Skill SkillSpec;
    workspace Workspace WorkspaceSpec;
    task Task TaskSpec;
    device Device DeviceSpec;
    knowledge_base KnowledgeBase KnowledgeBaseSpec;
    retriever Retriever RetrieverSpec;
    subscription Subscription SubscriptionSpec;
    template Template TemplateSpec;
    skill_binding SkillBinding SkillBindingSpec;
}

impl Resource {
    /// The status of a Task.
    ///
    /// # Errors
    /// If it is of another kind, or was stored without a check.
    pub fn task_status(&self) -> Result<spec::TaskStatus, SpecError> {
        self.status_as(Kind::Task)
    }

    /// The status of a Skill.
    ///
    /// # Errors
    /// If it is of another kind, or was stored without a check.
    pub fn skill_status(&self) -> Result<spec::SkillStatus, SpecError> {
        self.status_as(Kind::Skill)
    }

    /// The status of a Device.
    ///
    /// # Errors
    /// If it is of another kind, or was stored without a check.
    pub fn device_status(&self) -> Result<spec::DeviceStatus, SpecError> {
        self.status_as(Kind::Device)
    }

    /// The status of a Subscription.
    ///
    /// # Errors
    /// If it is of another kind, or was stored without a check.
    pub fn subscription_status(&self) -> Result<spec::SubscriptionStatus, SpecError> {
        self.status_as(Kind::Subscription)
    }

    fn status_as<T: DeserializeOwned>(&self, kind: Kind) -> Result<T, SpecError> {
        if self.kind != kind {
            return Err(SpecError::OtherKind { key: self.key(), wanted: kind });
        }
        self.read(&self.status, schema::status_of(kind))
    }
}

/// Puts in the defaults of absent fields, at every depth that is there.
fn fill_defaults(value: &mut Value, object: &'static Object) {
    let Value::Object(fields) = value else { return };
    for field in object.fields {
        match fields.get_mut(field.name) {
            Some(value) => fill_type(value, &field.ty),
            None => {
                if let Some(default) = field.default.to_value() {
                    fields.insert(field.name.to_owned(), default);
                }
            }
        }
    }
}

fn fill_type(value: &mut Value, ty: &Type) {
    match (value, ty) {
        (value, Type::Object(object)) => fill_defaults(value, object),
        (Value::Object(entries), Type::Map(map)) => {
            entries.values_mut().for_each(|value| fill_type(value, map.value));
        }
        (Value::Array(items), Type::List(list)) => {
            items.iter_mut().for_each(|value| fill_type(value, list.item));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_as_text() {
        let user = Owner::User(UserId::derived(&["a"]));
        for owner in [Owner::Public, user, Owner::Group("a/b".into())] {
            assert_eq!(owner.to_string().parse(), Ok(owner));
        }
        assert_eq!("group:".parse::<Owner>(), Err(OwnerError));
    }

    #[test]
    fn a_field_that_was_added_later_has_its_default() {
        let spec = serde_json::json!({
            "collaborationModel": "solo", "members": [{"botRef": {"name": "b"}}]
        });
        let metadata =
            Metadata { name: "t".into(), namespace: "default".into(), ..Metadata::default() };
        let mut resource = Resource {
            api_version: schema::API_VERSION.into(),
            kind: Kind::Team,
            metadata,
            spec,
            status: Value::Null,
        };
        let team = resource.team().unwrap();
        assert_eq!((team.max_rounds, team.members[0].bot_ref.namespace.as_str()), (4, "default"));
        assert!(matches!(resource.bot(), Err(SpecError::OtherKind { .. })));
        resource.spec = serde_json::json!({"members": 3});
        assert!(matches!(resource.team(), Err(SpecError::Form { .. })));
    }
}
