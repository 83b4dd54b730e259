//! `[providers]` of the file, and the providers that variables of the environment name: where
//! each one is, and which key it gets.
//!
//! A key goes to the address that it was named for and to no other. Asks nobody; an Ollama that
//! nobody has configured is only given an address here.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use posthouse_model::{
    Catalog, Credential, Ollama, Provider, Providers, Remote, Settings, SetupError, WireKind,
};
use reqwest::{
    Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde::Deserialize;

use super::Variables;
use crate::Error;

/// The name of the Ollama that is found, and the port on which it usually listens.
const OLLAMA: &str = "ollama";
const OLLAMA_PORT: u16 = 11434;

/// `[providers.NAME]`, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProviderEntry {
    kind: WireKind,
    base_url: Option<String>,
    api_key_env: Option<String>,
    server: Option<String>,
}

/// A provider, for whoever wants to know what is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedProvider {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub wire: WireKind,
    /// The variable that holds its key, or those that may; `None` when it is to have none.
    pub variable: Option<String>,
    /// Whether that variable is set.
    pub has_key: bool,
    /// Whether it can't be used without.
    pub needs_key: bool,
}

/// Makes a credential of what a variable holds.
type Kind = fn(String) -> Credential;

/// A service of which one knows where it is and which variables its users set.
struct Service {
    name: &'static str,
    wire: WireKind,
    base_url: &'static str,
    /// The variables of its key; the first one that is set wins.
    keys: &'static [(&'static str, Kind)],
    /// The variables of another address.
    addresses: &'static [&'static str],
    /// Variables that go beside the key, and the headers in which they do.
    beside: &'static [(&'static str, &'static str)],
}

impl Service {
    /// One that speaks the compatible wire.
    const fn compatible(
        name: &'static str,
        base_url: &'static str,
        keys: &'static [(&'static str, Kind)],
    ) -> Self {
        Self { name, wire: WireKind::OpenaiChat, base_url, keys, addresses: &[], beside: &[] }
    }
}

/// The services whose variables are read. The names of variables and their order are those of the
/// services' own SDKs; addresses are those of their documentation.
const SERVICES: &[Service] = &[
    Service {
        name: "anthropic",
        wire: WireKind::Anthropic,
        base_url: WireKind::Anthropic.default_base_url(),
        keys: &[
            ("ANTHROPIC_API_KEY", Credential::ApiKey),
            ("ANTHROPIC_AUTH_TOKEN", Credential::Token),
        ],
        addresses: &["ANTHROPIC_BASE_URL"],
        beside: &[],
    },
    Service {
        name: "openai",
        wire: WireKind::OpenaiResponses,
        base_url: WireKind::OpenaiResponses.default_base_url(),
        keys: &[("OPENAI_API_KEY", Credential::ApiKey)],
        addresses: &["OPENAI_BASE_URL"],
        beside: &[
            ("OPENAI_ORG_ID", "openai-organization"),
            ("OPENAI_PROJECT_ID", "openai-project"),
        ],
    },
    Service {
        name: "gemini",
        wire: WireKind::Gemini,
        base_url: WireKind::Gemini.default_base_url(),
        keys: &[("GOOGLE_API_KEY", Credential::ApiKey), ("GEMINI_API_KEY", Credential::ApiKey)],
        addresses: &["GEMINI_BASE_URL", "GOOGLE_GEMINI_BASE_URL"],
        beside: &[],
    },
    Service::compatible(
        "openrouter",
        "https://openrouter.ai/api/v1",
        &[("OPENROUTER_API_KEY", Credential::ApiKey)],
    ),
    Service::compatible(
        "groq",
        "https://api.groq.com/openai/v1",
        &[("GROQ_API_KEY", Credential::ApiKey)],
    ),
    Service::compatible(
        "mistral",
        "https://api.mistral.ai/v1",
        &[("MISTRAL_API_KEY", Credential::ApiKey)],
    ),
    Service::compatible(
        "deepseek",
        "https://api.deepseek.com",
        &[("DEEPSEEK_API_KEY", Credential::ApiKey)],
    ),
    Service::compatible("xai", "https://api.x.ai/v1", &[("XAI_API_KEY", Credential::ApiKey)]),
];

/// A provider that is to be.
struct Planned {
    settings: Settings,
    /// As in [`ListedProvider::variable`].
    variable: Option<String>,
    /// Whether it can't be used without.
    needs_key: bool,
    /// Where its address was written, for messages.
    place: String,
}

impl Planned {
    /// What an entry of the file asks for.
    fn of_entry(name: &str, entry: &ProviderEntry, variable: Variables<'_>) -> Self {
        let default = entry.kind.default_base_url();
        // Its kind may be another one that is served at the same place.
        let namesake =
            SERVICES.iter().find(|one| one.name == name && one.wire.default_base_url() == default);
        let (base_url, place) = match (&entry.base_url, namesake) {
            (Some(base_url), _) => (base_url.clone(), format!("providers.{name}.base_url")),
            (None, Some(service)) => address(service, variable),
            (None, None) => (default.to_owned(), format!("providers.{name}.base_url")),
        };
        let there = service_at(&base_url);
        // A key that was not named goes nowhere but to its service, or where the service's own
        // variable says that it is.
        let own = if entry.base_url.is_none() { namesake.or(there) } else { there };
        let mut settings = Settings::new(name, entry.kind, None);
        settings.base_url = base_url;
        settings.server.clone_from(&entry.server);
        let mut planned = Self { settings, variable: None, needs_key: there.is_some(), place };
        match (&entry.api_key_env, own) {
            (Some(key), _) => {
                planned.settings.credential = Credential::choose(variable(key), None);
                planned.variable = Some(key.clone());
            }
            (None, Some(service)) => planned.unlock(service, variable),
            (None, None) => {}
        }
        planned
    }

    /// What the variables of a service ask for, if its key is set.
    fn of_service(service: &Service, variable: Variables<'_>) -> Option<Self> {
        let (base_url, place) = address(service, variable);
        let mut settings = Settings::new(service.name, service.wire, None);
        settings.base_url = base_url;
        let mut planned = Self { settings, variable: None, needs_key: true, place };
        planned.unlock(service, variable);
        planned.settings.credential.is_some().then_some(planned)
    }

    /// Gives it the key of a service, and what goes beside that.
    fn unlock(&mut self, service: &Service, variable: Variables<'_>) {
        let held = service.keys.iter().find_map(|(name, kind)| {
            let value = variable(name).map(|value| value.trim().to_owned());
            Some((*name, kind(value.filter(|value| !value.is_empty())?)))
        });
        let all = || service.keys.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or ");
        self.variable = Some(held.as_ref().map_or_else(all, |(name, _)| (*name).to_owned()));
        self.settings.credential = held.map(|(_, credential)| credential);
        self.settings.headers = service.beside.iter().fold(HeaderMap::new(), |mut headers, one| {
            let value = variable(one.0).and_then(|value| HeaderValue::try_from(value.trim()).ok());
            if let Some(mut value) = value.filter(|value| !value.is_empty()) {
                value.set_sensitive(true);
                headers.insert(HeaderName::from_static(one.1), value);
            }
            headers
        });
    }

    fn listed(&self) -> ListedProvider {
        ListedProvider {
            name: self.settings.name.clone(),
            wire: self.settings.wire,
            variable: self.variable.clone(),
            has_key: self.settings.credential.is_some(),
            needs_key: self.needs_key,
        }
    }

    fn build(self, listen: SocketAddr) -> Result<Arc<dyn Provider>, Error> {
        let Self { settings, variable, needs_key, place } = self;
        let name = &settings.name;
        if needs_key && settings.credential.is_none() {
            let missing = variable.as_deref().unwrap_or_default();
            return Err(Error::Config(format!(
                "providers.{name}: the variable {missing} is not set; set it, or name the one \
                 that holds the key in api_key_env"
            )));
        }
        if name.is_empty() || name.contains('/') {
            return Err(Error::Config(format!(
                "providers.{name:?}: is no name; write one without a slash"
            )));
        }
        refuse_itself(&settings.base_url, listen, &place)?;
        let (its_server, its_key) = (format!("providers.{name}.server"), variable);
        let wrong = |error: SetupError| {
            let place = match &error {
                SetupError::Server { .. } => &its_server,
                SetupError::Credential(_) => its_key.as_ref().unwrap_or(&place),
                _ => &place,
            };
            Error::Config(format!("{place}: {error}"))
        };
        if is_ollama(&settings) {
            return Ok(Arc::new(Ollama::new(settings).map_err(wrong)?));
        }
        Ok(Arc::new(Remote::new(settings).map_err(wrong)?))
    }
}

/// All providers: those of the file, then those of the environment that the file does not name,
/// then an Ollama if one may be found.
///
/// # Errors
/// [`Error::Config`] that names the key or variable.
pub(super) fn read(
    entries: &BTreeMap<String, ProviderEntry>,
    discover_ollama: bool,
    catalog: Catalog,
    listen: SocketAddr,
    variable: Variables<'_>,
) -> Result<Providers, Error> {
    let planned = plan(entries, variable).into_iter();
    let built: Result<Vec<_>, _> = planned.map(|one| one.build(listen)).collect();
    let providers = Providers::new(built?, catalog);
    if !discover_ollama || entries.contains_key(OLLAMA) {
        return Ok(providers);
    }
    let mut settings = Settings::new(OLLAMA, WireKind::OpenaiChat, None);
    settings.base_url = ollama_address(variable("OLLAMA_HOST").as_deref().unwrap_or_default())?;
    settings.server = Some(OLLAMA.to_owned());
    let place = "OLLAMA_HOST".to_owned();
    let found = Planned { settings, variable: None, needs_key: false, place }.build(listen)?;
    Ok(providers.with_found(found))
}

/// How a provider is asked for what is no turn of a session.
pub(super) struct Door {
    /// What it speaks.
    pub(super) wire: WireKind,
    /// Where it is.
    pub(super) base_url: String,
    /// What opens it, and what goes beside that.
    pub(super) headers: HeaderMap,
}

/// The door of the provider of that name. None for one that was found, and for a key that fits into
/// no header.
pub(super) fn door(
    entries: &BTreeMap<String, ProviderEntry>,
    name: &str,
    variable: Variables<'_>,
) -> Option<Door> {
    let planned = plan(entries, variable).into_iter().find(|one| one.settings.name == name)?;
    let Settings { wire, base_url, credential, mut headers, .. } = planned.settings;
    if let Some(credential) = credential {
        let (name, value) = match (wire, credential) {
            (WireKind::Anthropic, Credential::ApiKey(key)) => ("x-api-key", key),
            (_, Credential::ApiKey(key) | Credential::Token(key)) => {
                ("authorization", format!("Bearer {key}"))
            }
        };
        let mut value = HeaderValue::try_from(value).ok()?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
    Some(Door { wire, base_url, headers })
}

/// The providers that are configured, whether or not they can be used.
pub(super) fn listed(
    entries: &BTreeMap<String, ProviderEntry>,
    variable: Variables<'_>,
) -> Vec<ListedProvider> {
    plan(entries, variable).iter().map(Planned::listed).collect()
}

fn plan(entries: &BTreeMap<String, ProviderEntry>, variable: Variables<'_>) -> Vec<Planned> {
    let written = entries.iter().map(|(name, entry)| Planned::of_entry(name, entry, variable));
    let others = SERVICES.iter().filter(|service| !entries.contains_key(service.name));
    written.chain(others.filter_map(|service| Planned::of_service(service, variable))).collect()
}

/// Where a service is, and what has said so.
fn address(service: &Service, variable: Variables<'_>) -> (String, String) {
    let told = service.addresses.iter().find_map(|name| {
        let base_url = variable(name)?.trim().to_owned();
        (!base_url.is_empty()).then_some((base_url, *name))
    });
    match told {
        Some((base_url, name)) => (base_url, name.to_owned()),
        None => (service.base_url.to_owned(), format!("providers.{}.base_url", service.name)),
    }
}

/// The service at an address. One without TLS, or on another port, is no service's.
fn service_at(base_url: &str) -> Option<&'static Service> {
    let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin());
    let wanted = origin(base_url)?;
    SERVICES.iter().find(|service| origin(service.base_url).as_ref() == Some(&wanted))
}

/// Whether a server of the compatible wire is an Ollama, by its name or its port.
fn is_ollama(settings: &Settings) -> bool {
    let port = || Url::parse(&settings.base_url).ok()?.port();
    settings.wire == WireKind::OpenaiChat
        && match &settings.server {
            Some(server) => server == OLLAMA,
            None => port() == Some(OLLAMA_PORT),
        }
}

/// Reads `OLLAMA_HOST` as Ollama does: a host, a port and a scheme, each of which may be missing.
/// An address to listen on stands for this machine.
fn ollama_address(text: &str) -> Result<String, Error> {
    let text = text.trim().trim_matches(['"', '\'']).trim().trim_end_matches('/');
    let (scheme, place, port) = match text.split_once("://") {
        Some(("https", place)) => ("https", place, None),
        Some((scheme, place)) => (scheme, place, Some(80)),
        None => ("http", text, Some(OLLAMA_PORT)),
    };
    let place = match place {
        "" => "127.0.0.1".to_owned(),
        // An address of many colons and no brackets has no port.
        address if address.matches(':').count() > 1 && !address.starts_with('[') => {
            format!("[{address}]")
        }
        port if port.starts_with(':') => format!("127.0.0.1{port}"),
        other => other.to_owned(),
    };
    let wrong = || {
        Error::Config(format!(
            "OLLAMA_HOST: {text:?} is no address; write it as 127.0.0.1:{OLLAMA_PORT}, or set \
             discover_ollama = false"
        ))
    };
    let mut url = Url::parse(&format!("{scheme}://{place}")).map_err(|_| wrong())?;
    if !matches!(scheme, "http" | "https") {
        return Err(wrong());
    }
    if place.ends_with(']') || !place.contains(':') {
        url.set_port(port).map_err(|()| wrong())?;
    }
    let host = url.host_str().unwrap_or_default();
    if let Some(host) = ["0.0.0.0", "[::]"].iter().position(|all| *all == host) {
        url.set_host(Some(["127.0.0.1", "[::1]"][host])).map_err(|_| wrong())?;
    }
    Ok(format!("{}/v1", url.as_str().trim_end_matches('/')))
}

/// Whoever points an SDK at this server has its address in a variable that is read here, too.
fn refuse_itself(base_url: &str, listen: SocketAddr, place: &str) -> Result<(), Error> {
    let bare = base_url.trim_end_matches('/');
    let authority = bare.split_once("://").map_or(bare, |(_, rest)| rest);
    let authority = authority.strip_suffix("/v1").unwrap_or(authority);
    let port = listen.port();
    let mut own = vec![listen.to_string(), format!("localhost:{port}")];
    if listen.ip().is_unspecified() {
        own.extend([format!("127.0.0.1:{port}"), format!("[::1]:{port}")]);
    }
    if port != 0 && own.iter().any(|own| own == authority) {
        return Err(Error::Config(format!(
            "{place}: {base_url} is this server itself; unset it or name the provider's address"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
