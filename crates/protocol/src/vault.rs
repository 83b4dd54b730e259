//! Vaults: the resource, and how one is made and changed.
//!
//! What is secret lies in the credentials of a vault. Nothing here reads a clock.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ApiError, Fields, Given, Micros, Timestamp,
    metadata::{self, Metadata},
    schema::{
        agents::{METADATA, METADATA_PATCH},
        vaults as schema,
    },
};

/// A vault, as the wire shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "vault")]
pub struct Vault {
    /// `vlt_…`.
    pub id: String,
    /// For people.
    pub display_name: String,
    /// The caller's own pairs.
    pub metadata: Metadata,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

impl Vault {
    /// The same vault, archived. One that is archived already stays as it is.
    #[must_use]
    pub fn archived(mut self, at: Micros) -> Self {
        if self.archived_at.is_none() {
            self.archived_at = Some(at.into());
        }
        self
    }
}

/// Reads the body of a create.
///
/// # Errors
/// 400 that names the field.
pub fn parse_create(mut fields: Fields, id: String, at: Micros) -> Result<Vault, ApiError> {
    let display_name = fields.required_text(&schema::NAME)?;
    let metadata = metadata::take(&mut fields, &METADATA)?;
    fields.finish(&schema::CREATE)?;
    Ok(Vault {
        id,
        display_name,
        metadata,
        created_at: at.into(),
        updated_at: at.into(),
        archived_at: None,
    })
}

/// Applies the body of an update. What comes back may equal what was there.
///
/// # Errors
/// 400 that names the field, or when nothing may change any more.
pub fn apply_update(current: &Vault, mut fields: Fields, at: Micros) -> Result<Vault, ApiError> {
    if current.archived_at.is_some() {
        return Err(is_archived(&current.id));
    }
    let mut next = current.clone();
    if let Given::Value(name) = fields.text(&schema::NEW_NAME)? {
        next.display_name = name;
    }
    next.metadata = metadata::patch(&mut fields, &METADATA_PATCH, &current.metadata)?;
    fields.finish(&schema::UPDATE)?;
    if next != *current {
        next.updated_at = at.into();
    }
    Ok(next)
}

/// A 400 about a vault that is archived.
#[must_use]
pub fn is_archived(id: &str) -> ApiError {
    ApiError::invalid(format!("Vault {id} is archived."))
}

/// The answer to a delete.
#[must_use]
pub fn deleted(id: &str) -> Value {
    serde_json::json!({ "id": id, "type": "vault_deleted" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const AT: Micros = Micros(1_763_600_000_000_000);
    const LATER: Micros = Micros(1_763_600_001_000_000);

    fn create(body: Value) -> Result<Vault, ApiError> {
        parse_create(Fields::open(body, "").unwrap(), "vlt_1".into(), AT)
    }

    fn update(current: &Vault, body: Value) -> Result<Vault, ApiError> {
        apply_update(current, Fields::open(body, "").unwrap(), LATER)
    }

    #[test]
    fn a_vault_is_shown_in_full() {
        let vault = create(json!({ "display_name": "Ada" })).unwrap();
        let shown = serde_json::to_value(&vault).unwrap();
        assert_eq!(
            shown,
            json!({
                "type": "vault", "id": "vlt_1", "display_name": "Ada", "metadata": {},
                "created_at": "2025-11-20T00:53:20.000000Z",
                "updated_at": "2025-11-20T00:53:20.000000Z",
                "archived_at": null,
            })
        );
        assert_eq!(serde_json::from_value::<Vault>(shown).unwrap(), vault);
    }

    #[test]
    fn an_update_keeps_what_is_not_sent() {
        let body = json!({ "display_name": "Ada", "metadata": { "a": "1", "b": "" } });
        let before = create(body).unwrap();
        for nothing in [json!({}), json!({ "display_name": null, "metadata": null })] {
            assert_eq!(update(&before, nothing).unwrap(), before);
        }
        let after = update(&before, json!({ "display_name": "B", "metadata": { "a": null } }));
        let after = after.unwrap();
        assert_eq!((after.display_name.as_str(), after.metadata.len()), ("B", 1));
        assert_eq!((after.created_at, after.updated_at), (AT.into(), LATER.into()));
    }

    #[test]
    fn an_archived_vault_is_not_changed() {
        let vault = create(json!({ "display_name": "Ada" })).unwrap().archived(LATER);
        assert_eq!(vault.clone().archived(AT), vault);
        assert_eq!(update(&vault, json!({})).unwrap_err().message, "Vault vlt_1 is archived.");
    }
}
