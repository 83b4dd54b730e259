//! Tables of agents as they are shown, and of the copies that sessions and threads keep.

use super::{
    super::{Field, Kind, Member, Table, Union, agents::EFFORTS},
    ARCHIVED, CREATED, DESCRIPTION, METADATA, NAME, NONE, TEXT, TEXTS, UPDATED, VERSION, has, id,
    is, list,
    tools::A_TOOL,
};
use crate::id::IdKind;

/// How hard a model works.
pub static EFFORT: Table = Table {
    name: "Effort",
    about: "How hard a model works.",
    fields: &[has("type", Kind::choice(EFFORTS), "The level.")],
};

/// A model and its settings.
pub static MODEL_CONFIG: Table = Table {
    name: "ModelConfig",
    about: "A model and its settings.",
    fields: &[
        has("id", TEXT, "The model's name, possibly with a provider in front.")
            .example(r#""claude-opus-5""#),
        has("effort", Kind::Object(&EFFORT), "Null for models without such a setting.").or_null(),
        has("speed", Kind::choice(&["standard", "fast"]), "The speed mode."),
        has("inference_geo", Kind::choice(&["us", "global"]), "The provider's region.").or_null(),
    ],
};
const A_MODEL: &Kind = &Kind::Object(&MODEL_CONFIG);

/// What an agent has beyond the original API.
pub static EXTENSION: Table = Table {
    name: "AgentExtension",
    about: "What an agent has beyond the original API.",
    fields: &[
        has("fallback", list(A_MODEL), "The models that take over, in this order."),
        has(
            "mcp_elicitation",
            Kind::choice(&["defaults"]),
            "What MCP servers are told that ask for something; left out: that nobody is there.",
        )
        .optional(),
        has(
            "mcp_tool",
            Kind::Object(&EXPOSED),
            "As which tool others may call it, where they may.",
        )
        .optional(),
    ],
};
const A_VAULT: &Kind = &Kind::Id(IdKind::Vault);
/// An agent as a tool.
pub static EXPOSED: Table = Table {
    name: "McpExposure",
    about: "An agent as a tool of posthouse's own MCP server.",
    fields: &[
        has("name", TEXT, "The tool's name.").example(r#""research""#),
        has("description", TEXT, "What it does; null for the agent's own description.").or_null(),
        has("environment_id", Kind::Id(IdKind::Environment), "Where its sessions run."),
        has("vault_ids", list(A_VAULT), "The vaults of its sessions."),
    ],
};

/// As whom an agent runs.
pub static IDENTITY: Table = Table {
    name: "ExecutionIdentity",
    about: "As whom an agent runs.",
    fields: &[is(&["service_account"])],
};

/// A server behind an address.
pub static URL_SERVER: Table = Table {
    name: "UrlMcpServer",
    about: "An MCP server behind an address.",
    fields: &[is(&["url"]), SERVER_NAME, has("url", TEXT, "Where it is.")],
};
/// A server in the sandbox.
pub static STDIO_SERVER: Table = Table {
    name: "StdioMcpServer",
    about: "An MCP server that runs in the session's sandbox.",
    fields: &[
        is(&["posthouse_stdio"]),
        SERVER_NAME,
        has("command", TEXT, "The program."),
        has("args", TEXTS, "Its arguments."),
        has("env", Kind::Free, "Its environment: names and texts."),
    ],
};
const SERVER_NAME: Field = has("name", TEXT, "What the agent calls it.").example(r#""docs""#);
/// An MCP server.
pub static SERVER: Union = Union {
    name: "McpServer",
    tag: "type",
    members: &[Member::taken("url", &URL_SERVER), Member::taken("posthouse_stdio", &STDIO_SERVER)],
};
const A_SERVER: &Kind = &Kind::Union(&SERVER);

const MODEL: Field = has("model", *A_MODEL, "The model and its settings.");
const SYSTEM: Field = has("system", TEXT, "The system prompt.").or_null();
const TOOLS: Field = has("tools", list(A_TOOL), "The tools, resolved.");
const SERVERS: Field = has("mcp_servers", list(A_SERVER), "Its MCP servers.");
const SKILLS: Field = has("skills", NONE, "Always empty in this version.");
const MULTIAGENT: Field =
    has("multiagent", Kind::Nothing, "Always null in this version.").or_null();
const RUNS_AS: Field = has("execution_identity", Kind::Object(&IDENTITY), "As whom it runs.");
const POSTHOUSE: Field =
    has("posthouse", Kind::Object(&EXTENSION), "Left out when it is empty.").optional();

/// An agent.
pub static AGENT: Table = Table {
    name: "Agent",
    about: "An agent.",
    fields: &[
        is(&["agent"]),
        id(IdKind::Agent),
        VERSION,
        NAME,
        DESCRIPTION,
        MODEL,
        SYSTEM,
        TOOLS,
        SERVERS,
        SKILLS,
        MULTIAGENT,
        METADATA,
        RUNS_AS,
        POSTHOUSE,
        CREATED,
        UPDATED,
        ARCHIVED,
    ],
};
/// A session's copy of an agent.
pub static SESSION_AGENT: Table = Table {
    name: "SessionAgent",
    about: "The copy of an agent that a session keeps.",
    fields: &[
        is(&["agent"]),
        id(IdKind::Agent),
        VERSION,
        NAME,
        DESCRIPTION,
        MODEL,
        SYSTEM,
        TOOLS,
        SERVERS,
        SKILLS,
        MULTIAGENT,
        RUNS_AS,
        POSTHOUSE,
    ],
};
/// A thread's copy of an agent.
pub static THREAD_AGENT: Table = Table {
    name: "ThreadAgent",
    about: "The agent of a thread.",
    fields: &[
        is(&["agent"]),
        id(IdKind::Agent),
        VERSION,
        NAME,
        DESCRIPTION,
        MODEL,
        SYSTEM,
        TOOLS,
        SERVERS,
        SKILLS,
        RUNS_AS,
        POSTHOUSE,
    ],
};
