//! Tables of events, as clients send them.

use super::{Field, Kind, Member, Table, Union, content};

/// The most events that one request may send.
const MOST_EVENTS: usize = 1000;

/// The most events that a session may begin with.
const MOST_INITIAL: usize = 50;

const ANY_EVENT: &Kind = &Kind::Union(&CLIENT_EVENT);
const FIRST_EVENT: &Kind = &Kind::Union(&INITIAL_EVENT);

/// The events of one request.
pub const EVENTS: Field = Field::new(
    "events",
    Kind::List { of: ANY_EVENT, least: 1, most: MOST_EVENTS },
    "The events; all are taken or none. A system.message stands last.",
)
.required()
.right("send a list of events")
.example(r#"[{"type": "user.message", "content": [{"type": "text", "text": "Hello"}]}]"#);

/// The events that a session begins with.
pub const INITIAL_EVENTS: Field = Field::new(
    "initial_events",
    Kind::List { of: FIRST_EVENT, least: 0, most: MOST_INITIAL },
    "What the session begins with; it is at work at once unless the list is empty.",
)
.means("[]")
.example(r#"[{"type": "user.message", "content": [{"type": "text", "text": "Hello"}]}]"#);

/// The body of a request that sends events.
pub static BATCH: Table =
    Table { name: "EventSendParams", about: "Events for a session.", fields: &[EVENTS] };

/// What clients may send.
pub static CLIENT_EVENT: Union = Union {
    name: "ClientEvent",
    tag: "type",
    members: &[
        Member::taken("user.message", &MESSAGE),
        Member::taken("user.interrupt", &INTERRUPT),
        Member::taken("user.tool_confirmation", &CONFIRMATION),
        Member::taken("user.custom_tool_result", &CUSTOM_RESULT),
        Member::refused(
            "user.tool_result",
            "is for self-hosted environments alone",
            "answer custom tools with user.custom_tool_result",
        ),
        Member::later("user.define_outcome", "send the task as a user.message"),
        Member::taken("system.message", &SYSTEM),
    ],
};

const UNFIT: &str = "can't begin a session";
const FIT: &str = "send user.message events alone";

/// What a session may begin with.
pub static INITIAL_EVENT: Union = Union {
    name: "InitialEvent",
    tag: "type",
    members: &[
        Member::taken("user.message", &MESSAGE),
        Member::refused("user.interrupt", UNFIT, FIT),
        Member::refused("user.tool_confirmation", UNFIT, FIT),
        Member::refused("user.custom_tool_result", UNFIT, FIT),
        Member::refused("user.tool_result", UNFIT, FIT),
        Member::later("user.define_outcome", "send the task as a user.message"),
        Member::refused("system.message", UNFIT, FIT),
    ],
};

/// A message.
pub static MESSAGE: Table = Table {
    name: "UserMessageParams",
    about: "A message. It wakes an idle session; one at work takes it before its next request to \
            the model.",
    fields: &[Field::tag(&["user.message"]), content::MESSAGE],
};

/// The thread that an interrupt is for.
pub const THREAD: Field = Field::text(
    "session_thread_id",
    1,
    128,
    "The thread to interrupt; the whole session when it is left out.",
)
.rule("A thread of this session.");

/// An interrupt.
pub static INTERRUPT: Table = Table {
    name: "UserInterruptParams",
    about: "Stops what is under way.",
    fields: &[Field::tag(&["user.interrupt"]), THREAD],
};

const A_CALL: &str = "A call of this session that waits, or one that was answered.";
/// The call that is confirmed.
pub const TOOL_USE: Field = Field::text("tool_use_id", 1, 128, "The call that is answered.")
    .required()
    .rule(A_CALL)
    .example(r#""sevt_000000000000000000000001""#);
/// Whether it may run.
pub const VERDICT: Field = Field::choice("result", &["allow", "deny"], "Whether it may run.")
    .required()
    .example(r#""deny""#);
/// What the model is told.
pub const DENY_MESSAGE: Field =
    Field::text("deny_message", 0, 10_000, "What the model is told of a call that may not run.")
        .rule("Only with result deny.");

/// A confirmation.
pub static CONFIRMATION: Table = Table {
    name: "UserToolConfirmationParams",
    about: "Says whether a call that waits may run.",
    fields: &[Field::tag(&["user.tool_confirmation"]), TOOL_USE, VERDICT, DENY_MESSAGE],
};

/// The call whose result this is.
pub const CUSTOM_TOOL_USE: Field = Field { name: "custom_tool_use_id", ..TOOL_USE };
/// Whether the tool has failed.
pub const IS_ERROR: Field = Field::new("is_error", Kind::Flag, "Whether the tool has failed.")
    .means("false")
    .example("false");

/// The result of a custom tool.
pub static CUSTOM_RESULT: Table = Table {
    name: "UserCustomToolResultParams",
    about: "What came of a call of a custom tool.",
    fields: &[Field::tag(&["user.custom_tool_result"]), CUSTOM_TOOL_USE, content::RESULT, IS_ERROR],
};

/// A message of the system.
pub static SYSTEM: Table = Table {
    name: "SystemMessageParams",
    about: "A message of the system in the middle of a conversation, for models that take one.",
    fields: &[Field::tag(&["system.message"]), content::SYSTEM],
};
