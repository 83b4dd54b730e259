//! Which names an environment lets its cages reach. Pure; knows no address.

use crate::settings::{Networking, Rule};

/// An environment's policy, ready to be asked.
#[derive(Debug)]
pub(super) enum Hosts {
    All,
    Listed(Vec<(Pattern, Rule)>),
}

#[derive(Debug)]
pub(super) enum Pattern {
    Name(String),
    /// With the dot in front. Names below it at any depth, never the name itself.
    Below(String),
}

impl Hosts {
    pub(super) fn new(policy: &Networking) -> Self {
        match &policy.allowed {
            None => Self::All,
            Some(allowed) => Self::Listed(
                allowed.iter().map(|one| (Pattern::read(&one.host), one.rule)).collect(),
            ),
        }
    }

    /// The rule by which a host may be reached, if it may. In any case of letters.
    pub(super) fn allows(&self, name: &str) -> Result<Rule, Rule> {
        match self {
            Self::All => Ok(Rule::Unrestricted),
            Self::Listed(allowed) => {
                let name = name.to_ascii_lowercase();
                let listed = allowed.iter().find(|(pattern, _)| pattern.holds(&name));
                listed.map(|(_, rule)| *rule).ok_or(Rule::NotListed)
            }
        }
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
        assert!(Hosts::new(&Networking::default()).allows("example.com").is_ok());
    }
}
