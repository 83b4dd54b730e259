//! The wire of OpenAI's Responses API, without anything stored at the provider: what is sent and
//! what comes back.
//!
//! Each item of a response's output is one block and is sent back to the letter. Nothing in here
//! retries, and nothing keeps state between two calls. Facts about the API are those of the types
//! of `openai` 3.51.0 for Python, unless another source is named.

mod decoder;
mod item;
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

/// The wire of the Responses API.
#[derive(Debug)]
pub(crate) struct Responses;

impl Wire for Responses {
    fn render(&self, provider: &str, request: &Request) -> Body {
        request::render(provider, request)
    }

    fn target(&self, _: &Body) -> Target {
        Target { path: "/responses".into(), headers: HeaderMap::new() }
    }

    fn credential(&self, credential: &Credential) -> (HeaderName, String) {
        let (Credential::ApiKey(secret) | Credential::Token(secret)) = credential;
        (AUTHORIZATION, format!("Bearer {secret}"))
    }

    fn decoder(&self) -> Box<dyn Decode> {
        Box::new(decoder::Decoder::default())
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> (FailureKind, String) {
        refusal::of_answer(status, body)
    }

    fn retry_after(&self, body: &[u8]) -> Option<Duration> {
        refusal::wait_of_answer(body)
    }

    fn listing(&self) -> Target {
        Target { path: "/models".into(), headers: HeaderMap::new() }
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
            created: Option<i64>,
        }
        let page: Page<'_> = serde_json::from_slice(body).ok()?;
        let models = readable(page.data).map(|model: Model| ListedModel {
            id: model.id,
            created: model.created,
            ..ListedModel::default()
        });
        // The list has no further pages (`SyncPage`).
        Some(Listed { models: models.collect(), next: None })
    }

    fn portable<'a>(&self, block: &'a RawValue) -> Option<Portable<'a>> {
        item::portable(block)
    }
}
