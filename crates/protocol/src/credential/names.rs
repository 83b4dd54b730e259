//! What credentials are put into: names of variables and of headers, and what may stand in a
//! header's value. Tables and pure functions; no error quotes a secret, nor what stands where a name
//! belongs and is none: it may be the secret.

use secrecy::{ExposeSecret as _, SecretString};

use crate::{ApiError, fields::wrong};

/// Variables that loaders, shells, interpreters and TLS libraries go by, in capitals. A
/// placeholder in one of them would break the sandbox, or hand it to whoever is trusted by it.
const RESERVED: &[&str] = &[
    "PATH",
    "HOME",
    "SHELL",
    "USER",
    "LOGNAME",
    "PWD",
    "OLDPWD",
    "TERM",
    "LANG",
    "TMPDIR",
    "IFS",
    "CDPATH",
    "ENV",
    "PS1",
    "PS2",
    "PS4",
    "PROMPT_COMMAND",
    "SHELLOPTS",
    "BASHOPTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONHTTPSVERIFY",
    "PERL5LIB",
    "PERL5OPT",
    "RUBYLIB",
    "RUBYOPT",
    "JAVA_TOOL_OPTIONS",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "NPM_CONFIG_CAFILE",
    "DENO_CERT",
];
/// Beginnings of such names.
const RESERVED_BEGINNINGS: &[&str] = &["LD_", "BASH_", "LC_", "GIT_SSL_", "GIT_CONFIG"];
/// Ends of such names.
const RESERVED_ENDS: &[&str] = &["_PROXY"];

/// Headers that belong to the connection (RFC 9110, 7.6.1), that say whom and what a request is
/// for, or that the protocol of MCP itself sets.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "host",
    "accept",
    "accept-encoding",
    "date",
    "via",
    "mcp-session-id",
    "mcp-protocol-version",
    "last-event-id",
];

/// Refuses what can't be the variable of a secret.
pub(super) fn check_variable(name: &str, path: &str) -> Result<(), ApiError> {
    let mut letters = name.bytes();
    let begins = letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
    if !begins || !letters.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        let right = "send letters, digits and _, the first one no digit";
        // Not quoted: it may be the value, by mistake.
        return Err(wrong(path, "is no name of a variable", right));
    }
    let capitals = name.to_ascii_uppercase();
    let reserved = RESERVED.contains(&capitals.as_str())
        || RESERVED_BEGINNINGS.iter().any(|beginning| capitals.starts_with(beginning))
        || RESERVED_ENDS.iter().any(|end| capitals.ends_with(end));
    if reserved {
        let what = format!("{name} is reserved: shells, loaders or TLS libraries go by it");
        return Err(wrong(path, &what, "choose a name of the secret's own"));
    }
    Ok(())
}

/// Refuses what can't be the header of a credential.
pub(super) fn check_header(name: &str, path: &str) -> Result<(), ApiError> {
    // RFC 9110, 5.6.2.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.bytes().all(is_token) {
        let right = "send letters, digits and -, such as X-Api-Key";
        // Not quoted: it may be the token, by mistake.
        return Err(wrong(path, "is no name of a header", right));
    }
    let small = name.to_ascii_lowercase();
    if OWN_HEADERS.contains(&small.as_str()) || small.starts_with("content-") {
        let what = format!("{name} belongs to the request itself");
        return Err(wrong(path, &what, "choose the header that the server reads the key from"));
    }
    Ok(())
}

/// Refuses a secret that does not fit into a header's value as OAuth has it (RFC 6749, appendix
/// A): printable ASCII.
pub(super) fn check_token(value: &SecretString, path: &str) -> Result<(), ApiError> {
    if value.expose_secret().bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    let what = "holds a line end or another character that is not printable ASCII";
    Err(wrong(path, what, "send the secret alone"))
}

/// Refuses a variable's value that may go into headers and can't.
pub(super) fn check_for_header(value: &SecretString) -> Result<(), ApiError> {
    if !value.expose_secret().chars().any(char::is_control) {
        return Ok(());
    }
    let what = "holds a line end or another control character, which no header can have";
    let right = "send the secret alone, or set injection_location to {\"header\": false, \
                 \"body\": true}";
    Err(wrong("auth.secret_value", what, right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_programs_go_by_are_refused() {
        let long = "A".repeat(255);
        for name in ["A", "_", "a1", "GITHUB_TOKEN", "PATHS", "MY_PATH", "PROXY", "LDAP", &long] {
            check_variable(name, "p").unwrap();
        }
        for name in [
            "PATH",
            "Path",
            "LD_PRELOAD",
            "ld_x",
            "BASH_ENV",
            "HTTPS_PROXY",
            "http_proxy",
            "ENV",
            "SSL_CERT_FILE",
            "PYTHONPATH",
            "GIT_SSL_CAINFO",
            "GIT_CONFIG_COUNT",
        ] {
            let message = check_variable(name, "p").unwrap_err().message;
            assert!(message.starts_with(&format!("p: {name} is reserved")), "{message}");
        }
        for name in ["", "1A", "A-B", "A B", "A=B", "É", "A\n"] {
            let message = check_variable(name, "p").unwrap_err().message;
            assert!(message.starts_with("p: is no name of a variable; "), "{message}");
        }
    }

    #[test]
    fn headers_of_the_request_itself_are_refused() {
        for name in ["Authorization", "X-Api-Key", "Cookie", "x_y", "PRIVATE-TOKEN"] {
            check_header(name, "p").unwrap();
        }
        for name in [
            "Host",
            "connection",
            "Content-Length",
            "content-type",
            "Transfer-Encoding",
            "TE",
            "Mcp-Session-Id",
        ] {
            let message = check_header(name, "p").unwrap_err().message;
            assert!(message.contains("belongs to the request itself"), "{message}");
        }
        for name in ["X Y", "X:", "X\r\nY", "É", "(x)"] {
            let message = check_header(name, "p").unwrap_err().message;
            assert!(message.starts_with("p: is no name of a header; "), "{message}");
        }
    }
}
