//! `posthouse vaults connect`: signs the user in to an MCP server, and puts what that gives into a
//! vault of the running server. Shows addresses and names, never a token.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use posthouse_mcp::oauth::{
    self, Client as Asking, ClientAuth, Consent, Grant, Proof, SignIn, SignInError,
};
use posthouse_net::Guard;
use posthouse_protocol::{
    Fields, Micros,
    credential::{address, parse_create},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::super::{
    plain::{harmless, harmless_json},
    say_text as say, variable,
};
use crate::{Error, api::call::now, client::Client, config::Config, egress};

mod redirect;

use redirect::Redirect;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(30);

/// `posthouse vaults connect …`.
#[derive(Debug, Args)]
pub(super) struct ConnectArguments {
    /// The vault's id
    vault: String,
    /// The MCP server's address, as agents name it
    #[arg(value_name = "URL")]
    server: Url,
    /// What people see of the credential [default: the server's host]
    #[arg(long)]
    name: Option<String>,
    /// The scopes to ask for, separated by spaces [default: what the server names]
    #[arg(long, value_name = "SCOPES")]
    scope: Option<String>,
    /// A client that the authorization server knows, or the https address of its description
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// The variable that holds the client's secret
    #[arg(long, value_name = "VARIABLE", requires = "client_id")]
    client_secret_env: Option<String>,
    /// Get a token for the client itself, without a user
    #[arg(long, requires = "client_id")]
    client_credentials: bool,
    /// The private key, PEM, by which the client proves who it is instead of by a secret
    #[arg(
        long,
        value_name = "FILE",
        requires = "client_credentials",
        conflicts_with = "client_secret_env"
    )]
    private_key_file: Option<PathBuf>,
    /// What the private key signs with: ES256, ES384, RS256, RS384 or RS512
    #[arg(long, default_value = "ES256", value_name = "NAME")]
    algorithm: String,
    /// The port on this machine to which the browser comes back [default: a free one]
    #[arg(long, default_value_t = 0, value_name = "PORT")]
    redirect_port: u16,
    /// Open no browser, print the address alone
    #[arg(long)]
    no_browser: bool,
}

/// Signs in, and keeps what that gives.
///
/// # Errors
/// [`Error::Usage`], [`Error::SignIn`], and those of the server.
pub(super) async fn run(
    config: &Config,
    json_wanted: bool,
    arguments: ConnectArguments,
) -> Result<(), Error> {
    let client = Client::local(&config.data)?;
    let Some(server) = address::normal(arguments.server.as_str()) else {
        return Err(Error::Usage(format!("{} is no server's address", arguments.server)));
    };
    let guard = Guard::new(egress::rules(&config.egress)?, Vec::new());
    let name = arguments.name.clone();
    let name = name.or_else(|| arguments.server.host_str().map(str::to_owned));
    // Before anybody is asked: is there a vault to put it into, and may it be kept under that name?
    let vault = format!("/v1/vaults/{}", path_segment(&arguments.vault)?);
    if !client.get(&vault).await?["archived_at"].is_null() {
        return Err(Error::Usage(format!("vault {} is archived", arguments.vault)));
    }
    let credentials = format!("{vault}/credentials");
    let before: Vec<Value> =
        client.all(&credentials).await?.into_iter().filter(|one| is_for(one, &server)).collect();
    let plain = json!({ "type": "static_bearer", "mcp_server_url": server, "token": "x" });
    check(json!({ "auth": plain, "display_name": name }), &guard).map_err(Error::Usage)?;
    let grant = sign_in(guard.clone(), &arguments).await?;
    let new = json!({ "auth": auth(&arguments.server, &grant, now()), "display_name": name });
    let mut archived = Vec::new();
    let made = match &before[..] {
        [old] if goes_on(old, &grant) => {
            let mut change = json!({ "auth": change(&new["auth"]) });
            if let Some(name) = &arguments.name {
                change["display_name"] = name.as_str().into();
            }
            client.post(&format!("{credentials}/{}", id(old)), &change).await?
        }
        _ => {
            // What is there goes only when the new one can be taken.
            check(new.clone(), &guard).map_err(|message| {
                Error::SignIn(format!(
                    "what the authorization server gives can't be kept: {message}"
                ))
            })?;
            for old in &before {
                client.post(&format!("{credentials}/{}/archive", id(old)), &json!({})).await?;
                archived.push(id(old).to_owned());
            }
            client.post(&credentials, &new).await?
        }
    };
    if json_wanted {
        say(&format!("{}\n", harmless_json(&made)));
    } else {
        say(&harmless(&print(&made, &grant, &archived)));
    }
    Ok(())
}

fn id(credential: &Value) -> &str {
    credential["id"].as_str().unwrap_or_default()
}

/// What the API would say to that new credential.
fn check(body: Value, guard: &Guard) -> Result<(), String> {
    let opened = |host: &str| guard.may_be_opened(host);
    Fields::open(body, "")
        .and_then(|fields| parse_create(fields, String::new(), String::new(), now(), &opened))
        .map(drop)
        .map_err(|error| error.message)
}

/// Whether the credential can have the new tokens: what a change can't touch has to be the same
/// already, and what it would leave has to be gone.
fn goes_on(old: &Value, grant: &Grant) -> bool {
    let old = &old["auth"];
    let refresh = &old["refresh"];
    let same = match &grant.renewal {
        None => refresh.is_null(),
        Some(renewal) => {
            let endpoint = refresh["token_endpoint"].as_str().and_then(address::normal);
            let (proof, _) = proof(&renewal.client_auth);
            endpoint.is_some_and(|old| address::normal(&renewal.token_endpoint) == Some(old))
                && refresh["client_id"] == renewal.client_id.as_str()
                && refresh["token_endpoint_auth"]["type"] == proof
                && refresh["resource"].as_str() == renewal.resource.as_deref()
                && refresh["scope"].is_null()
        }
    };
    let ends = grant.expires_in.is_some_and(|seconds| seconds > 0);
    old["type"] == "mcp_oauth" && same && (ends || old["expires_at"].is_null())
}

/// Of a new credential's `auth`, what a change may say.
fn change(new: &Value) -> Value {
    let mut auth = json!({ "type": new["type"], "access_token": new["access_token"] });
    if !new["expires_at"].is_null() {
        auth["expires_at"] = new["expires_at"].clone();
    }
    let refresh = &new["refresh"];
    if !refresh.is_null() {
        auth["refresh"] = json!({ "refresh_token": refresh["refresh_token"] });
        if refresh["token_endpoint_auth"]["client_secret"].is_string() {
            auth["refresh"]["token_endpoint_auth"] = refresh["token_endpoint_auth"].clone();
        }
    }
    auth
}

/// How the API names the way in which a client proves who it is, and by what.
fn proof(client_auth: &ClientAuth) -> (&'static str, Option<&str>) {
    match client_auth {
        ClientAuth::None => ("none", None),
        ClientAuth::Basic(secret) => ("client_secret_basic", Some(secret.expose_secret())),
        ClientAuth::Post(secret) => ("client_secret_post", Some(secret.expose_secret())),
    }
}

async fn sign_in(guard: Guard, arguments: &ConnectArguments) -> Result<Grant, Error> {
    let secret = match &arguments.client_secret_env {
        Some(name) => Some(SecretString::from(variable(name).ok_or_else(|| {
            Error::Usage(format!("--client-secret-env: there is no variable {name}"))
        })?)),
        None => None,
    };
    let asking = match &arguments.client_id {
        None => Asking::Unknown,
        Some(id) => match Url::parse(id) {
            Ok(url) if url.scheme() == "https" && secret.is_none() => Asking::Described(url),
            _ => Asking::Known { id: id.clone(), secret: secret.clone() },
        },
    };
    let scopes = arguments.scope.as_deref().unwrap_or_default();
    let of = SignIn {
        server: arguments.server.clone(),
        guard,
        client: asking,
        scopes: scopes.split_whitespace().map(str::to_owned).collect(),
        time: REQUEST,
    };
    if arguments.client_credentials {
        let proof = match (&arguments.private_key_file, secret) {
            (Some(path), _) => {
                let pem = std::fs::read_to_string(path)
                    .map_err(|source| Error::File { path: path.clone(), source })?;
                Proof::Key { pem: pem.into(), algorithm: arguments.algorithm.clone() }
            }
            (None, Some(secret)) => Proof::Secret(secret),
            (None, None) => {
                let message =
                    "--client-credentials needs --client-secret-env or --private-key-file";
                return Err(Error::Usage(message.to_owned()));
            }
        };
        return Ok(oauth::client_credentials(of, proof).await?);
    }
    let mut redirect = Redirect::listen(arguments.redirect_port, !arguments.no_browser).await?;
    Ok(oauth::sign_in(of, &mut redirect as &mut dyn Consent).await?)
}

/// The id of a vault as a part of a path.
fn path_segment(vault: &str) -> Result<&str, Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match !vault.is_empty() && vault.bytes().all(plain) {
        true => Ok(vault),
        false => Err(Error::Usage(format!("{vault:?} is no vault's id"))),
    }
}

/// Whether a credential is a live one for that server, so that a new one takes its place.
fn is_for(credential: &Value, server: &str) -> bool {
    let url = credential["auth"]["mcp_server_url"].as_str();
    credential["archived_at"].is_null() && url.and_then(address::normal).as_deref() == Some(server)
}

/// The credential's `auth`, as the API takes it.
fn auth(server: &Url, grant: &Grant, at: Micros) -> Value {
    let mut auth = json!({
        "type": "mcp_oauth",
        "mcp_server_url": server.as_str(),
        "access_token": grant.access_token.expose_secret(),
    });
    if let Some(seconds) = grant.expires_in.filter(|seconds| *seconds > 0) {
        let micros =
            i64::try_from(seconds).unwrap_or(i64::MAX / 2_000_000).saturating_mul(1_000_000);
        auth["expires_at"] = at.plus(micros).to_rfc3339().into();
    }
    if let Some(renewal) = &grant.renewal {
        let (kind, secret) = proof(&renewal.client_auth);
        let mut proof = json!({ "type": kind });
        if let Some(secret) = secret {
            proof["client_secret"] = secret.into();
        }
        // No scope: what is left out is what was granted (RFC 6749, 6).
        let mut refresh = json!({
            "token_endpoint": renewal.token_endpoint,
            "client_id": renewal.client_id,
            "refresh_token": renewal.refresh_token.expose_secret(),
            "token_endpoint_auth": proof,
        });
        if let Some(resource) = &renewal.resource {
            refresh["resource"] = resource.as_str().into();
        }
        auth["refresh"] = refresh;
    }
    auth
}

fn print(made: &Value, grant: &Grant, archived: &[String]) -> String {
    let mut text = format!("credential  {}\n", id(made));
    if let Some(expires_at) = made["auth"]["expires_at"].as_str() {
        text.push_str(&format!("expires     {expires_at}\n"));
    }
    if let Some(scope) = &grant.scope {
        text.push_str(&format!("scope       {scope}\n"));
    }
    let renewed = match grant.renewal {
        Some(_) => "by itself, before it expires",
        None => "no: there is no refresh token; connect again when it expires",
    };
    text.push_str(&format!("renewed     {renewed}\n"));
    if !archived.is_empty() {
        text.push_str(&format!("archived    {}\n", archived.join(", ")));
    }
    text
}

impl From<SignInError> for Error {
    fn from(error: SignInError) -> Self {
        Self::SignIn(error.to_string())
    }
}
