//! Schemas that strangers have written, as every provider takes them: a request with one that is
//! refused is refused as a whole. Pure.

use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};

/// The longest schema, in bytes. Of a longer one the model sees nothing.
const LONGEST: usize = 64 << 10;
/// The longest name of a member.
const LONGEST_NAME: usize = 64;
/// What providers refuse at the top of a schema.
const REFUSED: [&str; 5] = ["oneOf", "anyOf", "allOf", "not", "enum"];

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
    for name in REFUSED {
        changed |= object.shift_remove(name).is_some();
    }
    match object.get_mut("properties") {
        None => {}
        Some(Value::Object(properties)) => {
            let before = properties.len();
            properties.retain(|name, _| is_taken(name));
            changed |= properties.len() < before;
        }
        Some(_) => changed |= object.shift_remove("properties").is_some(),
    }
    match object.get_mut("required") {
        None => {}
        Some(Value::Array(required)) => {
            let before = required.len();
            required.retain(|name| name.as_str().is_some_and(is_taken));
            changed |= required.len() < before;
        }
        Some(_) => changed |= object.shift_remove("required").is_some(),
    }
    if !changed {
        return schema.to_owned();
    }
    to_raw_value(&object).unwrap_or_else(|_| any_object())
}

fn is_taken(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(letter)
}

fn any_object() -> Box<RawValue> {
    super::raw(&json!({ "type": "object" }))
}
