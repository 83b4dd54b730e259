//! Answers a server's forms with the defaults that the forms themselves name. Nobody is asked.

use serde_json::{Map, Value, json};

/// Answers `elicitation/create` with its parameters.
pub(super) fn answer(parameters: &Value, with_defaults: bool) -> Value {
    match parameters.get("mode").and_then(Value::as_str) {
        None | Some("form") => match with_defaults.then(|| defaults(parameters)).flatten() {
            Some(content) => json!({ "action": "accept", "content": content }),
            None => json!({ "action": "decline" }),
        },
        // Nobody is there who could visit an address.
        Some(_) => json!({ "action": "cancel" }),
    }
}

/// The defaults of all members; none when a required member has none.
fn defaults(parameters: &Value) -> Option<Map<String, Value>> {
    let schema = parameters.get("requestedSchema")?;
    let members = schema.get("properties")?.as_object()?;
    let content: Map<String, Value> = members
        .iter()
        .filter_map(|(name, member)| Some((name, member, member.get("default")?)))
        .filter(|(_, member, default)| fits(member, default))
        .map(|(name, _, default)| (name.clone(), default.clone()))
        .collect();
    let required = match schema.get("required") {
        None | Some(Value::Null) => &[][..],
        Some(required) => required.as_array()?,
    };
    required
        .iter()
        .all(|name| name.as_str().is_some_and(|name| content.contains_key(name)))
        .then_some(content)
}

/// Whether a default is of the member's type and, where the member names its values, one of them.
fn fits(member: &Value, default: &Value) -> bool {
    let of_type = match member.get("type").and_then(Value::as_str) {
        Some("string") => default.is_string(),
        Some("number") => default.is_number(),
        Some("integer") => {
            default.is_i64()
                || default.is_u64()
                || default.as_f64().is_some_and(|n| n.fract() == 0.0)
        }
        Some("boolean") => default.is_boolean(),
        Some("array") => {
            let items = member.get("items").unwrap_or(&Value::Null);
            default.as_array().is_some_and(|chosen| {
                chosen.iter().all(|one| one.is_string() && is_named(items, one))
            })
        }
        _ => false,
    };
    of_type && is_named(member, default)
}

/// Whether a schema that names its values names this one.
fn is_named(schema: &Value, value: &Value) -> bool {
    if let Some(Value::Array(values)) = schema.get("enum") {
        return values.contains(value);
    }
    ["oneOf", "anyOf"]
        .iter()
        .filter_map(|key| schema.get(*key)?.as_array())
        .all(|choices| choices.iter().any(|choice| choice.get("const") == Some(value)))
}
