//! Renders a neutral request into the body of `POST /chat/completions`.
//!
//! What a provider wrote goes back as the bytes that came, and schemas are spliced in raw. The
//! body of a conversation begins with the body of the same conversation one turn earlier, so that
//! a provider's prompt cache holds.
//!
//! The conversation is cut into *runs*: everything between two responses. In a run the results
//! stand first, as the dialect demands, then what users and the operator said, in their order;
//! a user's words side by side are one message. Where a server does not take the operator's texts
//! inside of a conversation, they stand at the end of the system prompt.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    messages::{self, Part},
    replay::{self, LONGEST_NAME},
    servers::{EffortMember, Quirks},
};
use crate::{
    Body, Request, WireKind, content,
    members::{object, string},
    portable::{self, ResultOf, Step},
};

/// What stands between results and a user's words for a server that wants an answer there.
const BRIDGE: &str = r#"{"role":"assistant","content":"I have read the results."}"#;

/// Renders `request` for the provider that keeps its blocks under `provider`. Pure: the same
/// request gives the same bytes.
pub(super) fn render(quirks: &Quirks, provider: &str, request: &Request) -> Body {
    let steps = portable::steps(provider, WireKind::OpenaiChat, &request.items, quirks.call_ids);
    let runs = runs(quirks, &steps);
    let mut out = String::with_capacity(estimate(request));
    head(&mut out, quirks, request);
    tools(&mut out, request);
    let mut messages = Messages { out, first: true };
    messages.out.push_str(r#","messages":["#);
    // A model of which it is known may have them inside wherever it is served.
    let inside = quirks.system_inside || request.spec.mid_conversation_system;
    system(&mut messages, quirks, request, &runs, inside);
    for run in &runs {
        write_run(&mut messages, quirks, request, run, inside);
    }
    messages.out.push_str("]}");
    Body {
        model: request.model.clone(),
        bytes: Bytes::from(messages.out),
        renamed: portable::renamed(request, LONGEST_NAME),
    }
}

/// Room for the body, so that it hardly grows while it is written.
fn estimate(request: &Request) -> usize {
    let items = request.items.iter().map(|item| match item {
        crate::Item::User(content) => content.get().len() + 48,
        crate::Item::Assistant { blocks, .. } => {
            blocks.iter().map(|block| block.get().len()).sum::<usize>() + 48
        }
        crate::Item::ToolResults(results) => {
            results.iter().map(|result| result.content.get().len() + 160).sum()
        }
        crate::Item::System(text) => text.len() + 64,
    });
    let tools = request
        .tools
        .iter()
        .map(|tool| tool.description.len() + tool.input_schema.get().len() + 96);
    512 + items.sum::<usize>() + tools.sum::<usize>() + request.system.len() * 17 / 16
}

fn head(out: &mut String, quirks: &Quirks, request: &Request) {
    out.push_str(r#"{"model":"#);
    out.push_str(&string(&request.model));
    out.push_str(r#","stream":true"#);
    if quirks.asks_for_usage {
        out.push_str(r#","stream_options":{"include_usage":true}"#);
    }
    if let Some(tokens) = request.spec.max_output {
        out.push_str(&format!(r#","{}":{tokens}"#, quirks.max_tokens));
    }
    if let Some(effort) = request.effort.and_then(|effort| request.spec.nearest_effort(effort)) {
        let effort = string(effort.min(quirks.highest_effort).as_str());
        out.push_str(&match quirks.effort {
            EffortMember::Plain => format!(r#","reasoning_effort":{effort}"#),
            EffortMember::Reasoning => format!(r#","reasoning":{{"effort":{effort}}}"#),
            EffortMember::Template => {
                format!(r#","chat_template_kwargs":{{"reasoning_effort":{effort}}}"#)
            }
        });
    }
    if request.fast {
        out.push_str(r#","service_tier":"priority""#);
    }
    if quirks.cache_key && !request.conversation.is_empty() {
        out.push_str(r#","prompt_cache_key":"#);
        out.push_str(&string(&request.conversation));
    }
    if quirks.cache_control.is_some_and(|models| request.model.starts_with(models)) {
        out.push_str(r#","cache_control":{"type":"ephemeral"}"#);
    }
    if quirks.asks_for_parallel && !request.tools.is_empty() {
        out.push_str(r#","parallel_tool_calls":true"#);
    }
}

fn tools(out: &mut String, request: &Request) {
    if request.tools.is_empty() {
        return;
    }
    let tools = request.tools.iter().map(|tool| {
        let name = string(&portable::tool_name(&tool.name, LONGEST_NAME));
        let description = string(&tool.description);
        let described = (!tool.description.is_empty()).then_some(("description", &*description));
        let members = [("name", &*name)].into_iter().chain(described);
        let function = object(members.chain([("parameters", tool.input_schema.get())]));
        object([("type", r#""function""#), ("function", &*function)])
    });
    out.push_str(r#","tools":["#);
    out.push_str(&tools.collect::<Vec<_>>().join(","));
    out.push(']');
}

/// What stands between two responses, with the response before it.
#[derive(Default)]
struct Run<'a> {
    assistant: Option<String>,
    results: Vec<&'a ResultOf<'a>>,
    said: Vec<Said<'a>>,
}

enum Said<'a> {
    User(&'a RawValue),
    System(&'a str),
}

/// Cuts a conversation into runs. A response of which nothing may go back cuts nothing.
fn runs<'a>(quirks: &Quirks, steps: &'a [Step<'a>]) -> Vec<Run<'a>> {
    let mut runs = vec![Run::default()];
    for step in steps {
        let assistant = match step {
            Step::Own(blocks) => replay::own(quirks, blocks),
            Step::Foreign(blocks) => Some(replay::foreign(quirks, blocks)),
            Step::User(_) | Step::Results(_) | Step::System(_) => None,
        };
        if assistant.is_some() {
            runs.push(Run { assistant, ..Run::default() });
            continue;
        }
        let Some(run) = runs.last_mut() else { continue };
        match step {
            Step::User(content) => run.said.push(Said::User(content)),
            Step::System(text) if !text.is_empty() => run.said.push(Said::System(text)),
            Step::Results(results) => run.results.extend(results),
            Step::System(_) | Step::Own(_) | Step::Foreign(_) => {}
        }
    }
    runs
}

/// The messages, with commas between them.
struct Messages {
    out: String,
    first: bool,
}

impl Messages {
    fn push(&mut self, message: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(',');
        }
        self.out.push_str(message);
    }
}

fn system(
    messages: &mut Messages,
    quirks: &Quirks,
    request: &Request,
    runs: &[Run<'_>],
    inside: bool,
) {
    let mut texts: Vec<&str> = Vec::new();
    if !request.system.is_empty() {
        texts.push(&request.system);
    }
    if !inside {
        texts.extend(runs.iter().flat_map(|run| &run.said).filter_map(|said| match said {
            Said::System(text) => Some(*text),
            Said::User(_) => None,
        }));
    }
    if !texts.is_empty() {
        messages.push(&privileged(quirks, &texts.join("\n\n")));
    }
}

fn privileged(quirks: &Quirks, text: &str) -> String {
    object([("role", &*string(quirks.system_role)), ("content", &*string(text))])
}

fn write_run(
    messages: &mut Messages,
    quirks: &Quirks,
    request: &Request,
    run: &Run<'_>,
    inside: bool,
) {
    let spec = &request.spec;
    if let Some(assistant) = &run.assistant {
        messages.push(assistant);
    }
    let answered = messages.out.len();
    let mut parts: Vec<Part<'_>> = Vec::new();
    for result in &run.results {
        let (message, moved) = messages::result(quirks, spec, result);
        messages.push(&message);
        parts.extend(moved);
    }
    let mut bridged = quirks.user_after_results || run.results.is_empty();
    let mut speak = |messages: &mut Messages, parts: &mut Vec<Part<'_>>| {
        if let Some(message) = messages::user(&std::mem::take(parts)) {
            if !std::mem::replace(&mut bridged, true) {
                messages.push(BRIDGE);
            }
            messages.push(&message);
        }
    };
    for said in &run.said {
        match said {
            Said::User(content) => {
                parts.extend(messages::parts(quirks, spec, content::pieces(content)));
            }
            Said::System(text) if inside => {
                speak(messages, &mut parts);
                messages.push(&privileged(quirks, text));
            }
            Said::System(_) => {}
        }
    }
    speak(messages, &mut parts);
    if run.assistant.is_some() && messages.out.len() == answered {
        // Some servers refuse an answer as the last message, or two that meet.
        messages.push(&object([("role", r#""user""#), ("content", &*string(portable::GO_ON))]));
    }
}
