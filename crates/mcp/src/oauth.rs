//! How a user signs in to an MCP server: discovery, registration, consent, tokens.
//!
//! Finds the server's authorization server as the MCP specification says (2025-03-26 to 2026-07-28),
//! registers a client where it has to, has the user asked, and gives tokens with all that is needed to
//! refresh them. Stores nothing, prints nothing, and reaches nobody but through the guard.

mod exchange;

use std::{pin::Pin, sync::Arc, time::Duration};

use posthouse_net::Guard;
use rmcp::transport::auth::{
    AuthError, AuthorizationManager, AuthorizationMetadataSource, AuthorizationRequest,
    AuthorizationSession, ClientCredentialsConfig, JwtSigningAlgorithm,
};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use self::exchange::{Exchange, challenge};

/// As what a client is known when it registers itself.
const CLIENT_NAME: &str = "posthouse";

/// A server that somebody wants to sign in to.
#[derive(Debug, Clone)]
pub struct SignIn {
    /// The MCP server.
    pub server: Url,
    /// The way out.
    pub guard: Guard,
    /// Who asks.
    pub client: Client,
    /// What is asked for; what the server names when empty.
    pub scopes: Vec<String>,
    /// How long one request may take.
    pub time: Duration,
}

/// Who asks for tokens.
#[derive(Debug, Clone)]
pub enum Client {
    /// Nobody yet: it registers itself.
    Unknown,
    /// A client that the authorization server knows.
    Known {
        /// Its id.
        id: String,
        /// Its secret, if it has one.
        secret: Option<SecretString>,
    },
    /// A client whose description is at this https address, which is its id
    /// (draft-ietf-oauth-client-id-metadata-document). It registers itself where the authorization
    /// server reads no such descriptions.
    Described(Url),
}

/// How a client proves who it is without a user.
#[derive(Debug, Clone)]
pub enum Proof {
    /// By a secret.
    Secret(SecretString),
    /// By an assertion signed with a private key (RFC 7523).
    Key {
        /// The key, PEM.
        pem: SecretString,
        /// `ES256`, `ES384`, `RS256`, `RS384` or `RS512`.
        algorithm: String,
    },
}

/// Asks a user for consent.
pub trait Consent: Send {
    /// Where the authorization server sends the user back to.
    fn redirect_uri(&self) -> String;

    /// Leads the user to `url`, and gives the whole address that he was sent back to.
    fn ask<'a>(
        &'a mut self,
        url: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<String, SignInError>> + Send + 'a>>;
}

/// What signing in gives.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The token.
    pub access_token: SecretString,
    /// For how many seconds it holds, where that is told.
    pub expires_in: Option<u64>,
    /// What it is for, where that is told.
    pub scope: Option<String>,
    /// How another one is got.
    pub renewal: Option<Renewal>,
}

/// How another token is got.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// What it is got for.
    pub refresh_token: SecretString,
    /// Where.
    pub token_endpoint: String,
    /// Who asks.
    pub client_id: String,
    /// How the client proves who it is.
    pub client_auth: ClientAuth,
    /// The resource that tokens are for (RFC 8707).
    pub resource: Option<String>,
}

/// How a client proves who it is at the token endpoint.
#[derive(Debug, Clone)]
pub enum ClientAuth {
    /// Not at all.
    None,
    /// `client_secret_basic`.
    Basic(SecretString),
    /// `client_secret_post`.
    Post(SecretString),
}

/// Why nobody is signed in. The texts hold no secret.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// Something on the way has failed, was refused, or is not to be trusted.
    #[error("{0}")]
    Failed(String),
    /// The user or the authorization server has said no.
    #[error("the authorization server says {error}{}", description.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Denied {
        /// The code (RFC 6749, 4.1.2.1).
        error: String,
        /// Its words.
        description: Option<String>,
    },
    /// The user has not answered.
    #[error("nobody has answered in time")]
    TimedOut,
}

impl From<AuthError> for SignInError {
    fn from(error: AuthError) -> Self {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        // Some of them quote a whole answer.
        Self::Failed(printable(&text))
    }
}

/// Signs a user in.
///
/// # Errors
/// [`SignInError`].
pub async fn sign_in(of: SignIn, consent: &mut dyn Consent) -> Result<Grant, SignInError> {
    let exchange = Arc::new(Exchange::new(of.guard.clone(), of.time));
    let (manager, proves) = discover(&exchange, &of.server).await?;
    if !proves {
        return Err(SignInError::Failed(
            "the authorization server does not say that it checks who redeems a code \
             (code_challenge_methods_supported names no S256); nobody is sent there"
                .to_owned(),
        ));
    }
    let mut request = AuthorizationRequest::new(consent.redirect_uri())
        .with_client_name(CLIENT_NAME)
        .with_application_type("native")
        .with_initial_scope_selection()
        .with_scopes(of.scopes);
    request = match of.client {
        Client::Unknown => request,
        Client::Described(url) => request.with_client_metadata_url(url),
        Client::Known { id, secret } => {
            let request = request.with_preregistered_client(id);
            match secret {
                Some(secret) => request.with_client_secret(secret.expose_secret()),
                None => request,
            }
        }
    };
    let session = AuthorizationSession::new(manager, request).await.map_err(|(_, error)| error)?;
    let url = session.get_authorization_url();
    check_page(url, &of.guard)?;
    let back = consent.ask(url).await?;
    refusal(&back)?;
    session.handle_callback_url(&back).await.map_err(|error| exchange.why(error))?;
    exchange.grant()
}

/// Gets a token for the client itself, without a user. It has no refresh token: another one is got the
/// same way.
///
/// # Errors
/// [`SignInError`].
pub async fn client_credentials(of: SignIn, proof: Proof) -> Result<Grant, SignInError> {
    let Client::Known { id: client_id, .. } = of.client else {
        return Err(SignInError::Failed("a client without a user needs its id".to_owned()));
    };
    let exchange = Arc::new(Exchange::new(of.guard.clone(), of.time));
    let (mut manager, _) = discover(&exchange, &of.server).await?;
    let resource = Some(of.server.to_string());
    let scopes = match of.scopes.is_empty() {
        true => {
            let mut scopes = manager.select_initial_scopes(&[]).await;
            // It asks for a refresh token, which a client without a user has no use for.
            scopes.retain(|scope| scope != "offline_access");
            scopes
        }
        false => of.scopes,
    };
    let configuration = match proof {
        Proof::Secret(secret) => {
            let client_secret = secret.expose_secret().to_owned();
            ClientCredentialsConfig::ClientSecret { client_id, client_secret, scopes, resource }
        }
        Proof::Key { pem, algorithm } => ClientCredentialsConfig::PrivateKeyJwt {
            client_id,
            signing_key: pem.expose_secret().as_bytes().to_vec(),
            signing_algorithm: signing_algorithm(&algorithm)?,
            token_endpoint_audience: None,
            scopes,
            resource,
        },
    };
    manager.validate_client_credentials_metadata(&configuration)?;
    manager.configure_client_credentials(&configuration)?;
    let given = manager.exchange_client_credentials(&configuration).await;
    given.map_err(|error| exchange.why(error))?;
    exchange.grant()
}

/// Finds the authorization server of `server`, and whether it may be asked for a code: one that says
/// nothing of PKCE may not (MCP 2025-11-25, authorization code protection). A server of 2025-03-26
/// without any description has nowhere to say so.
async fn discover(
    exchange: &Arc<Exchange>,
    server: &Url,
) -> Result<(AuthorizationManager, bool), SignInError> {
    let challenge = challenge(exchange, server).await?;
    let client: Arc<dyn rmcp::transport::OAuthHttpClient> = Arc::clone(exchange) as _;
    let mut manager =
        AuthorizationManager::new_with_oauth_http_client(server.as_str(), client).await?;
    let found = manager.resolve_metadata_from_challenge(challenge.as_deref()).await?;
    let methods = found.metadata.code_challenge_methods_supported.as_deref();
    let proves = found.source == AuthorizationMetadataSource::LegacyEndpointFallback
        || methods.is_some_and(|methods| methods.iter().any(|method| method == "S256"));
    manager.set_metadata(found.metadata);
    Ok((manager, proves))
}

/// Whether a browser may be sent to that page: whatever else a description names (a file, a program's
/// own scheme) is no place to sign in.
fn check_page(url: &str, guard: &Guard) -> Result<(), SignInError> {
    let allowed = Url::parse(url).is_ok_and(|url| match url.scheme() {
        "https" => true,
        "http" => url.host_str().is_some_and(|host| guard.may_be_opened(host)),
        _ => false,
    });
    match allowed {
        true => Ok(()),
        false => Err(SignInError::Failed(
            "the authorization server's page is not at an https address; nobody is sent there"
                .to_owned(),
        )),
    }
}

fn signing_algorithm(name: &str) -> Result<JwtSigningAlgorithm, SignInError> {
    Ok(match name {
        "ES256" => JwtSigningAlgorithm::ES256,
        "ES384" => JwtSigningAlgorithm::ES384,
        "RS256" => JwtSigningAlgorithm::RS256,
        "RS384" => JwtSigningAlgorithm::RS384,
        "RS512" => JwtSigningAlgorithm::RS512,
        _ => {
            let right = "use ES256, ES384, RS256, RS384 or RS512";
            return Err(SignInError::Failed(format!("{name} signs nothing here; {right}")));
        }
    })
}

/// Whether the user was sent back with a refusal.
fn refusal(back: &str) -> Result<(), SignInError> {
    let url = Url::parse(back).map_err(|error| SignInError::Failed(error.to_string()))?;
    let value = |name: &str| {
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| printable(&value))
    };
    match value("error") {
        Some(error) => Err(SignInError::Denied { error, description: value("error_description") }),
        None => Ok(()),
    }
}

/// The beginning of somebody else's words, fit for one line of a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|one| !one.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests;
