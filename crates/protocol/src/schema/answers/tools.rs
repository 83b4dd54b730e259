//! Tables of an agent's tools as they are shown, resolved.

use super::{
    super::{
        Field, Kind, Member, Table, Union,
        tools::NAMES,
        web::{SOURCE_ALL, SOURCE_NONE},
    },
    COUNT, TEXT, TEXTS, has, is, list,
};

/// A policy.
pub static POLICY: Table = Table {
    name: "Policy",
    about: "Whether a call waits for the user.",
    fields: &[is(&["always_allow", "always_ask"])],
};
const ENABLED: Field = has("enabled", Kind::Flag, "Whether the model may call it.");
const POLICY_FIELD: Field = has("permission_policy", Kind::Object(&POLICY), "What a call needs.");

/// What holds for tools without an entry.
pub static DEFAULT_CONFIG: Table = Table {
    name: "ToolDefault",
    about: "What holds for the tools of a set that have no entry of their own.",
    fields: &[ENABLED, POLICY_FIELD],
};
const NAME_AS_TYPE: Field = has("type", Kind::choice(NAMES), "The tool's name once more.");
const ALLOWED: Field = has("allowed_domains", TEXTS, "These hosts alone; null: unset.").or_null();
const BLOCKED: Field = has("blocked_domains", TEXTS, "None of these hosts; null: unset.").or_null();
/// An entry of a sandbox tool.
pub static SANDBOX_CONFIG: Table = Table {
    name: "SandboxToolConfig",
    about: "An entry of a tool that runs in a sandbox.",
    fields: &[
        NAME_AS_TYPE,
        has("name", Kind::choice(&["bash", "edit", "glob", "grep", "read", "write"]), "The tool."),
        ENABLED,
        POLICY_FIELD,
    ],
};
/// Where addresses may come from.
pub static SOURCES: Table = Table {
    name: "UrlSources",
    about: "Where the addresses that web_fetch reads may come from. Null: unset, which means all.",
    fields: &[
        has("user_input", Kind::Union(&SOURCE), "What users say: all or none.").or_null(),
        has("client_tool_results", Kind::Union(&SOURCE), "Results of custom tools.").or_null(),
        has("server_tool_results", Kind::Union(&SOURCE), "Results of tools of the web.").or_null(),
    ],
};
/// Which of a kind are sources.
pub static SOURCE: Union = Union {
    name: "FetchSource",
    tag: "type",
    members: &[
        Member::taken("all", &SOURCE_ALL),
        Member::taken("none", &SOURCE_NONE),
        Member::taken("only", &SOURCE_ONLY),
        Member::taken("except", &SOURCE_EXCEPT),
    ],
};
/// These alone.
pub static SOURCE_ONLY: Table = Table {
    name: "FetchSourceOnly",
    about: "Results of these tools alone.",
    fields: &[is(&["only"]), NAMED],
};
/// All but these.
pub static SOURCE_EXCEPT: Table = Table {
    name: "FetchSourceExcept",
    about: "Results of all tools but these.",
    fields: &[is(&["except"]), NAMED],
};
const NAMED: Field = has("tools", list(A_REFERENCE), "The tools.");
const A_REFERENCE: &Kind = &Kind::Object(&REFERENCE);
/// A tool by its name.
pub static REFERENCE: Table = Table {
    name: "ToolReference",
    about: "A tool by its name.",
    fields: &[is(&["tool_reference"]), has("name", TEXT, "Its name.")],
};
/// About where the user is.
pub static LOCATION: Table = Table {
    name: "UserLocation",
    about: "About where the user is.",
    fields: &[
        is(&["approximate"]),
        has("city", TEXT, "The city.").or_null(),
        has("region", TEXT, "The region or the state.").or_null(),
        has("country", TEXT, "The country, by ISO 3166-1 alpha-2.").or_null(),
        has("timezone", TEXT, "The time zone, by its IANA name.").or_null(),
    ],
};
/// An entry of `web_fetch`.
pub static FETCH_CONFIG: Table = Table {
    name: "WebFetchConfig",
    about: "An entry of web_fetch.",
    fields: &[
        NAME_AS_TYPE,
        has("name", Kind::choice(&["web_fetch"]), "The tool."),
        ENABLED,
        POLICY_FIELD,
        ALLOWED,
        BLOCKED,
        has("max_content_tokens", COUNT, "How much of a text the model sees; null: unset.")
            .or_null(),
        has("url_sources", Kind::Object(&SOURCES), "Where addresses may come from; null: unset.")
            .or_null(),
    ],
};
/// An entry of `web_search`.
pub static SEARCH_CONFIG: Table = Table {
    name: "WebSearchConfig",
    about: "An entry of web_search.",
    fields: &[
        NAME_AS_TYPE,
        has("name", Kind::choice(&["web_search"]), "The tool."),
        ENABLED,
        POLICY_FIELD,
        ALLOWED,
        BLOCKED,
        has("user_location", Kind::Object(&LOCATION), "About where the user is; null: unset.")
            .or_null(),
    ],
};
/// An entry of a toolset.
pub static TOOL_CONFIG: Union = Union {
    name: "ToolConfig",
    tag: "name",
    members: &[
        Member::taken("bash", &SANDBOX_CONFIG),
        Member::taken("edit", &SANDBOX_CONFIG),
        Member::taken("glob", &SANDBOX_CONFIG),
        Member::taken("grep", &SANDBOX_CONFIG),
        Member::taken("read", &SANDBOX_CONFIG),
        Member::taken("web_fetch", &FETCH_CONFIG),
        Member::taken("web_search", &SEARCH_CONFIG),
        Member::taken("write", &SANDBOX_CONFIG),
    ],
};
const A_CONFIG: &Kind = &Kind::Union(&TOOL_CONFIG);
/// The built-in tools.
pub static TOOLSET: Table = Table {
    name: "Toolset",
    about: "The built-in tools. Its configs hold what was sent, resolved.",
    fields: &[
        is(&["agent_toolset_20260401"]),
        has("default_config", Kind::Object(&DEFAULT_CONFIG), "What holds without an entry."),
        has("configs", list(A_CONFIG), "Single tools that differ."),
    ],
};
/// A tool that the client runs.
pub static CUSTOM: Table = Table {
    name: "CustomTool",
    about: "A tool that the client runs.",
    fields: &[
        is(&["custom"]),
        has("name", TEXT, "The name that the model calls."),
        has("description", TEXT, "What it does, for the model."),
        has("input_schema", Kind::Schema, "What it takes, as sent."),
    ],
};
/// An entry of an MCP tool.
pub static MCP_CONFIG: Table = Table {
    name: "McpToolConfig",
    about: "An entry of an MCP tool.",
    fields: &[has("name", TEXT, "The server's own name of the tool."), ENABLED, POLICY_FIELD],
};
const AN_MCP_CONFIG: &Kind = &Kind::Object(&MCP_CONFIG);
/// The tools of an MCP server.
pub static MCP_TOOLSET: Table = Table {
    name: "McpToolset",
    about: "The tools of an MCP server. Its configs hold what was sent, resolved.",
    fields: &[
        is(&["mcp_toolset"]),
        has("mcp_server_name", TEXT, "The server.").example(r#""docs""#),
        has("default_config", Kind::Object(&DEFAULT_CONFIG), "What holds without an entry."),
        has("configs", list(AN_MCP_CONFIG), "Single tools that differ."),
    ],
};
/// One entry of `tools`.
pub static TOOL: Union = Union {
    name: "Tool",
    tag: "type",
    members: &[
        Member::taken("agent_toolset_20260401", &TOOLSET),
        Member::taken("custom", &CUSTOM),
        Member::taken("mcp_toolset", &MCP_TOOLSET),
    ],
};
pub(super) const A_TOOL: &Kind = &Kind::Union(&TOOL);
