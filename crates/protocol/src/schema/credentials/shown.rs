//! Tables of credentials as they are shown. Nothing secret has a row here.

use super::super::{
    Field, Kind, Member, Null, Table, Union,
    answers::{ARCHIVED, CREATED, METADATA, TEXT, UPDATED, has, id, is, list},
};
use crate::id::IdKind;

const SERVER: Field = has("mcp_server_url", TEXT, "The server, as it was sent.")
    .example(r#""https://mcp.example.com/mcp""#);
const fn unless_unset(field: Field) -> Field {
    Field { null: Null::Refused, ..field.optional() }
}

/// How a client proves who it is.
pub static CLIENT_AUTH: Table = Table {
    name: "TokenEndpointAuth",
    about: "How the client proves to the token endpoint who it is.",
    fields: &[is(&["none", "client_secret_basic", "client_secret_post"])],
};
/// How another token is got.
pub static REFRESH: Table = Table {
    name: "Refresh",
    about: "How another token is got.",
    fields: &[
        has("client_id", TEXT, "Who asks.").example(r#""a-client""#),
        has("token_endpoint", TEXT, "Who is asked.").example(r#""https://auth.example.com/token""#),
        has("token_endpoint_auth", Kind::Object(&CLIENT_AUTH), "How the client proves who it is."),
        unless_unset(has("resource", TEXT, "The resource that the token is for.")),
        unless_unset(has("scope", TEXT, "The scope that is asked for.")),
    ],
};
/// A token that runs out.
pub static OAUTH: Table = Table {
    name: "McpOauth",
    about: "A token for an MCP server that runs out.",
    fields: &[
        is(&["mcp_oauth"]),
        SERVER,
        unless_unset(has("expires_at", Kind::Time, "When the token runs out.")),
        unless_unset(has("refresh", Kind::Object(&REFRESH), "How another token is got.")),
    ],
};
/// A token.
pub static BEARER: Table = Table {
    name: "StaticBearer",
    about: "A token for an MCP server.",
    fields: &[is(&["static_bearer"]), SERVER],
};
/// All hosts.
pub static ALL_HOSTS: Table = Table {
    name: "UnrestrictedCredentialNetworking",
    about: "Every host that the session's environment lets through.",
    fields: &[is(&["unrestricted"])],
};
/// Some hosts.
pub static SOME_HOSTS: Table = Table {
    name: "LimitedCredentialNetworking",
    about: "These hosts alone, as far as the session's environment lets them through.",
    fields: &[is(&["limited"]), has("allowed_hosts", list(&TEXT), "The hosts, as they were sent.")],
};
/// Who may get a value.
pub static HOSTS: Union = Union {
    name: "CredentialNetworking",
    tag: "type",
    members: &[Member::taken("unrestricted", &ALL_HOSTS), Member::taken("limited", &SOME_HOSTS)],
};
/// Where a value is put.
pub static PLACES: Table = Table {
    name: "InjectionLocation",
    about: "Where in a request a value is put.",
    fields: &[
        has("header", Kind::Flag, "In values of headers."),
        has("body", Kind::Flag, "In the body."),
    ],
};
/// A variable.
pub static VARIABLE: Table = Table {
    name: "EnvironmentVariable",
    about: "A variable of sandboxes, whose value never enters one.",
    fields: &[
        is(&["environment_variable"]),
        has("secret_name", TEXT, "The variable.").example(r#""TRACKER_TOKEN""#),
        has("networking", Kind::Union(&HOSTS), "The hosts that may get the value."),
        has("injection_location", Kind::Object(&PLACES), "Where in a request it is put."),
    ],
};
/// A header.
pub static HEADER: Table = Table {
    name: "PosthouseHeader",
    about: "A header for an MCP server. An extension.",
    fields: &[
        is(&["posthouse_header"]),
        SERVER,
        has("header_name", TEXT, "The header.").example(r#""X-Api-Key""#),
    ],
};
/// What a credential is.
pub static AUTH: Union = Union {
    name: "CredentialAuth",
    tag: "type",
    members: &[
        Member::taken("mcp_oauth", &OAUTH),
        Member::taken("static_bearer", &BEARER),
        Member::taken("environment_variable", &VARIABLE),
        Member::taken("posthouse_header", &HEADER),
    ],
};
/// A credential.
pub static CREDENTIAL: Table = Table {
    name: "Credential",
    about: "A credential, without what is secret in it.",
    fields: &[
        is(&["vault_credential"]),
        id(IdKind::Credential),
        has("vault_id", Kind::Id(IdKind::Vault), "Its vault."),
        has("display_name", TEXT, "For people.").or_null(),
        METADATA,
        has("auth", Kind::Union(&AUTH), "What it is."),
        CREATED,
        UPDATED,
        ARCHIVED,
    ],
};

/// What a server has answered.
pub static HTTP_RESPONSE: Table = Table {
    name: "ProbeResponse",
    about: "What a server has answered, without secrets.",
    fields: &[
        has("status_code", Kind::Integer { least: 100, most: 999 }, "The status."),
        has("content_type", TEXT, "What it says that the body is."),
        has("body", TEXT, "The body, possibly cut."),
        has("body_truncated", Kind::Flag, "Whether it is cut."),
    ],
};
const RESPONSE: Field =
    has("http_response", Kind::Object(&HTTP_RESPONSE), "Null where there was none.").or_null();
/// A step that has failed.
pub static PROBE: Table = Table {
    name: "McpProbe",
    about: "The step of a probe that has failed.",
    fields: &[has("method", TEXT, "The step.").example(r#""initialize""#), RESPONSE],
};
/// What came of getting another token.
pub static REFRESHED: Table = Table {
    name: "RefreshAttempt",
    about: "What came of getting another token.",
    fields: &[
        has(
            "status",
            Kind::choice(&["succeeded", "failed", "connect_error", "no_refresh_token"]),
            "What came of it.",
        ),
        RESPONSE,
    ],
};
/// What a probe has found.
pub static VALIDATION: Table = Table {
    name: "CredentialValidation",
    about: "What a probe of a credential has found.",
    fields: &[
        is(&["vault_credential_validation"]),
        has("credential_id", Kind::Id(IdKind::Credential), "The credential."),
        has("vault_id", Kind::Id(IdKind::Vault), "Its vault."),
        has("validated_at", Kind::Time, "When."),
        has("has_refresh_token", Kind::Flag, "Whether another token can be got."),
        has("status", Kind::choice(&["valid", "invalid", "unknown"]), "The verdict."),
        has("mcp_probe", Kind::Object(&PROBE), "The step that has failed, if one has.").or_null(),
        has("refresh", Kind::Object(&REFRESHED), "Null when none was attempted.").or_null(),
    ],
};
