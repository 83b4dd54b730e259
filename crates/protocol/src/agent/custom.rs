//! Custom tools: those that the client runs. Nothing here runs one.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::toolset::ToolName;
use crate::{
    ApiError, Fields,
    fields::{kind_of, wrong},
    schema::tools as schema,
};

/// A tool that the client runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CustomTool {
    /// The name that the model calls, unique among the agent's tools.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its input, as sent.
    pub input_schema: Value,
}

/// Reads an entry of `tools`, of which the type is taken.
pub(super) fn read(mut fields: Fields) -> Result<CustomTool, ApiError> {
    let field = &schema::CUSTOM_NAME;
    let name = fields.required_text(field)?;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        return Err(fields.wrong(
            field,
            &format!("{name:?} has other characters"),
            "send letters, digits, underscores and hyphens",
        ));
    }
    if ToolName::parse(&name).is_some() {
        let what = format!("{name:?} is the name of a built-in tool");
        return Err(fields.wrong(field, &what, "choose another name"));
    }
    for prefix in ["mcp__", "ant__"] {
        if name.starts_with(prefix) {
            let what = format!("begins with {prefix:?}, which is reserved");
            return Err(fields.wrong(field, &what, "choose another name"));
        }
    }
    let description = fields.required_text(&schema::CUSTOM_DESCRIPTION)?;
    let input_schema = fields.required(&schema::INPUT_SCHEMA)?;
    check_schema(&input_schema, &fields.path_of(&schema::INPUT_SCHEMA))?;
    fields.finish(&schema::CUSTOM)?;
    Ok(CustomTool { name, description, input_schema })
}

fn check_schema(schema: &Value, path: &str) -> Result<(), ApiError> {
    let right = "send a JSON Schema with \"type\": \"object\"";
    let Some(fields) = schema.as_object() else {
        return Err(wrong(path, &format!("is {}", kind_of(schema)), right));
    };
    match fields.get("type") {
        Some(kind) if kind == "object" => {}
        Some(kind) => return Err(wrong(&format!("{path}.type"), &format!("is {kind}"), right)),
        None => return Err(wrong(&format!("{path}.type"), "is missing", right)),
    }
    for name in ["oneOf", "anyOf", "allOf"] {
        if fields.contains_key(name) {
            let what = format!("has {name} at its top");
            return Err(wrong(path, &what, "describe the input as one object"));
        }
    }
    match fields.get("properties") {
        None | Some(Value::Null) => {}
        Some(Value::Object(properties)) => {
            if let Some(name) = properties.keys().find(|name| name.chars().count() > 64) {
                let what = format!("has a name of {} characters", name.chars().count());
                return Err(wrong(&format!("{path}.properties"), &what, "send at most 64"));
            }
        }
        Some(other) => {
            let what = format!("is {}", kind_of(other));
            return Err(wrong(&format!("{path}.properties"), &what, "send an object"));
        }
    }
    match fields.get("required") {
        None | Some(Value::Null) => {}
        Some(Value::Array(names)) if names.iter().all(Value::is_string) => {}
        Some(_) => {
            let place = format!("{path}.required");
            return Err(wrong(&place, "is no list of texts", "send the names of properties"));
        }
    }
    if has_reference(schema) {
        return Err(wrong(path, "has a $ref", "write the schema out in place"));
    }
    Ok(())
}

/// Whether a `$ref` stands anywhere in a schema; the same letters inside an example or a
/// constant are data.
fn has_reference(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.iter().any(|(name, value)| match name.as_str() {
            "$ref" => value.is_string(),
            "const" | "default" | "enum" | "examples" => false,
            _ => has_reference(value),
        }),
        Value::Array(entries) => entries.iter().any(has_reference),
        _ => false,
    }
}
