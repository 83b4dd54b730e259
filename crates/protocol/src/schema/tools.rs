//! Tables of an agent's tools, as clients send them.

use super::{
    Absent, Field, Kind, Member, Table, Union,
    servers::MCP_TOOLSET,
    web::{WEB_FETCH, WEB_SEARCH},
};

/// At most this many entries in `tools`, and in the `configs` of all toolsets together.
pub const TOOLS: usize = 256;

const A_TOOL: &Kind = &Kind::Union(&TOOL);
const A_CONFIG: &Kind = &Kind::Union(&CONFIG);

/// The tools of an agent.
pub const TOOLS_FIELD: Field = Field::new(
    "tools",
    Kind::List { of: A_TOOL, least: 0, most: TOOLS },
    "The tools that the model may call. Each list replaces the one before.",
)
.means("[]")
.rule(
    "At most one entry is the toolset of the built-in tools, and each MCP server has exactly one. All \
     configs together have at most 256 entries.",
)
.example(r#"[{"type": "agent_toolset_20260401"}]"#);

/// One entry of `tools`.
pub static TOOL: Union = Union {
    name: "ToolParams",
    tag: "type",
    members: &[
        Member::taken("agent_toolset_20260401", &TOOLSET),
        Member::taken("custom", &CUSTOM),
        Member::taken("mcp_toolset", &MCP_TOOLSET),
    ],
};

/// What a call of a tool needs.
pub const POLICY_FIELD: Field =
    Field::new("permission_policy", Kind::Object(&POLICY), "Whether a call waits for the user.")
        .example(r#"{"type": "always_ask"}"#);

/// The kind of a policy.
pub const POLICY_TYPE: Field = Field {
    kind: Kind::Choice { taken: &["always_allow", "always_ask"], later: &["auto"] },
    ..Field::tag(&[]).right("send always_allow or always_ask")
};

/// A policy.
pub static POLICY: Table = Table {
    name: "PermissionPolicy",
    about: "Whether a call runs at once or waits for a user.tool_confirmation.",
    fields: &[POLICY_TYPE],
};

/// Whether the model may call a tool.
pub const ENABLED: Field =
    Field::new("enabled", Kind::Flag, "Whether the model may call it.").example("true");

/// What holds for tools without an entry.
pub const DEFAULT_FIELD: Field = Field::new(
    "default_config",
    Kind::Object(&DEFAULT),
    "What holds for tools without an entry of their own. Without it: enabled, always_allow.",
)
.example(r#"{"enabled": true}"#);

/// What holds for tools without an entry.
pub static DEFAULT: Table = Table {
    name: "ToolDefaultParams",
    about: "What holds for the tools of a set that have no entry of their own.",
    fields: &[ENABLED.means("true"), POLICY_FIELD.means(r#"{"type": "always_allow"}"#)],
};

/// The entries of a toolset.
pub const CONFIGS: Field = Field::new(
    "configs",
    Kind::List { of: A_CONFIG, least: 0, most: TOOLS },
    "Single tools that differ from the default. Answers show what was sent, resolved.",
)
.means("[]")
.rule("None twice.")
.example(r#"[{"name": "bash", "permission_policy": {"type": "always_ask"}}]"#);

/// The built-in tools.
pub static TOOLSET: Table = Table {
    name: "ToolsetParams",
    about: "The built-in tools. All are enabled unless they are said not to be; web_search is offered \
            where the server has a search back end.",
    fields: &[Field::tag(&["agent_toolset_20260401"]), DEFAULT_FIELD, CONFIGS],
};

/// All built-in tools.
pub const NAMES: &[&str] =
    &["bash", "edit", "glob", "grep", "read", "web_fetch", "web_search", "write"];

/// One entry of a toolset.
pub static CONFIG: Union = Union {
    name: "ToolConfigParams",
    tag: "name",
    members: &[
        Member::taken("bash", &SANDBOXED),
        Member::taken("edit", &SANDBOXED),
        Member::taken("glob", &SANDBOXED),
        Member::taken("grep", &SANDBOXED),
        Member::taken("read", &SANDBOXED),
        Member::taken("web_fetch", &WEB_FETCH),
        Member::taken("web_search", &WEB_SEARCH),
        Member::taken("write", &SANDBOXED),
    ],
};

/// The type of an entry, which is its name.
pub const CONFIG_TYPE: Field =
    Field::choice("type", NAMES, "The tool's name once more.").rule("The same as name.");
/// The same in an entry.
pub const INHERITED: Field = Field {
    about: "Whether the model may call it. Left out: as the toolset's default says.",
    absent: Absent::Depends,
    ..ENABLED
};

/// An entry of a tool that runs in a sandbox.
pub static SANDBOXED: Table = Table {
    name: "SandboxToolConfigParams",
    about: "An entry of a tool that runs in a sandbox.",
    fields: &[
        Field::choice("name", &["bash", "edit", "glob", "grep", "read", "write"], "The tool.")
            .required(),
        CONFIG_TYPE,
        INHERITED,
        POLICY_FIELD,
    ],
};

/// The name of a custom tool.
pub const CUSTOM_NAME: Field = Field::text("name", 1, 128, "The name that the model calls.")
    .required()
    .rule(
        "Letters, digits, underscores and hyphens; no built-in tool's name, no other tool's name, \
         and neither mcp__ nor ant__ at its beginning.",
    )
    .example(r#""weather""#);

/// What a custom tool does.
pub const CUSTOM_DESCRIPTION: Field =
    Field::text("description", 1, 4096, "What it does, for the model.")
        .required()
        .example(r#""Tells the weather.""#);

/// What a custom tool takes.
pub const INPUT_SCHEMA: Field = Field::new("input_schema", Kind::Schema, "What it takes.")
    .required()
    .right("send a JSON Schema of type object")
    .example(r#"{"type": "object", "properties": {"city": {"type": "string"}}}"#);

/// A tool that the client runs.
pub static CUSTOM: Table = Table {
    name: "CustomToolParams",
    about: "A tool that the client runs: a call of it is an agent.custom_tool_use.",
    fields: &[Field::tag(&["custom"]), CUSTOM_NAME, CUSTOM_DESCRIPTION, INPUT_SCHEMA],
};
