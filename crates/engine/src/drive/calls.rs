//! How calls get to the tools that they are for, and what the log keeps of their results.
//!
//! Which tool that is, the log has said before: nothing here judges whether a call may run.

use std::{future::ready, sync::Arc};

use posthouse_protocol::agent::{ToolName, Tools as _};
use serde_json::{Value, json};

use super::{Drive, Stopped};
use crate::{
    flight::Outcome,
    line::{self, Line},
    own::{self, Searched, ToolsLoaded},
    prompt, sources,
    state::Call,
    step::{self, Effect},
    summary::Family,
    toolbox::{FIND_TOOLS, Toolbox},
    tools::{Destination, Hands, OutsideCall, ToolCall, ToolFuture, ToolOutcome, UNKNOWN_OUTCOME},
};

/// What a search of the web costs by the price list, in billionths of a dollar: ten dollars for a
/// thousand.
const SEARCH_COST: u64 = 10_000_000;
/// The longest result that goes into a conversation, in characters.
const LONGEST_RESULT: usize = 100_000;
/// How much of a longer one does.
const SHOWN: usize = 10_000;

/// Where a call goes.
enum Way {
    Hands,
    FindTools,
    Server(Arc<str>),
    Fetch,
    Search,
}

impl Way {
    fn of(call: &Call) -> Self {
        if let Some(server) = &call.server {
            return Self::Server(Arc::clone(server));
        }
        match ToolName::parse(&call.name) {
            Some(ToolName::WebFetch) => Self::Fetch,
            Some(ToolName::WebSearch) => Self::Search,
            None if *call.name == *FIND_TOOLS => Self::FindTools,
            _ => Self::Hands,
        }
    }
}

impl Drive<'_> {
    /// Whether there is such a call.
    pub(super) fn is_call(&self, thread: &str, event: &str) -> bool {
        self.state.thread(thread).is_some_and(|thread| thread.call(event).is_some())
    }

    /// Starts a call that has never been started.
    pub(super) fn run_call(
        &self,
        toolbox: &Toolbox,
        thread: &Arc<str>,
        event: &Arc<str>,
    ) -> Option<ToolFuture> {
        let of = self.state.thread(thread)?;
        let call = of.call(event)?;
        let tool_call = self.tool_call(thread, call);
        let agent = &self.state.agent;
        let to = match Way::of(call) {
            Way::Hands => return Some(self.core.hands.call(tool_call)),
            Way::FindTools => {
                let found = toolbox.find(&call.input);
                let outcome = match found.is_error {
                    true => ToolOutcome::error(found.text),
                    false => ToolOutcome::text(found.text),
                };
                return Some(Box::pin(ready(outcome)));
            }
            Way::Server(server) if !agent.mcp_servers.iter().any(|one| one.name() == &*server) => {
                let text = "The agent no longer has this MCP server.";
                return Some(Box::pin(ready(ToolOutcome::error(text))));
            }
            Way::Server(server) => Destination::Server(server),
            Way::Fetch => match sources::check(of, agent, &call.input) {
                Ok(shown) => Destination::Page(shown),
                Err(text) => return Some(Box::pin(ready(ToolOutcome::error(text)))),
            },
            Way::Search => Destination::Search,
        };
        let outside = OutsideCall { call: tool_call.clone(), to };
        let work = self.core.outside.call(self.standpoint(), outside);
        // A file that no tool of the agent can read helps nobody, and it would need a sandbox.
        let reads = [ToolName::Read, ToolName::Grep, ToolName::Bash];
        let reads = reads.iter().any(|tool| agent.tools.permission(tool.as_str()).is_some());
        let hands = reads.then(|| Arc::clone(&self.core.hands));
        Some(Box::pin(async move { bounded(hands.as_deref(), &tool_call, work.await).await }))
    }

    /// Looks for what came of a call that was started before a crash. Only what does no more when it
    /// is done twice is done again.
    pub(super) fn recover(
        &self,
        toolbox: &Toolbox,
        thread: &Arc<str>,
        event: &Arc<str>,
    ) -> Option<ToolFuture> {
        let call = self.state.thread(thread)?.call(event)?;
        match Way::of(call) {
            Way::Hands => Some(self.core.hands.recover(self.tool_call(thread, call))),
            Way::Server(server) if !toolbox.is_idempotent(&server, &call.name) => {
                Some(Box::pin(ready(ToolOutcome::error(UNKNOWN_OUTCOME))))
            }
            Way::FindTools | Way::Server(_) | Way::Fetch | Way::Search => {
                self.run_call(toolbox, thread, event)
            }
        }
    }

    fn tool_call(&self, thread: &Arc<str>, call: &Call) -> ToolCall {
        ToolCall {
            session: Arc::clone(&self.session),
            thread: Arc::clone(thread),
            call: Arc::clone(&call.event),
            name: Arc::clone(&call.name),
            input: Arc::clone(&call.input),
        }
    }

    /// Appends the results that have come, in the order of their calls: one that has come early
    /// waits for those before it. Until then it counts as under way, so that nothing is started
    /// twice. After a crash a sandbox's journal has it; of a tool from outside it is lost, and what
    /// came of that call is unknown.
    pub(super) async fn append_results(&mut self, thread: &Arc<str>) -> Result<(), Stopped> {
        loop {
            let next =
                self.state.thread(thread).into_iter().flat_map(|thread| &thread.calls).find_map(
                    |call| {
                        let (thread, event) = (Arc::clone(thread), Arc::clone(&call.event));
                        let effect = Effect::Tool { thread, call: event };
                        self.flights.contains_key(&effect).then(|| (effect, call.family()))
                    },
                );
            let Some((effect, family)) = next else {
                // Nobody waits for what is left.
                let is_left = |effect: &Effect| match effect {
                    Effect::Tool { thread: of, .. } => of == thread,
                    Effect::Model { .. } | Effect::List { .. } | Effect::SleepUntil { .. } => false,
                };
                self.flights.retain(|effect, _| !is_left(effect));
                self.landed.retain(|effect, _| !is_left(effect));
                return Ok(());
            };
            let Some(outcome) = self.landed.remove(&effect) else { return Ok(()) };
            self.flights.remove(&effect);
            let Effect::Tool { call, .. } = &effect else { return Ok(()) };
            let lines = match outcome {
                Outcome::Tool(outcome) => {
                    let toolbox = self.toolbox_at_hand(thread).await?;
                    self.result(&toolbox, thread, call, family, &outcome)
                }
                _ => vec![line::error_result(thread, family, call, step::INTERRUPTED)],
            };
            self.core.faults().point("tool.before_append")?;
            self.append_lines(lines).await?;
            self.core.faults().point("tool.after_append")?;
        }
    }

    /// What the log keeps of a result: what is wrong with its server, the result itself, and what the
    /// call has used or found.
    fn result(
        &self,
        toolbox: &Toolbox,
        thread: &Arc<str>,
        event: &Arc<str>,
        family: Family,
        outcome: &ToolOutcome,
    ) -> Vec<Line> {
        let trouble = outcome.trouble.as_ref().map(|one| line::server_trouble(thread, one));
        let mut lines: Vec<_> = trouble.into_iter().collect();
        let ToolOutcome { content, is_error, searches, .. } = outcome;
        lines.push(line::tool_result(thread, family, event, content, *is_error));
        if *searches > 0 {
            let cost = u64::from(*searches) * SEARCH_COST;
            let searched = Searched { call: Arc::clone(event), requests: *searches, cost };
            lines.push(line::own_record(own::kind::SEARCHED, thread, &searched));
        }
        let call = self.state.thread(thread).and_then(|thread| thread.call(event));
        if let Some(call) = call.filter(|call| matches!(Way::of(call), Way::FindTools)) {
            let names = toolbox.find(&call.input).names;
            if !names.is_empty() {
                let loaded = ToolsLoaded { names };
                lines.push(line::own_record(own::kind::TOOLS_LOADED, thread, &loaded));
            }
        }
        lines
    }
}

/// A result that fits into a conversation: a longer text goes into a file of the sandbox, and the
/// model sees its beginning and where the rest is. Without hands the rest of it is lost.
async fn bounded(hands: Option<&dyn Hands>, call: &ToolCall, outcome: ToolOutcome) -> ToolOutcome {
    let blocks = outcome.content.as_array().map_or(&[][..], Vec::as_slice);
    let texts: Vec<String> = blocks.iter().filter_map(text_of).collect();
    let length = texts.iter().map(|text| text.chars().count()).sum::<usize>();
    if length <= LONGEST_RESULT {
        return outcome;
    }
    let whole = texts.join("\n\n");
    let mut shown: String = whole.chars().take(SHOWN).collect();
    let path = match hands {
        Some(hands) => hands.keep_text(call, whole).await,
        None => None,
    };
    shown.push_str("\n\n");
    shown.push_str(&prompt::spilled(length, SHOWN, path.as_deref()));
    let others = blocks.iter().filter(|block| text_of(block).is_none()).cloned();
    let content = [json!({ "type": "text", "text": shown })].into_iter().chain(others).collect();
    ToolOutcome { content, ..outcome }
}

/// What a block says in words. None for pictures and PDF.
fn text_of(block: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match block["type"].as_str()? {
        "text" => text(&block["text"]),
        "document" => text(&block["source"]["data"]).filter(|_| block["source"]["type"] == "text"),
        "search_result" => {
            let content = block["content"].as_array().into_iter().flatten();
            let head = [&block["title"], &block["source"]].into_iter().filter_map(text);
            let texts: Vec<_> = head.chain(content.filter_map(|one| text(&one["text"]))).collect();
            Some(texts.join("\n"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
