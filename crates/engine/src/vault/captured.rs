//! Answers of servers that a credential was sent to, as they may be shown: without its secrets, and
//! cut.
//!
//! Sends nothing and keeps nothing.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::Secrets;
use crate::ledger::cut;

/// How much of a body, and of its type, is shown, in bytes.
const SHOWN: usize = 2048;
const SHOWN_TYPE: usize = 255;
/// What stands where a secret was.
pub(super) const SCRUBBED: &str = "[REDACTED]";

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
        let forms = forms(secrets);
        let content_type = answer.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.map(HeaderValue::as_bytes).unwrap_or_default();
        let (content_type, _) = clean(content_type, SHOWN_TYPE, &forms);
        let (body, body_truncated) = clean(answer.body(), SHOWN, &forms);
        Self { status_code: answer.status().as_u16(), content_type, body, body_truncated }
    }
}

/// At most so many bytes of a text without the secrets, and whether there is more of it. It is
/// cleaned as it is copied: cut before, half of a secret might be left, and what a secret was
/// replaced by is not searched again.
fn clean(bytes: &[u8], most: usize, forms: &[Zeroizing<String>]) -> (String, bool) {
    let text = String::from_utf8_lossy(bytes);
    let (mut rest, mut shown) = (&*text, String::new());
    while shown.len() <= most
        && let Some(next) = rest.chars().next()
    {
        match forms.iter().find_map(|form| rest.strip_prefix(form.as_str())) {
            Some(behind) => {
                shown.push_str(SCRUBBED);
                rest = behind;
            }
            None => {
                shown.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    let is_cut = shown.len() > most;
    cut(&mut shown, most);
    (shown, is_cut)
}

/// The forms in which a server might send back what it was sent: to the letter, as JSON and forms
/// write it, and in base64. The longest first: a secret may hold another one.
fn forms(secrets: &[&Secrets]) -> Vec<Zeroizing<String>> {
    let of = |secrets: &Secrets| {
        let Secrets { access_token, refresh_token, client_secret, token, .. } = secrets.clone();
        [access_token, refresh_token, client_secret, token].into_iter().flatten()
    };
    let mut forms: Vec<_> =
        secrets.iter().flat_map(|secrets| of(secrets)).flat_map(written).collect();
    forms.retain(|form| !form.is_empty());
    forms.sort_by(|one, other| (other.len(), &**other).cmp(&(one.len(), &**one)));
    forms.dedup_by(|one, other| **one == **other);
    forms
}

/// The forms of one secret.
pub(super) fn written(secret: SecretString) -> [Zeroizing<String>; 7] {
    let secret = secret.expose_secret();
    let json = Zeroizing::new(serde_json::to_string(secret).unwrap_or_default());
    let json = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
    let form = encoded(secret);
    // Without what fills it up at the end, which not everybody writes.
    let base64 = STANDARD_NO_PAD.encode(secret);
    [
        secret.to_owned(),
        json.to_owned(),
        // As PHP and some others write it.
        json.replace('/', "\\/"),
        form.to_string(),
        form.replace('+', "%20"),
        base64,
        URL_SAFE_NO_PAD.encode(secret),
    ]
    .map(Zeroizing::new)
}

/// A text as a form has it.
pub(super) fn encoded(text: &str) -> Zeroizing<String> {
    Zeroizing::new(form_urlencoded::byte_serialize(text.as_bytes()).collect())
}
