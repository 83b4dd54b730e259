//! Tables of an agent's MCP servers and of the toolsets that stand for them, as clients send them.

use super::{
    Field, Kind, Member, Table, Union,
    tools::{ENABLED, INHERITED, POLICY_FIELD, TOOLS},
};

/// At most this many servers.
const SERVERS: usize = 20;
/// At most this many arguments of a program.
const ARGUMENTS: usize = 100;
/// The longest argument, and the longest value of a variable, in characters.
pub const LONGEST: usize = 8192;
/// At most this many variables.
pub const VARIABLES: usize = 64;
/// The longest name of a variable, in characters.
pub const LONGEST_NAME: usize = 255;

const A_SERVER: &Kind = &Kind::Union(&SERVER);

/// The MCP servers of an agent.
pub const MCP_SERVERS: Field = Field::new(
    "mcp_servers",
    Kind::List { of: A_SERVER, least: 0, most: SERVERS },
    "MCP servers. Each list replaces the one before.",
)
.means("[]")
.rule("No name twice, and for each server exactly one mcp_toolset in tools.")
.example(r#"[{"type": "url", "name": "docs", "url": "https://mcp.example.com/mcp"}]"#);

/// One entry of `mcp_servers`.
pub static SERVER: Union = Union {
    name: "McpServerParams",
    tag: "type",
    members: &[Member::taken("url", &URL_SERVER), Member::taken("posthouse_stdio", &STDIO_SERVER)],
};

/// The name of a server.
pub const NAME: Field = Field::text("name", 1, 255, "What the agent calls it.")
    .required()
    .rule("No other server's name.")
    .example(r#""docs""#);
/// The address of a server.
pub const URL: Field = Field::text("url", 1, 2048, "Where it is.")
    .required()
    .rule("http or https, without a user and without a fragment.")
    .example(r#""https://mcp.example.com/mcp""#);

/// A server behind an address.
pub static URL_SERVER: Table = Table {
    name: "UrlMcpServerParams",
    about: "An MCP server behind an address: Streamable HTTP, or the older SSE. Its credential is the \
            first one for that address in the session's vaults.",
    fields: &[Field::tag(&["url"]), NAME, URL],
};

/// The program of a server.
pub const COMMAND: Field =
    Field::text("command", 1, 4096, "The program: a path, or a name that the sandbox looks up.")
        .required()
        .rule("No NUL.")
        .example(r#""npx""#);
const AN_ARGUMENT: &Kind = &Kind::Text { least: 0, most: LONGEST };
/// The arguments of that program.
pub const ARGS: Field =
    Field::new("args", Kind::List { of: AN_ARGUMENT, least: 0, most: ARGUMENTS }, "Its arguments.")
        .means("[]")
        .rule("No NUL.")
        .example(r#"["-y", "some-mcp-server"]"#);
/// The variables of that program.
pub const ENV: Field = Field::new(
    "env",
    Kind::Free,
    "Its environment, beside the sandbox's own: names and texts. They are shown to everybody who may \
     read the agent; secrets belong into a vault, as a credential of the kind environment_variable.",
)
.means("{}")
.rule("At most 64; names of letters, digits and underscores that begin with no digit; no NUL.")
.example(r#"{"LOG_LEVEL": "warn"}"#);

/// A server in the sandbox.
pub static STDIO_SERVER: Table = Table {
    name: "StdioMcpServerParams",
    about: "An MCP server that runs in the session's sandbox and speaks over its input and output.",
    fields: &[Field::tag(&["posthouse_stdio"]), NAME, COMMAND, ARGS, ENV],
};

/// The server of a toolset.
pub const SERVER_NAME: Field = Field::text("mcp_server_name", 1, 255, "The server.")
    .required()
    .rule("A name in mcp_servers.")
    .example(r#""docs""#);
/// What holds for tools without an entry.
pub const DEFAULT_FIELD: Field = Field::new(
    "default_config",
    Kind::Object(&DEFAULT),
    "What holds for tools without an entry of their own. Without it: enabled, always_ask.",
)
.example(r#"{"enabled": true}"#);
/// What holds for tools without an entry.
pub static DEFAULT: Table = Table {
    name: "McpToolDefaultParams",
    about: "What holds for the tools of an MCP server that have no entry of their own.",
    fields: &[ENABLED.means("true"), POLICY_FIELD.means(r#"{"type": "always_ask"}"#)],
};

const A_CONFIG: &Kind = &Kind::Object(&CONFIG);
/// The entries of a toolset.
pub const CONFIGS: Field = Field::new(
    "configs",
    Kind::List { of: A_CONFIG, least: 0, most: TOOLS },
    "Single tools that differ from the default. Answers show what was sent, resolved.",
)
.means("[]")
.rule("None twice.")
.example(r#"[{"name": "search", "permission_policy": {"type": "always_allow"}}]"#);
/// The name of an MCP tool.
pub const TOOL_NAME: Field =
    Field::text("name", 1, 128, "The server's own name of the tool. It need not be there.")
        .required()
        .example(r#""search""#);
/// One entry of a toolset.
pub static CONFIG: Table = Table {
    name: "McpToolConfigParams",
    about: "An entry of an MCP tool.",
    fields: &[TOOL_NAME, INHERITED, POLICY_FIELD],
};

/// The tools of an MCP server.
pub static MCP_TOOLSET: Table = Table {
    name: "McpToolsetParams",
    about: "The tools of an MCP server.",
    fields: &[Field::tag(&["mcp_toolset"]), SERVER_NAME, DEFAULT_FIELD, CONFIGS],
};
