//! Domains in the lists of the tools of the web: how an entry is written. What it lets through is
//! said elsewhere, and nothing here resolves a name.

use super::model::ModelRules;
use crate::ApiError;

/// Whether a list takes domains with a path behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paths {
    /// `example.com/docs` stands for what begins like it.
    Taken,
    /// Hosts alone.
    Refused,
}

/// Endings of names that mean something else on each network.
const PRIVATE: &[&str] = &["localhost", "local", "internal", "localdomain", "invalid"];

/// The longest name of a host, in bytes.
const LONGEST_HOST: usize = 253;
/// The longest label, in bytes when it is ASCII, and in characters else.
const LONGEST_LABEL: usize = 63;

/// Refuses an entry, which stands at `place`, that is no plain host name of somebody's own.
pub(super) fn check(
    entry: &str,
    paths: Paths,
    place: &str,
    rules: &dyn ModelRules,
) -> Result<(), ApiError> {
    let host = entry.split('/').next().unwrap_or(entry);
    let of_all = || {
        let of_all = rules.is_of_a_registry(host);
        of_all.then_some("names below which everybody registers theirs are not supported")
    };
    match fault(entry, paths).or_else(of_all) {
        None => Ok(()),
        Some(what) => Err(ApiError::invalid(format!(
            "{place}: {what}; provide a plain hostname like \"example.com\""
        ))),
    }
}

fn fault(entry: &str, paths: Paths) -> Option<&'static str> {
    if entry.contains("://") {
        return Some("URL schemes are not supported");
    }
    if entry.contains(['?', '#', '\\']) {
        return Some("queries, fragments and backslashes are not supported");
    }
    let (host, path) =
        entry.split_once('/').map_or((entry, None), |(host, path)| (host, Some(path)));
    if host.contains('@') {
        return Some("users are not supported");
    }
    if host.starts_with('[') || host.matches(':').count() > 1 {
        return Some("IP addresses are not supported");
    }
    if host.contains(':') {
        return Some("ports are not supported");
    }
    if path.is_some() && paths == Paths::Refused {
        return Some("paths are not supported");
    }
    if path.is_some_and(|path| path.chars().any(|one| one.is_whitespace() || one.is_control())) {
        return Some("spaces and control characters are not supported");
    }
    if host.contains('*') {
        return Some("wildcards are not supported: a hostname stands for all names below it, too");
    }
    fault_of_host(host)
}

fn fault_of_host(host: &str) -> Option<&'static str> {
    let last = host.rsplit('.').next().unwrap_or_default();
    if is_number(last) {
        return Some("IP addresses are not supported");
    }
    if host.len() > LONGEST_HOST || !host.split('.').all(is_label) {
        return Some("this is no hostname");
    }
    if host.split('.').any(|label| label.to_ascii_lowercase().starts_with("xn--")) {
        return Some("punycode is not supported: write the name in its own letters");
    }
    if PRIVATE.iter().any(|private| last.eq_ignore_ascii_case(private)) {
        return Some("local, private and internal names are not supported");
    }
    if !host.contains('.') {
        return Some("names of a single label are not supported");
    }
    None
}

/// Whether a last label is a number, in whichever digits: what it stands in may be taken for an
/// address.
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    !label.is_empty()
        && (label.chars().all(char::is_numeric)
            || hexadecimal.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit())))
}

/// Whether a text may stand between the dots of a name: letters of any script, digits, hyphens and
/// underscores. What browsers read as a dot is none of them.
fn is_label(label: &str) -> bool {
    let inside = |one: char| match one {
        '-' | '_' => true,
        '\u{3002}' | '\u{ff0e}' | '\u{ff61}' => false,
        one if one.is_ascii() => one.is_ascii_alphanumeric(),
        one => !one.is_whitespace() && !one.is_control(),
    };
    let length = label.chars().count();
    (1..=LONGEST_LABEL).contains(&length)
        && label.chars().all(inside)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names_are_taken_and_kept() {
        for entry in [
            "example.com",
            "docs.Example.com",
            "a.b.c.example.co.uk",
            "bücher.example",
            "例え.テスト",
            "1.example.com",
            "my_host.example.com",
            "local.example.com",
            "x.0xample",
        ] {
            for paths in [Paths::Taken, Paths::Refused] {
                assert_eq!(fault(entry, paths), None, "{entry}");
            }
        }
        assert_eq!(fault("example.com/docs/a-b", Paths::Taken), None);
        assert_eq!(fault("example.com/", Paths::Taken), None);
    }

    #[test]
    fn what_is_no_plain_name_is_refused_by_what_it_is() {
        let long = format!("{}com", "a.".repeat(126));
        let label = format!("{}.com", "a".repeat(64));
        for (entry, what) in [
            ("https://example.com", "URL schemes"),
            ("example.com:443", "ports"),
            ("example.com:443/x", "ports"),
            ("user@example.com", "users"),
            ("example.com/docs", "paths"),
            ("example.com?q", "queries"),
            ("example.com#x", "queries"),
            ("example.com\\x", "queries"),
            ("10.0.0.1", "IP addresses"),
            ("127.1", "IP addresses"),
            ("2130706433", "IP addresses"),
            ("0x7f000001", "IP addresses"),
            ("a.0x1", "IP addresses"),
            ("127.0.0.１", "IP addresses"),
            ("[::1]", "IP addresses"),
            ("::1", "IP addresses"),
            ("*.example.com", "wildcards"),
            ("xn--bcher-kva.example", "punycode"),
            ("a.XN--p1ai", "punycode"),
            ("localhost", "local, private"),
            ("a.localhost", "local, private"),
            ("printer.local", "local, private"),
            ("x.Internal", "local, private"),
            ("x.localdomain", "local, private"),
            ("x.invalid", "local, private"),
            ("intranet", "single label"),
            ("com", "single label"),
            (".com", "no hostname"),
            ("example.com.", "no hostname"),
            ("a..com", "no hostname"),
            ("-a.com", "no hostname"),
            ("exa mple.com", "no hostname"),
            ("example.com\n", "no hostname"),
            ("a\u{3002}com", "no hostname"),
            (" ", "no hostname"),
            (long.as_str(), "no hostname"),
            (label.as_str(), "no hostname"),
        ] {
            let found = fault(entry, Paths::Refused).unwrap_or_default();
            assert!(found.contains(what), "{entry:?}: {found}");
        }
        let spaced = fault("example.com/a b", Paths::Taken).unwrap();
        assert!(spaced.starts_with("spaces"), "{spaced}");
    }
}
