//! Hosts in lists: what an entry may look like, and what it stands for.
//!
//! An entry is a name, `*.` and a name for all names below it at any depth and never for itself, or,
//! where the list takes them, an IPv4 address. Letters are kept as they were sent and compared in lower
//! case. Nothing here resolves a name.

use std::net::Ipv4Addr;

use serde_json::Value;

use crate::{
    ApiError,
    fields::{kind_of, wrong},
};

/// The longest entry, in characters.
pub const LONGEST: usize = 253;

/// What an error shows of an entry that is longer than any may be.
const SHOWN: usize = 64;

/// Whether a list of hosts takes addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// IPv4 addresses stand for themselves.
    Taken,
    /// Names alone.
    Refused,
}

/// Reads an entry of the list `list`, which stands at `path`.
///
/// # Errors
/// 400 that says what is wrong with it: for a port and for a scheme in the hosted wording.
pub fn read(
    entry: Value,
    list: &str,
    path: &str,
    addresses: Addresses,
) -> Result<String, ApiError> {
    let right = match addresses {
        Addresses::Taken => {
            "send a name such as api.example.com, *.example.com for all names below it, or an IPv4 \
             address"
        }
        Addresses::Refused => {
            "send a name such as api.example.com, or *.example.com for all names below it"
        }
    };
    let Value::String(text) = entry else {
        return Err(wrong(path, &format!("is {}", kind_of(&entry)), right));
    };
    match fault(&text, addresses) {
        None => Ok(text),
        Some(Fault::Scheme) => Err(ApiError::invalid(format!(
            "`{list}` entry {} contains a URL scheme. Entries must be bare hostnames like \
             \"google.com\".",
            quote(&text)
        ))),
        Some(Fault::Port) => Err(ApiError::invalid(format!(
            "`{list}` entry {} contains a port. Entries must be bare hostnames without ports.",
            quote(&text)
        ))),
        Some(Fault::Other(what)) => {
            let what =
                if text.is_empty() { what.into() } else { format!("{} {what}", quote(&text)) };
            Err(wrong(path, &what, right))
        }
    }
}

/// Whether `outer` stands for every host that `inner` stands for. Both are entries.
#[must_use]
pub fn covers(outer: &str, inner: &str) -> bool {
    let (outer, inner) = (outer.to_ascii_lowercase(), inner.to_ascii_lowercase());
    match outer.strip_prefix('*') {
        // What is below it ends like it. An inner wildcard of the same name is all of it.
        Some(below) => match inner.strip_prefix('*') {
            Some(inner) => inner.ends_with(below),
            None => inner.len() > below.len() && inner.ends_with(below),
        },
        None => outer == inner,
    }
}

/// The entry that stands for the hosts that both of these stand for, if there are any. One of
/// them it is: two entries never meet halfway.
#[must_use]
pub fn meet<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    if covers(one, other) { Some(other) } else { covers(other, one).then_some(one) }
}

/// What is wrong with an entry.
enum Fault {
    Scheme,
    Port,
    Other(&'static str),
}

fn fault(text: &str, addresses: Addresses) -> Option<Fault> {
    if text.is_empty() {
        return Some(Fault::Other("is empty"));
    }
    if text.contains("://") {
        return Some(Fault::Scheme);
    }
    let other = |what| Some(Fault::Other(what));
    if text.len() > LONGEST {
        return other("is longer than 253 characters");
    }
    if text.contains(['/', '?', '#', '\\']) {
        return other("contains a path");
    }
    if text.contains('@') {
        return other("contains a user");
    }
    if text.starts_with('[') || text.matches(':').count() > 1 {
        return other("is an IPv6 address, or no host at all");
    }
    if text.contains(':') {
        return Some(Fault::Port);
    }
    if text.parse::<Ipv4Addr>().is_ok() {
        return match addresses {
            Addresses::Taken => None,
            Addresses::Refused => other("is an address"),
        };
    }
    let name = text.strip_prefix("*.").unwrap_or(text);
    if name.contains('*') {
        return other("has a * that is not the whole first label in front of a name");
    }
    if !name.is_ascii() {
        return other("has letters beyond ASCII, where the form that begins with xn-- is needed");
    }
    if name.ends_with('.') {
        return other("ends with a dot");
    }
    if !name.split('.').all(is_label) {
        return other("is no host name");
    }
    if is_name(name) { None } else { other("is no IPv4 address in its usual form") }
}

/// Whether a text is a DNS name, without a dot at its end, that nobody takes for an address:
/// `getaddrinfo` and browsers read `127.1` and `0x7f000001` as some.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let ends_in_a_number = text.rsplit('.').next().is_some_and(is_number);
    text.len() <= LONGEST && text.split('.').all(is_label) && !ends_in_a_number
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    label.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// An entry in quotes, cut when it is too long for one.
fn quote(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return format!("{text:?}");
    }
    let shown: String = text.chars().take(SHOWN).collect();
    format!("{:?}", format!("{shown}…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str, addresses: Addresses) -> Option<String> {
        let entry = Value::from(text);
        let read = read(entry, "allowed_hosts", "config.networking.allowed_hosts[0]", addresses);
        read.err().map(|error| error.message)
    }

    #[test]
    fn names_wildcards_and_addresses_are_taken_as_they_are_sent() {
        let long = format!("{}.example", ["a".repeat(60), "b".repeat(60)].join("."));
        for text in [
            "example.com",
            "API.Example.COM",
            "localhost",
            "_dmarc.example.com",
            "xn--bcher-kva.example",
            "1.2.3.4.example",
            "*.example.com",
            "*.test",
            long.as_str(),
        ] {
            for addresses in [Addresses::Taken, Addresses::Refused] {
                let taken = read(text.into(), "allowed_hosts", "", addresses).unwrap();
                assert_eq!(taken, text);
            }
        }
        assert_eq!(refusal("10.1.2.3", Addresses::Taken), None);
        let refused = refusal("10.1.2.3", Addresses::Refused).unwrap();
        assert!(refused.contains("\"10.1.2.3\" is an address; send a name"), "{refused}");
    }

    #[test]
    fn ports_and_schemes_are_refused_in_the_hosted_words() {
        let refused = |text| refusal(text, Addresses::Taken).unwrap();
        let port = "`allowed_hosts` entry \"example.com:443\" contains a port. Entries must be bare \
                    hostnames without ports.";
        assert_eq!(refused("example.com:443"), port);
        let scheme = "`allowed_hosts` entry \"https://example.com\" contains a URL scheme. Entries \
                      must be bare hostnames like \"google.com\".";
        assert_eq!(refused("https://example.com"), scheme);
        // A scheme comes first, whatever else there is.
        assert!(refused("http://a.example:80/x").contains("a URL scheme"));
        assert!(refused("10.0.0.1:80").contains("contains a port"));
    }

    #[test]
    fn everything_else_is_refused_by_what_it_is() {
        let (long_label, long) = ("a".repeat(64), format!("{}com", "a.".repeat(126)));
        for (text, what) in [
            ("", "is empty"),
            ("example.com/path", "contains a path"),
            ("example.com?q", "contains a path"),
            ("example.com#f", "contains a path"),
            ("example.com\\x", "contains a path"),
            ("user@example.com", "contains a user"),
            ("::1", "IPv6"),
            ("[::1]", "IPv6"),
            ("[::1]:443", "IPv6"),
            ("2001:db8::1", "IPv6"),
            ("*", "has a *"),
            ("*.", "is no host name"),
            ("**.example.com", "has a *"),
            ("*example.com", "has a *"),
            ("a*.example.com", "has a *"),
            ("a.*.example.com", "has a *"),
            ("*.*.example.com", "has a *"),
            ("example.*", "has a *"),
            ("*.1.2.3.4", "no IPv4 address"),
            ("*.10", "no IPv4 address"),
            ("127.1", "no IPv4 address"),
            ("0x7f000001", "no IPv4 address"),
            ("2130706433", "no IPv4 address"),
            ("0177.0.0.1", "no IPv4 address"),
            ("256.1.1.1", "no IPv4 address"),
            ("bücher.example", "beyond ASCII"),
            ("example.com.", "ends with a dot"),
            (".example.com", "is no host name"),
            ("a..b", "is no host name"),
            ("-a.example", "is no host name"),
            ("a-.example", "is no host name"),
            ("exa mple.com", "is no host name"),
            (" example.com", "is no host name"),
            ("example.com\n", "is no host name"),
            ("%65xample.com", "is no host name"),
            (long_label.as_str(), "is no host name"),
            (long.as_str(), "is longer than 253"),
        ] {
            let refused = refusal(text, Addresses::Taken).unwrap_or_default();
            let place = "config.networking.allowed_hosts[0]: ";
            assert!(refused.starts_with(place) && refused.contains(what), "{text:?}: {refused}");
        }
        let endless = refusal(&"a".repeat(1 << 20), Addresses::Taken).unwrap();
        assert!(endless.len() < 300, "{endless}");
        let number = read(7.into(), "allowed_hosts", "a[0]", Addresses::Taken).unwrap_err();
        assert!(number.message.starts_with("a[0]: is a number; send a name"), "{}", number.message);
    }

    #[test]
    fn an_entry_stands_for_itself_or_for_what_is_below_it() {
        for (outer, inner, covered) in [
            ("a.com", "A.com", true),
            ("a.com", "x.a.com", false),
            ("a.com", "*.a.com", false),
            ("*.a.com", "a.com", false),
            ("*.a.com", "x.A.com", true),
            ("*.a.com", "x.y.a.com", true),
            ("*.a.com", "xa.com", false),
            ("*.a.com", "*.a.com", true),
            ("*.a.com", "*.b.a.com", true),
            ("*.b.a.com", "*.a.com", false),
            ("*.a.com", "*.xa.com", false),
            ("10.0.0.1", "10.0.0.1", true),
        ] {
            assert_eq!(covers(outer, inner), covered, "{outer} {inner}");
        }
        assert_eq!(meet("*.a.com", "x.a.com"), Some("x.a.com"));
        assert_eq!(meet("*.b.a.com", "*.a.com"), Some("*.b.a.com"));
        assert_eq!(meet("a.com", "*.a.com"), None);
    }
}
