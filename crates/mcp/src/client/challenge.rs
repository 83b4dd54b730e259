//! Reads what `WWW-Authenticate` says about scopes (RFC 6750, 3). It is a stranger's word: a list of
//! scope tokens is taken from it, and nothing else.

use http::{HeaderMap, header};

/// The longest list of scopes, in bytes.
const SCOPE: usize = 500;

/// What a server asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Challenge {
    /// The scopes, with spaces between them.
    pub(super) scope: Option<String>,
    /// Whether it says that the credential's scopes are not enough.
    pub(super) insufficient_scope: bool,
}

/// Reads all challenges of an answer; the first that names scopes names them.
pub(super) fn read(headers: &HeaderMap) -> Challenge {
    let mut read = Challenge::default();
    for text in
        headers.get_all(header::WWW_AUTHENTICATE).iter().filter_map(|text| text.to_str().ok())
    {
        for (name, value) in parameters(text) {
            match name.to_ascii_lowercase().as_str() {
                "scope" if read.scope.is_none() && is_scope(&value) => read.scope = Some(value),
                "error" => read.insufficient_scope |= value == "insufficient_scope",
                _ => {}
            }
        }
    }
    read
}

fn is_scope(text: &str) -> bool {
    // RFC 6749, 3.3.
    let token = |byte: u8| matches!(byte, b' ' | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    !text.trim().is_empty() && text.len() <= SCOPE && text.bytes().all(token)
}

/// The `name=value` and `name="value"` pairs of a header, whatever stands between them.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(equals) = rest.find('=') {
        let (before, after) = rest.split_at(equals);
        let name = before.rsplit([' ', '\t', ',']).next().unwrap_or_default();
        let after = after.strip_prefix('=').unwrap_or_default();
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = after.find([' ', '\t', ',', ';']).unwrap_or(after.len());
                let (value, left) = after.split_at(end);
                (value.to_owned(), left)
            }
        };
        found.push((name.to_owned(), value));
        rest = left;
    }
    found
}

/// A quoted string without its signs, and what follows it.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, text.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(letters.next().map(|(_, letter)| letter)),
            letter => value.push(letter),
        }
    }
    (value, "")
}
