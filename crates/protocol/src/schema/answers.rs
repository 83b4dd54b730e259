//! Tables of what the server answers: resources as they are shown, pages, refusals.

pub mod agents;
pub mod tools;

pub use agents::{AGENT, SESSION_AGENT, THREAD_AGENT};

use super::{Absent, Field, Kind, Member, Null, Table, Union};
use crate::id::IdKind;

/// A member of an answer that is always there.
pub(super) const fn has(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field::new(name, kind, about).required()
}

/// A member that tells what an answer is.
pub(super) const fn is(taken: &'static [&'static str]) -> Field {
    Field::tag(taken)
}

pub(super) const TEXT: Kind = Kind::Text { least: 0, most: usize::MAX };
pub(super) const COUNT: Kind = Kind::Integer { least: 0, most: i64::MAX };
pub(super) const TEXTS: Kind = list(&TEXT);
/// A list that is empty in this version.
const NONE: Kind = Kind::List { of: &Kind::Any, least: 0, most: 0 };
const PAIRS: Kind = Kind::Pairs(super::Pairs::New);

pub(super) const fn list(of: &'static Kind) -> Kind {
    Kind::List { of, least: 0, most: usize::MAX }
}

pub(super) const CREATED: Field = has("created_at", Kind::Time, "When it was made.");
pub(super) const UPDATED: Field = has("updated_at", Kind::Time, "When it was last changed.");
pub(super) const ARCHIVED: Field =
    has("archived_at", Kind::Time, "When it was archived.").or_null();
pub(super) const METADATA: Field = has("metadata", PAIRS, "Your own pairs.");
const NAME: Field = has("name", TEXT, "For people.").example(r#""Researcher""#);
const DESCRIPTION: Field = has("description", TEXT, "For people.").or_null();
const VERSION: Field = has("version", Kind::Integer { least: 1, most: i64::MAX }, "Counts from 1.");

pub(super) const fn id(kind: IdKind) -> Field {
    has("id", Kind::Id(kind), "Its id.")
}

/// Anywhere.
pub static UNRESTRICTED: Table = Table {
    name: "UnrestrictedNetworking",
    about: "Anywhere, but for what the operator forbids.",
    fields: &[is(&["unrestricted"])],
};
/// Nowhere but where it is named.
pub static LIMITED: Table = Table {
    name: "LimitedNetworking",
    about: "Nowhere but where it is named.",
    fields: &[
        is(&["limited"]),
        has("allowed_hosts", TEXTS, "Hosts that may be reached, as they were sent."),
        has("allow_mcp_servers", Kind::Flag, "Whether the agent's MCP servers are, too."),
        has("allow_package_managers", Kind::Flag, "Whether the public registries are, too."),
    ],
};
/// Where a sandbox may connect to.
pub static NETWORKING: Union = Union {
    name: "Networking",
    tag: "type",
    members: &[Member::taken("unrestricted", &UNRESTRICTED), Member::taken("limited", &LIMITED)],
};
const NO_PACKAGES: &str = "Always empty in this version.";
/// What is installed in a sandbox.
pub static PACKAGES: Table = Table {
    name: "Packages",
    about: "What is installed in a sandbox.",
    fields: &[
        is(&["packages"]),
        has("apt", NONE, NO_PACKAGES),
        has("cargo", NONE, NO_PACKAGES),
        has("gem", NONE, NO_PACKAGES),
        has("go", NONE, NO_PACKAGES),
        has("npm", NONE, NO_PACKAGES),
        has("pip", NONE, NO_PACKAGES),
    ],
};
/// What a sandbox has.
pub static CLOUD: Table = Table {
    name: "CloudConfig",
    about: "What a sandbox has, written out in full.",
    fields: &[
        is(&["cloud"]),
        has("networking", Kind::Union(&NETWORKING), "Where it may connect to."),
        has("packages", Kind::Object(&PACKAGES), "What is installed in it."),
    ],
};
/// An environment.
pub static ENVIRONMENT: Table = Table {
    name: "Environment",
    about: "An environment.",
    fields: &[
        is(&["environment"]),
        id(IdKind::Environment),
        NAME,
        DESCRIPTION,
        has("config", Kind::Object(&CLOUD), "What a sandbox in it has."),
        METADATA,
        has("scope", Kind::choice(&["organization"]), "Who sees it."),
        has(
            "posthouse",
            Kind::Object(&super::own::ENVIRONMENT_EXTENSION),
            "What the original API lacks, where there is any.",
        )
        .optional(),
        CREATED,
        UPDATED,
        ARCHIVED,
    ],
};

/// A file in a session.
pub static RESOURCE: Table = Table {
    name: "FileResource",
    about: "A file that is mounted into a session.",
    fields: &[
        is(&["file"]),
        id(IdKind::Resource),
        has("file_id", Kind::Id(IdKind::File), "The session's own copy of the file."),
        has("mount_path", TEXT, "Where it is, below /mnt/session/uploads."),
        CREATED,
        UPDATED,
    ],
};

/// What was written into the provider's cache.
pub static CACHE_CREATION: Table = Table {
    name: "CacheCreation",
    about: "Tokens that were written into the provider's cache.",
    fields: &[
        has("ephemeral_5m_input_tokens", COUNT, "For five minutes."),
        has("ephemeral_1h_input_tokens", COUNT, "For an hour."),
    ],
};
/// An amount of money.
pub static MONEY: Table = Table {
    name: "Money",
    about: "An amount of money.",
    fields: &[
        has("amount", TEXT, "Whole cents, in digits.").example(r#""12""#),
        has("currency", Kind::choice(&["USD"]), "The currency."),
    ],
};
/// What server tools were used.
pub static SERVER_TOOLS: Table = Table {
    name: "ServerToolUse",
    about: "How often tools of the web were used.",
    fields: &[
        has("web_search_requests", COUNT, "Searches."),
        has("web_fetch_requests", COUNT, "Pages."),
    ],
};
/// What a session has used.
pub static USAGE: Table = Table {
    name: "Usage",
    about: "What was used so far.",
    fields: &[
        has("input_tokens", COUNT, "Tokens that were sent, without those of the cache."),
        has("output_tokens", COUNT, "Tokens that came back."),
        has("cache_read_input_tokens", COUNT, "Tokens that came from the cache."),
        has("cache_creation", Kind::Object(&CACHE_CREATION), "Null before the first turn.")
            .or_null(),
        has("active_seconds", Kind::Number, "How long it was at work."),
        has("list_cost", Kind::Object(&MONEY), "Null when a model has no price.").or_null(),
        has("server_tool_use", Kind::Object(&SERVER_TOOLS), "Tools of the web."),
    ],
};
/// How long a session was at work.
pub static SESSION_STATS: Table = Table {
    name: "SessionStats",
    about: "How long a session was at work, in seconds.",
    fields: &[
        has("active_seconds", Kind::Number, "At work, over all threads."),
        has("duration_seconds", Kind::Number, "Since it was made, up to its end."),
    ],
};
/// Where a session is.
pub const STATUS: Kind = Kind::choice(&["rescheduling", "running", "idle", "terminated"]);
const A_RESOURCE: &Kind = &Kind::Object(&RESOURCE);
const A_VAULT: &Kind = &Kind::Id(IdKind::Vault);
/// A session.
pub static SESSION: Table = Table {
    name: "Session",
    about: "A session.",
    fields: &[
        id(IdKind::Session),
        is(&["session"]),
        has("agent", Kind::Object(&SESSION_AGENT), "Its copy of the agent."),
        has("environment_id", Kind::Id(IdKind::Environment), "Its environment."),
        has("status", STATUS, "Where it is."),
        has("title", TEXT, "For people.").or_null(),
        METADATA,
        has("resources", list(A_RESOURCE), "What is mounted into it."),
        has(
            "vault_ids",
            list(A_VAULT),
            "Its vaults, in the order in which they are looked through.",
        ),
        has("budget", Kind::Nothing, "Always null in this version.").or_null(),
        has("usage", Kind::Object(&USAGE), "What it has used."),
        has("stats", Kind::Object(&SESSION_STATS), "How long it was at work."),
        has("outcome_evaluations", NONE, "Always empty in this version."),
        has("deployment_id", Kind::Nothing, "Always null in this version.").or_null(),
        CREATED,
        UPDATED,
        ARCHIVED,
    ],
};
/// How long a thread was at work.
pub static THREAD_STATS: Table = Table {
    name: "ThreadStats",
    about: "How long a thread was at work, in seconds.",
    fields: &[
        has("active_seconds", Kind::Number, "At work."),
        has("duration_seconds", Kind::Number, "Since it was made, up to its end."),
        has("startup_seconds", Kind::Number, "Until it could begin."),
    ],
};
/// A thread.
pub static THREAD: Table = Table {
    name: "Thread",
    about: "A thread of a session.",
    fields: &[
        id(IdKind::Thread),
        is(&["session_thread"]),
        has("session_id", Kind::Id(IdKind::Session), "Its session."),
        has("parent_thread_id", Kind::Id(IdKind::Thread), "Null for the primary one.").or_null(),
        has("workflow_run_id", Kind::Nothing, "Always null in this version.").or_null(),
        has("agent", Kind::Object(&THREAD_AGENT), "Its agent."),
        has("status", STATUS, "Where it is."),
        has("stats", Kind::Object(&THREAD_STATS), "Null before it has begun.").or_null(),
        has("usage", Kind::Object(&USAGE), "Null before it has come to rest.").or_null(),
        CREATED,
        UPDATED,
        ARCHIVED,
    ],
};

/// Where a file belongs to.
pub static SCOPE: Table = Table {
    name: "FileScope",
    about: "Where a file belongs to.",
    fields: &[is(&["session"]), id(IdKind::Session)],
};
/// A file.
pub static FILE: Table = Table {
    name: "File",
    about: "A file.",
    fields: &[
        is(&["file"]),
        id(IdKind::File),
        has("filename", TEXT, "One path component.").example(r#""input.csv""#),
        has("mime_type", TEXT, "What is in it.").example(r#""text/csv""#),
        has("size_bytes", COUNT, "Its length."),
        CREATED,
        has("expires_at", Kind::Time, "When its content goes.").or_null(),
        has("downloadable", Kind::Flag, "Whether its content can be fetched."),
        has("scope", Kind::Object(&SCOPE), "Null for what was uploaded.").or_null(),
    ],
};

macro_rules! deleted {
    ($($constant:ident $name:literal $kind:ident $tag:literal;)*) => {$(
        #[doc = concat!("What `", $tag, "` says.")]
        pub static $constant: Table = Table {
            name: $name,
            about: "What was deleted.",
            fields: &[id(IdKind::$kind), is(&[$tag])],
        };
    )*};
}
deleted! {
    ENVIRONMENT_DELETED "DeletedEnvironment" Environment "environment_deleted";
    SESSION_DELETED "DeletedSession" Session "session_deleted";
    RESOURCE_DELETED "DeletedResource" Resource "session_resource_deleted";
    FILE_DELETED "DeletedFile" File "file_deleted";
    VAULT_DELETED "DeletedVault" Vault "vault_deleted";
    CREDENTIAL_DELETED "DeletedCredential" Credential "vault_credential_deleted";
}

const NEXT: Field = has("next_page", Kind::Cursor, "Where the next page begins.").or_null();
const PREVIOUS: Field = has("prev_page", Kind::Cursor, "Where the page before begins.").or_null();

macro_rules! pages {
    ($($constant:ident $name:literal $kind:expr, [$($more:expr),*];)*) => {$(
        #[doc = concat!("The page `", $name, "`.")]
        pub static $constant: Table = Table {
            name: $name,
            about: "A page of a list.",
            fields: &[
                has("data", list(const { &$kind }), "The entries, in the order of the list."),
                $($more),*
            ],
        };
    )*};
}
pages! {
    AGENTS "AgentPage" Kind::Object(&AGENT), [NEXT];
    ENVIRONMENTS "EnvironmentPage" Kind::Object(&ENVIRONMENT), [NEXT];
    SESSIONS "SessionPage" Kind::Object(&SESSION), [NEXT, PREVIOUS];
    RESOURCES "FileResourcePage" Kind::Object(&RESOURCE), [NEXT];
    THREADS "ThreadPage" Kind::Object(&THREAD), [NEXT];
    EVENTS "EventPage" Kind::Named("ListedEvent"), [NEXT];
    SENT "SentEvents" Kind::Union(&super::log::EVENT), [];
    FILES "FilePage" Kind::Object(&FILE), [
        NEXT,
        has("has_more", Kind::Flag, "Whether there is another page."),
        has("first_id", Kind::Id(IdKind::File), "The first entry's id.").or_null(),
        has("last_id", Kind::Id(IdKind::File), "The last entry's id.").or_null()
    ];
    MODELS "ModelPage" Kind::Object(&super::own::MODEL), [
        has("has_more", Kind::Flag, "Whether there is another page."),
        has("first_id", TEXT, "The first entry's id.").or_null(),
        has("last_id", TEXT, "The last entry's id.").or_null()
    ];
    VAULTS "VaultPage" Kind::Object(&super::vaults::VAULT), [NEXT];
    CREDENTIALS "CredentialPage" Kind::Object(&super::credentials::shown::CREDENTIAL), [NEXT];
    CREDENTIAL_USES "CredentialUsePage" Kind::Object(&super::vaults::USE), [NEXT];
    KEYS "KeyPage" Kind::Object(&super::own::KEY), [NEXT];
    WORKSPACES "WorkspacePage" Kind::Object(&super::own::WORKSPACE), [NEXT];
    SANDBOX_RECORDS "SandboxRecordPage" Kind::Union(&super::own::RECORD), [NEXT];
    SANDBOXES "SandboxList" Kind::Object(&super::own::SANDBOX), [];
}

/// What a refusal says besides its words.
pub static DETAILS: Table = Table {
    name: "ErrorDetails",
    about: "What machines may go by.",
    fields: &[has("error_code", TEXT, "A stable code.")],
};
/// What a refusal says.
pub static REASON: Table = Table {
    name: "ErrorReason",
    about: "Why a request was refused.",
    fields: &[
        has(
            "type",
            Kind::choice(&[
                "invalid_request_error",
                "authentication_error",
                "permission_error",
                "not_found_error",
                "conflict_error",
                "request_too_large",
                "rate_limit_error",
                "api_error",
            ]),
            "The sort of refusal; it goes with the status.",
        ),
        has("message", TEXT, "`<path>: <what is wrong>; <what would be right>`.")
            .example(r#""name: is missing; send a text of 1 to 256 characters""#),
        Field {
            absent: Absent::Keeps,
            null: Null::Refused,
            ..Field::new("details", Kind::Object(&DETAILS), "Where the API has a code.")
        },
    ],
};
/// A refusal.
pub static ERROR: Table = Table {
    name: "Error",
    about: "A refusal.",
    fields: &[
        is(&["error"]),
        has("error", Kind::Object(&REASON), "Why."),
        has("request_id", Kind::Id(IdKind::Request), "The same as the header request-id."),
    ],
};
