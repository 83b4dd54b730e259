//! Environments: the resource, and how one is made and changed.
//!
//! The configuration on the wire is always written out in full. What this version can't honour
//! (packages, `self_hosted`) is refused by name. Nothing here reads a clock.

pub mod package_managers;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ApiError, Fields, Given, Micros, Timestamp,
    host::{self, Addresses},
    metadata::{self, Metadata},
    schema::{Field, agents::METADATA, environments as schema},
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
    /// What the original API lacks.
    #[serde(default, skip_serializing_if = "Extension::is_empty")]
    pub posthouse: Extension,
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
        /// Hosts, as they were sent; [`crate::host`] says what an entry stands for.
        allowed_hosts: Vec<String>,
        /// Also the hosts of the agent's MCP servers.
        allow_mcp_servers: bool,
        /// Also the public registries: [`package_managers`].
        allow_package_managers: bool,
    },
}

/// What an environment has beyond the original API: the object `posthouse`, left out when empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Extension {
    /// Hosts whose TLS the door does not end: it carries their bytes, and puts nothing into them.
    /// Their being listed here lets them through.
    #[serde(default)]
    pub passthrough_hosts: Vec<String>,
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

impl Extension {
    /// Whether there is nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.passthrough_hosts.is_empty()
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
    let posthouse = read_extension(&mut fields, Extension::default())?;
    fields.finish(&schema::CREATE)?;
    Ok(Environment {
        id,
        name,
        description,
        config,
        metadata,
        scope: Scope::Organization,
        posthouse,
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
    next.posthouse = read_extension(&mut fields, next.posthouse)?;
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
        networking = read_networking(given, networking)?;
    }
    if let Given::Value(given) = fields.object(&schema::PACKAGES_FIELD)? {
        refuse_packages(given)?;
    }
    fields.finish(&schema::CLOUD)?;
    Ok(Config::Cloud { networking, packages })
}

/// Reads a network policy. What is not sent of a `limited` one stays when the policy was one
/// before; otherwise it allows nothing.
fn read_networking(mut fields: Fields, before: Networking) -> Result<Networking, ApiError> {
    if fields.tag(&schema::NETWORKING)? == "unrestricted" {
        fields.finish(&schema::UNRESTRICTED)?;
        return Ok(Networking::Unrestricted);
    }
    let (hosts, servers, managers) = match before {
        Networking::Limited { allowed_hosts, allow_mcp_servers, allow_package_managers } => {
            (allowed_hosts, allow_mcp_servers, allow_package_managers)
        }
        Networking::Unrestricted => (Vec::new(), false, false),
    };
    let sent = take_hosts(&mut fields, &schema::ALLOWED_HOSTS, Addresses::Taken)?;
    let networking = Networking::Limited {
        allowed_hosts: sent.value().unwrap_or(hosts),
        allow_mcp_servers: fields.flag(&schema::ALLOW_MCP_SERVERS)?.value().unwrap_or(servers),
        allow_package_managers: fields
            .flag(&schema::ALLOW_PACKAGE_MANAGERS)?
            .value()
            .unwrap_or(managers),
    };
    fields.finish(&schema::LIMITED)?;
    Ok(networking)
}

/// Takes `posthouse`: absent keeps, null clears; the same of its list, which `[]` clears as well.
fn read_extension(fields: &mut Fields, before: Extension) -> Result<Extension, ApiError> {
    let mut given = match fields.object(&schema::EXTENSION_FIELD)? {
        Given::Absent => return Ok(before),
        Given::Null => return Ok(Extension::default()),
        Given::Value(given) => given,
    };
    let hosts = take_hosts(&mut given, &schema::PASSTHROUGH_HOSTS, Addresses::Refused)?;
    given.finish(&schema::EXTENSION)?;
    Ok(match hosts {
        Given::Absent => before,
        Given::Null => Extension::default(),
        Given::Value(passthrough_hosts) => Extension { passthrough_hosts },
    })
}

/// Takes a list of hosts. A host may be there twice: that means nothing more.
fn take_hosts(
    fields: &mut Fields,
    field: &Field,
    addresses: Addresses,
) -> Result<Given<Vec<String>>, ApiError> {
    let path = fields.path_of(field);
    let read =
        |(index, entry)| host::read(entry, field.name, &format!("{path}[{index}]"), addresses);
    fields.list(field)?.try_map(|sent| sent.into_iter().enumerate().map(read).collect())
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
mod tests;
