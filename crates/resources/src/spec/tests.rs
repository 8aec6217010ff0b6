//! Tables and types name the same fields.

use serde::{
    de::{DeserializeOwned, Deserializer, Visitor, value::Error},
    forward_to_deserialize_any,
};

use super::*;
use crate::{
    kind::Kind,
    resource::Metadata,
    schema::{self, Object, Type},
};

/// Asks a type for the names of its fields.
struct FieldNames<'a>(&'a mut Vec<&'static str>);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("only structs are asked"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        self.0.extend(fields);
        Err(serde::de::Error::custom("asked"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn names<T: DeserializeOwned>() -> Vec<&'static str> {
    let mut names = Vec::new();
    assert!(T::deserialize(FieldNames(&mut names)).is_err());
    names.sort_unstable();
    names
}

/// Fields that the validator replaces by others.
const REPLACED: [&str; 6] = [
    "contextWindow",
    "maxOutputTokens",
    "ANTHROPIC_MODEL",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_API_KEY",
];

#[track_caller]
fn same<T: DeserializeOwned>(object: &Object) -> &'static str {
    let mut wanted: Vec<&str> = object.fields.iter().map(|field| field.name).collect();
    wanted.retain(|name| !REPLACED.contains(name));
    wanted.sort_unstable();
    assert_eq!(names::<T>(), wanted, "{}", object.name);
    std::any::type_name::<T>()
}

fn objects_of(object: &'static Object, all: &mut Vec<&'static Object>) {
    if all.iter().any(|other| std::ptr::eq(*other, object)) {
        return;
    }
    all.push(object);
    object.fields.iter().for_each(|field| objects_in(&field.ty, all));
}

fn objects_in(ty: &'static Type, all: &mut Vec<&'static Object>) {
    match ty {
        Type::Object(object) => objects_of(object, all),
        Type::List(list) => objects_in(list.item, all),
        Type::Map(map) => objects_in(map.value, all),
        _ => {}
    }
}

/// One line for each object of the tables.
fn check(object: &'static Object) -> &'static str {
    match object.name {
        "Ghost" => same::<GhostSpec>(object),
        "Model" => same::<ModelSpec>(object),
        "Shell" => same::<ShellSpec>(object),
        "Bot" => same::<BotSpec>(object),
        "Team" => same::<TeamSpec>(object),
        "Skill" => same::<SkillSpec>(object),
        "Workspace" => same::<WorkspaceSpec>(object),
        "Task" => same::<TaskSpec>(object),
        "Device" => same::<DeviceSpec>(object),
        "KnowledgeBase" => same::<KnowledgeBaseSpec>(object),
        "Retriever" => same::<RetrieverSpec>(object),
        "Subscription" => same::<SubscriptionSpec>(object),
        "Template" => same::<TemplateSpec>(object),
        "SkillBinding" => same::<SkillBindingSpec>(object),
        "SkillStatus" => same::<SkillStatus>(object),
        "TaskStatus" => same::<TaskStatus>(object),
        "DeviceStatus" => same::<DeviceStatus>(object),
        "SubscriptionStatus" => same::<SubscriptionStatus>(object),
        "Metadata" => same::<Metadata>(object),
        "NameRef" => same::<NameRef>(object),
        "SkillRef" => same::<SkillRef>(object),
        "KnowledgeBaseRef" => same::<KnowledgeBaseRef>(object),
        "McpServer" => same::<McpServer>(object),
        "ModelConfig" => same::<ModelConfig>(object),
        "ModelEnv" => same::<ModelEnv>(object),
        "TtsConfig" => same::<TtsConfig>(object),
        "SttConfig" => same::<SttConfig>(object),
        "EmbeddingConfig" => same::<EmbeddingConfig>(object),
        "RerankConfig" => same::<RerankConfig>(object),
        "ModelCapabilities" => same::<ModelCapabilities>(object),
        "Member" => same::<Member>(object),
        "Hints" => same::<Hints>(object),
        "InputPlaceholder" => same::<InputPlaceholder>(object),
        "SkillTool" => same::<SkillTool>(object),
        "SkillProvider" => same::<SkillProvider>(object),
        "SkillSource" => same::<SkillSource>(object),
        "Repository" => same::<Repository>(object),
        "TeamRef" => same::<TeamRef>(object),
        "BoundKnowledgeBase" => same::<BoundKnowledgeBase>(object),
        "KnowledgeScope" => same::<KnowledgeScope>(object),
        "ExecutionPlace" => same::<ExecutionPlace>(object),
        "ExecutionWorkspace" => same::<ExecutionWorkspace>(object),
        "Fork" => same::<Fork>(object),
        "TaskApp" => same::<TaskApp>(object),
        "TaskArchive" => same::<TaskArchive>(object),
        "RetrievalConfig" => same::<RetrievalConfig>(object),
        "EmbeddingRef" => same::<EmbeddingRef>(object),
        "HybridWeights" => same::<HybridWeights>(object),
        "SummaryModelRef" => same::<SummaryModelRef>(object),
        "StorageConfig" => same::<StorageConfig>(object),
        "IndexStrategy" => same::<IndexStrategy>(object),
        "RetrievalMethods" => same::<RetrievalMethods>(object),
        "RetrievalMethod" => same::<RetrievalMethod>(object),
        "Trigger" => same::<Trigger>(object),
        "CronTrigger" => same::<CronTrigger>(object),
        "IntervalTrigger" => same::<IntervalTrigger>(object),
        "OneTimeTrigger" => same::<OneTimeTrigger>(object),
        "EventTrigger" => same::<EventTrigger>(object),
        "GitPush" => same::<GitPush>(object),
        "ExecutionTarget" => same::<ExecutionTarget>(object),
        "NamedSkillRef" => same::<NamedSkillRef>(object),
        "NotificationWebhook" => same::<NotificationWebhook>(object),
        // State and message only, read as JSON.
        "Status" => "",
        other => panic!("the object {other} has no type"),
    }
}

#[test]
fn tables_and_types_name_the_same_fields() {
    let mut all = Vec::new();
    objects_of(&schema::METADATA, &mut all);
    for kind in Kind::ALL {
        objects_of(schema::spec_of(kind), &mut all);
        objects_of(schema::status_of(kind), &mut all);
    }
    let mut checked: Vec<&str> = all.iter().map(|object| check(object)).collect();
    checked.retain(|name| !name.is_empty());
    let count = checked.len();
    checked.sort_unstable();
    checked.dedup();
    assert_eq!(checked.len(), count, "two objects share a type");
    assert!(count >= 60, "{count}");
}
