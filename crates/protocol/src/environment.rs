//! Environments: the resource, and how one is made and changed.
//!
//! The configuration on the wire is always written out in full. What this version can't honour
//! (packages, allowed hosts, `self_hosted`) is refused by name. Nothing here reads a clock.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ApiError, Fields, Given, Micros, Timestamp,
    metadata::{self, Metadata},
    schema::{LATER, agents::METADATA, environments as schema},
};

/// An environment, as the wire shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "environment")]
pub struct Environment {
    /// `env_…`.
    pub id: String,
    /// For people.
    pub name: String,
    /// For people; the empty text is kept as such.
    pub description: Option<String>,
    /// What a sandbox in it has.
    pub config: Config,
    /// The caller's own pairs.
    pub metadata: Metadata,
    /// Who sees it.
    pub scope: Scope,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// What a sandbox has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Config {
    /// The server runs the sandbox.
    Cloud {
        /// Where it may connect to.
        networking: Networking,
        /// What is installed in it.
        packages: Packages,
    },
}

/// Where a sandbox may connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Networking {
    /// Anywhere, but for what the operator forbids.
    Unrestricted,
    /// Only what is named.
    Limited {
        /// Hosts; always empty in this version.
        allowed_hosts: Vec<String>,
        /// The agent's MCP servers; always false in this version.
        allow_mcp_servers: bool,
        /// The public registries; always false in this version.
        allow_package_managers: bool,
    },
}

/// What is installed in a sandbox, by package manager; all empty in this version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "type", rename = "packages")]
#[expect(missing_docs, reason = "the names are the managers'")]
pub struct Packages {
    pub apt: Vec<String>,
    pub cargo: Vec<String>,
    pub gem: Vec<String>,
    pub go: Vec<String>,
    pub npm: Vec<String>,
    pub pip: Vec<String>,
}

/// Who sees an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everybody in the organization.
    #[default]
    Organization,
}

impl Environment {
    /// The same environment, archived. One that is archived already stays as it is.
    #[must_use]
    pub fn archived(mut self, at: Micros) -> Self {
        if self.archived_at.is_none() {
            self.archived_at = Some(at.into());
        }
        self
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::Cloud { networking: Networking::Unrestricted, packages: Packages::default() }
    }
}

/// Reads the body of a create.
///
/// # Errors
/// 400 that names the field.
pub fn parse_create(mut fields: Fields, id: String, at: Micros) -> Result<Environment, ApiError> {
    let name = fields.required_text(&schema::NAME)?;
    let description = fields.text(&schema::DESCRIPTION)?.value();
    let config = match fields.object(&schema::CONFIG_FIELD)? {
        Given::Value(config) => read_config(config, None)?,
        Given::Absent | Given::Null => Config::default(),
    };
    let metadata = metadata::take(&mut fields, &METADATA)?;
    fields.choice(&schema::SCOPE)?;
    fields.finish(&schema::CREATE)?;
    Ok(Environment {
        id,
        name,
        description,
        config,
        metadata,
        scope: Scope::Organization,
        created_at: at.into(),
        updated_at: at.into(),
        archived_at: None,
    })
}

/// Applies the body of an update. What comes back may equal what was there.
///
/// # Errors
/// 400 that names the field; `environment_archived` when nothing may change any more;
/// `invalid_config_type_change` when the configuration has another type.
pub fn apply_update(
    current: &Environment,
    mut fields: Fields,
    at: Micros,
) -> Result<Environment, ApiError> {
    if current.archived_at.is_some() {
        let message = format!("Environment {} is archived.", current.id);
        return Err(ApiError::invalid(message).with_code("environment_archived"));
    }
    let mut next = current.clone();
    if let Given::Value(name) = fields.text(&schema::NEW_NAME)? {
        next.name = name;
    }
    match fields.text(&schema::NEW_DESCRIPTION)? {
        Given::Absent => {}
        Given::Null => next.description = None,
        Given::Value(description) => next.description = Some(description),
    }
    if let Given::Value(config) = fields.object(&schema::NEW_CONFIG)? {
        next.config = read_config(config, Some(&current.config))?;
    }
    next.metadata = metadata::patch(&mut fields, &schema::METADATA_PATCH, &current.metadata)?;
    fields.choice(&schema::SCOPE)?;
    fields.finish(&schema::UPDATE)?;
    if next != *current {
        next.updated_at = at.into();
    }
    Ok(next)
}

/// Reads a configuration; with `current`, what is not sent stays.
fn read_config(mut fields: Fields, current: Option<&Config>) -> Result<Config, ApiError> {
    let changes_type = current.is_some() && fields.holds(schema::CONFIG.tag, "self_hosted");
    let kinds = if current.is_some() { &schema::CONFIG_CHANGE } else { &schema::CONFIG };
    fields.tag(kinds).map_err(|error| match changes_type {
        true => error.with_code("invalid_config_type_change"),
        false => error,
    })?;
    let Config::Cloud { mut networking, packages } = current.cloned().unwrap_or_default();
    if let Given::Value(given) = fields.object(&schema::NETWORKING_FIELD)? {
        networking = read_networking(given)?;
    }
    if let Given::Value(given) = fields.object(&schema::PACKAGES_FIELD)? {
        refuse_packages(given)?;
    }
    fields.finish(&schema::CLOUD)?;
    Ok(Config::Cloud { networking, packages })
}

/// Reads a network policy. In this version a `limited` one has no values that could be kept
/// from before.
fn read_networking(mut fields: Fields) -> Result<Networking, ApiError> {
    if fields.tag(&schema::NETWORKING)? == "unrestricted" {
        fields.finish(&schema::UNRESTRICTED)?;
        return Ok(Networking::Unrestricted);
    }
    fields.later(&schema::ALLOWED_HOSTS)?;
    for field in &schema::ALLOWED {
        if fields.flag(field)?.value() == Some(true) {
            return Err(fields.wrong(field, LATER, &field.what_is_right()));
        }
    }
    fields.finish(&schema::LIMITED)?;
    Ok(Networking::Limited {
        allowed_hosts: Vec::new(),
        allow_mcp_servers: false,
        allow_package_managers: false,
    })
}

fn refuse_packages(mut fields: Fields) -> Result<(), ApiError> {
    fields.choice(&schema::PACKAGES_TYPE)?;
    for manager in &schema::MANAGERS {
        fields.later(manager)?;
    }
    fields.finish(&schema::PACKAGES)
}

/// The answer to a delete.
#[must_use]
pub fn deleted(id: &str) -> Value {
    serde_json::json!({ "id": id, "type": "environment_deleted" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const AT: Micros = Micros(1_763_600_000_000_000);
    const LATER: Micros = Micros(1_763_600_001_000_000);

    fn create(body: Value) -> Result<Environment, ApiError> {
        parse_create(Fields::open(body, "").unwrap(), "env_1".into(), AT)
    }

    fn update(current: &Environment, body: Value) -> Result<Environment, ApiError> {
        apply_update(current, Fields::open(body, "").unwrap(), LATER)
    }

    fn message(result: Result<Environment, ApiError>) -> String {
        result.unwrap_err().message
    }

    #[test]
    fn a_bare_environment_is_written_out_in_full() {
        let environment = create(json!({ "name": "e" })).unwrap();
        let shown = serde_json::to_value(&environment).unwrap();
        assert_eq!(
            shown,
            json!({
                "type": "environment", "id": "env_1", "name": "e", "description": null,
                "config": {
                    "type": "cloud",
                    "networking": { "type": "unrestricted" },
                    "packages": {
                        "type": "packages",
                        "apt": [], "cargo": [], "gem": [], "go": [], "npm": [], "pip": [],
                    },
                },
                "metadata": {}, "scope": "organization",
                "created_at": "2025-11-20T00:53:20.000000Z",
                "updated_at": "2025-11-20T00:53:20.000000Z",
                "archived_at": null,
            })
        );
        assert_eq!(serde_json::from_value::<Environment>(shown).unwrap(), environment);
        for config in [json!(null), json!({ "type": "anthropic_cloud" }), json!({"type": "cloud"})]
        {
            let with = create(json!({ "name": "e", "config": config })).unwrap();
            assert_eq!(with, environment);
        }
    }

    #[test]
    fn limited_networking_with_nothing_allowed_is_accepted() {
        let networking = json!({
            "type": "limited", "allowed_hosts": [], "allow_mcp_servers": false,
            "allow_package_managers": null,
        });
        let body = json!({ "name": "e", "config": { "type": "cloud", "networking": networking } });
        let shown = serde_json::to_value(create(body).unwrap().config).unwrap();
        assert_eq!(
            shown["networking"],
            json!({
                "type": "limited", "allowed_hosts": [], "allow_mcp_servers": false,
                "allow_package_managers": false,
            })
        );
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let cloud = |config: Value| create(json!({ "name": "e", "config": config }));
        let limited = |field: &str, value: Value| {
            cloud(json!({ "type": "cloud", "networking": { "type": "limited", field: value } }))
        };
        assert!(
            message(cloud(json!({ "type": "self_hosted" })))
                .starts_with("config.type: self_hosted is not supported")
        );
        assert!(
            message(limited("allowed_hosts", json!(["example.com"])))
                .starts_with("config.networking.allowed_hosts: is not supported")
        );
        assert!(
            message(limited("allow_mcp_servers", json!(true)))
                .starts_with("config.networking.allow_mcp_servers: is not supported")
        );
        assert!(
            message(cloud(json!({ "type": "cloud", "packages": { "pip": ["numpy"] } })))
                .starts_with("config.packages.pip: is not supported")
        );
        assert!(message(create(json!({ "name": "e", "scope": "account" }))).contains("account"));
        assert!(create(json!({ "name": "e", "scope": null })).is_ok());
        assert_eq!(
            message(cloud(
                json!({ "type": "cloud", "networking": { "type": "unrestricted", "x": 1 } })
            )),
            "Failed to parse request body: unknown field \"config.networking.x\""
        );
        assert!(message(create(json!({}))).starts_with("name: is missing"));
    }

    #[test]
    fn an_update_keeps_what_is_not_sent() {
        let before = create(json!({
            "name": "e", "description": "d", "metadata": { "a": "1", "b": "2" },
            "config": { "type": "cloud", "networking": { "type": "limited" } },
        }))
        .unwrap();
        assert_eq!(update(&before, json!({})).unwrap(), before);
        assert_eq!(update(&before, json!({ "config": { "type": "cloud" } })).unwrap(), before);
        let after = update(&before, json!({ "description": "", "metadata": { "a": "" } })).unwrap();
        assert_eq!(after.description.as_deref(), Some(""));
        assert_eq!(after.metadata.len(), 1);
        assert_eq!(after.updated_at, LATER.into());
        assert_eq!(update(&before, json!({ "description": null })).unwrap().description, None);
        let networking = json!({ "networking": { "type": "unrestricted" }, "type": "cloud" });
        let after = update(&before, json!({ "config": networking })).unwrap();
        assert_eq!(after.config, Config::default());
    }

    #[test]
    fn errors_of_an_update_have_their_codes() {
        let before = create(json!({ "name": "e" })).unwrap();
        let error = update(&before, json!({ "config": { "type": "self_hosted" } })).unwrap_err();
        assert_eq!(error.code, Some("invalid_config_type_change"));
        let archived = before.archived(LATER);
        let error = update(&archived, json!({})).unwrap_err();
        assert_eq!(error.code, Some("environment_archived"));
        assert_eq!(error.message, "Environment env_1 is archived.");
    }
}
