//! Tables of credentials, as clients send them.

use super::{
    Field, Kind, Member, Null, Table, Union,
    agents::{METADATA, METADATA_PATCH},
};

pub mod shown;

/// The longest secret, in characters.
const LONGEST_SECRET: usize = 65_536;
/// The longest address, in characters.
const LONGEST_URL: usize = 2_048;

/// A secret that travels in headers or forms.
const fn secret(name: &'static str, about: &'static str) -> Field {
    Field::text(name, 1, LONGEST_SECRET, about)
        .required()
        .rule("Printable ASCII. Write-only: no answer shows it.")
        .example(r#""a-secret""#)
}

/// The same in a change, in which null keeps what is there.
const fn another(field: Field) -> Field {
    Field { null: Null::AsAbsent, ..field }.keeps()
}

const fn url(name: &'static str, about: &'static str) -> Field {
    Field::text(name, 1, LONGEST_URL, about)
        .required()
        .rule("https, or http to a host that the operator has opened; no user, no fragment.")
        .example(r#""https://mcp.example.com/mcp""#)
}

const PRINTABLE: &str = "Printable ASCII.";

/// What a credential is.
pub const AUTH: Field = Field::new("auth", Kind::Union(&NEW_AUTH), "What the credential is.")
    .required()
    .example(
        r#"{"type": "static_bearer", "mcp_server_url": "https://mcp.example.com/mcp", "token": "a-secret"}"#,
    );
/// A change of it.
pub const AUTH_CHANGE: Field = Field::new(
    "auth",
    Kind::Union(&AUTH_UPDATE),
    "A change of what the credential is; what is left out in it stays.",
)
.keeps()
.null(Null::Refused)
.rule("Its type is the one that the credential has.")
.example(r#"{"type": "mcp_oauth"}"#);
/// The name of a credential.
pub const DISPLAY_NAME: Field =
    Field::text("display_name", 0, 255, "For people.").example(r#""The tracker""#);
/// Another name.
pub const NEW_DISPLAY_NAME: Field =
    Field::text("display_name", 1, 255, "For people. Null takes it away.")
        .keeps()
        .null(Null::Clears)
        .example(r#""The tracker""#);

/// A new credential.
pub static CREATE: Table = Table {
    name: "CredentialCreateParams",
    about: "A new credential. A vault has one live credential for a server or variable, and at most \
            20 of them.",
    fields: &[AUTH, DISPLAY_NAME, METADATA],
};
/// A change of a credential.
pub static UPDATE: Table = Table {
    name: "CredentialUpdateParams",
    about: "A change of a credential; sessions that run have it within a second.",
    fields: &[AUTH_CHANGE, NEW_DISPLAY_NAME, METADATA_PATCH],
};

/// What a new credential is.
pub static NEW_AUTH: Union = Union {
    name: "CredentialAuthParams",
    tag: "type",
    members: &[
        Member::taken("mcp_oauth", &OAUTH),
        Member::taken("static_bearer", &BEARER),
        Member::taken("environment_variable", &VARIABLE),
        Member::taken("posthouse_header", &HEADER),
    ],
};

/// The server that a credential is for.
pub const SERVER: Field = url("mcp_server_url", "The MCP server. It can't be changed.");
/// A token that runs out.
pub const ACCESS_TOKEN: Field = secret("access_token", "The token for the server.");
/// When it runs out.
pub const EXPIRES_AT: Field =
    Field::new("expires_at", Kind::SentTime, "When the token runs out, where that is known.")
        .rule("In the future.")
        .example(r#""2036-01-01T00:00:00Z""#);
/// How another one is got.
pub const REFRESH: Field =
    Field::new("refresh", Kind::Object(&NEW_REFRESH), "How another token is got.");
/// A token that runs out.
pub static OAUTH: Table = Table {
    name: "McpOauthParams",
    about: "A token for an MCP server that runs out.",
    fields: &[Field::tag(&["mcp_oauth"]), SERVER, ACCESS_TOKEN, EXPIRES_AT, REFRESH],
};

/// Who hands out tokens.
pub const TOKEN_ENDPOINT: Field =
    url("token_endpoint", "Who hands out tokens. It can't be changed.")
        .example(r#""https://auth.example.com/token""#);
/// Who asks.
pub const CLIENT_ID: Field =
    Field::text("client_id", 1, 1_024, "Who asks there. It can't be changed.")
        .required()
        .rule(PRINTABLE)
        .example(r#""a-client""#);
/// What another token is got for.
pub const REFRESH_TOKEN: Field = secret("refresh_token", "What another token is got for.");
/// How the client proves who it is.
pub const CLIENT_AUTH_FIELD: Field = Field::new(
    "token_endpoint_auth",
    Kind::Union(&CLIENT_AUTH),
    "How the client proves there who it is.",
)
.required()
.example(r#"{"type": "none"}"#);
/// The scope.
pub const SCOPE: Field =
    Field::text("scope", 0, 4_096, "The scope that is asked for. The empty text is none.")
        .rule(PRINTABLE)
        .example(r#""read write""#);
/// The resource.
pub const RESOURCE: Field = Field::text(
    "resource",
    1,
    LONGEST_URL,
    "The resource that the token is for (RFC 8707). It can't be changed.",
)
.rule(PRINTABLE)
.example(r#""https://mcp.example.com/""#);
/// How another token is got.
pub static NEW_REFRESH: Table = Table {
    name: "RefreshParams",
    about: "How another token is got when one has run out.",
    fields: &[TOKEN_ENDPOINT, CLIENT_ID, REFRESH_TOKEN, CLIENT_AUTH_FIELD, SCOPE, RESOURCE],
};
/// How a client proves who it is.
pub static CLIENT_AUTH: Union = Union {
    name: "TokenEndpointAuthParams",
    tag: "type",
    members: &[
        Member::taken("none", &NO_CLIENT_SECRET),
        Member::taken("client_secret_basic", &CLIENT_SECRET_BASIC),
        Member::taken("client_secret_post", &CLIENT_SECRET_POST),
    ],
};
/// The client's secret.
pub const CLIENT_SECRET: Field = secret("client_secret", "The client's secret.");
/// Not at all.
pub static NO_CLIENT_SECRET: Table = Table {
    name: "TokenEndpointAuthNoneParams",
    about: "The client has no secret.",
    fields: &[Field::tag(&["none"])],
};
/// In a header.
pub static CLIENT_SECRET_BASIC: Table = Table {
    name: "TokenEndpointAuthBasicParams",
    about: "The client's secret goes into the header Authorization.",
    fields: &[Field::tag(&["client_secret_basic"]), CLIENT_SECRET],
};
/// In the body.
pub static CLIENT_SECRET_POST: Table = Table {
    name: "TokenEndpointAuthPostParams",
    about: "The client's secret goes into the body.",
    fields: &[Field::tag(&["client_secret_post"]), CLIENT_SECRET],
};

/// A token.
pub const TOKEN: Field = secret("token", "The token for the server.");
/// A token.
pub static BEARER: Table = Table {
    name: "StaticBearerParams",
    about: "A token for an MCP server.",
    fields: &[Field::tag(&["static_bearer"]), SERVER, TOKEN],
};

/// The variable.
pub const SECRET_NAME: Field =
    Field::text("secret_name", 1, 255, "The variable. It can't be changed.")
        .required()
        .rule("Letters, digits and _, and not what shells, loaders and TLS libraries go by.")
        .example(r#""TRACKER_TOKEN""#);
/// Its value.
pub const SECRET_VALUE: Field = Field::text(
    "secret_value",
    1,
    LONGEST_SECRET,
    "The value. Sandboxes hold a placeholder, in whose place it is put on the way out.",
)
.required()
.rule(
    "No control characters unless injection_location.header is false. Write-only: no answer shows \
     it.",
)
.example(r#""a-secret""#);
/// Who may get it.
pub const NETWORKING: Field =
    Field::new("networking", Kind::Union(&HOSTS), "The hosts that may get the value.")
        .required()
        .example(r#"{"type": "limited", "allowed_hosts": ["api.example.com"]}"#);
/// Where it is put.
pub const INJECTION: Field = Field::new(
    "injection_location",
    Kind::Object(&INJECTION_PLACES),
    "Where in a request the value is put. When it is sent, what is left out in it is false.",
)
.means(r#"{"header": true, "body": true}"#)
.null(Null::Refused)
.rule("At least one of them is true.")
.example(r#"{"header": true, "body": true}"#);
const fn place(name: &'static str, about: &'static str) -> Field {
    Field::new(name, Kind::Flag, about).means("false").null(Null::Refused).example("true")
}
/// The places.
pub const PLACES: [Field; 2] =
    [place("header", "In values of headers."), place("body", "In the body.")];
/// Where a value is put.
pub static INJECTION_PLACES: Table = Table {
    name: "InjectionLocationParams",
    about: "Where in a request a value is put.",
    fields: &[PLACES[0], PLACES[1]],
};
/// A variable.
pub static VARIABLE: Table = Table {
    name: "EnvironmentVariableParams",
    about: "A variable of sandboxes, whose value never enters one.",
    fields: &[
        Field::tag(&["environment_variable"]),
        SECRET_NAME,
        SECRET_VALUE,
        NETWORKING,
        INJECTION,
    ],
};

/// Who may get a value.
pub static HOSTS: Union = Union {
    name: "CredentialNetworkingParams",
    tag: "type",
    members: &[Member::taken("unrestricted", &ALL_HOSTS), Member::taken("limited", &SOME_HOSTS)],
};
/// All hosts.
pub static ALL_HOSTS: Table = Table {
    name: "UnrestrictedCredentialNetworkingParams",
    about: "Every host that the session's environment lets through.",
    fields: &[Field::tag(&["unrestricted"])],
};
const A_HOST: &Kind = &Kind::Text { least: 1, most: 255 };
/// Some hosts.
pub const ALLOWED_HOSTS: Field = Field::new(
    "allowed_hosts",
    Kind::List { of: A_HOST, least: 1, most: 16 },
    "The hosts. *. and a name stands for all names below it, and not for itself.",
)
.required()
.rule("Bare host names, IPv4 addresses, *. and a name.")
.example(r#"["api.example.com"]"#);
/// Some hosts.
pub static SOME_HOSTS: Table = Table {
    name: "LimitedCredentialNetworkingParams",
    about: "These hosts alone, as far as the session's environment lets them through.",
    fields: &[Field::tag(&["limited"]), ALLOWED_HOSTS],
};

/// The header.
pub const HEADER_NAME: Field =
    Field::text("header_name", 1, 128, "The header. It can't be changed.")
        .required()
        .rule("A name of a header, and not one that belongs to the request itself.")
        .example(r#""X-Api-Key""#);
/// Its value.
pub const HEADER_TOKEN: Field = Field { about: "The header's value, whole.", ..TOKEN };
/// A header.
pub static HEADER: Table = Table {
    name: "PosthouseHeaderParams",
    about: "A header for an MCP server that wants its key in one of its own. An extension.",
    fields: &[Field::tag(&["posthouse_header"]), SERVER, HEADER_NAME, HEADER_TOKEN],
};

/// A change of what a credential is.
pub static AUTH_UPDATE: Union = Union {
    name: "CredentialAuthUpdateParams",
    tag: "type",
    members: &[
        Member::taken("mcp_oauth", &OAUTH_UPDATE),
        Member::taken("static_bearer", &BEARER_UPDATE),
        Member::taken("environment_variable", &VARIABLE_UPDATE),
        Member::taken("posthouse_header", &HEADER_UPDATE),
    ],
};
/// Another token.
pub const NEW_ACCESS_TOKEN: Field = another(ACCESS_TOKEN);
/// Another end of it.
pub const NEW_EXPIRES_AT: Field = Field {
    about: "When the token runs out. Left out or null, the time that is there stays, also beside a \
            new token.",
    ..EXPIRES_AT.keeps()
};
/// A change of how another one is got.
pub const REFRESH_CHANGE: Field =
    Field::new("refresh", Kind::Object(&REFRESH_UPDATE), "A change of how another token is got.")
        .keeps()
        .rule("Only where the credential was made with it.");
/// A change of a token that runs out.
pub static OAUTH_UPDATE: Table = Table {
    name: "McpOauthUpdateParams",
    about: "A change of a token for an MCP server that runs out.",
    fields: &[Field::tag(&["mcp_oauth"]), NEW_ACCESS_TOKEN, NEW_EXPIRES_AT, REFRESH_CHANGE],
};
/// Another token for the next token.
pub const NEW_REFRESH_TOKEN: Field = another(REFRESH_TOKEN);
/// Another scope.
pub const NEW_SCOPE: Field = Field {
    about: "The scope that is asked for. The empty text takes it away, null keeps it.",
    ..SCOPE.keeps()
};
/// Another secret of the client.
pub const CLIENT_AUTH_CHANGE: Field = Field::new(
    "token_endpoint_auth",
    Kind::Union(&CLIENT_AUTH_UPDATE),
    "Another secret of the client. The way in which it is sent stays, whichever is named here.",
)
.keeps()
.null(Null::Refused)
.rule("Only where the client has a secret.")
.example(r#"{"type": "client_secret_post", "client_secret": "a-secret"}"#);
/// A change of how another token is got.
pub static REFRESH_UPDATE: Table = Table {
    name: "RefreshUpdateParams",
    about: "A change of how another token is got.",
    fields: &[NEW_REFRESH_TOKEN, NEW_SCOPE, CLIENT_AUTH_CHANGE],
};
/// Another secret of the client.
pub static CLIENT_AUTH_UPDATE: Union = Union {
    name: "TokenEndpointAuthUpdateParams",
    tag: "type",
    members: &[
        Member::taken("client_secret_basic", &CLIENT_SECRET_BASIC_UPDATE),
        Member::taken("client_secret_post", &CLIENT_SECRET_POST_UPDATE),
    ],
};
/// Another secret of the client.
pub const NEW_CLIENT_SECRET: Field = another(CLIENT_SECRET);
/// Another secret of the client.
pub static CLIENT_SECRET_BASIC_UPDATE: Table = Table {
    name: "TokenEndpointAuthBasicUpdateParams",
    about: "Another secret of the client.",
    fields: &[Field::tag(&["client_secret_basic"]), NEW_CLIENT_SECRET],
};
/// Another secret of the client.
pub static CLIENT_SECRET_POST_UPDATE: Table = Table {
    name: "TokenEndpointAuthPostUpdateParams",
    about: "Another secret of the client.",
    fields: &[Field::tag(&["client_secret_post"]), NEW_CLIENT_SECRET],
};
/// Another token.
pub const NEW_TOKEN: Field = another(TOKEN);
/// Another token.
pub static BEARER_UPDATE: Table = Table {
    name: "StaticBearerUpdateParams",
    about: "Another token for an MCP server.",
    fields: &[Field::tag(&["static_bearer"]), NEW_TOKEN],
};
/// Another value of a header.
pub static HEADER_UPDATE: Table = Table {
    name: "PosthouseHeaderUpdateParams",
    about: "Another value of a header. An extension.",
    fields: &[Field::tag(&["posthouse_header"]), NEW_TOKEN],
};
/// Another value of a variable.
pub const NEW_SECRET_VALUE: Field = another(SECRET_VALUE);
/// Others that may get it.
pub const NEW_NETWORKING: Field =
    Field { about: "The hosts that may get the value, all of them.", ..another(NETWORKING) };
/// Other places.
pub const NEW_INJECTION: Field = Field {
    kind: Kind::Object(&INJECTION_CHANGE),
    about: "Where in a request the value is put. What is left out in it stays.",
    ..INJECTION.keeps()
};
/// The places.
pub const NEW_PLACES: [Field; 2] = [PLACES[0].keeps(), PLACES[1].keeps()];
/// A change of where a value is put.
pub static INJECTION_CHANGE: Table = Table {
    name: "InjectionLocationUpdateParams",
    about: "A change of where in a request a value is put.",
    fields: &[NEW_PLACES[0], NEW_PLACES[1]],
};
/// A change of a variable.
pub static VARIABLE_UPDATE: Table = Table {
    name: "EnvironmentVariableUpdateParams",
    about: "A change of a variable.",
    fields: &[
        Field::tag(&["environment_variable"]),
        NEW_SECRET_VALUE,
        NEW_NETWORKING,
        NEW_INJECTION,
    ],
};
