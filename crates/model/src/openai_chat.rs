//! The wire of Chat Completions: OpenAI's, and of the many servers that are compatible with it.
//!
//! What such servers want to be asked differently is data ([`servers`] names the rows). What they
//! answer differently the decoder takes from all of them alike.
//!
//! A native block is a fragment of the assistant's message: an object with one member, such as
//! `{"content":"…"}`, `{"reasoning_content":"…"}` or `{"tool_calls":[{…}]}` with a single call.
//! The fragments of a response merge back into its message.

mod decoder;
mod fragment;
mod messages;
mod refusal;
mod replay;
mod request;
mod servers;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use reqwest::{
    StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Body, Credential, FailureKind, ListedModel, Request,
    portable::Portable,
    wire::{Decode, Listed, Target, Wire},
};

/// The kinds of servers that a configuration can name.
pub fn servers() -> impl Iterator<Item = &'static str> {
    servers::names()
}

/// The wire as servers speak it that nobody has described.
pub(crate) fn unknown() -> &'static dyn Wire {
    servers::unknown()
}

/// The wire as the server of that kind speaks it, or, without a name, the one at that address.
/// `None` when no kind has that name.
pub(crate) fn server(url: &Url, name: Option<&str>) -> Option<&'static dyn Wire> {
    match name {
        Some(name) => servers::named(name).map(|server| server as &dyn Wire),
        None => Some(servers::at(url)),
    }
}

/// The wire, as one kind of server speaks it.
#[derive(Debug)]
pub(crate) struct Chat(servers::Quirks);

impl Wire for Chat {
    fn render(&self, provider: &str, request: &Request) -> Body {
        request::render(&self.0, provider, request)
    }

    fn target(&self, _: &Body) -> Target {
        Target { path: "/chat/completions".into(), headers: HeaderMap::new() }
    }

    fn credential(&self, credential: &Credential) -> (HeaderName, String) {
        match (credential, self.0.key_header) {
            (Credential::ApiKey(key), Some(header)) => {
                (HeaderName::from_static(header), key.clone())
            }
            (Credential::ApiKey(secret) | Credential::Token(secret), _) => {
                (AUTHORIZATION, format!("Bearer {secret}"))
            }
        }
    }

    fn decoder(&self) -> Box<dyn Decode> {
        Box::new(decoder::Decoder::new(self.0.call_ids))
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> (FailureKind, String) {
        refusal::of_answer(status, body)
    }

    fn retry_after(&self, body: &[u8]) -> Option<Duration> {
        refusal::retry_after(body)
    }

    fn listing(&self) -> Target {
        Target { path: "/models".into(), headers: HeaderMap::new() }
    }

    fn listed(&self, body: &Bytes) -> Option<Listed> {
        listed(body)
    }

    fn portable<'a>(&self, block: &'a RawValue) -> Option<Portable<'a>> {
        replay::portable(block)
    }
}

/// A page of models, or a bare list. Entries that are no models are left out; there are no pages.
fn listed(body: &[u8]) -> Option<Listed> {
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        data: Vec<&'a RawValue>,
    }
    let entries = serde_json::from_slice::<Page<'_>>(body)
        .map(|page| page.data)
        .or_else(|_| serde_json::from_slice::<Vec<&RawValue>>(body))
        .ok()?;
    Some(Listed { models: entries.into_iter().filter_map(model).collect(), next: None })
}

/// One entry of a list. The members after `created` are those of single servers.
#[derive(Deserialize)]
struct Entry<'a> {
    id: String,
    #[serde(borrow)]
    created: Option<&'a RawValue>,
    /// `OpenRouter`.
    name: Option<String>,
    /// Together.
    display_name: Option<String>,
    /// Together: `chat`, `language`, `image`, ….
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Groq: whether it is served.
    active: Option<bool>,
    /// Mistral.
    capabilities: Option<Capabilities>,
    /// `OpenRouter`, Together, Fireworks.
    context_length: Option<u64>,
    /// Groq.
    context_window: Option<u64>,
    /// Mistral.
    max_context_length: Option<u64>,
    /// vLLM.
    max_model_len: Option<u64>,
    /// llama.cpp.
    meta: Option<Meta>,
    /// Groq.
    max_completion_tokens: Option<u64>,
    /// `OpenRouter`.
    top_provider: Option<TopProvider>,
}

#[derive(Deserialize)]
struct Capabilities {
    completion_chat: Option<bool>,
}

#[derive(Deserialize)]
struct Meta {
    /// What the server gives to one conversation.
    n_ctx: Option<u64>,
    /// What the model was made for.
    n_ctx_train: Option<u64>,
}

#[derive(Deserialize)]
struct TopProvider {
    max_completion_tokens: Option<u64>,
}

fn model(entry: &RawValue) -> Option<ListedModel> {
    let entry: Entry<'_> = serde_json::from_str(entry.get()).ok()?;
    let other = ["image", "embedding", "moderation", "rerank", "audio", "transcribe", "video"];
    let chats = entry.active != Some(false)
        && entry.capabilities.is_none_or(|can| can.completion_chat != Some(false))
        && entry.kind.is_none_or(|kind| !other.contains(&&*kind));
    let window = entry
        .context_length
        .or(entry.context_window)
        .or(entry.max_context_length)
        .or(entry.max_model_len)
        .or_else(|| entry.meta.and_then(|meta| meta.n_ctx.or(meta.n_ctx_train)));
    let max_output = entry
        .max_completion_tokens
        .or_else(|| entry.top_provider.and_then(|provider| provider.max_completion_tokens));
    chats.then(|| ListedModel {
        // Gemini's list has the names of its own API.
        id: entry.id.strip_prefix("models/").unwrap_or(&entry.id).to_owned(),
        display_name: entry.display_name.or(entry.name).filter(|name| !name.is_empty()),
        // Some write fractions, some nothing.
        created: entry
            .created
            .and_then(|created| serde_json::from_str::<f64>(created.get()).ok())
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .and_then(|since| i64::try_from(since.as_secs()).ok())
            .filter(|seconds| *seconds > 0),
        window: window.filter(|tokens| *tokens > 0),
        max_output: max_output.filter(|tokens| *tokens > 0),
    })
}
