//! Tables of environments, as clients send them.

use super::{Field, Kind, Member, Null, Pairs, Table, Union, agents::METADATA};

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

const NOTHING: &str = "leave it out, so that nothing is allowed";
/// Hosts that may be reached.
pub const ALLOWED_HOSTS: Field =
    Field::later("allowed_hosts", "Hosts that may be reached.").right(NOTHING);
/// Classes of hosts that may be reached.
pub const ALLOWED: [Field; 2] = [
    Field::new("allow_mcp_servers", Kind::Flag, "The hosts of the agent's MCP servers.")
        .means("false")
        .right(NOTHING)
        .rule("true is not supported by this version.")
        .example("false"),
    Field::new("allow_package_managers", Kind::Flag, "The public registries.")
        .means("false")
        .right(NOTHING)
        .rule("true is not supported by this version.")
        .example("false"),
];

/// Nowhere but where it is named.
pub static LIMITED: Table = Table {
    name: "LimitedNetworkingParams",
    about: "Nowhere, since this version takes no exceptions.",
    fields: &[Field::tag(&["limited"]), ALLOWED_HOSTS, ALLOWED[0], ALLOWED[1]],
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
    fields: &[NAME, DESCRIPTION, CONFIG_FIELD, METADATA, SCOPE],
};

/// A change of an environment.
pub static UPDATE: Table = Table {
    name: "EnvironmentUpdateParams",
    about: "A change of an environment. What is left out stays. Sessions keep the configuration \
            that they were made with.",
    fields: &[NEW_NAME, NEW_DESCRIPTION, NEW_CONFIG, METADATA_PATCH, SCOPE],
};
