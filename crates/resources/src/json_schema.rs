//! JSON Schema (draft 2020-12) of a kind, for editors.
//!
//! Rules between fields are left to the validator; everything that a table says is here.

use serde_json::{Map, Value, json};

use crate::{
    kind::Kind,
    schema::{self, Field, Form, METADATA, Object, Type},
};

/// The schema of a whole document of this kind.
#[must_use]
pub fn json_schema(kind: Kind) -> Value {
    let mut builder = Builder { definitions: Map::new() };
    let mut document = Map::new();
    for field in schema::document().fields {
        let value = match field.name {
            "kind" => json!({"const": kind.name()}),
            "metadata" => builder.object(&METADATA),
            "spec" => builder.object(schema::spec_of(kind)),
            "status" => builder.object(schema::status_of(kind)),
            _ => builder.of_type(&field.ty),
        };
        document.insert(field.name.to_owned(), described(value, field));
    }
    let required: Vec<&str> = required(schema::document());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.name(),
        "description": schema::spec_of(kind).doc,
        "type": "object",
        "properties": document,
        "required": required,
        "additionalProperties": false,
        "$defs": builder.definitions,
    })
}

fn required(object: &Object) -> Vec<&'static str> {
    object.fields.iter().filter(|field| field.required).map(|field| field.name).collect()
}

/// Adds what the table says about the field itself.
fn described(mut value: Value, field: &Field) -> Value {
    if let Value::Object(map) = &mut value {
        map.insert("description".to_owned(), field.doc.into());
        if let Some(default) = field.default.to_value() {
            map.insert("default".to_owned(), default);
        }
        if field.secret {
            map.insert("writeOnly".to_owned(), true.into());
        }
    }
    value
}

struct Builder {
    definitions: Map<String, Value>,
}

impl Builder {
    /// A reference to the object's definition, which is made if it is not there.
    fn object(&mut self, object: &'static Object) -> Value {
        let reference = json!({"$ref": format!("#/$defs/{}", object.name)});
        if self.definitions.contains_key(object.name) {
            return reference;
        }
        // Holds the place, so that an object that holds itself ends.
        self.definitions.insert(object.name.to_owned(), Value::Null);
        let properties: Map<String, Value> = object
            .fields
            .iter()
            .map(|field| (field.name.to_owned(), described(self.of_type(&field.ty), field)))
            .collect();
        let required = required(object);
        let definition = json!({
            "description": object.doc,
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        });
        self.definitions.insert(object.name.to_owned(), definition);
        reference
    }

    fn of_type(&mut self, ty: &Type) -> Value {
        match ty {
            Type::Text(text) => {
                let mut value = json!({"type": "string", "maxLength": text.max});
                if text.min > 0 {
                    value["minLength"] = text.min.into();
                }
                if let Some(pattern) = pattern(text.form) {
                    value["pattern"] = pattern.into();
                }
                value
            }
            Type::Choice(choice) if choice.open => {
                json!({"type": "string", "examples": choice.values})
            }
            Type::Choice(choice) => json!({"type": "string", "enum": choice.values}),
            Type::Int { min, max } if *max == i64::MAX => {
                json!({"type": "integer", "minimum": min})
            }
            Type::Int { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
            Type::Number { min, max } => json!({"type": "number", "minimum": min, "maximum": max}),
            Type::Bool => json!({"type": "boolean"}),
            Type::Id => json!({"type": ["string", "integer"]}),
            Type::Time => json!({"type": "string", "format": "date-time"}),
            Type::Object(object) => self.object(object),
            Type::Map(map) => {
                let values = self.of_type(map.value);
                json!({"type": "object", "additionalProperties": values, "maxProperties": map.max})
            }
            Type::List(list) => {
                let items = self.of_type(list.item);
                let mut value = json!({"type": "array", "items": items, "maxItems": list.max});
                if list.min > 0 {
                    value["minItems"] = list.min.into();
                }
                value
            }
            Type::Free => json!({"type": "object"}),
        }
    }
}

/// Regular expressions as ECMAScript reads them with the flag `u`.
const fn pattern(form: Form) -> Option<&'static str> {
    match form {
        Form::Name => Some(r"^[\p{L}\p{N}][\p{L}\p{M}\p{N}._-]*$"),
        Form::Namespace => {
            Some(r"^[\p{L}\p{N}][\p{L}\p{M}\p{N}._-]*(/[\p{L}\p{N}][\p{L}\p{M}\p{N}._-]*)*$")
        }
        Form::Url => Some(r"^https?://[^\s/@]+"),
        Form::Sha256 => Some("^[0-9a-f]{64}$"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_has_its_definition() {
        fn walk(value: &Value, defs: &Map<String, Value>) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(target)) = map.get("$ref") {
                        assert!(
                            defs[target.trim_start_matches("#/$defs/")].is_object(),
                            "{target}"
                        );
                    }
                    map.values().for_each(|value| walk(value, defs));
                }
                Value::Array(items) => items.iter().for_each(|value| walk(value, defs)),
                _ => {}
            }
        }
        for kind in Kind::ALL {
            let schema = json_schema(kind);
            walk(&schema, schema["$defs"].as_object().unwrap());
            assert_eq!(schema["properties"]["kind"]["const"], kind.name());
        }
    }

    #[test]
    fn what_the_table_says_is_there() {
        let team = json_schema(Kind::Team);
        let rounds = &team["$defs"]["Team"]["properties"]["maxRounds"];
        assert_eq!((&rounds["default"], &rounds["maximum"]), (&json!(4), &json!(20)));
        let members = &team["$defs"]["Team"]["properties"]["members"];
        assert_eq!(members["minItems"], 1);
        let model = json_schema(Kind::Model);
        assert_eq!(model["$defs"]["ModelEnv"]["properties"]["api_key"]["writeOnly"], true);
    }
}
