//! Which names an environment lets its cages reach. Pure; knows no address.

use crate::settings::Networking;

use super::Rule;

/// An environment's policy, ready to be asked.
#[derive(Debug)]
pub(super) enum Hosts {
    All,
    Listed(Vec<Pattern>),
}

#[derive(Debug)]
pub(super) enum Pattern {
    Name(String),
    /// With the dot in front. Names below it at any depth, never the name itself.
    Below(String),
}

impl Hosts {
    pub(super) fn new(policy: Networking) -> Self {
        match policy {
            Networking::Unrestricted => Self::All,
            Networking::Limited { hosts } => {
                Self::Listed(hosts.iter().map(|host| Pattern::read(host)).collect())
            }
        }
    }

    /// The rule by which a name may be resolved and reached, if it may. In any case of letters.
    pub(super) fn allows(&self, name: &str) -> Result<Rule, Rule> {
        match self {
            Self::All => Ok(Rule::Unrestricted),
            Self::Listed(patterns) => {
                let name = name.to_ascii_lowercase();
                let listed = patterns.iter().any(|pattern| pattern.holds(&name));
                if listed { Ok(Rule::Listed) } else { Err(Rule::NotListed) }
            }
        }
    }

    /// The rule by which addresses without a name may be reached, if they may.
    pub(super) fn allows_addresses(&self) -> Result<Rule, Rule> {
        match self {
            Self::All => Ok(Rule::Unrestricted),
            Self::Listed(_) => Err(Rule::NotListed),
        }
    }
}

impl Pattern {
    fn read(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.strip_prefix('*') {
            Some(below) if below.starts_with('.') => Self::Below(below.to_owned()),
            _ => Self::Name(text),
        }
    }

    fn holds(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Below(end) => name.len() > end.len() && name.ends_with(end.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_holds_its_names_and_what_is_below_a_star() {
        let hosts = ["api.example.com", "*.Docs.example", "*", "*bad.example"].map(str::to_owned);
        let hosts = Hosts::new(Networking::Limited { hosts: hosts.to_vec() });
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
        assert!(hosts.allows_addresses().is_err());
        let none = Hosts::new(Networking::Limited { hosts: vec![] });
        assert!(none.allows("example.com").is_err());
        assert!(Hosts::new(Networking::Unrestricted).allows("example.com").is_ok());
    }
}
