//! What servers of Chat Completions do differently from each other, one row for each kind.
//!
//! Only what changes a request stands here: an answer is read the same way whoever sent it, by a
//! decoder that takes all their habits. Where a comment says so, a row or a part of it is
//! reasoned and not read in that server's documents or types (November 2026).

use reqwest::Url;

use super::Chat;
use crate::{Effort, portable::CallIds};

/// How one kind of server wants its requests.
#[derive(Debug)]
pub(super) struct Quirks {
    /// The name that a configuration can choose.
    pub(super) name: &'static str,
    /// Hosts, each with everything below it.
    pub(super) hosts: &'static [&'static str],
    /// The port where it usually listens; counts for plain `http` alone.
    pub(super) port: Option<u16>,
    /// The header that carries a key; `None` for `authorization: Bearer …`.
    pub(super) key_header: Option<&'static str>,
    /// The member that limits an answer's length.
    pub(super) max_tokens: &'static str,
    /// Whether usage has to be asked for with `stream_options`, and may be.
    pub(super) asks_for_usage: bool,
    /// The role of the system prompt.
    pub(super) system_role: &'static str,
    /// Whether that role may stand inside a conversation. A model of which the catalogue says so
    /// may have it there in any case.
    pub(super) system_inside: bool,
    /// Whether several calls in one answer have to be asked for.
    pub(super) asks_for_parallel: bool,
    /// Which ids of calls it takes.
    pub(super) call_ids: CallIds,
    /// Which members of its own messages it takes back.
    pub(super) takes_back: Members,
    /// A member without which it may refuse a model's message; it is sent empty where the message
    /// has none.
    pub(super) due: Option<&'static str>,
    /// Members, raw, that the first call of another model's message needs.
    pub(super) foreign_call: &'static str,
    /// Where the effort stands.
    pub(super) effort: EffortMember,
    /// The highest effort that it knows.
    pub(super) highest_effort: Effort,
    /// Whether it fetches images from addresses.
    pub(super) fetches_images: bool,
    /// How it takes PDF documents.
    pub(super) documents: Documents,
    /// The content, raw, of a message that has calls alone.
    pub(super) no_content: &'static str,
    /// Whether a result names its tool.
    pub(super) names_results: bool,
    /// Whether a user may speak right after results.
    pub(super) user_after_results: bool,
    /// Whether it takes `prompt_cache_key`.
    pub(super) cache_key: bool,
    /// How the names of those models begin whose prompts are cached only when asked.
    pub(super) cache_control: Option<&'static str>,
}

/// Which members of a message go back to the server that sent them.
#[derive(Debug)]
pub(super) enum Members {
    /// All.
    All,
    /// Only these; the server refuses others.
    Only(&'static [&'static str]),
}

impl Members {
    /// Whether a member goes back.
    pub(super) fn have(&self, member: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(members) => members.contains(&member),
        }
    }
}

/// Where the effort stands in a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum EffortMember {
    /// `"reasoning_effort":"high"`.
    Plain,
    /// `"reasoning":{"effort":"high"}`.
    Reasoning,
    /// `"chat_template_kwargs":{"reasoning_effort":"high"}`.
    Template,
}

/// How PDF documents are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Documents {
    /// Not at all.
    None,
    /// `{"type":"file","file":{"filename":…,"file_data":"data:…"}}`; an address in the place of
    /// the data if `fetches`.
    File {
        /// Whether an address may be given.
        fetches: bool,
    },
    /// `{"type":"document_url","document_url":…}`, with data or an address.
    Url,
}

/// OpenAI's own ids look like `call_…`; it takes 64 characters at most.
const USUAL_IDS: CallIds = CallIds { longest: 64, punctuation: true, exact: false };

/// A server that nobody has described. Nearly all of them read these, and skip what they don't
/// know.
const UNKNOWN: Quirks = Quirks {
    name: "unknown",
    hosts: &[],
    port: None,
    key_header: None,
    max_tokens: "max_tokens",
    asks_for_usage: true,
    system_role: "system",
    system_inside: false,
    asks_for_parallel: false,
    call_ids: USUAL_IDS,
    takes_back: Members::All,
    due: None,
    foreign_call: "",
    effort: EffortMember::Plain,
    highest_effort: Effort::High,
    fetches_images: true,
    documents: Documents::None,
    no_content: "null",
    names_results: false,
    user_after_results: true,
    cache_key: false,
    cache_control: None,
};

/// All rows; the last is for every server that no other row fits.
static SERVERS: [Chat; 16] = [
    // `openai` 3.54 (types of requests and chunks).
    Chat(Quirks {
        name: "openai",
        hosts: &["api.openai.com"],
        max_tokens: "max_completion_tokens",
        system_role: "developer",
        system_inside: true,
        takes_back: Members::Only(&["content", "refusal", "tool_calls"]),
        highest_effort: Effort::Max,
        documents: Documents::File { fetches: false },
        cache_key: true,
        ..UNKNOWN
    }),
    // OpenRouter's documents (reasoning, usage, cache control). Files by address: reasoned.
    Chat(Quirks {
        name: "openrouter",
        hosts: &["openrouter.ai"],
        // It always sends usage.
        asks_for_usage: false,
        effort: EffortMember::Reasoning,
        highest_effort: Effort::Xhigh,
        documents: Documents::File { fetches: true },
        cache_control: Some("anthropic/"),
        ..UNKNOWN
    }),
    // `groq` 1.7 (types, which have no `stream_options`; usage comes in `x_groq`). It refuses a
    // message with members that it doesn't know.
    Chat(Quirks {
        name: "groq",
        hosts: &["api.groq.com"],
        asks_for_usage: false,
        max_tokens: "max_completion_tokens",
        takes_back: Members::Only(&["content", "reasoning", "tool_calls"]),
        ..UNKNOWN
    }),
    // Its documents (reasoning), and its error message for `reasoning_content`; that it takes no
    // thinking back at all: reasoned.
    Chat(Quirks {
        name: "cerebras",
        hosts: &["api.cerebras.ai"],
        max_tokens: "max_completion_tokens",
        takes_back: Members::Only(&["content", "tool_calls"]),
        ..UNKNOWN
    }),
    // `mistralai` 3.7 (types), and the error messages in clients' issues. Usage always comes.
    Chat(Quirks {
        name: "mistral",
        hosts: &["api.mistral.ai", "codestral.mistral.ai"],
        asks_for_usage: false,
        call_ids: CallIds { longest: 9, punctuation: false, exact: true },
        takes_back: Members::Only(&["content", "tool_calls"]),
        highest_effort: Effort::Max,
        documents: Documents::Url,
        no_content: r#""""#,
        names_results: true,
        user_after_results: false,
        cache_key: true,
        ..UNKNOWN
    }),
    // DeepSeek's documents (thinking mode). That an empty `reasoning_content` will do where a
    // model has not thought: from clients that do so.
    Chat(Quirks {
        name: "deepseek",
        hosts: &["api.deepseek.com"],
        takes_back: Members::Only(&["content", "reasoning_content", "tool_calls"]),
        due: Some("reasoning_content"),
        highest_effort: Effort::Max,
        ..UNKNOWN
    }),
    // xAI's documents; its Chat Completions is deprecated and takes no thinking back. Roles in
    // any order, and the name of the limit: reasoned.
    Chat(Quirks {
        name: "xai",
        hosts: &["api.x.ai"],
        max_tokens: "max_completion_tokens",
        system_inside: true,
        takes_back: Members::Only(&["content", "tool_calls"]),
        highest_effort: Effort::Xhigh,
        ..UNKNOWN
    }),
    // `together` 3.1 (types). Its types have no `stream_options`; that it takes them: reasoned.
    Chat(Quirks {
        name: "together",
        hosts: &["api.together.ai", "api.together.xyz", "api-inference.together.ai"],
        takes_back: Members::Only(&["content", "reasoning", "reasoning_content", "tool_calls"]),
        ..UNKNOWN
    }),
    // `fireworks-ai` 1.2 (types), which have no `stream_options`; that usage comes all the same:
    // reasoned.
    Chat(Quirks {
        name: "fireworks",
        hosts: &["api.fireworks.ai"],
        asks_for_usage: false,
        takes_back: Members::Only(&["content", "reasoning_content", "tool_calls"]),
        cache_key: true,
        ..UNKNOWN
    }),
    // Ollama's documents (OpenAI compatibility).
    Chat(Quirks { name: "ollama", hosts: &["ollama.com"], port: Some(11434), ..UNKNOWN }),
    // vLLM's documents (reasoning outputs). What its chat templates take, each model decides.
    Chat(Quirks { name: "vllm", port: Some(8000), ..UNKNOWN }),
    // llama.cpp's documents: parallel calls are off unless asked for, effort belongs to the
    // template.
    Chat(Quirks {
        name: "llama.cpp",
        port: Some(8080),
        asks_for_parallel: true,
        effort: EffortMember::Template,
        ..UNKNOWN
    }),
    // LM Studio's error message for images that are not data ("'url' field must be a base64
    // encoded image"); the rest is reasoned.
    Chat(Quirks { name: "lmstudio", port: Some(1234), fetches_images: false, ..UNKNOWN }),
    // Thought signatures and the refusal of unknown members: issues of clients, with recordings.
    // That the placeholder for a foreign call, which Google documents for its own API, is taken
    // in this place, and that addresses of images are not: reasoned.
    Chat(Quirks {
        name: "gemini",
        hosts: &[
            "generativelanguage.googleapis.com",
            "aiplatform.googleapis.com",
            "-aiplatform.googleapis.com",
        ],
        takes_back: Members::Only(&["content", "extra_content", "tool_calls"]),
        foreign_call: r#","extra_content":{"google":{"thought_signature":"skip_thought_signature_validator"}}"#,
        fetches_images: false,
        ..UNKNOWN
    }),
    // Microsoft's reference of the v1 API. It refuses members as OpenAI does: reasoned.
    Chat(Quirks {
        name: "azure",
        hosts: &["openai.azure.com", "services.ai.azure.com", "cognitiveservices.azure.com"],
        key_header: Some("api-key"),
        max_tokens: "max_completion_tokens",
        system_inside: true,
        takes_back: Members::Only(&["content", "refusal", "tool_calls"]),
        highest_effort: Effort::Max,
        cache_key: true,
        ..UNKNOWN
    }),
    Chat(UNKNOWN),
];

/// The names of all rows.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    SERVERS.iter().map(|server| server.0.name)
}

/// The row for servers that nobody has described.
pub(super) fn unknown() -> &'static Chat {
    &SERVERS[SERVERS.len() - 1]
}

/// The row of that name; `None` when there is none.
pub(super) fn named(name: &str) -> Option<&'static Chat> {
    SERVERS.iter().find(|server| server.0.name == name)
}

/// The row that fits an address.
pub(super) fn at(url: &Url) -> &'static Chat {
    let host = url.host_str().unwrap_or_default();
    let below = |known: &str| {
        // One that begins with a hyphen says itself what may stand before it.
        let inside = |rest: &str| rest.is_empty() || rest.ends_with('.') || known.starts_with('-');
        host.strip_suffix(known).is_some_and(inside)
    };
    let by_host = SERVERS.iter().find(|server| server.0.hosts.iter().any(|known| below(known)));
    let by_port = || {
        let port = url.port().filter(|_| url.scheme() == "http")?;
        SERVERS.iter().find(|server| server.0.port == Some(port))
    };
    by_host.or_else(by_port).unwrap_or_else(unknown)
}
