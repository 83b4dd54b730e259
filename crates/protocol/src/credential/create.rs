//! How a credential is made of what a client sends. Secrets leave the body here, and go no other way
//! than [`Secrets`].

use secrecy::SecretString;

use super::{
    Auth, ClientAuth, Credential, InjectionLocation, Networking, Refresh, Secrets,
    address::Address, names,
};
use crate::{
    ApiError, Fields, Given, Micros, Timestamp,
    fields::wrong,
    host::{self, Addresses},
    metadata,
    schema::{Field, agents::METADATA, credentials as schema},
};

/// A credential that is to be.
#[derive(Debug)]
pub struct New {
    /// What is shown of it.
    pub credential: Credential,
    /// What is secret in it.
    pub secrets: Secrets,
}

/// Reads the body of a create. `opened` says of a host whether the operator may have opened it for
/// plain HTTP; whether he has is found out when it is used.
///
/// # Errors
/// 400 that names the field; it quotes no secret.
pub fn parse_create(
    mut fields: Fields,
    id: String,
    vault_id: String,
    at: Micros,
    opened: &dyn Fn(&str) -> bool,
) -> Result<New, ApiError> {
    let auth = Fields::open(fields.required(&schema::AUTH)?, schema::AUTH.name)?;
    let (auth, secrets) = read_auth(auth, at, opened)?;
    let display_name = fields.text(&schema::DISPLAY_NAME)?.value();
    let metadata = metadata::take(&mut fields, &METADATA)?;
    fields.finish(&schema::CREATE)?;
    auth.check(&secrets)?;
    let credential = Credential {
        id,
        vault_id,
        display_name,
        metadata,
        auth,
        created_at: at.into(),
        updated_at: at.into(),
        archived_at: None,
    };
    Ok(New { credential, secrets })
}

fn read_auth(
    mut fields: Fields,
    at: Micros,
    opened: &dyn Fn(&str) -> bool,
) -> Result<(Auth, Secrets), ApiError> {
    let mut secrets = Secrets::default();
    let auth = match fields.tag(&schema::NEW_AUTH)? {
        "mcp_oauth" => {
            let mcp_server_url = address(&mut fields, &schema::SERVER, opened)?;
            secrets.access_token = token(&mut fields, &schema::ACCESS_TOKEN)?.value();
            let expires_at = expiry(&mut fields, &schema::EXPIRES_AT, at)?;
            let refresh = match fields.object(&schema::REFRESH)?.value() {
                Some(refresh) => Some(read_refresh(refresh, &mut secrets, opened)?),
                None => None,
            };
            fields.finish(&schema::OAUTH)?;
            Auth::McpOauth { mcp_server_url, expires_at, refresh }
        }
        "static_bearer" => {
            let mcp_server_url = address(&mut fields, &schema::SERVER, opened)?;
            secrets.token = token(&mut fields, &schema::TOKEN)?.value();
            fields.finish(&schema::BEARER)?;
            Auth::StaticBearer { mcp_server_url }
        }
        "environment_variable" => {
            let secret_name = fields.required_text(&schema::SECRET_NAME)?;
            names::check_variable(&secret_name, &fields.path_of(&schema::SECRET_NAME))?;
            secrets.secret_value = fields.secret(&schema::SECRET_VALUE)?.value();
            let path = fields.path_of(&schema::NETWORKING);
            let networking = Fields::open(fields.required(&schema::NETWORKING)?, path)?;
            let networking = read_networking(networking)?;
            let injection_location = read_injection(&mut fields)?;
            fields.finish(&schema::VARIABLE)?;
            Auth::EnvironmentVariable { secret_name, networking, injection_location }
        }
        _ => {
            let mcp_server_url = address(&mut fields, &schema::SERVER, opened)?;
            let header_name = fields.required_text(&schema::HEADER_NAME)?;
            names::check_header(&header_name, &fields.path_of(&schema::HEADER_NAME))?;
            secrets.token = token(&mut fields, &schema::HEADER_TOKEN)?.value();
            fields.finish(&schema::HEADER)?;
            Auth::PosthouseHeader { mcp_server_url, header_name }
        }
    };
    Ok((auth, secrets))
}

fn read_refresh(
    mut fields: Fields,
    secrets: &mut Secrets,
    opened: &dyn Fn(&str) -> bool,
) -> Result<Refresh, ApiError> {
    let token_endpoint = address(&mut fields, &schema::TOKEN_ENDPOINT, opened)?;
    let client_id = printable(&mut fields, &schema::CLIENT_ID)?.value().unwrap_or_default();
    secrets.refresh_token = token(&mut fields, &schema::REFRESH_TOKEN)?.value();
    let path = fields.path_of(&schema::CLIENT_AUTH_FIELD);
    let mut proof = Fields::open(fields.required(&schema::CLIENT_AUTH_FIELD)?, path)?;
    let token_endpoint_auth = client_auth(proof.tag(&schema::CLIENT_AUTH)?);
    match token_endpoint_auth {
        ClientAuth::None => proof.finish(&schema::NO_CLIENT_SECRET)?,
        ClientAuth::ClientSecretBasic | ClientAuth::ClientSecretPost => {
            secrets.client_secret = token(&mut proof, &schema::CLIENT_SECRET)?.value();
            proof.finish(match token_endpoint_auth {
                ClientAuth::ClientSecretBasic => &schema::CLIENT_SECRET_BASIC,
                _ => &schema::CLIENT_SECRET_POST,
            })?;
        }
    }
    let scope = printable(&mut fields, &schema::SCOPE)?.value().filter(|scope| !scope.is_empty());
    let resource = printable(&mut fields, &schema::RESOURCE)?.value();
    fields.finish(&schema::NEW_REFRESH)?;
    Ok(Refresh { client_id, token_endpoint, token_endpoint_auth, resource, scope })
}

/// What a tag says of how a client proves who it is.
fn client_auth(tag: &str) -> ClientAuth {
    match tag {
        "client_secret_basic" => ClientAuth::ClientSecretBasic,
        "client_secret_post" => ClientAuth::ClientSecretPost,
        _ => ClientAuth::None,
    }
}

/// Reads the hosts that may get a value.
pub(super) fn read_networking(mut fields: Fields) -> Result<Networking, ApiError> {
    if fields.tag(&schema::HOSTS)? == "unrestricted" {
        fields.finish(&schema::ALL_HOSTS)?;
        return Ok(Networking::Unrestricted);
    }
    let path = fields.path_of(&schema::ALLOWED_HOSTS);
    let given = fields.list(&schema::ALLOWED_HOSTS)?.value().unwrap_or_default();
    let mut allowed_hosts = Vec::with_capacity(given.len());
    for (index, entry) in given.into_iter().enumerate() {
        let path = format!("{path}[{index}]");
        allowed_hosts.push(host::read(entry, schema::ALLOWED_HOSTS.name, &path, Addresses::Taken)?);
    }
    fields.finish(&schema::SOME_HOSTS)?;
    Ok(Networking::Limited { allowed_hosts })
}

fn read_injection(fields: &mut Fields) -> Result<InjectionLocation, ApiError> {
    let Given::Value(mut given) = fields.object(&schema::INJECTION)? else {
        return Ok(InjectionLocation { header: true, body: true });
    };
    let [header, body] = &schema::PLACES;
    let location = InjectionLocation {
        header: given.flag(header)?.value().unwrap_or(false),
        body: given.flag(body)?.value().unwrap_or(false),
    };
    given.finish(&schema::INJECTION_PLACES)?;
    somewhere(location)
}

/// Refuses a place that is none.
pub(super) fn somewhere(location: InjectionLocation) -> Result<InjectionLocation, ApiError> {
    if location.header || location.body {
        return Ok(location);
    }
    let what = "names no place, so that the value would never be used";
    Err(wrong("auth.injection_location", what, "send true for header, for body or for both"))
}

/// Takes the address of a server.
fn address(
    fields: &mut Fields,
    field: &Field,
    opened: &dyn Fn(&str) -> bool,
) -> Result<String, ApiError> {
    let text = fields.required_text(field)?;
    let read = Address::parse(&text).map_err(|what| {
        fields.wrong(field, what, "send an https URL without user, password and fragment")
    })?;
    if !read.secure && !opened(&read.host) {
        let what = "is http, to a host that the operator has not opened";
        return Err(fields.wrong(field, what, "send an https URL"));
    }
    Ok(text)
}

/// Takes a secret that travels in headers or forms of OAuth.
pub(super) fn token(fields: &mut Fields, field: &Field) -> Result<Given<SecretString>, ApiError> {
    let given = fields.secret(field)?;
    if let Given::Value(value) = &given {
        names::check_token(value, &fields.path_of(field))?;
    }
    Ok(given)
}

/// Takes a text that travels in forms of OAuth.
pub(super) fn printable(fields: &mut Fields, field: &Field) -> Result<Given<String>, ApiError> {
    let given = fields.text(field)?;
    match &given {
        Given::Value(text) if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) => {
            Err(fields.wrong(field, "is not printable ASCII alone", "send it as it was issued"))
        }
        _ => Ok(given),
    }
}

/// Takes the time at which a token runs out.
pub(super) fn expiry(
    fields: &mut Fields,
    field: &Field,
    at: Micros,
) -> Result<Option<Timestamp>, ApiError> {
    match fields.time(field)?.value() {
        Some(end) if end <= at => {
            let path = fields.path_of(field);
            Err(ApiError::invalid(format!("{path} must be in the future.")))
        }
        end => Ok(end.map(Timestamp)),
    }
}
