//! The caller's own key-value pairs on agents, environments and sessions, and their limits.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    ApiError, Fields, Given,
    fields::{kind_of, wrong},
    schema::{Field, Kind, Pairs},
};

/// Key-value pairs; never null on the wire.
pub type Metadata = BTreeMap<String, String>;

/// At most this many pairs.
pub const PAIRS: usize = 16;
/// The longest key, in characters.
pub const KEY_LENGTH: usize = 64;
/// The longest value, in characters.
pub const VALUE_LENGTH: usize = 512;

/// Takes the metadata of a new thing; absent and null are empty.
///
/// # Errors
/// 400 that names the pair or the limit.
pub fn take(fields: &mut Fields, field: &Field) -> Result<Metadata, ApiError> {
    let path = fields.path_of(field);
    let mut metadata = Metadata::new();
    if let Given::Value(value) = fields.any(field)? {
        for (key, value) in pairs(value, &path)? {
            let value = text(value, &path, &key)?;
            metadata.insert(key, value);
        }
    }
    check(&metadata, &path)?;
    Ok(metadata)
}

/// Takes a patch and applies it; absent and null keep what is there. The limits hold for the
/// result.
///
/// # Errors
/// 400 that names the pair or the limit.
pub fn patch(fields: &mut Fields, field: &Field, current: &Metadata) -> Result<Metadata, ApiError> {
    let path = fields.path_of(field);
    let empty_removes = matches!(field.kind, Kind::Pairs(Pairs::PatchOrEmpty));
    let mut metadata = current.clone();
    if let Given::Value(value) = fields.any(field)? {
        for (key, value) in pairs(value, &path)? {
            if value.is_null() || (empty_removes && value == "") {
                metadata.remove(&key);
            } else {
                let value = text(value, &path, &key)?;
                metadata.insert(key, value);
            }
        }
        check(&metadata, &path)?;
    }
    Ok(metadata)
}

fn pairs(value: Value, path: &str) -> Result<serde_json::Map<String, Value>, ApiError> {
    match value {
        Value::Object(pairs) => Ok(pairs),
        other => Err(wrong(path, &format!("is {}", kind_of(&other)), "send an object of texts")),
    }
}

fn text(value: Value, path: &str, key: &str) -> Result<String, ApiError> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(wrong(
            &format!("{path}.{key}"),
            &format!("is {}", kind_of(&other)),
            &format!("send a text of at most {VALUE_LENGTH} characters"),
        )),
    }
}

fn check(metadata: &Metadata, path: &str) -> Result<(), ApiError> {
    if metadata.len() > PAIRS {
        let count = metadata.len();
        return Err(wrong(path, &format!("has {count} keys"), &format!("keep at most {PAIRS}")));
    }
    for (key, value) in metadata {
        let length = key.chars().count();
        if !(1..=KEY_LENGTH).contains(&length) {
            return Err(wrong(
                path,
                &format!("has a key of {length} characters"),
                &format!("send keys of 1 to {KEY_LENGTH} characters"),
            ));
        }
        let length = value.chars().count();
        if length > VALUE_LENGTH {
            return Err(wrong(
                &format!("{path}.{key}"),
                &format!("has {length} characters"),
                &format!("send a text of at most {VALUE_LENGTH} characters"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::{
        agents::{METADATA, METADATA_PATCH},
        environments,
    };

    fn take(fields: &mut Fields) -> Result<Metadata, ApiError> {
        super::take(fields, &METADATA)
    }

    fn body(value: Value) -> Fields {
        Fields::open(json!({ "metadata": value }), "").unwrap()
    }

    #[test]
    fn limits_hold_for_new_metadata() {
        let many: serde_json::Map<_, _> = (0..17).map(|n| (n.to_string(), json!("v"))).collect();
        let error = take(&mut body(Value::Object(many))).unwrap_err();
        assert_eq!(error.message, "metadata: has 17 keys; keep at most 16");
        assert!(take(&mut body(json!({ "k".repeat(65): "v" }))).is_err());
        assert!(take(&mut body(json!({ "k".repeat(64): "v".repeat(512) }))).is_ok());
        let error = take(&mut body(json!({ "k": "v".repeat(513) }))).unwrap_err();
        assert!(error.message.starts_with("metadata.k: has 513 characters"), "{error}");
        let error = take(&mut body(json!({ "k": 1 }))).unwrap_err();
        assert!(error.message.starts_with("metadata.k: is a number"), "{error}");
        assert!(take(&mut body(json!({ "k": null }))).is_err());
        assert_eq!(take(&mut body(Value::Null)).unwrap(), Metadata::new());
    }

    #[test]
    fn a_patch_upserts_and_removes() {
        let current = Metadata::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
        let sent = json!({ "a": null, "c": "", "b": "3" });
        let left = patch(&mut body(sent.clone()), &METADATA_PATCH, &current).unwrap();
        assert_eq!(left, Metadata::from([("b".into(), "3".into()), ("c".into(), String::new())]));
        let left = patch(&mut body(sent), &environments::METADATA_PATCH, &current).unwrap();
        assert_eq!(left, Metadata::from([("b".into(), "3".into())]));
        assert_eq!(patch(&mut body(Value::Null), &METADATA_PATCH, &current).unwrap(), current);
    }
}
