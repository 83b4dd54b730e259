//! Answers of servers that a credential was sent to, as they may be shown: without its secrets, and
//! cut.
//!
//! Sends nothing and keeps nothing.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::Secrets;
use crate::ledger::cut;

/// How much of a body, and of its type, is shown, in bytes.
const SHOWN: usize = 2048;
const SHOWN_TYPE: usize = 255;
/// What stands where a secret was.
const SCRUBBED: &str = "[REDACTED]";

/// An answer over HTTP as it may be shown: cut, and without the credential's secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Captured {
    /// The status.
    pub status_code: u16,
    /// The `Content-Type`; empty without one.
    pub content_type: String,
    /// The body, or its beginning.
    pub body: String,
    /// Whether it is only the beginning.
    pub body_truncated: bool,
}

impl Captured {
    /// What may be shown of an answer to a request that held some of these secrets.
    pub(super) fn of(answer: &Response<Bytes>, secrets: &[&Secrets]) -> Self {
        let clean = |bytes: &[u8]| {
            let mut text = String::from_utf8_lossy(bytes).into_owned();
            for one in secrets.iter().flat_map(|secrets| forms(secrets)) {
                if text.contains(one.as_str()) {
                    text = text.replace(one.as_str(), SCRUBBED);
                }
            }
            text
        };
        let content_type = answer.headers().get(header::CONTENT_TYPE);
        let mut content_type = clean(content_type.map(HeaderValue::as_bytes).unwrap_or_default());
        cut(&mut content_type, SHOWN_TYPE);
        // Cut behind the cleaning, or half of a secret might be left.
        let mut body = clean(answer.body());
        let body_truncated = body.len() > SHOWN;
        cut(&mut body, SHOWN);
        Self { status_code: answer.status().as_u16(), content_type, body, body_truncated }
    }
}

/// The forms in which a server might send back what it was sent: to the letter, as JSON and forms
/// write it, and in base64.
fn forms(secrets: &Secrets) -> Vec<Zeroizing<String>> {
    let all =
        [&secrets.access_token, &secrets.refresh_token, &secrets.client_secret, &secrets.token];
    let mut forms: Vec<_> = all
        .into_iter()
        .flatten()
        .map(|secret| secret.expose_secret())
        .filter(|secret| !secret.is_empty())
        .flat_map(|secret| {
            let json = serde_json::to_string(secret).unwrap_or_default();
            let json = json.get(1..json.len() - 1).unwrap_or_default().to_owned();
            let form = encoded(secret).to_string();
            let base64 = STANDARD.encode(secret);
            [secret.to_owned(), json, form, base64].map(Zeroizing::new)
        })
        .collect();
    // The longest first: a secret may hold another one.
    forms.sort_by(|one, other| (other.len(), &**other).cmp(&(one.len(), &**one)));
    forms.dedup_by(|one, other| **one == **other);
    forms
}

/// A text as a form has it.
pub(super) fn encoded(text: &str) -> Zeroizing<String> {
    Zeroizing::new(form_urlencoded::byte_serialize(text.as_bytes()).collect())
}
