//! Which hosts may be read and found: the agent's lists, and the environment's.
//!
//! Names are compared in lower case, in their form for the wire (`xn--…`) and without a dot at their
//! end. An address is never below a name. Nothing here resolves.

use url::{Host, Url};

use crate::fetch::FetchError;

/// What no name of the open web ends with (RFC 6761, RFC 6762, RFC 8375, RFC 9476).
const INSIDE: [&str; 8] =
    ["localhost", "localdomain", "local", "internal", "invalid", "test", "home.arpa", "alt"];

/// Rules for hosts. An entry of a list stands for itself and all names below it, and may have a path
/// where searches take one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domains {
    /// These alone, when given.
    pub allowed: Option<Vec<String>>,
    /// None of these.
    pub blocked: Vec<String>,
    /// The environment's hosts (`api.example.com`, `*.example.com`), when it is limited: these alone.
    pub environment: Option<Vec<String>>,
}

impl Domains {
    /// Whether a page may be read.
    ///
    /// # Errors
    /// `url_not_allowed`, and whose rule it is.
    pub fn check_page(&self, url: &Url) -> Result<(), FetchError> {
        let host = url.host_str().unwrap_or_default();
        if let Some(hosts) = &self.environment {
            if hosts.is_empty() {
                return Err(not_allowed(
                    "this session's environment allows no web hosts, so no URL can be fetched. Do \
                     not retry; tell the user that web_fetch needs hosts in the environment's \
                     allowed_hosts.",
                ));
            }
            if !self.environment_has(url) {
                return Err(not_allowed(&format!(
                    "this session's environment does not allow the host {host}. Do not retry; tell \
                     the user that web_fetch needs it in the environment's allowed_hosts."
                )));
            }
        }
        if self.allowed.as_ref().is_some_and(|list| !listed(list, url)) {
            return Err(not_allowed(&format!(
                "the host {host} is not among the allowed_domains of this tool. Do not retry; use \
                 another source."
            )));
        }
        if listed(&self.blocked, url) {
            return Err(not_allowed(&format!(
                "the host {host} is among the blocked_domains of this tool. Do not retry; use \
                 another source."
            )));
        }
        Ok(())
    }

    /// Whether there is anything that a search may find.
    ///
    /// # Errors
    /// `url_not_allowed`, when the environment is limited and has no name of the open web.
    pub fn check_search(&self) -> Result<(), FetchError> {
        match &self.environment {
            Some(hosts) if !hosts.iter().any(|host| is_public(host)) => Err(not_allowed(
                "no host in this session's environment (its allowed_hosts) can be searched: the \
                 list is empty or holds only local, private or internal names. Do not retry; tell \
                 the user that web_search needs public host names in the environment's \
                 allowed_hosts.",
            )),
            _ => Ok(()),
        }
    }

    /// Whether a search may show this.
    #[must_use]
    pub fn allows(&self, url: &Url) -> bool {
        self.check_page(url).is_ok()
    }

    /// What both of these allow: lists of what is allowed meet, lists of what is blocked add up.
    #[must_use]
    pub fn narrowed(&self, other: &Self) -> Self {
        let mut blocked = self.blocked.clone();
        blocked.extend(other.blocked.iter().filter(|one| !self.blocked.contains(one)).cloned());
        Self {
            allowed: meet(self.allowed.as_deref(), other.allowed.as_deref(), meet_entries),
            blocked,
            environment: meet(
                self.environment.as_deref(),
                other.environment.as_deref(),
                meet_patterns,
            ),
        }
    }

    fn environment_has(&self, url: &Url) -> bool {
        let Some(hosts) = &self.environment else { return true };
        hosts.iter().any(|entry| match (entry.strip_prefix("*."), url.host()) {
            (Some(parent), Some(Host::Domain(name))) => {
                canonical(parent).is_some_and(|parent| is_below(&plain(name), &parent))
            }
            (None, Some(Host::Domain(name))) => {
                canonical(entry).is_some_and(|one| one == plain(name))
            }
            // An address stands for itself alone.
            (None, Some(Host::Ipv4(address))) => entry.parse() == Ok(address),
            _ => false,
        })
    }
}

/// Whether everybody registers names below this one at a registry: `com`, `co.uk`. What a company lets
/// others have names below, such as `github.io`, is its own.
#[must_use]
pub fn is_of_a_registry(name: &str) -> bool {
    let suffix = |name: &str| {
        let suffix = psl::suffix(name.as_bytes())?;
        Some(suffix.typ() == Some(psl::Type::Icann) && suffix == name)
    };
    canonical(name).is_some_and(|name| suffix(&name) == Some(true))
}

fn not_allowed(advice: &str) -> FetchError {
    FetchError::new("url_not_allowed", advice)
}

/// An entry of an agent's list.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    host: String,
    /// Without a slash at its end; empty stands for all.
    path: String,
}

impl Entry {
    /// Nothing for what is no name.
    fn read(text: &str) -> Option<Self> {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let host = canonical(host)?;
        // As an address would be written.
        let path = Url::parse(&format!("https://{host}/{path}")).ok()?.path().to_owned();
        Some(Self { host, path: path.trim_end_matches('/').to_owned() })
    }

    fn covers(&self, host: &str, path: &str) -> bool {
        let below = path.strip_prefix(self.path.as_str());
        is_same_or_below(host, &self.host)
            && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

fn listed(list: &[String], url: &Url) -> bool {
    let Some(Host::Domain(name)) = url.host() else { return false };
    let name = plain(name);
    list.iter().filter_map(|text| Entry::read(text)).any(|entry| entry.covers(&name, url.path()))
}

/// A name as it is sent: lower case, `xn--`, no dot at its end. Nothing for addresses.
fn canonical(host: &str) -> Option<String> {
    match Host::parse(host) {
        Ok(Host::Domain(name)) if !name.trim_end_matches('.').is_empty() => Some(plain(&name)),
        _ => None,
    }
}

fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

fn is_same_or_below(name: &str, parent: &str) -> bool {
    name == parent || is_below(name, parent)
}

/// Whether an entry of an environment can be a host of the open web.
fn is_public(entry: &str) -> bool {
    canonical(entry.strip_prefix("*.").unwrap_or(entry)).is_some_and(|name| {
        name.contains('.') && !INSIDE.iter().any(|inside| is_same_or_below(&name, inside))
    })
}

fn meet(
    one: Option<&[String]>,
    other: Option<&[String]>,
    both: fn(&str, &str) -> Option<String>,
) -> Option<Vec<String>> {
    let (Some(one), Some(other)) = (one, other) else {
        return one.or(other).map(<[String]>::to_vec);
    };
    let mut found: Vec<String> = Vec::new();
    for (one, other) in one.iter().flat_map(|one| other.iter().map(move |other| (one, other))) {
        if let Some(entry) = both(one, other)
            && !found.contains(&entry)
        {
            found.push(entry);
        }
    }
    Some(found)
}

/// The deeper name with the deeper path, if the names and the paths lie on one line.
fn meet_entries(one: &str, other: &str) -> Option<String> {
    let (one, other) = (Entry::read(one)?, Entry::read(other)?);
    let inner = |path: &str, outer: &str| {
        path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let host = match () {
        () if is_same_or_below(&one.host, &other.host) => &one.host,
        () if is_same_or_below(&other.host, &one.host) => &other.host,
        () => return None,
    };
    let path = match () {
        () if inner(&one.path, &other.path) => &one.path,
        () if inner(&other.path, &one.path) => &other.path,
        () => return None,
    };
    Some(format!("{host}{path}"))
}

/// The narrower of two entries of environments, if one holds the other.
fn meet_patterns(one: &str, other: &str) -> Option<String> {
    let covers =
        |outer: &str, inner: &str| match (outer.strip_prefix("*."), inner.strip_prefix("*.")) {
            (Some(outer), Some(inner)) => is_same_or_below(&plain(inner), &plain(outer)),
            (Some(outer), None) => is_below(&plain(inner), &plain(outer)),
            (None, None) => plain(inner) == plain(outer),
            (None, Some(_)) => false,
        };
    if covers(one, other) {
        Some(other.to_owned())
    } else {
        covers(other, one).then(|| one.to_owned())
    }
}

#[cfg(test)]
mod tests;
