//! Tables of environments, as clients send them.

use super::{Field, Kind, Member, Null, Pairs, Table, Union, agents::METADATA};
use crate::host::LONGEST;

/// The name of an environment.
pub const NAME: Field =
    Field::text("name", 1, 256, "For people.").required().example(r#""Default""#);
/// Another name. The original API keeps the name when it is null.
pub const NEW_NAME: Field = Field { null: Null::AsAbsent, ..NAME }.keeps();
/// The description of an environment.
pub const DESCRIPTION: Field =
    Field::text("description", 0, 1024, "For people.").example(r#""For experiments""#);
/// Another description.
pub const NEW_DESCRIPTION: Field = DESCRIPTION.keeps().null(Null::Clears);

/// What a sandbox has.
pub const CONFIG_FIELD: Field = Field::new(
    "config",
    Kind::Union(&CONFIG),
    "What a sandbox in it has. Left out: a cloud environment without restrictions.",
)
.example(r#"{"type": "cloud", "networking": {"type": "limited"}}"#);
/// The same in a change.
pub const NEW_CONFIG: Field = Field {
    kind: Kind::Union(&CONFIG_CHANGE),
    about: "What a sandbox in it has. It must be of the type that it was; what is left out in it \
            stays.",
    ..CONFIG_FIELD.keeps()
};

/// What a sandbox has.
pub static CONFIG: Union = Union {
    name: "EnvironmentConfigParams",
    tag: "type",
    members: &[
        Member::taken("cloud", &CLOUD),
        // What older clients call it.
        Member::taken("anthropic_cloud", &CLOUD),
        Member::later("self_hosted", "send cloud"),
    ],
};

/// What a sandbox has from now on.
pub static CONFIG_CHANGE: Union = Union {
    name: "EnvironmentConfigUpdateParams",
    tag: "type",
    members: &[
        Member::taken("cloud", &CLOUD),
        Member::taken("anthropic_cloud", &CLOUD),
        Member::refused("self_hosted", "is not the type of this environment", "send cloud"),
    ],
};

/// Where a sandbox may connect to.
pub const NETWORKING_FIELD: Field =
    Field::new("networking", Kind::Union(&NETWORKING), "Where a sandbox may connect to.")
        .keeps()
        .example(r#"{"type": "unrestricted"}"#);
/// What is installed in a sandbox.
pub const PACKAGES_FIELD: Field =
    Field::new("packages", Kind::Object(&PACKAGES), "What is installed in a sandbox.")
        .keeps()
        .example(r#"{"type": "packages", "pip": []}"#);

/// A sandbox that the server runs.
pub static CLOUD: Table = Table {
    name: "CloudConfigParams",
    about: "The server runs the sandbox.",
    fields: &[
        Field::tag(&["cloud", "anthropic_cloud"]).example(r#""cloud""#),
        NETWORKING_FIELD,
        PACKAGES_FIELD,
    ],
};

/// Where a sandbox may connect to.
pub static NETWORKING: Union = Union {
    name: "NetworkingParams",
    tag: "type",
    members: &[Member::taken("unrestricted", &UNRESTRICTED), Member::taken("limited", &LIMITED)],
};

/// Anywhere.
pub static UNRESTRICTED: Table = Table {
    name: "UnrestrictedNetworkingParams",
    about: "Anywhere, but for what the operator forbids.",
    fields: &[Field::tag(&["unrestricted"])],
};

/// How many hosts a list of them has at most.
const HOSTS: usize = 1000;
const A_HOST: &Kind = &Kind::Text { least: 1, most: LONGEST };
/// A member of a `limited` policy: what is not sent stays, if the policy was `limited` before.
const fn limited(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field::new(name, kind, about).keeps()
}

/// Hosts that may be reached.
pub const ALLOWED_HOSTS: Field = limited(
    "allowed_hosts",
    Kind::List { of: A_HOST, least: 0, most: HOSTS },
    "Hosts that may be reached: a name, *. and a name for all names below it at any depth (and not for \
     itself), or an IPv4 address. Left out in a new policy: none.",
)
.rule("No scheme, no port, no path, no IPv6; a * only as the whole first label in front of a name.")
.example(r#"["api.example.com", "*.example.org"]"#);
/// Whether MCP servers may be reached.
pub const ALLOW_MCP_SERVERS: Field = limited(
    "allow_mcp_servers",
    Kind::Flag,
    "Whether the hosts of the agent's MCP servers may be reached as well. Left out in a new policy: \
     false.",
)
.example("true");
/// Whether registries may be reached.
pub const ALLOW_PACKAGE_MANAGERS: Field = limited(
    "allow_package_managers",
    Kind::Flag,
    "Whether the public registries and places of code may be reached as well; docs/SANDBOX.md has the \
     list. Left out in a new policy: false.",
)
.example("true");

/// Nowhere but where it is named.
pub static LIMITED: Table = Table {
    name: "LimitedNetworkingParams",
    about: "Nowhere but where it is named. In a change of a policy that was limited before, what is left \
            out stays.",
    fields: &[Field::tag(&["limited"]), ALLOWED_HOSTS, ALLOW_MCP_SERVERS, ALLOW_PACKAGE_MANAGERS],
};

/// Hosts whose TLS is left alone.
pub const PASSTHROUGH_HOSTS: Field = Field::new(
    "passthrough_hosts",
    Kind::List { of: A_HOST, least: 0, most: HOSTS },
    "Hosts whose TLS is not ended by the door, for clients that pin certificates: they may be reached, \
     are known by the name that the client asks for alone, and no secret is put in. Names, as in \
     allowed_hosts.",
)
.keeps()
.null(Null::Clears)
.rule("As in allowed_hosts, and no address.")
.example(r#"["pinned.example.com"]"#);
/// What an environment has beyond the original API.
pub const EXTENSION_FIELD: Field = Field::new(
    "posthouse",
    Kind::Object(&EXTENSION),
    "What the original API lacks. Null clears all of it.",
)
.keeps()
.null(Null::Clears)
.example(r#"{"passthrough_hosts": ["pinned.example.com"]}"#);
/// What an environment has beyond the original API.
pub static EXTENSION: Table = Table {
    name: "EnvironmentExtensionParams",
    about: "What an environment has beyond the original API.",
    fields: &[PASSTHROUGH_HOSTS],
};

/// The kind of packages.
pub const PACKAGES_TYPE: Field =
    Field::choice("type", &["packages"], "Tells what this is.").means(r#""packages""#);
/// The package managers.
pub const MANAGERS: [Field; 6] = [
    Field::later("apt", "Debian packages."),
    Field::later("cargo", "Crates."),
    Field::later("gem", "Gems."),
    Field::later("go", "Go modules."),
    Field::later("npm", "Packages of npm."),
    Field::later("pip", "Packages of PyPI."),
];

/// What is installed in a sandbox.
pub static PACKAGES: Table = Table {
    name: "PackagesParams",
    about: "What is installed in a sandbox.",
    fields: &[
        PACKAGES_TYPE,
        MANAGERS[0],
        MANAGERS[1],
        MANAGERS[2],
        MANAGERS[3],
        MANAGERS[4],
        MANAGERS[5],
    ],
};

/// A change of the caller's own pairs.
pub const METADATA_PATCH: Field = Field {
    kind: Kind::Pairs(Pairs::PatchOrEmpty),
    about: "A change of your own pairs: a text sets a key, null and the empty text remove it. The \
            limits hold for the result.",
    ..METADATA.keeps()
};

/// Who sees an environment.
pub const SCOPE: Field = Field {
    kind: Kind::Choice { taken: &["organization"], later: &["account"] },
    ..Field::choice("scope", &[], "Who sees it.").right("send organization")
}
.means(r#""organization""#);

/// A new environment.
pub static CREATE: Table = Table {
    name: "EnvironmentCreateParams",
    about: "A new environment.",
    fields: &[NAME, DESCRIPTION, CONFIG_FIELD, METADATA, SCOPE, EXTENSION_FIELD],
};

/// A change of an environment.
pub static UPDATE: Table = Table {
    name: "EnvironmentUpdateParams",
    about: "A change of an environment. What is left out stays. Sessions keep the configuration \
            that they were made with.",
    fields: &[NEW_NAME, NEW_DESCRIPTION, NEW_CONFIG, METADATA_PATCH, SCOPE, EXTENSION_FIELD],
};
