//! Which names an environment lets its cages reach. Pure; knows no address.

use crate::settings::{Networking, Rule};

/// An environment's policy, ready to be asked.
#[derive(Debug)]
pub(super) struct Hosts {
    /// None lets all through.
    listed: Option<Vec<(Pattern, Rule)>>,
    passthrough: Vec<Pattern>,
}

/// Which hosts are meant: one, or all below a name.
#[derive(Debug)]
pub(super) enum Pattern {
    Name(String),
    /// With the dot in front. Names below it at any depth, never the name itself.
    Below(String),
}

impl Hosts {
    pub(super) fn new(policy: &Networking) -> Self {
        let listed = policy.allowed.as_ref().map(|allowed| {
            allowed.iter().map(|one| (Pattern::read(&one.host), one.rule)).collect()
        });
        let passthrough = policy.passthrough.iter().map(|host| Pattern::read(host)).collect();
        Self { listed, passthrough }
    }

    /// Whether there is a list at all: a limited environment.
    pub(super) fn are_listed(&self) -> bool {
        self.listed.is_some()
    }

    /// The rule by which a host may be reached, if it may. In any case of letters.
    pub(super) fn allows(&self, name: &str) -> Result<Rule, Rule> {
        let Some(listed) = &self.listed else { return Ok(Rule::Unrestricted) };
        let name = name.to_ascii_lowercase();
        let found = listed.iter().find(|(pattern, _)| pattern.holds(&name));
        found.map(|(_, rule)| *rule).ok_or(Rule::NotListed)
    }

    /// Whether a host's TLS is left alone. The name is in lower case.
    pub(super) fn pass(&self, name: &str) -> bool {
        self.passthrough.iter().any(|pattern| pattern.holds(name))
    }
}

impl Pattern {
    pub(super) fn read(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix('*') {
            Some(below) if below.starts_with('.') => Self::Below(below.to_owned()),
            _ => Self::Name(text),
        }
    }

    /// Whether a name in lower case is meant.
    pub(super) fn holds(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Below(end) => name.len() > end.len() && name.ends_with(end.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Allowed;

    #[test]
    fn a_list_holds_its_names_and_what_is_below_a_star() {
        let hosts = ["api.example.com", "*.Docs.example", "*", "*bad.example"].map(str::to_owned);
        let allowed = |hosts: &[String]| {
            let one = |host: &String| Allowed { host: host.clone(), rule: Rule::AllowedHosts };
            Networking { allowed: Some(hosts.iter().map(one).collect()), passthrough: vec![] }
        };
        let hosts = Hosts::new(&allowed(&hosts));
        for (name, allowed) in [
            ("api.example.com", true),
            ("API.Example.COM", true),
            ("x.api.example.com", false),
            ("example.com", false),
            ("docs.example", false),
            (".docs.example", false),
            ("a.docs.example", true),
            ("a.b.docs.EXAMPLE", true),
            ("adocs.example", false),
            ("a.docs.example.evil", false),
            ("verybad.example", false),
        ] {
            assert_eq!(hosts.allows(name).is_ok(), allowed, "{name}");
        }
        let none = Hosts::new(&allowed(&[]));
        assert!(none.allows("example.com").is_err());
        let all = Hosts::new(&Networking::default());
        assert!(all.allows("example.com").is_ok());
        assert_eq!((hosts.are_listed(), none.are_listed(), all.are_listed()), (true, true, false));
    }

    #[test]
    fn the_tls_of_some_hosts_is_left_alone() {
        let passthrough = ["pinned.example", "*.Pinned.example"].map(str::to_owned).to_vec();
        let hosts = Hosts::new(&Networking { allowed: None, passthrough });
        for (name, passed) in [
            ("pinned.example", true),
            ("a.pinned.example", true),
            ("unpinned.example", false),
            ("pinned.example.evil", false),
        ] {
            assert_eq!(hosts.pass(name), passed, "{name}");
        }
    }
}
