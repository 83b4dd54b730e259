//! The wire of Google's `generateContent`: what is sent and what comes back.
//!
//! Facts are from the reference on ai.google.dev and the types of `google-genai` 3.4.0, read in
//! November 2026. Nothing in here has IO, and nothing keeps state between two calls.

mod decoder;
mod part;
mod piece;
mod refusal;
mod request;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use reqwest::{
    StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderName},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Body, Credential, FailureKind, ListedModel, Request,
    members::readable,
    portable::Portable,
    wire::{Decode, Listed, Target, Wire},
};

/// The most models that a page may have.
const LISTING: &str = "/v1beta/models?pageSize=1000";

/// The wire of `models.streamGenerateContent`.
#[derive(Debug)]
pub(crate) struct GenerateContent;

impl Wire for GenerateContent {
    fn render(&self, provider: &str, request: &Request) -> Body {
        request::render(provider, request)
    }

    fn target(&self, body: &Body) -> Target {
        let model = escaped(short_name(&body.model));
        let path = format!("/v1beta/models/{model}:streamGenerateContent?alt=sse");
        Target { path: path.into(), headers: HeaderMap::new() }
    }

    fn credential(&self, credential: &Credential) -> (HeaderName, String) {
        match credential {
            Credential::ApiKey(key) => (HeaderName::from_static("x-goog-api-key"), key.clone()),
            Credential::Token(token) => (AUTHORIZATION, format!("Bearer {token}")),
        }
    }

    fn decoder(&self) -> Box<dyn Decode> {
        Box::new(decoder::Decoder::default())
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> (FailureKind, String) {
        refusal::of_answer(status, body)
    }

    fn retry_after(&self, body: &[u8]) -> Option<Duration> {
        refusal::of_body(body)?.retry_after()
    }

    fn listing(&self) -> Target {
        Target { path: LISTING.into(), headers: HeaderMap::new() }
    }

    fn listed(&self, body: &Bytes) -> Option<Listed> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Page<'a> {
            #[serde(borrow, default)]
            models: Vec<&'a RawValue>,
            next_page_token: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Model {
            name: String,
            display_name: Option<String>,
            input_token_limit: Option<u64>,
            output_token_limit: Option<u64>,
            supported_generation_methods: Option<Vec<String>>,
        }
        let page: Page<'_> = serde_json::from_slice(body).ok()?;
        let converses = |model: &Model| {
            let methods = model.supported_generation_methods.as_ref();
            methods.is_none_or(|methods| methods.iter().any(|name| name == "generateContent"))
        };
        let models = readable(page.models).filter(converses).map(|model| ListedModel {
            id: short_name(&model.name).to_owned(),
            display_name: model.display_name,
            created: None,
            window: model.input_token_limit,
            max_output: model.output_token_limit,
        });
        let next = page.next_page_token.filter(|token| !token.is_empty());
        Some(Listed {
            models: models.collect(),
            next: next.map(|token| format!("{LISTING}&pageToken={}", escaped(&token))),
        })
    }

    fn portable<'a>(&self, block: &'a RawValue) -> Option<Portable<'a>> {
        part::portable(block)
    }
}

/// A model's name without the collection in front, which lists have and people leave out.
fn short_name(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

/// Text for one segment of a path or one value of a query (RFC 3986: all but unreserved
/// characters).
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
