//! Credentials: the resource, what is secret in one, and what it was used for.
//!
//! A credential as the wire shows it and its secrets are two values that never meet in one: what is
//! shown has no place for a secret. Nothing here reads a clock, seals or sends anything.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ApiError, Micros, Timestamp, metadata::Metadata};

pub mod address;
mod change;
mod create;
mod names;

pub use change::{Change, apply_update};
pub use create::{New, parse_create};

/// How many live credentials a vault may have.
pub const MOST: usize = 20;

/// A credential, as the wire shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "vault_credential")]
pub struct Credential {
    /// `vcrd_…`.
    pub id: String,
    /// Its vault, `vlt_…`.
    pub vault_id: String,
    /// For people.
    pub display_name: Option<String>,
    /// The caller's own pairs.
    pub metadata: Metadata,
    /// What it is, without what is secret in it.
    pub auth: Auth,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When it was archived.
    pub archived_at: Option<Timestamp>,
}

/// What a credential is, without what is secret in it. What is unset is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Auth {
    /// A token for an MCP server that runs out, with what it takes to get the next one.
    McpOauth {
        /// The server.
        mcp_server_url: String,
        /// When the token runs out, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
        /// How another token is got.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        refresh: Option<Refresh>,
    },
    /// A token for an MCP server.
    StaticBearer {
        /// The server.
        mcp_server_url: String,
    },
    /// A value that the door puts in place of what the variable holds.
    EnvironmentVariable {
        /// The variable.
        secret_name: String,
        /// The hosts that may get the value.
        networking: Networking,
        /// Where in a request it may be put.
        injection_location: InjectionLocation,
    },
    /// The value of a header for an MCP server; an extension.
    PosthouseHeader {
        /// The server.
        mcp_server_url: String,
        /// The header.
        header_name: String,
    },
}

/// How another token is got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    /// Who asks.
    pub client_id: String,
    /// Who is asked.
    pub token_endpoint: String,
    /// How the client proves who it is.
    pub token_endpoint_auth: ClientAuth,
    /// The resource that the token is for (RFC 8707).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The scope that is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// How a client proves to a token endpoint who it is (RFC 6749, 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientAuth {
    /// It does not.
    None,
    /// By a secret in the header `Authorization`.
    ClientSecretBasic,
    /// By a secret in the body.
    ClientSecretPost,
}

/// The hosts that may get a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Networking {
    /// All that the session's environment lets through.
    Unrestricted,
    /// These alone, as far as the environment lets them through.
    Limited {
        /// Names, IPv4 addresses, `*.` and a name; as they were sent.
        allowed_hosts: Vec<String>,
    },
}

/// Where in a request a value is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InjectionLocation {
    /// In values of headers.
    pub header: bool,
    /// In the body.
    pub body: bool,
}

/// What is secret in a credential. Each kind uses some of them; a change has those that change.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// `mcp_oauth`.
    pub access_token: Option<SecretString>,
    /// `mcp_oauth`.
    pub refresh_token: Option<SecretString>,
    /// `mcp_oauth`.
    pub client_secret: Option<SecretString>,
    /// `static_bearer`, and the value of `posthouse_header`.
    pub token: Option<SecretString>,
    /// `environment_variable`.
    pub secret_value: Option<SecretString>,
}

/// One use of a credential, as the ledger shows it. It never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "credential_use")]
pub struct Use {
    /// `vcuse_…`.
    pub id: String,
    /// The credential's vault.
    pub vault_id: String,
    /// The credential.
    pub credential_id: String,
    /// The session that has used it; none for what was done beside sessions.
    pub session_id: Option<String>,
    /// The calls of the session that were under way.
    pub event_ids: Vec<String>,
    /// What for.
    pub kind: UseKind,
    /// The host that has got the value.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The request's method.
    pub method: String,
    /// Where in the request the value was put.
    pub location: InjectionLocation,
    /// When.
    pub created_at: Timestamp,
}

/// What a credential was used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UseKind {
    /// A request out of a sandbox.
    Egress,
    /// A request to an MCP server.
    Mcp,
    /// To get another token.
    Refresh,
    /// To find out whether it is good.
    Validate,
}

impl Credential {
    /// The same credential, archived. One that is archived already stays as it is.
    #[must_use]
    pub fn archived(mut self, at: Micros) -> Self {
        if self.archived_at.is_none() {
            self.archived_at = Some(at.into());
        }
        self
    }
}

impl Auth {
    /// Its type on the wire.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::McpOauth { .. } => "mcp_oauth",
            Self::StaticBearer { .. } => "static_bearer",
            Self::EnvironmentVariable { .. } => "environment_variable",
            Self::PosthouseHeader { .. } => "posthouse_header",
        }
    }

    /// What a vault has at most one live credential for: the variable, or the server's address in
    /// its normal form, which all kinds for servers share.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::EnvironmentVariable { secret_name, .. } => secret_name.clone(),
            Self::McpOauth { mcp_server_url, .. }
            | Self::StaticBearer { mcp_server_url }
            | Self::PosthouseHeader { mcp_server_url, .. } => {
                // What is stored was read before, so that it always has a normal form.
                address::normal(mcp_server_url).unwrap_or_else(|| mcp_server_url.clone())
            }
        }
    }

    /// The path of the field that [`Auth::target`] is made of.
    #[must_use]
    pub fn target_path(&self) -> &'static str {
        match self {
            Self::EnvironmentVariable { .. } => "auth.secret_name",
            _ => "auth.mcp_server_url",
        }
    }

    /// Refuses secrets that can't go where this says that they go.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn check(&self, secrets: &Secrets) -> Result<(), ApiError> {
        match (self, &secrets.secret_value) {
            (Self::EnvironmentVariable { injection_location, .. }, Some(value))
                if injection_location.header =>
            {
                names::check_for_header(value)
            }
            _ => Ok(()),
        }
    }
}

impl Secrets {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        [
            &self.access_token,
            &self.refresh_token,
            &self.client_secret,
            &self.token,
            &self.secret_value,
        ]
        .into_iter()
        .all(Option::is_none)
    }

    /// These, with others where there are some.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self {
            access_token: others.access_token.or(self.access_token),
            refresh_token: others.refresh_token.or(self.refresh_token),
            client_secret: others.client_secret.or(self.client_secret),
            token: others.token.or(self.token),
            secret_value: others.secret_value.or(self.secret_value),
        }
    }
}

/// A 400 about a credential that is archived, in the hosted wording.
#[must_use]
pub fn is_archived() -> ApiError {
    ApiError::invalid("Credential is archived.")
}

/// The answer to a delete.
#[must_use]
pub fn deleted(id: &str) -> Value {
    serde_json::json!({ "id": id, "type": "vault_credential_deleted" })
}

#[cfg(test)]
mod tests;
