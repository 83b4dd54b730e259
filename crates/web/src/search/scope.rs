//! Which hosts a back end is told to look at. A hint that may be wider than the rules and never
//! narrower: every hit is checked against the rules themselves.

use posthouse_net::Host;

use crate::{Domains, fetch::FetchError};

/// What the rules mean for a search.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// These hosts and all below them, some with a path. None is everything.
    only: Option<Vec<String>>,
    /// None of these.
    never: Vec<String>,
}

impl Scope {
    /// # Errors
    /// `url_not_allowed`, when the rules leave nothing that could be found.
    pub(super) fn of(domains: &Domains) -> Result<Self, FetchError> {
        domains.check_search()?;
        let allowed = domains.allowed.as_ref().map(|entries| read(entries));
        let public = domains.environment.as_ref().map(|hosts| {
            let hosts = hosts.iter().filter(|host| is_public(host));
            let hosts = hosts.map(|host| host.strip_prefix("*.").unwrap_or(host));
            hosts.filter_map(Entry::read).collect::<Vec<_>>()
        });
        let only = match (allowed, public) {
            (None, only) | (only, None) => only,
            (Some(allowed), Some(public)) => {
                let meet = |entry: &Entry| {
                    public.iter().filter_map(|host| entry.meet(host)).collect::<Vec<_>>()
                };
                Some(allowed.iter().flat_map(meet).collect())
            }
        };
        if only.as_ref().is_some_and(Vec::is_empty) {
            return Err(FetchError { code: "url_not_allowed", advice: NO_COMMON.to_owned() });
        }
        let never = read(&domains.blocked);
        let text = |entries: Vec<Entry>| {
            let mut texts: Vec<String> = Vec::with_capacity(entries.len());
            for entry in entries.into_iter().map(|entry| entry.host + &entry.path) {
                if !texts.contains(&entry) {
                    texts.push(entry);
                }
            }
            texts
        };
        Ok(Self { only: only.map(text), never: text(never) })
    }

    /// The hosts with their paths, for back ends that know paths.
    pub(super) fn only_entries(&self) -> Option<&[String]> {
        self.only.as_deref()
    }

    /// The hosts alone.
    pub(super) fn only_hosts(&self) -> Option<Vec<&str>> {
        let mut hosts: Vec<&str> = Vec::new();
        for entry in self.only.as_ref()? {
            let host = entry.split('/').next().unwrap_or(entry);
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        Some(hosts)
    }

    /// What is not wanted, with paths.
    pub(super) fn never_entries(&self) -> &[String] {
        &self.never
    }

    /// Hosts of which nothing at all is wanted.
    pub(super) fn never_hosts(&self) -> Vec<&str> {
        self.never.iter().map(String::as_str).filter(|entry| !entry.contains('/')).collect()
    }
}

/// An entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// In ASCII and lower case.
    host: String,
    /// Empty, or with its slash.
    path: String,
}

impl Entry {
    /// None for what is no name, which no back end is asked for.
    fn read(text: &str) -> Option<Self> {
        let (host, path) = match text.find('/') {
            Some(at) => text.split_at(at),
            None => (text, ""),
        };
        let host = match url::Host::parse(host.trim_end_matches('.')).ok()? {
            url::Host::Domain(host) => host,
            _ => return None,
        };
        // What is not plainly a name means something in the languages of queries.
        matches!(Host::parse(&host), Ok(Host::Name(_))).then_some(())?;
        let harmless = |byte: u8| byte.is_ascii_graphic() && !b"\"$,|*".contains(&byte);
        let path = path.trim_end_matches('/');
        let path = if path.bytes().all(harmless) { path } else { "" };
        Some(Self { host, path: path.to_owned() })
    }

    /// What both of them stand for. The path is that of the first.
    fn meet(&self, other: &Self) -> Option<Self> {
        let host = if is_below(&other.host, &self.host) {
            &other.host
        } else {
            is_below(&self.host, &other.host).then_some(&self.host)?
        };
        Some(Self { host: host.clone(), path: self.path.clone() })
    }
}

fn read(entries: &[String]) -> Vec<Entry> {
    entries.iter().filter_map(|entry| Entry::read(entry)).collect()
}

/// Whether an entry of an environment is anybody else's business: a name inside is told to no back end.
fn is_public(host: &str) -> bool {
    let alone = Domains { environment: Some(vec![host.to_owned()]), ..Domains::default() };
    alone.check_search().is_ok()
}

/// Whether a host is another one or below it.
fn is_below(host: &str, other: &str) -> bool {
    host == other || host.strip_suffix(other).is_some_and(|rest| rest.ends_with('.'))
}

/// What a model is told when two lists have nothing in common.
const NO_COMMON: &str = "no host that web_search is allowed (its allowed_domains) is among the hosts \
    of this session's environment (its allowed_hosts). Do not retry; tell the user that the two \
    lists have nothing in common.";

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(allowed: &[&str], blocked: &[&str], environment: Option<&[&str]>) -> Domains {
        let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        Domains {
            allowed: (!allowed.is_empty()).then(|| owned(allowed)),
            blocked: owned(blocked),
            environment: environment.map(owned),
        }
    }

    #[test]
    fn lists_of_agent_and_environment_meet() {
        type List = &'static [&'static str];
        let cases: [(List, Option<List>, Option<List>); 7] = [
            (&[], None, None),
            (&["Docs.RS", "example.com/Docs/"], None, Some(&["docs.rs", "example.com/Docs"])),
            (&["bücher.example"], None, Some(&["xn--bcher-kva.example"])),
            (
                &[],
                Some(&["*.example.com", "docs.rs", "db.internal", "10.0.0.1"]),
                Some(&["example.com", "docs.rs"]),
            ),
            (&["example.com/docs"], Some(&["api.example.com"]), Some(&["api.example.com/docs"])),
            (&["api.example.com"], Some(&["*.example.com"]), Some(&["api.example.com"])),
            (
                &["example.com", "b.example"],
                Some(&["*.example.com", "example.com"]),
                Some(&["example.com"]),
            ),
        ];
        for (allowed, environment, expected) in cases {
            let scope = Scope::of(&lists(allowed, &[], environment)).unwrap();
            let entries = scope.only_entries();
            let entries = entries.map(|all| all.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(entries.as_deref(), expected, "{allowed:?} {environment:?}");
        }
    }

    #[test]
    fn nothing_in_common_is_said() {
        let refused = |domains| Scope::of(&domains).unwrap_err();
        let nowhere = refused(lists(&["docs.rs"], &[], Some(&["db.internal"])));
        assert_eq!(nowhere.code, "url_not_allowed");
        assert!(nowhere.advice.contains("web_search needs public host names"), "{nowhere}");
        let apart = refused(lists(&["docs.rs"], &[], Some(&["example.com"])));
        assert_eq!(apart.code, "url_not_allowed");
        assert!(apart.advice.contains("nothing in common"), "{apart}");
    }

    #[test]
    fn only_names_get_into_the_languages_of_queries() {
        let odd = ["a.example,boost=9", "a.example OR b.example", "10.0.0.1", "$discard", "*", ""];
        let scope = Scope::of(&lists(&[], &odd, None)).unwrap();
        assert_eq!(scope, Scope::default());
        let scope = Scope::of(&lists(&[], &["a.example", "b.example/x"], None)).unwrap();
        assert_eq!(scope.never_hosts(), ["a.example"]);
        assert_eq!(scope.never_entries(), ["a.example", "b.example/x"]);
        let scope = Scope::of(&lists(&["a.example/x", "a.example/y"], &[], None)).unwrap();
        assert_eq!(scope.only_hosts().unwrap(), ["a.example"]);
    }
}
