//! Schemas that strangers have written, as every provider takes them: a request with one that is
//! refused is refused as a whole. Pure.

use std::collections::HashSet;

use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};

use super::wording;

/// The longest schema, in bytes. Of a longer one the model sees nothing.
const LONGEST: usize = 64 << 10;
/// The longest name of a member.
const LONGEST_NAME: usize = 64;
/// What providers refuse at the top of a schema.
const REFUSED: [&str; 5] = ["oneOf", "anyOf", "allOf", "not", "enum"];
/// The members of a schema that hold others by their names.
const HOLDERS: [&str; 3] = ["properties", "$defs", "definitions"];

/// The schema of an object's input. What providers refuse in it is left out; what is no schema of an
/// object at all stands for any object.
pub(super) fn taken(schema: &RawValue) -> Box<RawValue> {
    let read = || serde_json::from_str::<Map<String, Value>>(schema.get()).ok();
    let object = (schema.get().len() <= LONGEST).then(read).flatten();
    let Some(mut object) = object else { return any_object() };
    let mut changed = false;
    if object.get("type").is_none_or(|kind| kind != "object") {
        object.insert("type".to_owned(), json!("object"));
        changed = true;
    }
    changed |= show(&mut object);
    let before = object.len();
    object.retain(|name, value| {
        // Those are put right below.
        let is_mended = *name == "required" || HOLDERS.contains(&&**name);
        !REFUSED.contains(&&**name) && (is_mended || is_member(name, value))
    });
    changed |= object.len() < before;
    for holder in HOLDERS {
        match object.get_mut(holder) {
            None => {}
            Some(Value::Object(held)) => {
                let before = held.len();
                held.retain(|name, _| holder != "properties" || is_taken(name));
                changed |= held.len() < before;
                for odd in held.values_mut().filter(|one| !is_schema(one)) {
                    // It may be anything; the server says what it should be when it is called.
                    *odd = json!({});
                    changed = true;
                }
            }
            Some(_) => changed |= object.shift_remove(holder).is_some(),
        }
    }
    match object.get_mut("required") {
        None => {}
        Some(Value::Array(required)) => {
            let before = required.len();
            let mut seen = HashSet::new();
            required.retain(|name| {
                name.as_str().is_some_and(|name| is_taken(name) && seen.insert(name.to_owned()))
            });
            changed |= required.len() < before;
        }
        Some(_) => changed |= object.shift_remove("required").is_some(),
    }
    if !changed {
        return schema.to_owned();
    }
    to_raw_value(&object).unwrap_or_else(|_| any_object())
}

/// Takes from all that a schema says in words what nobody can see: models read it as they read a tool's
/// description. True when there was any.
fn show(object: &mut Map<String, Value>) -> bool {
    let mut changed = false;
    for (name, value) in object {
        match value {
            Value::String(text) if ["description", "title"].contains(&&**name) => {
                let shown = wording::description(text);
                changed |= shown != *text;
                *text = shown;
            }
            value => changed |= show_within(value),
        }
    }
    changed
}

fn show_within(value: &mut Value) -> bool {
    match value {
        Value::Object(object) => show(object),
        // Each of them, also behind one that was changed.
        Value::Array(values) => {
            values.iter_mut().fold(false, |changed, one| show_within(one) | changed)
        }
        _ => false,
    }
}

/// Whether a value is a schema by the rules of JSON Schema 2020-12, as far as a provider may look.
fn is_schema(value: &Value) -> bool {
    match value {
        Value::Bool(_) => true,
        Value::Object(members) => members.iter().all(|(name, value)| is_member(name, value)),
        _ => false,
    }
}

/// Whether a member of a schema may have that value. What is unknown may have any.
fn is_member(name: &str, value: &Value) -> bool {
    match name {
        "type" => match value {
            Value::Array(kinds) => !kinds.is_empty() && kinds.iter().all(is_kind),
            kind => is_kind(kind),
        },
        "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => {
            value.as_object().is_some_and(|all| all.values().all(is_schema))
        }
        "items"
        | "additionalProperties"
        | "not"
        | "if"
        | "then"
        | "else"
        | "contains"
        | "propertyNames"
        | "unevaluatedItems"
        | "unevaluatedProperties" => is_schema(value),
        "anyOf" | "oneOf" | "allOf" | "prefixItems" => {
            value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(is_schema))
        }
        "required" => value.as_array().is_some_and(|names| {
            let mut seen = HashSet::new();
            names.iter().all(|name| name.as_str().is_some_and(|name| seen.insert(name)))
        }),
        "enum" => value.is_array(),
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => value.is_number(),
        "multipleOf" => value.as_f64().is_some_and(|number| number > 0.0),
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties"
        | "minContains" | "maxContains" => {
            value.as_f64().is_some_and(|number| number >= 0.0 && number.fract() == 0.0)
        }
        "pattern" | "title" | "description" | "format" | "$ref" | "$id" | "$schema" | "$anchor"
        | "$comment" => value.is_string(),
        "uniqueItems" | "deprecated" | "readOnly" | "writeOnly" => value.is_boolean(),
        _ => true,
    }
}

fn is_kind(value: &Value) -> bool {
    const KINDS: [&str; 7] = ["string", "number", "integer", "boolean", "array", "object", "null"];
    value.as_str().is_some_and(|kind| KINDS.contains(&kind))
}

fn is_taken(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(letter)
}

fn any_object() -> Box<RawValue> {
    super::raw(&json!({ "type": "object" }))
}
