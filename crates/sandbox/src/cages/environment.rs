//! The variables that a cage has for the sake of its door: where the file of those whom it trusts
//! is, for each program that has to be told, and the placeholders of its session's secrets. Pure.

use crate::{door::Secret, etc};

/// The variables that lead to the file. Most programs find it anyway; these have lists of their own, or
/// are told for good measure: OpenSSL, Go and Rust; curl; Python's requests; Node; git; pip; cargo;
/// the AWS tools; npm; Deno.
const TRUST: [&str; 10] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "NPM_CONFIG_CAFILE",
    "DENO_CERT",
];

/// All of them. The first secret of a name counts; one whose name is none for a variable, or that
/// decides which programs run or whom they trust, gets none. The API refuses such names.
pub(super) fn of(secrets: &[Secret]) -> Vec<(String, String)> {
    let authorities = format!("/etc/{}", etc::BUNDLE);
    let mut variables: Vec<(String, String)> =
        TRUST.map(|name| (name.to_owned(), authorities.clone())).into();
    for secret in secrets {
        let is_new = variables.iter().all(|(known, _)| **known != *secret.name);
        if is_new && is_free(&secret.name) {
            variables.push((secret.name.to_string(), secret.placeholder.to_string()));
        }
    }
    variables
}

fn is_free(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let digit = name.bytes().next().is_none_or(|first| first.is_ascii_digit());
    // npm reads its own in any case of letters.
    let trust = TRUST.iter().any(|one| one.eq_ignore_ascii_case(name));
    !digit && name.bytes().all(plain) && !trust && name != "PATH" && !name.starts_with("LD_")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn secret(name: &str, placeholder: &str) -> Secret {
        Secret {
            name: name.into(),
            credential: Arc::from("vcrd_1"),
            vault: Arc::from("vlt_1"),
            placeholder: placeholder.into(),
            hosts: None,
            header: true,
            body: true,
            value: "canary".into(),
        }
    }

    #[test]
    fn placeholders_are_variables_and_override_nothing_that_counts() {
        let names =
            ["TOKEN", "TOKEN", "_x9", "PATH", "LD_PRELOAD", "SSL_CERT_FILE", "9X", "", "A=B"];
        let more = ["npm_config_cafile", "A B", "A\0", "Ä", "LDX"];
        let all = names.iter().chain(&more).enumerate();
        let secrets: Vec<_> = all.map(|(at, name)| secret(name, &format!("p{at}"))).collect();
        let made = of(&secrets);
        let text = |(name, value): &(String, String)| format!("{name}={value}");
        let secrets: Vec<_> = made[TRUST.len()..].iter().map(text).collect();
        assert_eq!(secrets, ["TOKEN=p0", "_x9=p2", "LDX=p13"]);
        let file = "/etc/ssl/certs/ca-certificates.crt";
        assert!(made[..TRUST.len()].iter().all(|(_, value)| value == file));
        assert!(!made.iter().map(text).any(|text| text.contains("canary")));
    }
}
