//! A reply with what is known of it before anybody asks, whichever wire it will be played on.
//!
//! Never chooses a reply, and never writes frames; that is each wire's.

use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use super::anthropic::Prepared;
use super::script::{Reply, Step};
use super::wire::Cues;

/// A reply, how often it was played, and its frames where they are built beforehand.
pub(super) struct Playable {
    pub(super) reply: Reply,
    pub(super) used: u64,
    pub(super) prepared: Prepared,
    stop_reason: String,
}

impl Playable {
    pub(super) fn new(reply: Reply) -> Self {
        let has_tool = reply.steps.iter().any(|step| matches!(step, Step::ToolUse { .. }));
        let default_stop = if has_tool { "tool_use" } else { "end_turn" };
        let stop_reason = reply.stop_reason.clone().unwrap_or_else(|| default_stop.to_owned());
        let prepared = Prepared::new(reply.steps.iter().cloned());
        Self { reply, used: 0, prepared, stop_reason }
    }

    pub(super) fn tools_to_name(&self) -> usize {
        self.prepared.tools_to_name
    }

    pub(super) fn echoes(&self) -> bool {
        self.prepared.echoes
    }

    pub(super) fn stop_reason(&self) -> &str {
        &self.stop_reason
    }

    /// Whether a client that stays gets a whole message.
    pub(super) fn completes(&self) -> bool {
        self.reply.status == 200 && self.reply.cut_after_bytes.is_none() && self.ending().is_none()
    }

    /// The step that keeps it from being a whole message, if it is not to be streamed.
    pub(super) fn ending(&self) -> Option<&Step> {
        let broken = |step: &&Step| matches!(step, Step::Cut | Step::Stall | Step::Error { .. });
        self.reply.steps.iter().find(broken)
    }

    /// All pauses together, in a reply that is not streamed.
    pub(super) fn pauses(&self) -> Duration {
        self.prepared.pauses()
    }

    /// The steps with the ids and the echo that this playing gives them.
    pub(super) fn steps(&self, cues: &Cues<'_>) -> Vec<Step> {
        let mut ids = cues.tool_ids.iter();
        let mut resolved = |step: &Step| match step.clone() {
            Step::Echo { chunk, pause_ms } => {
                Step::Text { text: cues.echo.clone(), chunk, pause_ms }
            }
            Step::ToolUse { mut tool_use, pause_ms } => {
                tool_use.id = tool_use.id.or_else(|| ids.next().cloned());
                Step::ToolUse { tool_use, pause_ms }
            }
            step => step,
        };
        self.reply.steps.iter().map(&mut resolved).collect()
    }

    /// Everything that the model says, thoughts too.
    pub(super) fn output_tokens(&self, cues: &Cues<'_>) -> u64 {
        let echoed = if self.echoes() { cues.echo.len() } else { 0 };
        ((self.prepared.output_bytes + echoed) as u64).div_ceil(4).max(1)
    }

    /// The thoughts among [`Playable::output_tokens`].
    pub(super) fn thought_tokens(&self) -> u64 {
        let thoughts = self.reply.steps.iter().map(|step| match step {
            Step::Thinking { thinking, .. } => thinking.len() as u64,
            _ => 0,
        });
        thoughts.sum::<u64>() / 4
    }

    /// Whether any step is a text.
    pub(super) fn speaks(&self) -> bool {
        self.reply.steps.iter().any(|step| matches!(step, Step::Text { .. } | Step::Echo { .. }))
    }
}

/// Sixteen hexadecimal digits that are always the same for one text.
pub(super) fn derived(text: &str) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    format!("{:016x}", hasher.finish())
}
