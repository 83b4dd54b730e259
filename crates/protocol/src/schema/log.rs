//! Tables of events as lists and streams show them.

use super::{
    Field, Kind, Member, Table, Union,
    answers::{self, COUNT, TEXT, has, is},
    content,
};
use crate::id::IdKind;

const ID: Field = has("id", Kind::Id(IdKind::Event), "Its id.");
const AT: Field = has("processed_at", Kind::Time, "When it was taken or came to be.");
const LATER: Field = AT.or_null();
const THREAD: Field = has("session_thread_id", Kind::Id(IdKind::Thread), "The thread.");
const OF_THREAD: Field =
    has("session_thread_id", Kind::Id(IdKind::Thread), "The thread, where one is named.").or_null();
const AGENT_NAME: Field = has("agent_name", TEXT, "The agent's name when the session was made.");
const CALL: Field = has("tool_use_id", Kind::Id(IdKind::Event), "The call that is answered.");
const FAILED: Field = has("is_error", Kind::Flag, "Whether it has failed.");
const CALLED: Field = has("name", TEXT, "The tool.");
const INPUT: Field = has("input", Kind::Free, "What the tool gets.");
const RESULT: Field = has("content", content::RESULT.kind, "What came of it.");

const TOKENS: Kind = COUNT;
/// What one request has used.
pub static MODEL_USAGE: Table = Table {
    name: "ModelUsage",
    about: "What one request to a model has used.",
    fields: &[
        has("input_tokens", TOKENS, "Tokens that were sent, without those of the cache."),
        has("output_tokens", TOKENS, "Tokens that came back."),
        has("cache_creation_input_tokens", TOKENS, "Tokens written into the cache."),
        has("cache_read_input_tokens", TOKENS, "Tokens that came from the cache."),
        has("speed", TEXT, "The speed mode, where it is known.").or_null(),
    ],
};

/// Who is asked in the place of the agent's own model.
pub static SUBSTITUTE: Table = Table {
    name: "SubstituteModel",
    about: "A model that has taken over for the rest of a turn.",
    fields: &[
        has("model", TEXT, "The model that is asked, as the agent names it."),
        has("substituted_for", TEXT, "The agent's own model."),
    ],
};

macro_rules! plain {
    ($($constant:ident $name:literal $tag:literal $about:literal [$($field:expr),*];)*) => {$(
        #[doc = $about]
        pub static $constant: Table = Table {
            name: $name,
            about: $about,
            fields: &[is(&[$tag]), ID, $($field),*],
        };
    )*};
}

plain! {
    USER_MESSAGE "UserMessageEvent" "user.message" "A message of the user."
        [has("content", content::MESSAGE.kind, "The content blocks, as sent."), LATER];
    USER_INTERRUPT "UserInterruptEvent" "user.interrupt" "An interrupt." [OF_THREAD, LATER];
    CONFIRMATION "UserToolConfirmationEvent" "user.tool_confirmation"
        "What the user says of a call."
        [
            CALL,
            has("result", Kind::choice(&["allow", "deny"]), "Whether it may run."),
            has("deny_message", TEXT, "What the model is told.").or_null(),
            OF_THREAD,
            LATER
        ];
    CUSTOM_RESULT "UserCustomToolResultEvent" "user.custom_tool_result"
        "What came of a custom tool."
        [
            has("custom_tool_use_id", Kind::Id(IdKind::Event), "The call that is answered."),
            RESULT,
            FAILED,
            OF_THREAD,
            LATER
        ];
    SYSTEM_MESSAGE "SystemMessageEvent" "system.message" "A message of the system."
        [has("content", content::SYSTEM.kind, "The text blocks, as sent."), LATER];
    AGENT_MESSAGE "AgentMessageEvent" "agent.message" "A text of the agent."
        [has("content", content::SYSTEM.kind, "The text blocks."), AT];
    AGENT_THINKING "AgentThinkingEvent" "agent.thinking" "The agent thinks." [AT];
    TOOL_USE "AgentToolUseEvent" "agent.tool_use" "The agent calls a built-in tool."
        [
            CALLED,
            INPUT,
            has("evaluated_permission", Kind::choice(&["allow", "ask", "deny"]), "What it needs.")
                .or_null(),
            has("evaluation", Kind::Object(&EVALUATION), "Why.").or_null(),
            OF_THREAD,
            AT
        ];
    TOOL_RESULT "AgentToolResultEvent" "agent.tool_result" "What came of a call."
        [CALL, RESULT, FAILED, AT];
    MCP_TOOL_USE "AgentMcpToolUseEvent" "agent.mcp_tool_use" "The agent calls a tool of an MCP server."
        [
            has("mcp_server_name", TEXT, "The server, as the agent names it."),
            CALLED,
            INPUT,
            has("evaluated_permission", Kind::choice(&["allow", "ask", "deny"]), "What it needs.")
                .or_null(),
            has("evaluation", Kind::Object(&EVALUATION), "Why.").or_null(),
            OF_THREAD,
            AT
        ];
    MCP_TOOL_RESULT "AgentMcpToolResultEvent" "agent.mcp_tool_result" "What came of a call of an MCP tool."
        [
            has("mcp_tool_use_id", Kind::Id(IdKind::Event), "The call that is answered."),
            RESULT,
            FAILED,
            AT
        ];
    CUSTOM_TOOL_USE "AgentCustomToolUseEvent" "agent.custom_tool_use"
        "The agent calls a tool that the client runs." [CALLED, INPUT, OF_THREAD, AT];
    SESSION_ERROR "SessionErrorEvent" "session.error" "Something has failed."
        [has("error", Kind::Object(&PROBLEM), "What."), AT];
    SESSION_UPDATED "SessionUpdatedEvent" "session.updated" "What has changed of the session."
        [
            has("agent", Kind::Object(&answers::SESSION_AGENT), "The whole new copy.").optional(),
            has("title", TEXT, "The new title.").or_null().optional(),
            has("metadata", Kind::Pairs(super::Pairs::New), "All pairs.").optional(),
            AT
        ];
    SESSION_USAGE "SessionUsageEvent" "session.usage" "What the session has used so far."
        [
            has("usage", Kind::Object(&answers::USAGE), "What it has used."),
            has("budget", Kind::Nothing, "Always null in this version.").or_null(),
            AT
        ];
    STATUS_RUNNING "SessionStatusRunningEvent" "session.status_running" "It is at work." [AT];
    STATUS_RESCHEDULED "SessionStatusRescheduledEvent" "session.status_rescheduled"
        "It tries again later." [AT];
    STATUS_TERMINATED "SessionStatusTerminatedEvent" "session.status_terminated" "It is over." [AT];
    STATUS_IDLE "SessionStatusIdleEvent" "session.status_idle" "It rests." [REASON, DETAILS, AT];
    THREAD_RUNNING "ThreadStatusRunningEvent" "session.thread_status_running"
        "A thread is at work." [THREAD, AGENT_NAME, AT];
    THREAD_RESCHEDULED "ThreadStatusRescheduledEvent" "session.thread_status_rescheduled"
        "A thread tries again later." [THREAD, AGENT_NAME, AT];
    THREAD_TERMINATED "ThreadStatusTerminatedEvent" "session.thread_status_terminated"
        "A thread is over." [THREAD, AGENT_NAME, AT];
    THREAD_IDLE "ThreadStatusIdleEvent" "session.thread_status_idle" "A thread rests."
        [THREAD, AGENT_NAME, REASON, DETAILS, AT];
    REQUEST_START "ModelRequestStartEvent" "span.model_request_start" "A request begins."
        [
            has("posthouse", Kind::Object(&SUBSTITUTE), "When a model that took over is asked.")
                .optional(),
            AT
        ];
    REQUEST_END "ModelRequestEndEvent" "span.model_request_end" "A request ends."
        [
            has("model_request_start_id", Kind::Id(IdKind::Event), "Its beginning."),
            has("model_usage", Kind::Object(&MODEL_USAGE), "What it has used."),
            FAILED,
            AT
        ];
    DELETED "SessionDeletedEvent" "session.deleted" "The session was deleted; on streams alone."
        [AT];
}

/// Why a call was let through or not.
pub static EVALUATION: Table = Table {
    name: "ToolEvaluation",
    about: "The policy that has decided.",
    fields: &[is(&["always_allow", "always_ask"])],
};
const REASON: Field = has("stop_reason", Kind::Union(&STOP_REASON), "Why it rests.");
const DETAILS: Field =
    has("stop_details", Kind::Object(&REFUSAL_DETAILS), "Of a refusal of the model.").or_null();

macro_rules! reasons {
    ($($constant:ident $name:literal $tag:literal $about:literal [$($field:expr),*];)*) => {$(
        #[doc = $about]
        pub static $constant: Table =
            Table { name: $name, about: $about, fields: &[is(&[$tag]), $($field),*] };
    )*};
}
reasons! {
    END_TURN "EndTurn" "end_turn" "The turn is over." [];
    RETRIES "RetriesExhausted" "retries_exhausted" "It has tried often enough." [];
    REFUSAL "Refusal" "refusal" "The model has refused." [];
    ACTION "RequiresAction" "requires_action" "It waits for answers."
        [has("event_ids", Kind::List { of: AN_ID, least: 1, most: usize::MAX }, "The open calls.")];
    REFUSAL_DETAILS "RefusalDetails" "refusal" "What the model says of its refusal."
        [
            has("category", TEXT, "Its sort.").or_null(),
            has("explanation", TEXT, "Its reason.").or_null()
        ];
    RETRYING "Retrying" "retrying" "It tries again." [];
    EXHAUSTED "Exhausted" "exhausted" "It does not try again by itself." [];
    TERMINAL "Terminal" "terminal" "It is over." [];
}
const AN_ID: &Kind = &Kind::Id(IdKind::Event);
/// Why a session rests.
pub static STOP_REASON: Union = Union {
    name: "StopReason",
    tag: "type",
    members: &[
        Member::taken("end_turn", &END_TURN),
        Member::taken("requires_action", &ACTION),
        Member::taken("retries_exhausted", &RETRIES),
        Member::taken("refusal", &REFUSAL),
    ],
};
/// Whether it is tried again.
pub static RETRY: Union = Union {
    name: "RetryStatus",
    tag: "type",
    members: &[
        Member::taken("retrying", &RETRYING),
        Member::taken("exhausted", &EXHAUSTED),
        Member::taken("terminal", &TERMINAL),
    ],
};
/// What has failed.
pub static PROBLEM: Table = Table {
    name: "SessionProblem",
    about: "What has failed.",
    fields: &[
        has("type", TEXT, "Its sort, such as model_overloaded_error."),
        has("message", TEXT, "For people."),
        has("retry_status", Kind::Union(&RETRY), "Whether it is tried again."),
        has(
            "credential_id",
            Kind::Id(IdKind::Credential),
            "The credential, where it is about one.",
        )
        .optional(),
        has("vault_id", Kind::Id(IdKind::Vault), "The vault of that credential.").optional(),
        has(
            "mcp_server_name",
            TEXT,
            "The MCP server, where it is about one: mcp_connection_failed_error and \
             mcp_authentication_failed_error. The session goes on without it until its next turn.",
        )
        .optional(),
    ],
};

/// The events of a log, and `session.deleted`, which streams alone show.
pub static EVENT: Union = Union {
    name: "SessionEvent",
    tag: "type",
    members: &[
        Member::taken("user.message", &USER_MESSAGE),
        Member::taken("user.interrupt", &USER_INTERRUPT),
        Member::taken("user.tool_confirmation", &CONFIRMATION),
        Member::taken("user.custom_tool_result", &CUSTOM_RESULT),
        Member::taken("system.message", &SYSTEM_MESSAGE),
        Member::taken("agent.message", &AGENT_MESSAGE),
        Member::taken("agent.thinking", &AGENT_THINKING),
        Member::taken("agent.tool_use", &TOOL_USE),
        Member::taken("agent.tool_result", &TOOL_RESULT),
        Member::taken("agent.mcp_tool_use", &MCP_TOOL_USE),
        Member::taken("agent.mcp_tool_result", &MCP_TOOL_RESULT),
        Member::taken("agent.custom_tool_use", &CUSTOM_TOOL_USE),
        Member::taken("session.error", &SESSION_ERROR),
        Member::taken("session.updated", &SESSION_UPDATED),
        Member::taken("session.usage", &SESSION_USAGE),
        Member::taken("session.deleted", &DELETED),
        Member::taken("session.status_running", &STATUS_RUNNING),
        Member::taken("session.status_idle", &STATUS_IDLE),
        Member::taken("session.status_rescheduled", &STATUS_RESCHEDULED),
        Member::taken("session.status_terminated", &STATUS_TERMINATED),
        Member::taken("session.thread_status_running", &THREAD_RUNNING),
        Member::taken("session.thread_status_idle", &THREAD_IDLE),
        Member::taken("session.thread_status_rescheduled", &THREAD_RESCHEDULED),
        Member::taken("session.thread_status_terminated", &THREAD_TERMINATED),
        Member::taken("span.model_request_start", &REQUEST_START),
        Member::taken("span.model_request_end", &REQUEST_END),
    ],
};

/// The event that a preview announces.
pub static PREVIEWED: Table = Table {
    name: "PreviewedEvent",
    about: "The event that comes into being.",
    fields: &[is(&["agent.message", "agent.thinking"]), ID],
};
/// A preview begins.
pub static START: Table = Table {
    name: "EventStart",
    about: "An event comes into being; on streams that ask for it.",
    fields: &[is(&["event_start"]), has("event", Kind::Object(&PREVIEWED), "Which one.")],
};
/// A piece of text.
pub static DELTA_CONTENT: Table = Table {
    name: "EventDeltaContent",
    about: "A piece of an event's content.",
    fields: &[
        is(&["content_delta"]),
        has("index", COUNT, "Which content block."),
        has("content", Kind::Object(&content::TEXT), "The piece."),
    ],
};
/// A preview goes on.
pub static DELTA: Table = Table {
    name: "EventDelta",
    about: "A piece of an event that comes into being.",
    fields: &[
        is(&["event_delta"]),
        has("event_id", Kind::Id(IdKind::Event), "Which event."),
        has("delta", Kind::Object(&DELTA_CONTENT), "The piece."),
    ],
};
/// What a stream shows besides events.
pub static PREVIEW: Union = Union {
    name: "EventPreview",
    tag: "type",
    members: &[Member::taken("event_start", &START), Member::taken("event_delta", &DELTA)],
};
