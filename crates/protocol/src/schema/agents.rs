//! Tables of agents, as clients send them: new ones, changes, and what sessions make of them.

use super::{
    Absent, Field, Kind, Member, Null, Pairs, Table, Union, servers::MCP_SERVERS,
    tools::TOOLS_FIELD,
};
use crate::id::IdKind;

/// At most this many models take over, one after the other.
const FALLBACKS: usize = 8;

/// The name of an agent.
pub const NAME: Field =
    Field::text("name", 1, 256, "For people.").required().example(r#""Researcher""#);
/// The description of an agent.
pub const DESCRIPTION: Field =
    Field::text("description", 0, 2048, "For people. The empty text is the same as null.")
        .example(r#""Reads and sums up""#);
/// The system prompt.
pub const SYSTEM: Field =
    Field::text("system", 0, 100_000, "The system prompt. The empty text is the same as null.")
        .example(r#""Be brief.""#);

/// The name of a model.
pub const MODEL_ID: Field = Field::text("id", 1, 256, "The model's name, or provider/name.")
    .required()
    .right("send a model's name")
    .rule("A configured provider serves it.")
    .example(r#""claude-opus-5""#);
const EFFORT_FORMS: &[Kind] = &[Kind::choice(EFFORTS), Kind::Object(&EFFORT_LEVEL)];
/// How hard a model works.
pub const EFFORT: Field = Field::new(
    "effort",
    Kind::Forms(EFFORT_FORMS),
    "How hard it works. Left out or null: the model's own default; in a change that keeps the \
     model's name, leaving it out keeps the level.",
)
.null(Null::Clears)
.rule("A level that the model knows.")
.example(r#""low""#);
/// The levels.
pub const EFFORTS: &[&str] = &["low", "medium", "high", "xhigh", "max"];
/// The level in an object.
pub const EFFORT_TYPE: Field = Field::choice("type", EFFORTS, "The level.").required();
/// The speed mode.
pub const SPEED: Field = Field::choice("speed", &["standard", "fast"], "The speed mode.")
    .means(r#""standard""#)
    .rule("fast only where the model has it.")
    .example(r#""standard""#);
/// The region.
pub const GEO: Field = Field::choice("inference_geo", &["us", "global"], "The provider's region.")
    .rule("Only for models whose provider lets callers choose.");

/// How hard a model works, as an object.
pub static EFFORT_LEVEL: Table = Table {
    name: "EffortLevel",
    about: "How hard a model works.",
    fields: &[EFFORT_TYPE.rule("A level that the model knows.").example(r#""low""#)],
};

/// A model with its settings.
pub static MODEL_CONFIG: Table = Table {
    name: "ModelConfigParams",
    about: "A model and its settings.",
    fields: &[MODEL_ID, EFFORT, SPEED, GEO],
};

/// What `model` takes.
pub const MODEL_FORMS: Kind = Kind::Forms(&[MODEL_ID.kind, Kind::Object(&MODEL_CONFIG)]);
/// The model of an agent.
pub const MODEL: Field = Field::new(
    "model",
    MODEL_FORMS,
    "The model: its name, or an object with its settings. An object replaces all of them.",
)
.required()
.right("send a model's name or an object with its id")
.rule("A configured provider serves it.")
.example(r#""claude-opus-5""#);

/// The models that take over.
pub const FALLBACK: Field = Field::new(
    "fallback",
    Kind::List { of: &MODEL_FORMS, least: 0, most: FALLBACKS },
    "The models that take over, in this order, when the agent's own can't answer. Each list \
     replaces the one before; null and [] clear it.",
)
.keeps()
.null(Null::Clears)
.rule("No model twice, and not the agent's own.")
.example(r#"["claude-haiku-5"]"#);

/// What MCP servers are told that ask for something.
pub const ELICITATION: Field = Field::choice(
    "mcp_elicitation",
    &["decline", "defaults"],
    "What MCP servers are told that ask the user for something in the middle of a call: that nobody is \
     there, or the defaults of what they ask for, where each required member has one. Without it, and \
     when it is null: decline.",
)
.keeps()
.null(Null::Clears)
.example(r#""defaults""#);

/// As which tool others may call the agent.
pub const MCP_TOOL: Field = Field::new(
    "mcp_tool",
    Kind::Object(&EXPOSED),
    "As which tool of posthouse's own MCP server others may call the agent. An object replaces the one \
     before; null takes the tool away.",
)
.keeps()
.null(Null::Clears)
.rule("No other agent of the workspace has a tool of that name.")
.example(r#"{"name": "research", "environment_id": "env_000000000000000000000001"}"#);
/// The name of that tool.
pub const EXPOSED_NAME: Field = Field::text("name", 1, 64, "The tool's name.")
    .required()
    .rule("Letters, digits, underscores and hyphens; unique among those that a workspace exposes.")
    .example(r#""research""#);
/// What that tool does.
pub const EXPOSED_DESCRIPTION: Field = Field::text(
    "description",
    0,
    1024,
    "What it does, for the models that may call it. The empty text is the same as null: the agent's \
     own description.",
)
.example(r#""Answers questions about our papers""#);
/// Where the sessions of that tool run.
pub const EXPOSED_ENVIRONMENT: Field =
    Field::new("environment_id", Kind::Id(IdKind::Environment), "Where its sessions run.")
        .required()
        .rule("An environment that there is and that is not archived.")
        .example(r#""env_000000000000000000000001""#);
/// The vaults of the sessions of that tool.
pub const EXPOSED_VAULTS: Field = Field {
    about: "The vaults of its sessions, in the order in which they are looked through.",
    ..super::sessions::VAULTS
};
/// An agent as a tool.
pub static EXPOSED: Table = Table {
    name: "McpExposureParams",
    about: "An agent as a tool of posthouse's own MCP server.",
    fields: &[EXPOSED_NAME, EXPOSED_DESCRIPTION, EXPOSED_ENVIRONMENT, EXPOSED_VAULTS],
};

/// What an agent has beyond the original API.
pub const EXTENSION_FIELD: Field = Field::new(
    "posthouse",
    Kind::Object(&EXTENSION),
    "What the original API lacks. Null clears all of it.",
)
.keeps()
.null(Null::Clears)
.example(r#"{"fallback": ["claude-haiku-5"]}"#);

/// What an agent has beyond the original API.
pub static EXTENSION: Table = Table {
    name: "AgentExtensionParams",
    about: "What an agent has beyond the original API.",
    fields: &[FALLBACK, ELICITATION, MCP_TOOL],
};

/// What an agent has beyond the original API, for one session.
pub const OVERRIDE_FIELD: Field =
    Field { kind: Kind::Object(&OVERRIDE_EXTENSION), ..EXTENSION_FIELD };
/// What an agent has beyond the original API, for one session.
pub static OVERRIDE_EXTENSION: Table = Table {
    name: "AgentOverrideExtensionParams",
    about: "What an agent has beyond the original API, for one session.",
    fields: &[FALLBACK, ELICITATION],
};

/// Skills.
pub const SKILLS: Field = Field::later("skills", "Skills.");
/// The roster.
pub const MULTIAGENT: Field = Field::later("multiagent", "Other agents that this one may use.");

/// The caller's own pairs.
pub const METADATA: Field = Field::new("metadata", Kind::Pairs(Pairs::New), "Your own pairs.")
    .means("{}")
    .example(r#"{"team": "research"}"#);
/// A change of them.
pub const METADATA_PATCH: Field = Field {
    kind: Kind::Pairs(Pairs::Patch),
    about: "A change of your own pairs: a text sets a key, null removes it. The limits hold for \
            the result.",
    ..METADATA.keeps()
};

/// As whom an agent runs.
pub const IDENTITY: Field =
    Field::new("execution_identity", Kind::Object(&EXECUTION_IDENTITY), "As whom it runs.")
        .means(r#"{"type": "service_account"}"#)
        .null(Null::Clears)
        .example(r#"{"type": "service_account"}"#);
/// The kind of identity.
pub const IDENTITY_TYPE: Field = Field {
    kind: Kind::Choice { taken: &["service_account"], later: &["aws_role"] },
    ..Field::tag(&[]).right("send service_account or leave it out")
};
/// As whom an agent runs.
pub static EXECUTION_IDENTITY: Table = Table {
    name: "ExecutionIdentityParams",
    about: "As whom an agent runs.",
    fields: &[IDENTITY_TYPE],
};

/// A new agent.
pub static CREATE: Table = Table {
    name: "AgentCreateParams",
    about: "A new agent.",
    fields: &[
        NAME,
        MODEL,
        DESCRIPTION,
        SYSTEM,
        TOOLS_FIELD,
        MCP_SERVERS,
        SKILLS,
        MULTIAGENT,
        METADATA,
        IDENTITY,
        EXTENSION_FIELD,
    ],
};

const fn kept(field: Field, null: Null) -> Field {
    Field { absent: Absent::Keeps, null, ..field }
}

/// The version that a change rests on.
pub const VERSION: Field = Field::new(
    "version",
    Kind::Integer { least: 1, most: i64::MAX },
    "The version that you have seen; a change of an older one is refused with 409.",
)
.keeps()
.rule("The newest version.")
.example("1");
/// Another name.
pub const NEW_NAME: Field = kept(NAME, Null::Refused);
/// Another model.
pub const NEW_MODEL: Field = kept(MODEL, Null::Refused);
/// Another description.
pub const NEW_DESCRIPTION: Field = kept(DESCRIPTION, Null::Clears);
/// Another system prompt.
pub const NEW_SYSTEM: Field = kept(SYSTEM, Null::Clears);
/// Other tools.
pub const NEW_TOOLS: Field = kept(TOOLS_FIELD, Null::Clears);
/// Other MCP servers.
pub const NEW_SERVERS: Field = kept(MCP_SERVERS, Null::Clears);
/// Another identity.
pub const NEW_IDENTITY: Field = kept(IDENTITY, Null::Clears);

/// A change of an agent.
pub static UPDATE: Table = Table {
    name: "AgentUpdateParams",
    about: "A change of an agent. What is left out stays; a change makes the next version, and \
            what changes nothing makes none.",
    fields: &[
        VERSION,
        NEW_NAME,
        NEW_MODEL,
        NEW_DESCRIPTION,
        NEW_SYSTEM,
        NEW_TOOLS,
        NEW_SERVERS,
        SKILLS,
        MULTIAGENT,
        METADATA_PATCH,
        NEW_IDENTITY,
        EXTENSION_FIELD,
    ],
};

/// The id in a reference.
pub const REFERENCE_ID: Field = Field::new("id", Kind::Id(IdKind::Agent), "The agent.").required();
/// The version in a reference.
pub const REFERENCE_VERSION: Field = Field::new(
    "version",
    Kind::Integer { least: 1, most: i64::MAX },
    "The version; the newest one when it is left out.",
)
.rule("A version that there is.")
.example("1");

/// An agent as it is.
pub static PLAIN_REFERENCE: Table = Table {
    name: "AgentReference",
    about: "An agent as it is.",
    fields: &[Field::tag(&["agent"]), REFERENCE_ID, REFERENCE_VERSION],
};

/// An agent with changes for one session.
pub static OVERRIDES: Table = Table {
    name: "AgentWithOverrides",
    about: "An agent with changes for this session alone. What is left out is the agent's own; \
            id and version of the session's agent stay those of the agent.",
    fields: &[
        Field::tag(&["agent_with_overrides"]),
        REFERENCE_ID,
        REFERENCE_VERSION,
        NEW_MODEL,
        NEW_SYSTEM,
        NEW_TOOLS,
        NEW_SERVERS,
        SKILLS,
        OVERRIDE_FIELD,
    ],
};

/// An agent, named as an object.
pub static REFERENCE: Union = Union {
    name: "AgentReferenceParams",
    tag: "type",
    members: &[
        Member::taken("agent", &PLAIN_REFERENCE),
        Member::taken("agent_with_overrides", &OVERRIDES),
    ],
};

/// A change of a session's agent.
pub static SESSION_AGENT: Table = Table {
    name: "SessionAgentUpdateParams",
    about: "A change of the session's copy of its agent, while the session is idle.",
    fields: &[NEW_TOOLS, NEW_SERVERS],
};

/// Other models for a session.
pub static SWITCH: Table = Table {
    name: "SessionExtensionParams",
    about: "Other models for the session's copy of its agent, while the session is idle. A model \
            that is null is refused with agent_model_required.",
    fields: &[NEW_MODEL, FALLBACK],
};
