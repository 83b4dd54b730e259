//! Tables of sessions, as clients send them.

use super::{Field, Kind, Null, Table, agents, events::INITIAL_EVENTS, resources::RESOURCES};
use crate::id::IdKind;

const AGENT_FORMS: &[Kind] = &[Kind::Id(IdKind::Agent), Kind::Union(&agents::REFERENCE)];

/// The agent of a session.
pub const AGENT: Field = Field::new(
    "agent",
    Kind::Forms(AGENT_FORMS),
    "The agent: its id, for the newest version, or an object. The session keeps a copy of it.",
)
.required()
.right("send an agent's id or an object that names one")
.rule("An agent that there is and that is not archived.")
.example(r#""agent_000000000000000000000001""#);
/// The environment of a session.
pub const ENVIRONMENT: Field = Field::new(
    "environment_id",
    Kind::Id(IdKind::Environment),
    "The environment; the session keeps a copy of its configuration.",
)
.required()
.rule("An environment that there is and that is not archived.")
.example(r#""env_000000000000000000000001""#);
/// The title of a session.
pub const TITLE: Field = Field::text("title", 0, 500, "For people.").example(r#""Taxes""#);
/// Another title.
pub const NEW_TITLE: Field = TITLE.keeps().null(Null::Clears);
/// What it may cost.
pub const BUDGET: Field = Field::later("budget", "What the session may cost.");
const A_VAULT: &Kind = &Kind::Id(IdKind::Vault);
/// The vaults of a session.
pub const VAULTS: Field = Field::new(
    "vault_ids",
    Kind::List { of: A_VAULT, least: 0, most: 50 },
    "Vaults with the session's credentials. Where two have one for the same server or variable, \
     the first one counts.",
)
.means("[]")
.rule("Vaults that there are and that are not archived, each one once. The key may read vaults.")
.example(r#"["vlt_000000000000000000000001"]"#);
/// Other vaults, which the original API refuses as well.
pub const NEW_VAULTS: Field =
    Field::new("vault_ids", Kind::Nothing, "Can't be changed; any value is refused.");
/// What a new session has beyond the original API.
pub const EXTENSION: Field = Field::later("posthouse", "What the original API lacks: nothing yet.")
    .right("name models in the agent, or in agent_with_overrides");

/// A new session.
pub static CREATE: Table = Table {
    name: "SessionCreateParams",
    about: "A new session.",
    fields: &[
        AGENT,
        ENVIRONMENT,
        TITLE,
        agents::METADATA,
        INITIAL_EVENTS,
        RESOURCES,
        BUDGET,
        VAULTS,
        EXTENSION,
    ],
};

/// A change of the session's agent.
pub const NEW_AGENT: Field = Field::new(
    "agent",
    Kind::Object(&agents::SESSION_AGENT),
    "A change of the session's copy of its agent, while the session is idle.",
)
.keeps()
.example(r#"{"tools": []}"#);
/// Other models.
pub const SWITCH: Field = Field::new(
    "posthouse",
    Kind::Object(&agents::SWITCH),
    "Other models, while the session is idle. Null clears those that take over and keeps the \
     model.",
)
.keeps()
.null(Null::Clears)
.example(r#"{"model": "claude-haiku-5"}"#);

/// A change of a session.
pub static UPDATE: Table = Table {
    name: "SessionUpdateParams",
    about: "A change of a session. What is left out stays; what has changed is told by a \
            session.updated event, and when nothing has, there is none.",
    fields: &[NEW_AGENT, NEW_TITLE, agents::METADATA_PATCH, BUDGET, NEW_VAULTS, SWITCH],
};
