//! Any valid document of a kind, made from the tables.

use proptest::{prelude::*, sample::select, strategy::Union};
use serde_json::{Map, Value, json};
use troupe_resources::{
    Kind,
    schema::{self, Field, Form, Object, Text, Type},
};

/// A document that the tables allow; rules between fields may still refuse it.
pub(crate) fn any_document() -> impl Strategy<Value = Value> {
    select(Kind::ALL.to_vec()).prop_flat_map(|kind| {
        let name = "[a-z][a-z0-9.-]{0,20}";
        let labels = prop::option::of(prop::collection::btree_map("[a-z]{1,8}", text(), 0..3));
        let spec = any_object(schema::spec_of(kind));
        (name, labels, spec).prop_map(move |(name, labels, spec)| {
            let mut metadata = json!({"name": name});
            if let Some(labels) = labels.filter(|_| kind != Kind::Shell) {
                metadata["labels"] = json!(labels);
            }
            json!({"kind": kind, "metadata": metadata, "spec": spec})
        })
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ -~]{0,30}",
        2 => "[a-zA-Z0-9 äöü日本語😀:#,'\"\n\t-]{0,40}",
        1 => select(vec!["true", "12", "~", "- a", "a: b", "# no", "", " x ", "---", "line\n\n  two\n"])
            .prop_map(str::to_owned),
    ]
}

fn any_object(object: &'static Object) -> BoxedStrategy<Value> {
    let mut whole: BoxedStrategy<Map<String, Value>> = Just(Map::new()).boxed();
    for field in object.fields {
        let value = any_field(field);
        whole = (whole, value)
            .prop_map(move |(mut map, value)| {
                if let Some(value) = value {
                    map.insert(field.name.to_owned(), value);
                }
                map
            })
            .boxed();
    }
    whole.prop_map(Value::Object).boxed()
}

fn any_field(field: &'static Field) -> BoxedStrategy<Option<Value>> {
    let value = any_value(&field.ty);
    if field.required {
        return value.prop_map(Some).boxed();
    }
    prop_oneof![2 => Just(None), 1 => value.prop_map(Some)].boxed()
}

fn any_value(ty: &'static Type) -> BoxedStrategy<Value> {
    match ty {
        Type::Text(rules) => any_text(rules),
        Type::Choice(choice) => select(choice.values.to_vec()).prop_map(Value::from).boxed(),
        Type::Int { min, max } => (*min..=*max).prop_map(Value::from).boxed(),
        Type::Number { min, max } => (*min..=*max).prop_map(Value::from).boxed(),
        Type::Bool => any::<bool>().prop_map(Value::from).boxed(),
        Type::Id => "[a-z0-9_]{1,20}".prop_map(Value::from).boxed(),
        Type::Time => Just(json!("2031-02-03T04:05:06.789Z")).boxed(),
        Type::Object(object) => any_object(object),
        Type::Map(map) => {
            let key = "[A-Za-z][A-Za-z_.-]{0,12}";
            prop::collection::btree_map(key, any_value(map.value), 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
                .boxed()
        }
        Type::List(list) => {
            let most = list.max.min(list.min + 2);
            prop::collection::vec(any_value(list.item), list.min..=most)
                .prop_map(Value::from)
                .boxed()
        }
        Type::Free => {
            prop::collection::btree_map(text(), text(), 0..3).prop_map(|map| json!(map)).boxed()
        }
    }
}

fn any_text(rules: &'static Text) -> BoxedStrategy<Value> {
    let one = |text: &str| Just(Value::from(text)).boxed();
    match rules.form {
        Form::Free => {
            let (min, max) = (rules.min, rules.max);
            let fitting = move |text: &String| (min..=max).contains(&text.chars().count());
            text().prop_filter("length", fitting).prop_map(Value::from).boxed()
        }
        Form::Line => "[ -~äöü日本語]{1,50}".prop_map(Value::from).boxed(),
        Form::Name => "[a-zA-Z0-9团队][a-zA-Z0-9._团队-]{0,20}".prop_map(Value::from).boxed(),
        Form::Namespace => Union::new([one("default"), one("a/b.c"), one("研究")]).boxed(),
        Form::Url => Union::new([one("http://a"), one("https://a.b:8/c?d=e#f")]).boxed(),
        Form::GitUrl => Union::new([one("git@a.b:c/d.git"), one("https://a.b/c.git")]).boxed(),
        Form::Selector => Union::new([one("dev-1"), one("os=linux, tool=claude>=2")]).boxed(),
        Form::Cron => Union::new([one("*/5 0 1 * mon"), one("0 7 * * 1-5")]).boxed(),
        Form::TimeZone => Union::new([one("UTC"), one("Europe/Berlin")]).boxed(),
        Form::Sha256 => "[0-9a-f]{64}".prop_map(Value::from).boxed(),
    }
}
