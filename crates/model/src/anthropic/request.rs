//! Renders a neutral request into the body of `POST /v1/messages`.
//!
//! Whatever a provider or a user wrote is spliced in as raw bytes and never goes through a
//! number or a map. Apart from the cache markers, the body of a conversation begins with the
//! body of the same conversation one turn earlier, so that the provider's prompt cache and its
//! check of earlier thinking both hold.
//!
//! The conversation is cut into *runs*: everything between two responses. A run becomes one
//! user message (tool results first, then user content, in the order given) and, behind it, one
//! message of the role `system` with the operator's texts. The API accepts a system message
//! only right behind a user message, never first and never between a call and its result; a run
//! that has no user content therefore carries its texts as a user message, which lowers their
//! privilege but never raises it. On a model without such messages the texts stand at the end
//! of the system prompt.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    Body, Effort, Item, ModelSpec, Request, Thinking, WireKind, content,
    members::{Members, is_object},
    portable::{self, CallIds, Portable, ResultOf, Step},
};

/// The marker that makes the provider cache everything up to and including a block, for five
/// minutes from its last use.
const CACHE: &[u8] = br#","cache_control":{"type":"ephemeral"}"#;

/// `^[a-zA-Z0-9_-]+$`, by the API's reference.
const CALL_IDS: CallIds = CallIds { longest: 64, punctuation: true, exact: false };

/// The longest name of a tool, by the API's reference.
const LONGEST_NAME: usize = 128;

/// What an answer may have at most where nobody knows better: the API wants a number.
const USUAL_MAX_OUTPUT: u64 = 32_000;

/// The beta under which [`DROP_CHANGED_THINKING`] is accepted.
const THINKING_BINDING_BETA: &str = "thinking-binding-controls-2026-08-01";

/// The beta that some models need for `speed`.
const FAST_MODE_BETA: &str = "fast-mode-2026-02-01";

/// Newer models bind thinking to everything before it and refuse a request in which that has
/// changed. Here it changes lawfully: a compaction, a changed system prompt, a changed set of
/// tools. Losing that thinking is better than losing the session.
const DROP_CHANGED_THINKING: &[u8] =
    br#","block_binding":{"prefix_mismatch_behavior":"drop_block"}"#;

const FAST: &[u8] = br#","speed":"fast""#;

/// Renders `request` for the provider that keeps its blocks under `provider`. Pure: the same
/// request gives the same bytes.
#[must_use]
pub fn render(provider: &str, request: &Request) -> Body {
    let mut out = Vec::with_capacity(estimate(request));
    head(&mut out, request);
    let steps = portable::steps(provider, WireKind::Anthropic, &request.items, CALL_IDS);
    let runs = runs(&steps, &request.spec);
    system(&mut out, request, &runs);
    tools(&mut out, request);
    messages(&mut out, request, &runs);
    out.push(b'}');
    Body {
        model: request.model.clone(),
        bytes: Bytes::from(out),
        renamed: portable::renamed(request, LONGEST_NAME),
    }
}

/// The beta features that a rendered body uses, for the `anthropic-beta` header.
///
/// Read off the body, because the body is all that a call is given. Only the head is looked at:
/// it ends at the first array and holds nothing from a conversation.
pub(super) fn betas(body: &[u8]) -> Option<String> {
    let head = &body[..head_length(body)];
    let uses = |feature: &[u8]| head.windows(feature.len()).any(|window| window == feature);
    let mut betas: Vec<&str> = Vec::new();
    if uses(DROP_CHANGED_THINKING) {
        betas.push(THINKING_BINDING_BETA);
    }
    if uses(FAST) {
        betas.push(FAST_MODE_BETA);
    }
    (!betas.is_empty()).then(|| betas.join(","))
}

/// The length of a body up to its first array that is not inside a string.
fn head_length(body: &[u8]) -> usize {
    let (mut in_string, mut escaped) = (false, false);
    body.iter()
        .position(|byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = in_string,
                b'"' => in_string = !in_string,
                b'[' => return !in_string,
                _ => {}
            }
            false
        })
        .unwrap_or(body.len())
}

/// Room for the body, so that it is written without growing.
fn estimate(request: &Request) -> usize {
    let items: usize = request
        .items
        .iter()
        .map(|item| match item {
            Item::User(content) => content.get().len() + 48,
            Item::Assistant { blocks, .. } => {
                blocks.iter().map(|block| block.get().len() + 1).sum::<usize>() + 48
            }
            Item::ToolResults(results) => {
                results.iter().map(|result| result.content.get().len() + 160).sum()
            }
            Item::System(text) => text.len() + 64,
        })
        .sum();
    let tools: usize = request
        .tools
        .iter()
        .map(|tool| tool.description.len() + tool.input_schema.get().len() + 96)
        .sum();
    512 + items + tools + request.system.len() + request.system.len() / 16
}

/// Everything small and fixed. It comes first so that [`betas`] finds it quickly.
fn head(out: &mut Vec<u8>, request: &Request) {
    let spec = &request.spec;
    out.extend_from_slice(br#"{"model":"#);
    string(out, &request.model);
    out.extend_from_slice(format!(r#","max_tokens":{}"#, max_output(spec)).as_bytes());
    out.extend_from_slice(br#","stream":true"#);
    match spec.thinking {
        Thinking::Adaptive => {
            out.extend_from_slice(br#","thinking":{"type":"adaptive""#);
            if spec.thinking_bound {
                out.extend_from_slice(DROP_CHANGED_THINKING);
            }
            out.push(b'}');
        }
        Thinking::Budget => {
            if let Some(budget) = budget(spec, request.effort) {
                out.extend_from_slice(
                    format!(r#","thinking":{{"type":"enabled","budget_tokens":{budget}}}"#)
                        .as_bytes(),
                );
            }
        }
        Thinking::None => {}
    }
    if let Some(effort) = request.effort.and_then(|effort| spec.nearest_effort(effort)) {
        out.extend_from_slice(
            format!(r#","output_config":{{"effort":"{}"}}"#, effort.as_str()).as_bytes(),
        );
    }
    if request.fast {
        out.extend_from_slice(FAST);
    }
    if let Some(geo) = &request.inference_geo {
        out.extend_from_slice(br#","inference_geo":"#);
        string(out, geo);
    }
}

fn max_output(spec: &ModelSpec) -> u64 {
    spec.max_output.unwrap_or(USUAL_MAX_OUTPUT)
}

/// How many tokens a model that wants a number may think. Models of that kind mostly know no
/// effort, so the effort that was asked for is honoured here. At least 1,024 and less than
/// `max_tokens`, as `BetaThinkingConfigEnabledParam` demands.
fn budget(spec: &ModelSpec, effort: Option<Effort>) -> Option<u64> {
    let wanted = match effort {
        Some(Effort::Low) => 2_048,
        Some(Effort::Medium) => 8_192,
        Some(Effort::High) | None => 16_384,
        Some(Effort::Xhigh) => 24_576,
        Some(Effort::Max) => 32_768,
    };
    let most = max_output(spec) / 2;
    (most >= 1_024).then(|| most.min(wanted))
}

fn system(out: &mut Vec<u8>, request: &Request, runs: &[Run<'_>]) {
    let mut texts: Vec<&str> = Vec::new();
    if !request.system.is_empty() {
        texts.push(&request.system);
    }
    if !request.spec.mid_conversation_system {
        texts.extend(runs.iter().flat_map(|run| run.system.iter().copied()));
    }
    texts.retain(|text| !text.is_empty());
    if texts.is_empty() {
        return;
    }
    out.extend_from_slice(br#","system":["#);
    text_blocks(out, &texts, true);
    out.push(b']');
}

fn tools(out: &mut Vec<u8>, request: &Request) {
    if request.tools.is_empty() {
        return;
    }
    out.extend_from_slice(br#","tools":["#);
    for (index, tool) in request.tools.iter().enumerate() {
        out.extend_from_slice(if index == 0 { br#"{"name":"#.as_slice() } else { br#",{"name":"# });
        string(out, &portable::tool_name(&tool.name, LONGEST_NAME));
        if !tool.description.is_empty() {
            out.extend_from_slice(br#","description":"#);
            string(out, &tool.description);
        }
        out.extend_from_slice(br#","input_schema":"#);
        out.extend_from_slice(tool.input_schema.get().as_bytes());
        if index + 1 == request.tools.len() {
            out.extend_from_slice(CACHE);
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// What stands between two responses, with the response before it.
#[derive(Default)]
struct Run<'a> {
    assistant: Option<&'a Step<'a>>,
    results: Vec<&'a ResultOf<'a>>,
    user: Vec<Cow<'a, str>>,
    system: Vec<&'a str>,
    /// Whether anything came behind the response, and be it nothing that is sent here.
    answered: bool,
}

impl Run<'_> {
    fn has_user_content(&self) -> bool {
        !self.results.is_empty() || !self.user.is_empty()
    }
}

/// Cuts a conversation into runs.
fn runs<'a>(steps: &'a [Step<'a>], spec: &ModelSpec) -> Vec<Run<'a>> {
    let mut runs = vec![Run::default()];
    for step in steps {
        if let Step::Own(_) | Step::Foreign(_) = step {
            runs.push(Run { assistant: Some(step), ..Run::default() });
            continue;
        }
        let Some(run) = runs.last_mut() else { continue };
        run.answered = true;
        match step {
            Step::User(content) => run.user.extend(user_blocks(content, spec)),
            Step::Results(results) => run.results.extend(results),
            Step::System(text) if !text.is_empty() => run.system.push(text),
            Step::System(_) | Step::Own(_) | Step::Foreign(_) => {}
        }
    }
    runs
}

/// The blocks of a user's content, raw. A plain string, which the API allows too, is one block.
fn user_blocks<'a>(content: &'a RawValue, spec: &ModelSpec) -> Vec<Cow<'a, str>> {
    if let Ok(blocks) = serde_json::from_str::<Vec<&RawValue>>(content.get()) {
        return blocks
            .into_iter()
            .map(RawValue::get)
            .filter(|block| !is_empty_text(block))
            .map(|block| told(block, spec))
            .collect();
    }
    let mut block = br#"{"type":"text","text":"#.to_vec();
    block.extend_from_slice(content.get().as_bytes());
    block.push(b'}');
    String::from_utf8(block).map(Cow::Owned).into_iter().collect()
}

/// A block as the model can take it: what it can't see is a sentence.
fn told<'a>(block: &'a str, spec: &ModelSpec) -> Cow<'a, str> {
    #[derive(Deserialize)]
    struct Seen<'a> {
        #[serde(borrow, rename = "type", default)]
        kind: Cow<'a, str>,
        source: Option<Source>,
    }
    #[derive(Deserialize)]
    struct Source {
        #[serde(rename = "type")]
        kind: String,
    }
    if spec.images && spec.documents {
        return Cow::Borrowed(block);
    }
    let Ok(seen) = serde_json::from_str::<Seen<'_>>(block) else { return Cow::Borrowed(block) };
    let is_file = seen.source.is_some_and(|source| matches!(&*source.kind, "base64" | "url"));
    let sentence = match &*seen.kind {
        "image" if !spec.images => content::NO_IMAGE,
        "document" if !spec.documents && is_file => content::NO_DOCUMENT,
        _ => return Cow::Borrowed(block),
    };
    Cow::Owned(format!(r#"{{"type":"text","text":"{sentence}"}}"#))
}

fn messages(out: &mut Vec<u8>, request: &Request, runs: &[Run<'_>]) {
    out.extend_from_slice(br#","messages":["#);
    // The last two runs end in a marker: this request's end is written to the cache, and the
    // end of the request before it is read from there. Never on a response: thinking takes no
    // marker, and responses are replayed to the letter.
    let system_messages = request.spec.mid_conversation_system;
    let mut markers_left = 2_usize;
    let marked_from = runs
        .iter()
        .rposition(|run| {
            if run.has_user_content() || (system_messages && !run.system.is_empty()) {
                markers_left -= 1;
            }
            markers_left == 0
        })
        .unwrap_or(0);
    let mut first = true;
    for (index, run) in runs.iter().enumerate() {
        match run.assistant {
            Some(Step::Own(blocks)) => {
                let blocks = blocks.iter().map(|block| Cow::Borrowed(block.get()));
                assistant(out, &mut first, blocks.filter(|block| !is_empty_text(block)));
            }
            Some(Step::Foreign(blocks)) => {
                assistant(out, &mut first, blocks.iter().map(foreign).map(Cow::Owned));
            }
            _ => {}
        }
        let marked = index >= marked_from;
        let system_behind = system_messages && !run.system.is_empty();
        if run.has_user_content() {
            user(out, &mut first, run, &request.spec, marked && !system_behind);
            if system_behind {
                open(out, &mut first, "system");
                text_blocks(out, &run.system, marked);
                out.extend_from_slice(b"]}");
            }
        } else if system_behind {
            open(out, &mut first, "user");
            text_blocks(out, &run.system, marked);
            out.extend_from_slice(b"]}");
        } else if matches!(run.assistant, Some(Step::Foreign(_)))
            || (run.assistant.is_some() && run.answered)
        {
            // Newer models take no answer as the last message, but one that they have paused.
            open(out, &mut first, "user");
            text_blocks(out, &[portable::GO_ON], false);
            out.extend_from_slice(b"]}");
        }
    }
    out.push(b']');
}

/// Begins a message; its content's blocks follow, then `]}`.
fn open(out: &mut Vec<u8>, first: &mut bool, role: &str) {
    if !std::mem::take(first) {
        out.push(b',');
    }
    out.extend_from_slice(br#"{"role":""#);
    out.extend_from_slice(role.as_bytes());
    out.extend_from_slice(br#"","content":["#);
}

fn user(out: &mut Vec<u8>, first: &mut bool, run: &Run<'_>, spec: &ModelSpec, marked: bool) {
    open(out, first, "user");
    let count = run.results.len() + run.user.len();
    for (index, result) in run.results.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        tool_result(out, result, spec, marked && index + 1 == count);
    }
    for (index, block) in run.user.iter().enumerate() {
        if index + run.results.len() > 0 {
            out.push(b',');
        }
        if marked && index + run.results.len() + 1 == count {
            marked_block(out, block);
        } else {
            out.extend_from_slice(block.as_bytes());
        }
    }
    out.extend_from_slice(b"]}");
}

fn tool_result(
    out: &mut Vec<u8>,
    ResultOf { call_id, result }: &ResultOf<'_>,
    spec: &ModelSpec,
    marked: bool,
) {
    out.extend_from_slice(br#"{"type":"tool_result","tool_use_id":"#);
    string(out, call_id);
    let content = result_content(&result.content, spec);
    if content != "[]" {
        out.extend_from_slice(br#","content":"#);
        out.extend_from_slice(content.as_bytes());
    }
    if result.is_error {
        out.extend_from_slice(br#","is_error":true"#);
    }
    if marked {
        out.extend_from_slice(CACHE);
    }
    out.push(b'}');
}

/// A result's content without empty texts, which the API refuses. Almost always the bytes as
/// they are.
fn result_content<'a>(content: &'a RawValue, spec: &ModelSpec) -> Cow<'a, str> {
    let raw = content.get();
    if spec.images && spec.documents && !raw.contains(r#""""#) {
        return Cow::Borrowed(raw);
    }
    let Ok(blocks) = serde_json::from_str::<Vec<&RawValue>>(raw) else {
        return Cow::Borrowed(raw);
    };
    let kept = blocks.iter().map(|block| block.get()).filter(|block| !is_empty_text(block));
    let kept: Vec<_> = kept.map(|block| told(block, spec)).collect();
    if kept.len() == blocks.len() && kept.iter().all(|block| matches!(block, Cow::Borrowed(_))) {
        return Cow::Borrowed(raw);
    }
    Cow::Owned(format!("[{}]", kept.join(",")))
}

/// A response, replayed. Blocks of this provider go out as the bytes that came in, but for empty
/// texts, which the API sends and then refuses; they are left out of every replay alike, so the
/// prefix stays the same. Of another provider's blocks, what can be read of them is kept.
fn assistant<'a>(out: &mut Vec<u8>, first: &mut bool, blocks: impl Iterator<Item = Cow<'a, str>>) {
    let mut any = false;
    for block in blocks {
        if any {
            out.push(b',');
        } else {
            open(out, first, "assistant");
            any = true;
        }
        out.extend_from_slice(block.as_bytes());
    }
    if any {
        out.extend_from_slice(b"]}");
    }
}

/// Another provider's block in this dialect.
fn foreign(block: &Portable<'_>) -> String {
    let mut out = Vec::new();
    match block {
        Portable::Text(text) => {
            out.extend_from_slice(br#"{"type":"text","text":"#);
            string(&mut out, text);
        }
        Portable::ToolUse { call_id, name, input } => {
            out.extend_from_slice(br#"{"type":"tool_use","id":"#);
            string(&mut out, call_id);
            out.extend_from_slice(br#","name":"#);
            string(&mut out, &portable::tool_name(name, LONGEST_NAME));
            out.extend_from_slice(br#","input":"#);
            out.extend_from_slice(input.get().as_bytes());
        }
    }
    out.push(b'}');
    // It was put together from texts.
    String::from_utf8(out).unwrap_or_default()
}

/// The readable members of a text block.
#[derive(Deserialize)]
struct Readable<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

/// What any other dialect may say of a block of this one. A member that stands there twice hides
/// no call, because each call has its result.
pub(super) fn portable(block: &RawValue) -> Option<Portable<'_>> {
    let members = Members::of(block)?;
    match &*members.text("type")? {
        "text" => members.text("text").filter(|text| !text.is_empty()).map(Portable::Text),
        "tool_use" => Some(Portable::ToolUse {
            call_id: members.text("id")?.into_owned(),
            name: members.text("name")?.into_owned(),
            input: match members.get("input") {
                Some(input) if is_object(input) => Cow::Borrowed(input),
                _ => portable::no_input(),
            },
        }),
        _ => None,
    }
}

/// Whether a block is a text block without text. Looks closer only where two quotes meet, which
/// they don't inside a JSON string.
fn is_empty_text(block: &str) -> bool {
    if !block.contains(r#""""#) {
        return false;
    }
    serde_json::from_str::<Readable<'_>>(block).is_ok_and(|readable| {
        readable.kind == "text" && readable.text.is_some_and(|text| text.get() == r#""""#)
    })
}

/// Splices a cache marker into a raw block, unless its author has set one.
fn marked_block(out: &mut Vec<u8>, block: &str) {
    let free = serde_json::from_str::<BTreeMap<String, &RawValue>>(block)
        .is_ok_and(|members| !members.is_empty() && !members.contains_key("cache_control"));
    match block.strip_suffix('}') {
        Some(open) if free => {
            out.extend_from_slice(open.as_bytes());
            out.extend_from_slice(CACHE);
            out.push(b'}');
        }
        _ => out.extend_from_slice(block.as_bytes()),
    }
}

/// Text blocks, the last of them with a marker if `marked`.
fn text_blocks(out: &mut Vec<u8>, texts: &[&str], marked: bool) {
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(br#"{"type":"text","text":"#);
        string(out, text);
        if marked && index + 1 == texts.len() {
            out.extend_from_slice(CACHE);
        }
        out.push(b'}');
    }
}

/// Writes a JSON string.
fn string(out: &mut Vec<u8>, text: &str) {
    // A string has no map keys and memory takes every write, so this can't fail.
    let written = serde_json::to_writer(&mut *out, text);
    debug_assert!(written.is_ok());
}
