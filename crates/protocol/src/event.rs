//! Session events: their names, what clients may send, and how a record becomes an event.

use serde_json::{Value, json};

use crate::{
    ApiError, Fields, Given, Micros,
    content::{self, Place},
    fields,
    schema::{Field, Union, content as content_schema, events as schema},
};

/// The names of all events that a log can show to a client of the original API.
#[expect(missing_docs, reason = "the names are the API's own")]
pub mod kind {
    pub const USER_MESSAGE: &str = "user.message";
    pub const USER_INTERRUPT: &str = "user.interrupt";
    pub const USER_TOOL_CONFIRMATION: &str = "user.tool_confirmation";
    pub const USER_CUSTOM_TOOL_RESULT: &str = "user.custom_tool_result";
    pub const SYSTEM_MESSAGE: &str = "system.message";
    pub const AGENT_MESSAGE: &str = "agent.message";
    pub const AGENT_THINKING: &str = "agent.thinking";
    pub const AGENT_TOOL_USE: &str = "agent.tool_use";
    pub const AGENT_TOOL_RESULT: &str = "agent.tool_result";
    pub const AGENT_CUSTOM_TOOL_USE: &str = "agent.custom_tool_use";
    pub const AGENT_MCP_TOOL_USE: &str = "agent.mcp_tool_use";
    pub const AGENT_MCP_TOOL_RESULT: &str = "agent.mcp_tool_result";
    pub const SESSION_ERROR: &str = "session.error";
    pub const SESSION_UPDATED: &str = "session.updated";
    pub const SESSION_USAGE: &str = "session.usage";
    pub const SESSION_DELETED: &str = "session.deleted";
    pub const STATUS_RUNNING: &str = "session.status_running";
    pub const STATUS_IDLE: &str = "session.status_idle";
    pub const STATUS_RESCHEDULED: &str = "session.status_rescheduled";
    pub const STATUS_TERMINATED: &str = "session.status_terminated";
    pub const THREAD_RUNNING: &str = "session.thread_status_running";
    pub const THREAD_IDLE: &str = "session.thread_status_idle";
    pub const THREAD_RESCHEDULED: &str = "session.thread_status_rescheduled";
    pub const THREAD_TERMINATED: &str = "session.thread_status_terminated";
    pub const REQUEST_START: &str = "span.model_request_start";
    pub const REQUEST_END: &str = "span.model_request_end";
}

/// The names that the `types[]` filter of an event list takes: every event of the API that a
/// log can hold, also those that this version never writes.
pub const LISTABLE: &[&str] = &[
    "agent.custom_tool_use",
    "agent.mcp_tool_result",
    "agent.mcp_tool_use",
    "agent.message",
    "agent.thinking",
    "agent.thread_context_compacted",
    "agent.thread_message_received",
    "agent.thread_message_sent",
    "agent.tool_result",
    "agent.tool_use",
    "session.error",
    "session.status_idle",
    "session.status_rescheduled",
    "session.status_running",
    "session.status_terminated",
    "session.thread_created",
    "session.thread_status_idle",
    "session.thread_status_rescheduled",
    "session.thread_status_running",
    "session.thread_status_terminated",
    "session.updated",
    "session.usage",
    "span.model_request_end",
    "span.model_request_start",
    "span.outcome_evaluation_end",
    "span.outcome_evaluation_ongoing",
    "span.outcome_evaluation_start",
    "system.message",
    "user.custom_tool_result",
    "user.define_outcome",
    "user.interrupt",
    "user.message",
    "user.tool_confirmation",
    "user.tool_result",
    "workflow_run.created",
    "workflow_run.error",
    "workflow_run.phase_ended",
    "workflow_run.phase_started",
    "workflow_run.status_ended",
    "workflow_run.status_idle",
    "workflow_run.status_running",
];

/// An event that a client has sent, checked for all that can be known without its session.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientEvent {
    /// `user.message`
    Message {
        /// The content blocks as sent.
        content: Value,
    },
    /// `user.interrupt`
    Interrupt {
        /// The thread to interrupt; the whole session when `None`.
        thread: Option<String>,
    },
    /// `user.tool_confirmation`
    Confirmation {
        /// The call that is answered.
        call: String,
        /// Whether it may run.
        allow: bool,
        /// What the model is told when it may not.
        deny_message: Option<String>,
    },
    /// `user.custom_tool_result`
    CustomToolResult {
        /// The call that is answered.
        call: String,
        /// The content blocks as sent, possibly none.
        content: Value,
        /// Whether the tool failed.
        is_error: bool,
    },
    /// `system.message`
    System {
        /// The text blocks as sent.
        content: Value,
    },
}

impl ClientEvent {
    /// Parses the body of `POST …/events`.
    ///
    /// # Errors
    /// 400 that names the event and the field.
    pub fn parse_batch(body: &[u8]) -> Result<Vec<Self>, ApiError> {
        let mut fields = Fields::parse(body)?;
        let events = fields.list(&schema::EVENTS)?.value().unwrap_or_default();
        fields.finish(&schema::BATCH)?;
        Self::parse_list(events, schema::EVENTS.name, &schema::CLIENT_EVENT)
    }

    /// Parses the events that a session begins with.
    ///
    /// # Errors
    /// 400 that names the event and the field.
    pub fn parse_initial(events: Vec<Value>) -> Result<Vec<Self>, ApiError> {
        Self::parse_list(events, schema::INITIAL_EVENTS.name, &schema::INITIAL_EVENT)
    }

    /// Parses a list of such events that stands at `path`.
    fn parse_list(events: Vec<Value>, path: &str, of: &Union) -> Result<Vec<Self>, ApiError> {
        let parse = |(index, event)| Self::parse(event, &format!("{path}[{index}]"), of);
        let events: Vec<_> = events.into_iter().enumerate().map(parse).collect::<Result<_, _>>()?;
        let last = events.len().saturating_sub(1);
        let misplaced = events
            .iter()
            .position(|event| matches!(event, Self::System { .. }))
            .filter(|position| *position != last);
        if let Some(index) = misplaced {
            return Err(fields::wrong(
                &format!("{path}[{index}]"),
                "is a system.message before the end of the list",
                "send at most one, as the last event",
            ));
        }
        Ok(events)
    }

    fn parse(event: Value, path: &str, of: &Union) -> Result<Self, ApiError> {
        let mut fields = Fields::open(event, path)?;
        match fields.tag(of)? {
            "user.message" => {
                let content = content(&mut fields, &content_schema::MESSAGE, Place::Message)?;
                fields.finish(&schema::MESSAGE)?;
                Ok(Self::Message { content })
            }
            "system.message" => {
                let content = content(&mut fields, &content_schema::SYSTEM, Place::System)?;
                fields.finish(&schema::SYSTEM)?;
                Ok(Self::System { content })
            }
            "user.interrupt" => {
                let thread = fields.text(&schema::THREAD)?.value();
                fields.finish(&schema::INTERRUPT)?;
                Ok(Self::Interrupt { thread })
            }
            "user.tool_confirmation" => confirmation(fields),
            _ => custom_result(fields),
        }
    }
}

fn content(fields: &mut Fields, field: &Field, place: Place) -> Result<Value, ApiError> {
    let blocks = fields.required(field)?;
    content::check(blocks, &fields.path_of(field), place)
}

fn confirmation(mut fields: Fields) -> Result<ClientEvent, ApiError> {
    let call = fields.required_text(&schema::TOOL_USE)?;
    let allow = fields.required_choice(&schema::VERDICT)? == "allow";
    let deny_message = fields.text(&schema::DENY_MESSAGE)?.value();
    if allow && deny_message.is_some() {
        return Err(fields.wrong(
            &schema::DENY_MESSAGE,
            "is given although result is \"allow\"",
            "leave it out or send result \"deny\"",
        ));
    }
    fields.finish(&schema::CONFIRMATION)?;
    Ok(ClientEvent::Confirmation { call, allow, deny_message })
}

fn custom_result(mut fields: Fields) -> Result<ClientEvent, ApiError> {
    let call = fields.required_text(&schema::CUSTOM_TOOL_USE)?;
    let field = &content_schema::RESULT;
    let content = match fields.any(field)? {
        Given::Value(blocks) => content::check(blocks, &fields.path_of(field), Place::ToolResult)?,
        Given::Absent | Given::Null => json!([]),
    };
    let is_error = fields.flag(&schema::IS_ERROR)?.value().unwrap_or(false);
    fields.finish(&schema::CUSTOM_RESULT)?;
    Ok(ClientEvent::CustomToolResult { call, content, is_error })
}

/// Renders an event as the wire shows it. `payload` is the record's JSON object, which begins
/// with the event's `id` and holds all but `type` and `processed_at`.
#[must_use]
pub fn render(kind: &str, payload: &str, processed_at: Option<Micros>) -> String {
    let members =
        payload.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
    let mut event = String::with_capacity(kind.len() + members.len() + 64);
    event.push_str("{\"type\":\"");
    event.push_str(kind);
    event.push('"');
    if !members.is_empty() {
        event.push(',');
        event.push_str(members);
    }
    match processed_at {
        Some(at) => {
            event.push_str(",\"processed_at\":\"");
            event.push_str(&at.to_rfc3339());
            event.push_str("\"}");
        }
        None => event.push_str(",\"processed_at\":null}"),
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<Vec<ClientEvent>, String> {
        ClientEvent::parse_batch(body.to_string().as_bytes()).map_err(|error| error.message)
    }

    #[test]
    fn each_kind_is_read() {
        let events = parse(json!({"events": [
            {"type": "user.interrupt"},
            {"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "deny",
             "deny_message": "no"},
            {"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_2"},
            {"type": "user.message", "content": [{"type": "text", "text": "hi"}]},
            {"type": "system.message", "content": [{"type": "text", "text": "be brief"}]},
        ]}))
        .unwrap();
        assert_eq!(events.len(), 5);
        assert_eq!(
            events[2],
            ClientEvent::CustomToolResult {
                call: "sevt_2".into(),
                content: json!([]),
                is_error: false
            }
        );
    }

    #[test]
    fn refusals_name_the_event() {
        let case = |event: Value| parse(json!({"events": [event]})).unwrap_err();
        assert!(
            case(json!({"type": "tool_confirmation"}))
                .contains("events[0].type: \"tool_confirmation\" is not a valid value")
        );
        assert!(
            case(json!({"type": "user.tool_result", "tool_use_id": "x"})).contains("self-hosted")
        );
        assert!(
            case(json!({"type": "user.message", "content": "hi"}))
                .starts_with("events[0].content: is a text")
        );
        assert!(
            case(json!({"type": "user.tool_confirmation", "tool_use_id": "a",
            "result": "allow", "deny_message": "x"}))
            .contains("deny_message")
        );
        assert!(
            case(json!({"type": "user.message", "id": "x",
            "content": [{"type": "text", "text": "hi"}]}))
            .contains("unknown field")
        );
        assert!(parse(json!({"events": []})).unwrap_err().starts_with("events: has 0"));
        assert!(parse(json!({})).unwrap_err().starts_with("events: is missing"));
    }

    #[test]
    fn an_event_is_its_payload_with_type_and_time() {
        let event = render("agent.thinking", r#"{"id":"sevt_1"}"#, Some(Micros(1)));
        let event: Value = serde_json::from_str(&event).unwrap();
        assert_eq!(
            event,
            json!({"id": "sevt_1", "type": "agent.thinking",
                   "processed_at": "1970-01-01T00:00:00.000001Z"})
        );
    }
}
