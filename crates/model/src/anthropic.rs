//! The wire of Anthropic's Messages API: what is sent and what comes back.
//!
//! [`render`] and [`Decoder`] write and read it without IO. Nothing in here retries, and nothing
//! keeps state between two calls.

mod block;
pub mod decoder;
mod refusal;
mod request;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use reqwest::{
    StatusCode,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
};
use serde::Deserialize;
use serde_json::value::RawValue;

pub use decoder::Decoder;
pub use request::render;

use crate::{
    Body, Credential, FailureKind, ListedModel, Request,
    members::readable,
    portable::Portable,
    wire::{Decode, Listed, Target, Wire},
};

/// The version of the API that this wire speaks.
const VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// The wire of the Messages API.
#[derive(Debug)]
pub(crate) struct Messages;

impl Wire for Messages {
    fn render(&self, provider: &str, request: &Request) -> Body {
        render(provider, request)
    }

    fn target(&self, body: &Body) -> Target {
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-version", VERSION);
        if let Some(betas) =
            request::betas(&body.bytes).and_then(|betas| HeaderValue::try_from(betas).ok())
        {
            headers.insert("anthropic-beta", betas);
        }
        Target { path: "/v1/messages".into(), headers }
    }

    fn credential(&self, credential: &Credential) -> (HeaderName, String) {
        match credential {
            Credential::ApiKey(key) => (HeaderName::from_static("x-api-key"), key.clone()),
            Credential::Token(token) => (AUTHORIZATION, format!("Bearer {token}")),
        }
    }

    fn decoder(&self) -> Box<dyn Decode> {
        Box::new(Decoder::new())
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> (FailureKind, String) {
        refusal::of_answer(status, body)
    }

    fn listing(&self) -> Target {
        let mut headers = HeaderMap::new();
        headers.insert("anthropic-version", VERSION);
        Target { path: "/v1/models?limit=1000".into(), headers }
    }

    fn listed(&self, body: &Bytes) -> Option<Listed> {
        #[derive(Deserialize)]
        struct Page<'a> {
            #[serde(borrow)]
            data: Vec<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Model {
            id: String,
            display_name: Option<String>,
            created_at: Option<String>,
            max_input_tokens: Option<u64>,
            max_tokens: Option<u64>,
        }
        let page: Page<'_> = serde_json::from_slice(body).ok()?;
        let models = readable(page.data).map(|model: Model| ListedModel {
            id: model.id,
            display_name: model.display_name,
            created: model
                .created_at
                .and_then(|at| at.parse().ok())
                .map(jiff::Timestamp::as_second),
            window: model.max_input_tokens,
            max_output: model.max_tokens,
        });
        // A thousand is more than there are; a provider with more shows its newest ones.
        Some(Listed { models: models.collect(), next: None })
    }

    fn portable<'a>(&self, block: &'a RawValue) -> Option<Portable<'a>> {
        request::portable(block)
    }
}
