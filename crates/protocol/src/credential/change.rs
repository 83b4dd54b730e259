//! How a credential is changed. What it is for stays as it was made; what is secret in it is
//! replaced by what is sent, and nothing else of that is known here.

use super::{
    Auth, ClientAuth, Credential, InjectionLocation, Networking, Refresh, Secrets,
    create::{expiry, printable, read_networking, somewhere, token},
    is_archived,
};
use crate::{
    ApiError, Fields, Given, Micros, Timestamp,
    fields::wrong,
    metadata,
    schema::{agents::METADATA_PATCH, credentials as schema},
};

/// A credential that is to be changed.
#[derive(Debug)]
pub struct Change {
    /// What is shown of it from now on; it may equal what was shown before.
    pub credential: Credential,
    /// The secrets that are replaced.
    pub secrets: Secrets,
    /// Whether the secrets that stay have to be held against [`Auth::check`] again.
    pub check: bool,
}

/// Applies the body of an update.
///
/// # Errors
/// 400 that names the field, or when nothing may change any more; it quotes no secret.
pub fn apply_update(
    current: &Credential,
    mut fields: Fields,
    at: Micros,
) -> Result<Change, ApiError> {
    if current.archived_at.is_some() {
        return Err(is_archived());
    }
    let mut next = current.clone();
    let mut secrets = Secrets::default();
    if let Given::Value(auth) = fields.object(&schema::AUTH_CHANGE)? {
        let parts = Parts::read(auth, &mut secrets, at)?;
        parts.apply(&mut next.auth)?;
    }
    match fields.text(&schema::NEW_DISPLAY_NAME)? {
        Given::Absent => {}
        Given::Null => next.display_name = None,
        Given::Value(name) => next.display_name = Some(name),
    }
    next.metadata = metadata::patch(&mut fields, &METADATA_PATCH, &current.metadata)?;
    fields.finish(&schema::UPDATE)?;
    if next != *current || !secrets.is_empty() {
        next.updated_at = at.into();
    }
    let check = next.auth != current.auth;
    Ok(Change { credential: next, secrets, check })
}

/// What a change of `auth` says beside secrets.
enum Parts {
    Oauth { end: Option<Timestamp>, refresh: Option<RefreshParts> },
    Bearer,
    Variable { hosts: Option<Networking>, header: Option<bool>, body: Option<bool> },
    Header,
}

struct RefreshParts {
    /// Nothing keeps it, the empty text clears it.
    scope: Option<String>,
    /// Whether the client's secret is spoken of.
    speaks_of_secret: bool,
}

impl Parts {
    fn read(mut fields: Fields, secrets: &mut Secrets, at: Micros) -> Result<Self, ApiError> {
        Ok(match fields.tag(&schema::AUTH_UPDATE)? {
            "mcp_oauth" => {
                secrets.access_token = token(&mut fields, &schema::NEW_ACCESS_TOKEN)?.value();
                let end = expiry(&mut fields, &schema::NEW_EXPIRES_AT, at)?;
                let refresh = fields.object(&schema::REFRESH_CHANGE)?.value();
                let refresh = refresh.map(|refresh| RefreshParts::read(refresh, secrets));
                fields.finish(&schema::OAUTH_UPDATE)?;
                Self::Oauth { end, refresh: refresh.transpose()? }
            }
            "static_bearer" => {
                secrets.token = token(&mut fields, &schema::NEW_TOKEN)?.value();
                fields.finish(&schema::BEARER_UPDATE)?;
                Self::Bearer
            }
            "environment_variable" => {
                secrets.secret_value = fields.secret(&schema::NEW_SECRET_VALUE)?.value();
                let hosts = fields.object(&schema::NEW_NETWORKING)?.value();
                let hosts = hosts.map(read_networking).transpose()?;
                let (mut header, mut body) = (None, None);
                if let Given::Value(mut given) = fields.object(&schema::NEW_INJECTION)? {
                    let [in_header, in_body] = &schema::NEW_PLACES;
                    header = given.flag(in_header)?.value();
                    body = given.flag(in_body)?.value();
                    given.finish(&schema::INJECTION_CHANGE)?;
                }
                fields.finish(&schema::VARIABLE_UPDATE)?;
                Self::Variable { hosts, header, body }
            }
            _ => {
                secrets.token = token(&mut fields, &schema::NEW_TOKEN)?.value();
                fields.finish(&schema::HEADER_UPDATE)?;
                Self::Header
            }
        })
    }

    fn apply(self, auth: &mut Auth) -> Result<(), ApiError> {
        let kind = auth.kind();
        match (self, auth) {
            (Self::Oauth { end, refresh: parts }, Auth::McpOauth { expires_at, refresh, .. }) => {
                *expires_at = end.or(*expires_at);
                match (parts, refresh) {
                    (None, _) => Ok(()),
                    (Some(parts), Some(refresh)) => parts.apply(refresh),
                    (Some(_), None) => {
                        let what = "was not given when the credential was made";
                        let right = "leave it out, or make another credential";
                        Err(wrong("auth.refresh", what, right))
                    }
                }
            }
            (Self::Bearer, Auth::StaticBearer { .. })
            | (Self::Header, Auth::PosthouseHeader { .. }) => Ok(()),
            (
                Self::Variable { hosts, header, body },
                Auth::EnvironmentVariable { networking, injection_location, .. },
            ) => {
                if let Some(hosts) = hosts {
                    *networking = hosts;
                }
                *injection_location = somewhere(InjectionLocation {
                    header: header.unwrap_or(injection_location.header),
                    body: body.unwrap_or(injection_location.body),
                })?;
                Ok(())
            }
            _ => {
                let right = format!("send {kind}, or make another credential");
                Err(wrong("auth.type", &format!("can't be changed from {kind}"), &right))
            }
        }
    }
}

impl RefreshParts {
    fn read(mut fields: Fields, secrets: &mut Secrets) -> Result<Self, ApiError> {
        secrets.refresh_token = token(&mut fields, &schema::NEW_REFRESH_TOKEN)?.value();
        let scope = printable(&mut fields, &schema::NEW_SCOPE)?.value();
        let proof = fields.object(&schema::CLIENT_AUTH_CHANGE)?.value();
        let speaks_of_secret = proof.is_some();
        if let Some(mut proof) = proof {
            let table = match proof.tag(&schema::CLIENT_AUTH_UPDATE)? {
                "client_secret_basic" => &schema::CLIENT_SECRET_BASIC_UPDATE,
                _ => &schema::CLIENT_SECRET_POST_UPDATE,
            };
            secrets.client_secret = token(&mut proof, &schema::NEW_CLIENT_SECRET)?.value();
            proof.finish(table)?;
        }
        fields.finish(&schema::REFRESH_UPDATE)?;
        Ok(Self { scope, speaks_of_secret })
    }

    /// The way in which the client proves who it is stays, whichever was sent.
    fn apply(self, refresh: &mut Refresh) -> Result<(), ApiError> {
        if self.speaks_of_secret && refresh.token_endpoint_auth == ClientAuth::None {
            let what = "is none on this credential, so that there is no client secret";
            let right = "leave it out, or make another credential";
            return Err(wrong("auth.refresh.token_endpoint_auth", what, right));
        }
        if let Some(scope) = self.scope {
            refresh.scope = Some(scope).filter(|scope| !scope.is_empty());
        }
        Ok(())
    }
}
