//! The dialects of providers: how a request is written, how an answer is read. Without IO.
//!
//! A [`Wire`] knows no address, no key and no connection; [`crate::Remote`] carries its bytes.

use std::{borrow::Cow, collections::VecDeque};

use bytes::Bytes;
use reqwest::{
    StatusCode, Url,
    header::{HeaderMap, HeaderName},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Body, Credential, Event, FailureKind, ListedModel, Request, portable::Portable};

/// The dialects. The names stand in configuration files and in logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WireKind {
    /// Anthropic's Messages.
    #[default]
    Anthropic,
    /// OpenAI's Responses.
    OpenaiResponses,
    /// OpenAI's Chat Completions, and what is compatible with it.
    OpenaiChat,
    /// Google's `generateContent`.
    Gemini,
}

impl WireKind {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Anthropic, Self::OpenaiResponses, Self::OpenaiChat, Self::Gemini];

    /// The name, as it stands in a configuration file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenaiResponses => "openai_responses",
            Self::OpenaiChat => "openai_chat",
            Self::Gemini => "gemini",
        }
    }

    /// Where the dialect's inventor serves it, without a slash at the end.
    #[must_use]
    pub const fn default_base_url(self) -> &'static str {
        match self {
            Self::Anthropic => "https://api.anthropic.com",
            Self::OpenaiResponses | Self::OpenaiChat => "https://api.openai.com/v1",
            Self::Gemini => "https://generativelanguage.googleapis.com",
        }
    }

    /// Whether a faster, dearer mode may be asked of a model that nobody has described: only where
    /// a provider that has none refuses it. Elsewhere it would be ignored without a word.
    #[must_use]
    pub const fn has_fast_mode(self) -> bool {
        matches!(self, Self::Anthropic)
    }

    /// Whether the dialect can say where inference is to happen.
    #[must_use]
    pub const fn has_regions(self) -> bool {
        matches!(self, Self::Anthropic)
    }

    /// Whether every model behind the dialect takes privileged texts inside a conversation.
    #[must_use]
    pub const fn takes_privileged_messages(self) -> bool {
        matches!(self, Self::OpenaiResponses)
    }

    /// What any other wire may say of a block that came over this one; `None` when it says
    /// nothing there.
    #[must_use]
    pub fn portable(self, block: &RawValue) -> Option<Portable<'_>> {
        self.wire().portable(block)
    }

    pub(crate) fn wire(self) -> &'static dyn Wire {
        match self {
            Self::Anthropic => &crate::anthropic::Messages,
            Self::OpenaiResponses => &crate::openai_responses::Responses,
            Self::OpenaiChat => crate::openai_chat::unknown(),
            Self::Gemini => &crate::gemini::GenerateContent,
        }
    }

    /// The dialect as it is spoken at an address, or by the kind of server that was named. `None`
    /// when it knows no such kind.
    pub(crate) fn wire_at(self, url: &Url, server: Option<&str>) -> Option<&'static dyn Wire> {
        match self {
            Self::OpenaiChat => crate::openai_chat::server(url, server),
            _ => server.is_none().then(|| self.wire()),
        }
    }

    /// The kinds of servers that can be named for this dialect; none where all speak it alike.
    pub fn servers(self) -> impl Iterator<Item = &'static str> {
        let chat = (self == Self::OpenaiChat).then(crate::openai_chat::servers);
        chat.into_iter().flatten()
    }
}

/// Where a request goes, below the base URL.
#[derive(Debug)]
pub(crate) struct Target {
    /// The path with its query, beginning with a slash.
    pub(crate) path: Cow<'static, str>,
    /// The headers that this dialect wants, without the credential.
    pub(crate) headers: HeaderMap,
}

/// A page of a provider's models.
#[derive(Debug)]
pub(crate) struct Listed {
    /// The models.
    pub(crate) models: Vec<ListedModel>,
    /// Where the next page is, like [`Target::path`].
    pub(crate) next: Option<String>,
}

/// One dialect.
pub(crate) trait Wire: Send + Sync {
    /// Renders a request for the provider of that name. Pure: the same request gives the same
    /// bytes.
    fn render(&self, provider: &str, request: &Request) -> Body;

    /// Where a rendered request goes.
    fn target(&self, body: &Body) -> Target;

    /// The header that opens the door.
    fn credential(&self, credential: &Credential) -> (HeaderName, String);

    /// Reads one answer.
    fn decoder(&self) -> Box<dyn Decode>;

    /// What an answer without success means, in a sentence without anything secret.
    fn refusal(&self, status: StatusCode, body: &[u8]) -> (FailureKind, String);

    /// How long a refusal's body asks to wait, where the headers don't say.
    fn retry_after(&self, body: &[u8]) -> Option<std::time::Duration> {
        let _ = body;
        None
    }

    /// Where the models are listed.
    fn listing(&self) -> Target;

    /// Reads a page of the models' list; `None` when it is none.
    fn listed(&self, body: &Bytes) -> Option<Listed>;

    /// What any other wire may say of a block that came over this one.
    fn portable<'a>(&self, block: &'a RawValue) -> Option<Portable<'a>>;
}

/// The state of one answer while it streams.
pub(crate) trait Decode: Send {
    /// Reads the data of one server-sent event and appends what it means to `events`.
    fn decode(&mut self, data: &str, events: &mut VecDeque<Event>);

    /// Says that the stream is over. Gives an end or a failure if there was none yet; unless said
    /// otherwise the wire has an end of its own, so that a stream without it was cut.
    fn end(&mut self) -> Option<Event> {
        let cut = || "the stream was cut before the response ended".to_owned();
        (!self.is_finished()).then(|| self.fail(FailureKind::Transient, cut()))
    }

    /// Ends the answer as failed, with the usage known so far.
    fn fail(&mut self, kind: FailureKind, message: String) -> Event;

    /// Whether the last event has been given out. What comes after it is ignored.
    fn is_finished(&self) -> bool;
}
