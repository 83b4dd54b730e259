//! Short ways to write a script in a Rust test.
//!
//! Holds builders only; everything they build can also be written as JSON.

use std::time::Duration;

use serde_json::{Map, Value};

use super::script::{Reply, Script, Step, ToolUse, When};

impl Script {
    /// A script of these replies, in this order.
    #[must_use]
    pub fn of(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self { replies: replies.into_iter().collect(), ..Self::default() }
    }

    /// A script that echoes for ever and records nothing, for benches.
    #[must_use]
    pub fn bench_echo() -> Self {
        Self { record: false, ..Self::of([Reply::echo().forever()]) }
    }

    /// What is played when nothing else matches.
    #[must_use]
    pub fn otherwise(mut self, reply: Reply) -> Self {
        self.otherwise = Some(reply);
        self
    }

    /// Lets conversations rewrite what they sent before.
    #[must_use]
    pub fn allowing_prefix_change(mut self) -> Self {
        self.allow_prefix_change = true;
        self
    }
}

impl From<Reply> for Script {
    fn from(reply: Reply) -> Self {
        Self::of([reply])
    }
}

/// The beginnings of a reply.
impl Reply {
    /// These steps.
    #[must_use]
    pub fn of(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), ..Self::default() }
    }

    /// One text block.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::default().and_text(text)
    }

    /// One thinking block; more is to follow with [`Reply::and_text`] or [`Reply::and_tool_use`].
    #[must_use]
    pub fn thinking(thinking: impl Into<String>) -> Self {
        let step = Step::Thinking {
            thinking: thinking.into(),
            signature: None,
            chunk: None,
            pause_ms: None,
        };
        Self::of([step])
    }

    /// One call of a tool, with a fresh id.
    ///
    /// # Panics
    /// If `input` is not a JSON object.
    #[must_use]
    pub fn tool_use(name: impl Into<String>, input: Value) -> Self {
        Self::default().and_tool_use(name, input)
    }

    /// The last text of the user.
    #[must_use]
    pub fn echo() -> Self {
        Self::of([Step::Echo { chunk: None, pause_ms: None }])
    }

    /// An error body with this HTTP status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// An `error` event in an answer that began well.
    #[must_use]
    pub fn error_event(kind: impl Into<String>, message: impl Into<String>) -> Self {
        Self::default().and(Step::Error { kind: kind.into(), message: message.into() })
    }
}

/// What follows in a reply, and how it is sent.
impl Reply {
    /// One more step.
    #[must_use]
    pub fn and(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// One more text block.
    #[must_use]
    pub fn and_text(self, text: impl Into<String>) -> Self {
        self.and(Step::Text { text: text.into(), chunk: None, pause_ms: None })
    }

    /// One more call of a tool, parallel to those before.
    ///
    /// # Panics
    /// If `input` is not a JSON object.
    #[must_use]
    pub fn and_tool_use(self, name: impl Into<String>, input: Value) -> Self {
        let tool_use = ToolUse { name: name.into(), input: object(input), id: None, chunk: None };
        self.and(Step::ToolUse { tool_use, pause_ms: None })
    }

    /// Sends nothing for so long between `message_start` and the first block.
    #[must_use]
    pub fn with_pause(mut self, pause: Duration) -> Self {
        self.steps.insert(0, Step::Pause(milliseconds(pause)));
        self
    }

    /// Sends nothing at all for so long, not even the headers.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay_ms = Some(milliseconds(delay));
        self
    }

    /// Sends every text, thinking and tool input in deltas of so many characters, each after a pause.
    #[must_use]
    pub fn in_chunks(mut self, characters: usize, pause: Duration) -> Self {
        let pause = (!pause.is_zero()).then(|| milliseconds(pause));
        for step in &mut self.steps {
            match step {
                Step::Text { chunk, pause_ms, .. }
                | Step::Thinking { chunk, pause_ms, .. }
                | Step::Echo { chunk, pause_ms } => (*chunk, *pause_ms) = (Some(characters), pause),
                Step::ToolUse { tool_use, pause_ms } => {
                    (tool_use.chunk, *pause_ms) = (Some(characters), pause)
                }
                _ => {}
            }
        }
        self
    }

    /// Closes the connection after exactly so many bytes of the body.
    #[must_use]
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut_after_bytes = Some(bytes);
        self
    }

    /// Closes the connection after the last step.
    #[must_use]
    pub fn and_cut(self) -> Self {
        self.and(Step::Cut)
    }

    /// Sends nothing more after the last step and keeps the connection open.
    #[must_use]
    pub fn and_stall(self) -> Self {
        self.and(Step::Stall)
    }

    /// Another stop reason.
    #[must_use]
    pub fn with_stop_reason(mut self, stop_reason: impl Into<String>) -> Self {
        self.stop_reason = Some(stop_reason.into());
        self
    }

    /// A response header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// The text of an error body.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Members laid over the object of an error body.
    ///
    /// # Panics
    /// If `error` is not a JSON object.
    #[must_use]
    pub fn with_error(mut self, error: Value) -> Self {
        self.error = object(error);
        self
    }

    /// What else is said of the end.
    #[must_use]
    pub fn with_stop_details(mut self, details: Value) -> Self {
        self.stop_details = Some(details);
        self
    }

    /// Sends the arguments of parallel calls in turns, on the wire of Chat Completions.
    #[must_use]
    pub fn interleaved(mut self) -> Self {
        self.interleave = true;
        self
    }

    /// Fields laid over the estimated usage.
    ///
    /// # Panics
    /// If `usage` is not a JSON object.
    #[must_use]
    pub fn with_usage(mut self, usage: Value) -> Self {
        self.usage = object(usage);
        self
    }
}

/// For which requests, and how often.
impl Reply {
    /// Only for requests like these.
    #[must_use]
    pub fn when(mut self, when: When) -> Self {
        self.when = Some(when);
        self
    }

    /// Only for requests whose last user message contains this.
    #[must_use]
    pub fn when_user_says(mut self, text: impl Into<String>) -> Self {
        self.when.get_or_insert_default().last_user_contains = Some(text.into());
        self
    }

    /// Only for requests that bring a result of this tool.
    #[must_use]
    pub fn when_result_of(mut self, tool: impl Into<String>) -> Self {
        self.when.get_or_insert_default().has_tool_result_for = Some(tool.into());
        self
    }

    /// Only for requests to this model.
    #[must_use]
    pub fn when_model(mut self, model: impl Into<String>) -> Self {
        self.when.get_or_insert_default().model = Some(model.into());
        self
    }

    /// Only for requests on this wire: `anthropic`, `openai_responses`, `openai_chat` or `gemini`.
    #[must_use]
    pub fn when_wire(mut self, wire: impl Into<String>) -> Self {
        self.when.get_or_insert_default().wire = Some(wire.into());
        self
    }

    /// May be played so often.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// May be played without end.
    #[must_use]
    pub fn forever(self) -> Self {
        self.times(0)
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => panic!("a JSON object is needed here, not {other}"),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
