//! What may be called, and what a call needs: the words that all toolsets share.

use serde::{Deserialize, Serialize};

use crate::{
    ApiError, Fields, Given,
    fields::wrong,
    schema::{Field, LATER, Table, tools as schema},
};

/// What holds for the tools of a set that have no entry of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultConfig {
    /// Whether the model may call them.
    pub enabled: bool,
    /// Whether a call waits for the user.
    pub permission_policy: Policy,
}

/// Whether a call waits for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Policy {
    /// It runs at once.
    AlwaysAllow,
    /// It waits for a `user.tool_confirmation`.
    AlwaysAsk,
}

/// Takes what holds without an entry: enabled, and `usual`, where nothing else is said.
pub(super) fn take_default(
    fields: &mut Fields,
    field: &Field,
    table: &Table,
    usual: Policy,
) -> Result<DefaultConfig, ApiError> {
    let mut default = DefaultConfig { enabled: true, permission_policy: usual };
    if let Given::Value(mut given) = fields.object(field)? {
        if let Some(policy) = take(&mut given)? {
            default.permission_policy = policy;
        }
        default.enabled = given.flag(&schema::ENABLED)?.value().unwrap_or(true);
        given.finish(table)?;
    }
    Ok(default)
}

/// Takes a policy; none when nothing is said.
pub(super) fn take(fields: &mut Fields) -> Result<Option<Policy>, ApiError> {
    let Given::Value(mut policy) = fields.object(&schema::POLICY_FIELD)? else { return Ok(None) };
    let field = &schema::POLICY_TYPE;
    let path = policy.path_of(field);
    let value = policy.required(field)?;
    let (taken, later) = field.choices();
    // The hosted service does not name the choices here.
    let chosen = match value.as_str() {
        Some(name) if taken.contains(&name) => match name {
            "always_ask" => Policy::AlwaysAsk,
            _ => Policy::AlwaysAllow,
        },
        Some(name) if later.contains(&name) => {
            return Err(wrong(&path, &format!("{name} {LATER}"), &field.what_is_right()));
        }
        _ => {
            return Err(ApiError::invalid(format!(
                "Failed to parse request: {path}: {value} is not a valid value"
            )));
        }
    };
    policy.finish(&schema::POLICY)?;
    Ok(Some(chosen))
}
