//! Identifiers: a prefix that names the kind, and 24 characters of base 62.
//!
//! The first eight characters hold the time, so that ids of one kind sort by age; the other
//! sixteen are random. Nobody but this file looks inside.

use crate::Micros;

/// The kinds of things that have an id. Append-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the API's own")]
pub enum IdKind {
    Agent,
    Environment,
    Session,
    Thread,
    Event,
    Resource,
    File,
    Vault,
    Credential,
    CredentialUse,
    SandboxRecord,
    Workspace,
    Key,
    Request,
}

impl IdKind {
    /// The prefix, without its underscore.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Environment => "env",
            Self::Session => "sesn",
            Self::Thread => "sthr",
            Self::Event => "sevt",
            Self::Resource => "sesrsc",
            Self::File => "file",
            Self::Vault => "vlt",
            Self::Credential => "vcrd",
            Self::CredentialUse => "vcuse",
            Self::SandboxRecord => "sbrec",
            Self::Workspace => "wrkspc",
            Self::Key => "key",
            Self::Request => "req",
        }
    }

    /// Makes an id from a time and sixteen random bytes.
    #[must_use]
    pub fn mint(self, at: Micros, random: [u8; 16]) -> String {
        const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let prefix = self.prefix();
        let mut id = String::with_capacity(prefix.len() + 25);
        id.push_str(prefix);
        id.push('_');
        // Eight digits of base 62 count milliseconds beyond the year 8800.
        let mut rest = u64::try_from(at.0 / 1000).unwrap_or(0);
        let mut head = [b'0'; 8];
        for digit in head.iter_mut().rev() {
            *digit = DIGITS[(rest % 62) as usize];
            rest /= 62;
        }
        id.extend(head.iter().map(|&digit| char::from(digit)));
        id.extend(random.iter().map(|&byte| char::from(DIGITS[usize::from(byte) % 62])));
        id
    }

    /// Whether `text` has the form of an id of this kind: its prefix and 1 to 64 letters or
    /// digits. Says nothing about whether the thing exists.
    #[must_use]
    pub fn is_well_formed(self, text: &str) -> bool {
        text.strip_prefix(self.prefix()).and_then(|rest| rest.strip_prefix('_')).is_some_and(
            |tail| {
                (1..=64).contains(&tail.len())
                    && tail.bytes().all(|byte| byte.is_ascii_alphanumeric())
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_well_formed_and_sort_by_age() {
        let old = IdKind::Event.mint(Micros(1_700_000_000_000_000), [255; 16]);
        let new = IdKind::Event.mint(Micros(1_700_000_000_001_000), [0; 16]);
        assert_eq!(old.len(), "sevt_".len() + 24);
        assert!(IdKind::Event.is_well_formed(&old));
        assert!(old < new);
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "sesn_", "sesn", "agent_1", "sesn_a b", "sesn_../x", "sesn_é"] {
            assert!(!IdKind::Session.is_well_formed(text), "{text:?}");
        }
        assert!(IdKind::Session.is_well_formed("sesn_1"));
    }
}
