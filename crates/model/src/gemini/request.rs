//! Renders a neutral request into the body of `POST …:streamGenerateContent`.
//!
//! Parts that stand in the log are spliced in as raw bytes. The contents come last, so that the
//! body of a conversation begins with the body of the same conversation one turn earlier, and
//! the provider's cache of prompts holds.
//!
//! The conversation is cut into *runs*: everything between two answers. A run becomes one
//! content with all functions' responses, in the order of their calls and with nothing else in
//! it, because the API wants as many parts there as there were calls; then one content with what
//! the user said. There is no privileged role inside of a conversation, so the operator's texts
//! stand at the end of the system instruction.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{
    part::Part,
    piece::{self, string, text_part},
    short_name,
};
use crate::{
    Body, Effort, Item, ModelSpec, Request, Thinking, WireKind,
    content::{self, Piece},
    portable::{self, CallIds, Portable, ResultOf, Step},
};

/// No rule is documented for ids; those that the API makes are shorter and have no other signs.
const CALL_IDS: CallIds = CallIds { longest: 64, punctuation: true, exact: false };

/// The longest name of a function. `google-genai` 3.4.0 says 128, older pages say 64.
const LONGEST_NAME: usize = 64;

/// What stands for the signature of a call that the API has not made. Models since Gemini 3
/// refuse the first call of a step without one; the page on thought signatures gives this text
/// for histories from other models.
const NO_SIGNATURE: &str = r#""thoughtSignature":"skip_thought_signature_validator""#;

/// Renders `request` for the provider that keeps its blocks under `provider`. Pure: the same
/// request gives the same bytes.
pub(super) fn render(provider: &str, request: &Request) -> Body {
    let mut out = Vec::with_capacity(estimate(request));
    out.push(b'{');
    let steps = portable::steps(provider, WireKind::Gemini, &request.items, CALL_IDS);
    system(&mut out, request, &steps);
    tools(&mut out, request);
    generation(&mut out, request);
    out.extend_from_slice(br#""contents":["#);
    let mut contents = Contents {
        out: &mut out,
        spec: &request.spec,
        modern: is_modern(&request.model),
        last: None,
    };
    for run in runs(&steps) {
        contents.run(&run);
    }
    if contents.last != Some(Role::User) {
        contents.go_on();
    }
    out.extend_from_slice(b"]}");
    let tools = request.tools.iter().map(|tool| (function_name(&tool.name), &tool.name));
    let renamed = tools.filter(|(sent, own)| sent != *own);
    Body {
        model: request.model.clone(),
        renamed: renamed.map(|(sent, own)| (sent.into_owned(), own.clone())).collect(),
        bytes: Bytes::from(out),
    }
}

/// Room for the body, so that it is mostly written without growing.
fn estimate(request: &Request) -> usize {
    let items = request.items.iter().map(|item| match item {
        Item::User(content) => content.get().len() + 64,
        Item::Assistant { blocks, .. } => {
            blocks.iter().map(|block| block.get().len() + 1).sum::<usize>() + 64
        }
        Item::ToolResults(results) => {
            results.iter().map(|result| result.content.get().len() + 160).sum()
        }
        Item::System(text) => text.len() + 64,
    });
    let tools = request.tools.iter();
    let tools = tools.map(|tool| tool.description.len() + tool.input_schema.get().len() + 96);
    512 + items.sum::<usize>() + tools.sum::<usize>() + request.system.len()
}

/// Whether a model wants thought signatures and takes images inside of functions' responses:
/// Gemini 3 and later, by its name. Names without a number mean the latest.
fn is_modern(model: &str) -> bool {
    let Some(rest) = short_name(model).strip_prefix("gemini-") else { return false };
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
    digits.parse::<u32>().map_or(true, |generation| generation >= 3)
}

/// A tool's name as the API takes it: it also has to begin with a letter or an underscore.
fn function_name(name: &str) -> Cow<'_, str> {
    if name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') {
        return portable::tool_name(name, LONGEST_NAME);
    }
    // A blank fits no name, so this one gets a hash and meets no other tool's.
    Cow::Owned(portable::tool_name(&format!("_ {name}"), LONGEST_NAME).into_owned())
}

fn system(out: &mut Vec<u8>, request: &Request, steps: &[Step<'_>]) {
    let later = steps.iter().filter_map(|step| match step {
        Step::System(text) => Some(*text),
        _ => None,
    });
    let texts = std::iter::once(request.system.as_str()).chain(later);
    let mut any = false;
    for text in texts.filter(|text| !text.is_empty()) {
        out.extend_from_slice(if any { b"," } else { br#""systemInstruction":{"parts":["# });
        text_part(out, text);
        any = true;
    }
    if any {
        out.extend_from_slice(b"]},");
    }
}

fn tools(out: &mut Vec<u8>, request: &Request) {
    if request.tools.is_empty() {
        return;
    }
    out.extend_from_slice(br#""tools":[{"functionDeclarations":["#);
    for (index, tool) in request.tools.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(br#"{"name":"#);
        string(out, &function_name(&tool.name));
        out.extend_from_slice(br#","description":"#);
        string(out, &tool.description);
        out.extend_from_slice(br#","parametersJsonSchema":"#);
        out.extend_from_slice(tool.input_schema.get().as_bytes());
        out.push(b'}');
    }
    out.extend_from_slice(b"]}],");
}

fn generation(out: &mut Vec<u8>, request: &Request) {
    let spec = &request.spec;
    let most = spec.max_output.map(|most| format!(r#""maxOutputTokens":{most}"#));
    let thinking = match spec.thinking {
        Thinking::Budget => {
            request.effort.map(|effort| format!(r#""thinkingBudget":{}"#, budget(spec, effort)))
        }
        // A model that nobody has described is most likely a new one.
        Thinking::Adaptive | Thinking::None => request
            .effort
            .and_then(|effort| spec.nearest_effort(effort))
            .map(|effort| format!(r#""thinkingLevel":"{}""#, level(effort))),
    };
    let thinking = thinking.map(|thinking| format!(r#""thinkingConfig":{{{thinking}}}"#));
    let members: Vec<String> = most.into_iter().chain(thinking).collect();
    if !members.is_empty() {
        let config = format!(r#""generationConfig":{{{}}},"#, members.join(","));
        out.extend_from_slice(config.as_bytes());
    }
}

/// `ThinkingLevel`, whose highest is `XHIGH`.
fn level(effort: Effort) -> &'static str {
    match effort {
        Effort::Low => "LOW",
        Effort::Medium => "MEDIUM",
        Effort::High => "HIGH",
        Effort::Xhigh | Effort::Max => "XHIGH",
    }
}

/// How many tokens a model that wants a number may think. Each is inside of what all Gemini 2.5
/// models take (512 to 24,576), as long as the answer has room for twice as much.
fn budget(spec: &ModelSpec, effort: Effort) -> u64 {
    let wanted = match effort {
        Effort::Low => 2_048,
        Effort::Medium => 8_192,
        Effort::High => 16_384,
        Effort::Xhigh | Effort::Max => 24_576,
    };
    spec.max_output.map_or(wanted, |most| wanted.min(most / 2))
}

/// What stands between two answers, with the answer before it.
#[derive(Default)]
struct Run<'a> {
    answer: Option<&'a Step<'a>>,
    results: Vec<&'a ResultOf<'a>>,
    user: Vec<&'a RawValue>,
}

/// Cuts a conversation into runs.
fn runs<'a>(steps: &'a [Step<'a>]) -> Vec<Run<'a>> {
    let mut runs = vec![Run::default()];
    for step in steps {
        if let Step::Own(_) | Step::Foreign(_) = step {
            runs.push(Run { answer: Some(step), ..Run::default() });
            continue;
        }
        let Some(run) = runs.last_mut() else { continue };
        match step {
            Step::User(content) => run.user.push(content),
            Step::Results(results) => run.results.extend(results),
            Step::System(_) | Step::Own(_) | Step::Foreign(_) => {}
        }
    }
    runs
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    User,
    Model,
}

/// A call, as its response has to name it.
struct Call<'a> {
    /// `None` where the call had none.
    id: Option<Cow<'a, str>>,
    name: Cow<'a, str>,
}

/// The conversation while it is written.
struct Contents<'a> {
    out: &'a mut Vec<u8>,
    spec: &'a ModelSpec,
    modern: bool,
    /// Who spoke last.
    last: Option<Role>,
}

impl Contents<'_> {
    fn run(&mut self, run: &Run<'_>) {
        let calls = match run.answer {
            Some(Step::Own(blocks)) => self.own(blocks),
            Some(Step::Foreign(blocks)) => self.foreign(blocks),
            _ => Vec::new(),
        };
        let moved = self.results(&run.results, &calls);
        self.user(&moved, &run.user);
    }

    /// Begins a content; its parts follow, then `]}`.
    fn open(&mut self, role: Role) {
        if role == Role::Model && self.last != Some(Role::User) {
            self.go_on();
        }
        self.out.extend_from_slice(match (self.last.is_some(), role) {
            (false, Role::User) => br#"{"role":"user","parts":["#.as_slice(),
            (true, Role::User) => br#",{"role":"user","parts":["#,
            (_, Role::Model) => br#",{"role":"model","parts":["#,
        });
        self.last = Some(role);
    }

    fn close(&mut self) {
        self.out.extend_from_slice(b"]}");
    }

    /// Newer models refuse a conversation that ends in an answer, and all of them a call behind an
    /// answer.
    fn go_on(&mut self) {
        self.open(Role::User);
        text_part(self.out, portable::GO_ON);
        self.close();
    }

    /// An answer of this provider, to the letter. Only where a model that knew no signatures has
    /// called, and one that wants them goes on, is the first call marked.
    fn own<'b>(&mut self, blocks: &'b [Box<RawValue>]) -> Vec<Call<'b>> {
        if blocks.is_empty() {
            return Vec::new();
        }
        let parts: Vec<Option<Part<'b>>> = blocks.iter().map(|block| Part::read(block)).collect();
        let mut unsigned = self.modern && !parts.iter().flatten().any(Part::is_signed);
        self.open(Role::Model);
        let mut calls = Vec::new();
        for (index, (block, part)) in blocks.iter().zip(&parts).enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            let called = part.as_ref().and_then(Part::call);
            match block.get().strip_suffix('}') {
                Some(open) if called.is_some() && std::mem::take(&mut unsigned) => {
                    self.out.extend_from_slice(open.as_bytes());
                    self.out.extend_from_slice(format!(",{NO_SIGNATURE}}}").as_bytes());
                }
                _ => self.out.extend_from_slice(block.get().as_bytes()),
            }
            calls.extend(called.map(|call| Call {
                id: call.id.clone().filter(|id| !id.is_empty()).map(Cow::Owned),
                name: Cow::Owned(call.name().to_owned()),
            }));
        }
        self.close();
        calls
    }

    /// What somebody else has answered.
    fn foreign<'b>(&mut self, blocks: &'b [Portable<'b>]) -> Vec<Call<'b>> {
        self.open(Role::Model);
        let mut calls = Vec::new();
        for (index, block) in blocks.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            match block {
                Portable::Text(text) => text_part(self.out, text),
                Portable::ToolUse { call_id, name, input } => {
                    let name = function_name(name);
                    self.out.extend_from_slice(br#"{"functionCall":{"id":"#);
                    string(self.out, call_id);
                    self.out.extend_from_slice(br#","name":"#);
                    string(self.out, &name);
                    self.out.extend_from_slice(br#","args":"#);
                    self.out.extend_from_slice(input.get().as_bytes());
                    self.out.push(b'}');
                    // Of calls side by side, the first bears the signature.
                    if self.modern && calls.is_empty() {
                        self.out.extend_from_slice(format!(",{NO_SIGNATURE}").as_bytes());
                    }
                    self.out.push(b'}');
                    calls.push(Call { id: Some(Cow::Borrowed(call_id)), name });
                }
            }
        }
        self.close();
        calls
    }

    /// All results of a step in one content. Gives back what can't stand in there, already
    /// written as parts.
    fn results(&mut self, results: &[&ResultOf<'_>], calls: &[Call<'_>]) -> Vec<u8> {
        let mut moved = Vec::new();
        if results.is_empty() {
            return moved;
        }
        self.open(Role::User);
        for (index, result) in results.iter().enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            // Results stand in the order of their calls; some calls have no ids.
            let call = if results.len() == calls.len() {
                calls.get(index)
            } else {
                calls.iter().find(|call| call.id.as_ref() == Some(&result.call_id))
            };
            self.result(index, result, call, &mut moved);
        }
        self.close();
        moved
    }

    fn result(
        &mut self,
        index: usize,
        ResultOf { result, .. }: &ResultOf<'_>,
        call: Option<&Call<'_>>,
        moved: &mut Vec<u8>,
    ) {
        let mut texts: Vec<Cow<'_, str>> = Vec::new();
        let mut inside: Vec<Piece<'_>> = Vec::new();
        let mut outside: Vec<Piece<'_>> = Vec::new();
        for piece in content::pieces(&result.content) {
            if let Some(sentence) = piece::missing(self.spec, &piece) {
                texts.push(Cow::Owned(sentence));
                continue;
            }
            if let Piece::Document { title: Some(title), .. } = &piece {
                texts.push(title.clone());
            }
            match piece {
                Piece::Text(text) => texts.push(text),
                piece if self.modern && piece::fits_response(&piece) => inside.push(piece),
                piece => outside.push(piece),
            }
        }
        if !outside.is_empty() {
            texts.push(Cow::Borrowed("[More of this result follows in the next message.]"));
            if !moved.is_empty() {
                moved.push(b',');
            }
            let line = format!("[From the result of call {} ({}):]", index + 1, result.name);
            text_part(moved, &line);
            for piece in &outside {
                moved.push(b',');
                piece::write(moved, piece);
            }
        }
        self.out.extend_from_slice(br#"{"functionResponse":{"#);
        if let Some(id) = call.and_then(|call| call.id.as_ref()) {
            self.out.extend_from_slice(br#""id":"#);
            string(self.out, id);
            self.out.push(b',');
        }
        self.out.extend_from_slice(br#""name":"#);
        match call {
            Some(call) => string(self.out, &call.name),
            None => string(self.out, &function_name(&result.name)),
        }
        let member = if result.is_error { "error" } else { "output" };
        self.out.extend_from_slice(format!(r#","response":{{"{member}":"#).as_bytes());
        string(self.out, &texts.join("\n\n"));
        self.out.push(b'}');
        for (index, piece) in inside.iter().enumerate() {
            self.out.extend_from_slice(if index == 0 { br#","parts":["# } else { b"," });
            piece::write(self.out, piece);
        }
        if !inside.is_empty() {
            self.out.push(b']');
        }
        self.out.extend_from_slice(b"}}");
    }

    /// What did not fit into the results, and what the user said.
    fn user(&mut self, moved: &[u8], said: &[&RawValue]) {
        let mut parts = moved.to_vec();
        let separate = |parts: &mut Vec<u8>| {
            if !parts.is_empty() {
                parts.push(b',');
            }
        };
        for piece in said.iter().flat_map(|content| content::pieces(content)) {
            if let Some(sentence) = piece::missing(self.spec, &piece) {
                separate(&mut parts);
                text_part(&mut parts, &sentence);
                continue;
            }
            if let Piece::Document { title: Some(title), .. } = &piece {
                separate(&mut parts);
                text_part(&mut parts, title);
            }
            separate(&mut parts);
            piece::write(&mut parts, &piece);
        }
        if !parts.is_empty() {
            self.open(Role::User);
            self.out.extend_from_slice(&parts);
            self.close();
        }
    }
}
