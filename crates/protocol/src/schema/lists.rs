//! Tables of queries: lists, and the few other requests that take one.
//!
//! `beta`, which older clients send with every request, means nothing and stands in no table.

use super::{Field, Kind, Table};
use crate::event::LISTABLE;

const fn limit(most: i64, default: &'static str) -> Field {
    Field::new("limit", Kind::Integer { least: 1, most }, "How many entries the page has at most.")
        .means(default)
        .example("2")
}

/// Up to 100 entries, 20 unless asked.
pub const LIMIT_100: Field = limit(100, "20");
/// Up to 1000 entries, 20 unless asked.
pub const LIMIT_1000: Field = limit(1000, "20");
/// Up to 1000 entries, 100 unless asked.
pub const LIMIT_MANY: Field = limit(1000, "100");
/// Up to 1000 entries, and as many unless asked.
pub const LIMIT_ALL: Field = limit(1000, "1000");
/// All resources that a session can have, unless asked.
pub const LIMIT_RESOURCES: Field = limit(1000, "500");

/// Where a page begins.
pub const PAGE: Field = Field::new(
    "page",
    Kind::Cursor,
    "The next_page of an earlier page. It is bound to the list and its order.",
);
/// The same for lists that are read both ways.
pub const PAGE_BOTH: Field =
    Field { about: "The next_page or prev_page of an earlier page.", ..PAGE };
/// Whether archived things are shown.
pub const ARCHIVED: Field =
    Field::new("include_archived", Kind::Flag, "Whether archived entries are shown.")
        .means("false");
/// Bounds on the time of creation.
pub const CREATED: Field = Field::new("created_at", Kind::Times, "When it was made.");
/// The order of sessions.
pub const NEWEST_FIRST: Field =
    Field::choice("order", &["asc", "desc"], "Which end comes first.").means(r#""desc""#);
/// The order of events.
pub const OLDEST_FIRST: Field = NEWEST_FIRST.means(r#""asc""#);
const STATUS: Kind = Kind::choice(&["rescheduling", "running", "idle", "terminated"]);
/// Where sessions and threads are.
pub const STATUSES: Field = Field::new(
    "statuses",
    Kind::List { of: &STATUS, least: 0, most: 100 },
    "Only what has one of these statuses.",
);

/// `GET /v1/agents`.
pub static AGENTS: Table = Table {
    name: "AgentListQuery",
    about: "Agents, the newest first.",
    fields: &[LIMIT_100, PAGE, ARCHIVED, CREATED],
};

/// Which version of an agent.
pub const VERSION: Field = Field::new(
    "version",
    Kind::Integer { least: 1, most: i64::MAX },
    "An older version; the newest one when it is left out.",
)
.example("1");

/// `GET /v1/agents/{agent}`.
pub static AGENT: Table = Table { name: "AgentQuery", about: "Which version.", fields: &[VERSION] };

/// `GET /v1/agents/{agent}/versions`.
pub static VERSIONS: Table = Table {
    name: "AgentVersionListQuery",
    about: "Versions, the newest first.",
    fields: &[LIMIT_100, PAGE],
};

/// `GET /v1/environments`.
pub static ENVIRONMENTS: Table = Table {
    name: "EnvironmentListQuery",
    about: "Environments, the newest first.",
    fields: &[LIMIT_1000, PAGE, ARCHIVED],
};

/// `GET /v1/vaults`.
pub static VAULTS: Table = Table {
    name: "VaultListQuery",
    about: "Vaults, the newest first.",
    fields: &[LIMIT_100, PAGE, ARCHIVED],
};

/// `GET /v1/vaults/{vault}/credentials`.
pub static CREDENTIALS: Table = Table {
    name: "CredentialListQuery",
    about: "Credentials of a vault, the newest first.",
    fields: &[LIMIT_100, PAGE, ARCHIVED],
};

/// Whose sessions.
pub const AGENT_ID: Field = Field::text("agent_id", 1, 128, "Only sessions of this agent.");
/// Of which version.
pub const AGENT_VERSION: Field = Field::new(
    "agent_version",
    Kind::Integer { least: 1, most: i64::MAX },
    "Only sessions of this version of that agent; without agent_id it means nothing.",
)
.example("1");
/// Of which deployment.
pub const DEPLOYMENT: Field =
    Field::text("deployment_id", 1, 128, "Only sessions of this deployment: none has one.");
/// With which memory.
pub const MEMORY: Field =
    Field::text("memory_store_id", 1, 128, "Only sessions with this memory store: none has one.");

/// `GET /v1/sessions`.
pub static SESSIONS: Table = Table {
    name: "SessionListQuery",
    about: "Sessions by their time of creation.",
    fields: &[
        NEWEST_FIRST,
        LIMIT_1000,
        PAGE_BOTH,
        CREATED,
        AGENT_ID,
        AGENT_VERSION,
        STATUSES,
        ARCHIVED,
        DEPLOYMENT,
        MEMORY,
    ],
};

/// `GET /v1/sessions/{session}/resources`.
pub static RESOURCES: Table = Table {
    name: "ResourceListQuery",
    about: "Resources in the order in which they were added; all of them unless there is a limit.",
    fields: &[LIMIT_RESOURCES, PAGE],
};

/// `GET /v1/sessions/{session}/threads`.
pub static THREADS: Table = Table {
    name: "ThreadListQuery",
    about: "Threads, the primary one first.",
    fields: &[LIMIT_ALL, PAGE, STATUSES],
};

/// Events of which types.
pub const EVENT_TYPES: Field = Field::new(
    "types",
    Kind::List { of: &Kind::choice(LISTABLE), least: 0, most: 100 },
    "Only events of these types; with posthouse_events also those of the log's own.",
);
/// Behind which place.
pub const AFTER: Field = Field::new(
    "after_seq",
    Kind::Integer { least: 0, most: i64::MAX },
    "Only events behind this place in the log. An extension.",
)
.means("0")
.example("1");
/// Before which place.
pub const BEFORE: Field = Field::new(
    "before_seq",
    Kind::Integer { least: 1, most: i64::MAX },
    "Only events before this place in the log. An extension.",
)
.example("1000");
/// Whether the log's own records are shown.
pub const OWN: Field = Field::new(
    "posthouse_events",
    Kind::Flag,
    "Whether the log's own records are shown as posthouse.* events, for administrators. An \
     extension.",
)
.means("false");

/// `GET /v1/sessions/{session}/events`.
pub static EVENTS: Table = Table {
    name: "EventListQuery",
    about: "Events by their place in the log. created_at is held against processed_at.",
    fields: &[OLDEST_FIRST, CREATED, EVENT_TYPES, OWN, LIMIT_ALL, AFTER, BEFORE, PAGE],
};

/// `GET /v1/sessions/{session}/threads/{thread}/events`.
pub static THREAD_EVENTS: Table = Table {
    name: "ThreadEventListQuery",
    about: "Events of a thread, the oldest first.",
    fields: &[OWN, LIMIT_ALL, PAGE],
};

const DELTA: Kind = Kind::choice(&["agent.message", "agent.thinking"]);
/// Which previews.
pub const DELTAS: Field = Field::new(
    "event_deltas",
    Kind::List { of: &DELTA, least: 0, most: 100 },
    "Which events are also shown while they come into being, as event_start and event_delta.",
);
/// Where a stream goes on.
pub const STREAM_AFTER: Field = Field::new(
    "after",
    Kind::Integer { least: 0, most: i64::MAX },
    "The id of the last server-sent event that came: the stream goes on behind it. The header \
     Last-Event-ID does the same and wins. An extension.",
)
.example("0");

/// `GET /v1/sessions/{session}/events/stream`, and that of a thread.
pub static STREAM: Table = Table {
    name: "EventStreamQuery",
    about: "Where a stream begins and what it shows.",
    fields: &[OWN, DELTAS, STREAM_AFTER],
};

/// Which files.
pub const IDS: Field = Field::new(
    "ids",
    Kind::List { of: &Kind::Text { least: 1, most: 128 }, least: 0, most: 100 },
    "These files alone, as one page; what there is not is left out. Not together with a page.",
);
/// Whose files.
pub const SCOPE: Field = Field::text("scope_id", 1, 128, "Only files of this session.");
/// Behind which file.
pub const AFTER_ID: Field =
    Field::text("after_id", 1, 128, "Only files behind this one in the list, so older ones.")
        .rule("A file that there is, and not together with before_id.");
/// Before which file.
pub const BEFORE_ID: Field =
    Field::text("before_id", 1, 128, "Only files before this one in the list, so newer ones.")
        .rule("A file that there is, and not together with after_id.");

/// `GET /v1/files`.
pub static FILES: Table = Table {
    name: "FileListQuery",
    about: "Files, the newest first.",
    fields: &[IDS, SCOPE, LIMIT_1000, PAGE, AFTER_ID, BEFORE_ID],
};

const LIFECYCLE_NAMES: Kind = Kind::choice(&["active", "deprecated", "retired"]);
/// How old.
pub const LIFECYCLE: Field = Field::new(
    "lifecycle",
    Kind::List { of: &LIFECYCLE_NAMES, least: 0, most: 3 },
    "Only models in these phases; active and deprecated ones when it is left out.",
);

/// `GET /v1/models`.
pub static MODELS: Table = Table {
    name: "ModelListQuery",
    about: "Models, the newest first.",
    fields: &[
        LIMIT_1000,
        Field { about: "Only models behind this one in the list.", rule: None, ..AFTER_ID },
        Field { about: "Only models before this one in the list.", rule: None, ..BEFORE_ID },
        LIFECYCLE,
    ],
};
