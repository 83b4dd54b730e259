//! Tables of what no session is about: sandboxes, models, keys, root keys and workspaces.

use super::{
    Field, Kind, Member, Table, Union,
    answers::{COUNT, CREATED, TEXT, TEXTS, has, is},
    lists::{LIMIT_MANY, PAGE},
};
use crate::id::IdKind;

const SESSION: Field = has("session_id", Kind::Id(IdKind::Session), "Its session.");

/// What an environment has beyond the original API.
pub static ENVIRONMENT_EXTENSION: Table = Table {
    name: "EnvironmentExtension",
    about: "What an environment has beyond the original API.",
    fields: &[has("passthrough_hosts", TEXTS, "Hosts whose TLS the door does not end.")],
};

/// How a sandbox is kept apart.
pub static ISOLATION: Table = Table {
    name: "SandboxIsolation",
    about: "How a sandbox is kept apart: what is in force.",
    fields: &[
        has("technology", Kind::choice(&["namespaces", "none"]), "By what."),
        has("own_ids", Kind::Flag, "Whether its users are its own."),
        has("landlock", COUNT, "The version of Landlock.").or_null(),
        has("seccomp", Kind::Flag, "Whether system calls are filtered."),
        has(
            "limits",
            Kind::choice(&["cgroup_v2", "cgroup_v1", "rlimits"]),
            "What holds its limits.",
        ),
        has("disk", TEXT, "What holds the limit of its disk."),
        has("door", Kind::choice(&["all_ports", "listed_ports", "none"]), "Its way out."),
        has("lowered", TEXTS, "What the host does not allow."),
    ],
};
/// What a sandbox may use.
pub static LIMITS: Table = Table {
    name: "SandboxLimits",
    about: "What a sandbox may use, in the units of the configuration.",
    fields: &[
        has("memory", COUNT, "Bytes."),
        has("processes", COUNT, "Processes."),
        has("cpus", Kind::Number, "Processors."),
        has("disk", COUNT, "Bytes."),
        has("entries", COUNT, "Files and folders."),
        has("open_files", COUNT, "Open files."),
        has("file_size", COUNT, "Bytes of one file."),
        has("call_seconds", Kind::Number, "How long a call may take."),
    ],
};
/// What the door's decisions rest on.
const RULES: Kind = Kind::choice(&[
    "unrestricted",
    "allowed_hosts",
    "package_managers",
    "mcp_servers",
    "passthrough",
    "not_listed",
    "port",
    "guard",
    "unknown",
    "mismatch",
    "protocol",
    "certificate",
]);
/// A host that a sandbox may reach.
pub static ALLOWED_HOST: Table = Table {
    name: "AllowedHost",
    about: "A host that a sandbox may reach, and why.",
    fields: &[
        has("host", TEXT, "A name, *. and a name, or an IPv4 address."),
        has("rule", RULES, "What of its environment says so."),
    ],
};
const AN_ALLOWED_HOST: &Kind = &Kind::Object(&ALLOWED_HOST);
const ALLOWLIST: Field = has(
    "allowlist",
    Kind::List { of: AN_ALLOWED_HOST, least: 0, most: usize::MAX },
    "The hosts that its door lets through, as it holds them; null for all public ones.",
)
.or_null();
const PASSTHROUGH: Field = has("passthrough", TEXTS, "The hosts whose TLS its door does not end.");
const IS_APART: Field = has("isolation", Kind::Object(&ISOLATION), "How it is kept apart.");
const MAY_USE: Field = has("limits", Kind::Object(&LIMITS), "What it may use.");

/// A sandbox that lives.
pub static SANDBOX: Table = Table {
    name: "Sandbox",
    about: "A sandbox that lives.",
    fields: &[
        is(&["sandbox"]),
        SESSION,
        has("pid", COUNT, "Its first process, on the host."),
        has("started_at", Kind::Time, "When it was started."),
        has("calls", COUNT, "How many calls it has taken."),
        has("busy", Kind::Flag, "Whether a call is under way."),
        IS_APART,
        MAY_USE,
        has("memory_bytes", COUNT, "What it uses, where the host tells.").or_null(),
        ALLOWLIST,
        PASSTHROUGH,
    ],
};
/// What came of a kill.
pub static KILLED: Table = Table {
    name: "KilledSandbox",
    about: "What came of a kill.",
    fields: &[
        is(&["sandbox_killed"]),
        SESSION,
        has("was_live", Kind::Flag, "Whether there was anything to end."),
    ],
};

const RECORD_ID: Field = has("id", Kind::Id(IdKind::SandboxRecord), "Its id.");
const RECORDED: Field = has("created_at", Kind::Time, "When it was written, or first so.");
const HOST: Field = has("host", TEXT, "The host's name, or its address where no name is known.");
const PORT: Field = has("port", Kind::Integer { least: 0, most: 65535 }, "The port.");
const DECIDED_ON: Field = Field {
    about: "The host's name, or its address where no name is known; null where there were too many \
            at a time to tell each, and this one tells how many.",
    ..HOST.or_null()
};
const DECIDED_PORT: Field = Field {
    about: "The port; null where a name was asked for, or where host is null.",
    ..PORT.or_null()
};
const DECIDED_BY: Field = has("rule", RULES, "What has decided; null where host is.").or_null();
const COUNTED: Field = has("count", COUNT, "How often it was so, until last_at.");
const LAST: Field = has("last_at", Kind::Time, "When it was last so.");
const CALLS: Field = has(
    "event_ids",
    Kind::List { of: &Kind::Id(IdKind::Event), least: 0, most: usize::MAX },
    "The calls that were under way.",
);
macro_rules! records {
    ($($constant:ident $name:literal $kind:literal $about:literal [$($field:expr),*];)*) => {$(
        #[doc = $about]
        pub static $constant: Table = Table {
            name: $name,
            about: $about,
            fields: &[
                is(&["sandbox_record"]),
                RECORD_ID,
                SESSION,
                has("kind", Kind::choice(&[$kind]), "What it tells of."),
                RECORDED,
                $($field),*
            ],
        };
    )*};
}
records! {
    RECORD_OF_SANDBOX "SandboxStartRecord" "sandbox" "A sandbox was made." [
        has("version", TEXT, "The server's version."),
        has("kernel", TEXT, "The host's kernel."),
        IS_APART,
        MAY_USE,
        ALLOWLIST,
        PASSTHROUGH
    ];
    RECORD_OF_ALLOW "SandboxAllowRecord" "allow" "The door has let something through."
        [DECIDED_ON, DECIDED_PORT, DECIDED_BY, CALLS, COUNTED, LAST];
    RECORD_OF_DENY "SandboxDenyRecord" "deny" "The door has refused something."
        [DECIDED_ON, DECIDED_PORT, DECIDED_BY, CALLS, COUNTED, LAST];
    RECORD_OF_INJECTION "SandboxInjectionRecord" "injection"
        "The door has put a secret into a request." [
            has("vault_id", Kind::Id(IdKind::Vault), "The vault."),
            has("credential_id", Kind::Id(IdKind::Credential), "The credential."),
            HOST,
            PORT,
            has("method", TEXT, "The request's method."),
            has("location", Kind::Object(&LOCATION), "Where it went."),
            CALLS
        ];
}
/// Where in a request a secret went.
pub static LOCATION: Table = Table {
    name: "InjectionLocation",
    about: "Where in a request a secret went.",
    fields: &[
        has("header", Kind::Flag, "Into a header."),
        has("body", Kind::Flag, "Into the body, which was looked through while it was sent."),
    ],
};
/// What a sandbox is, or has done.
pub static RECORD: Union = Union {
    name: "SandboxRecord",
    tag: "kind",
    members: &[
        Member::taken("sandbox", &RECORD_OF_SANDBOX),
        Member::taken("allow", &RECORD_OF_ALLOW),
        Member::taken("deny", &RECORD_OF_DENY),
        Member::taken("injection", &RECORD_OF_INJECTION),
    ],
};
/// The kinds of records.
pub const RECORD_KINDS: &[&str] = &["sandbox", "allow", "deny", "injection"];
/// Which records.
pub const RECORD_TYPES: Field = Field::new(
    "types",
    Kind::List { of: &Kind::choice(RECORD_KINDS), least: 0, most: 100 },
    "Only records of these kinds.",
);
/// `GET /posthouse/v1/sandboxes/{session}/records`.
pub static RECORDS: Table = Table {
    name: "SandboxRecordListQuery",
    about: "Records of a session's sandboxes, the newest first.",
    fields: &[LIMIT_MANY, PAGE, RECORD_TYPES],
};

/// A model.
pub static MODEL: Table = Table {
    name: "Model",
    about: "A model that a configured provider serves.",
    fields: &[
        is(&["model"]),
        has("id", TEXT, "Its name, as agents name it."),
        has("display_name", TEXT, "For people."),
        CREATED,
        has("lifecycle", Kind::choice(&["active", "deprecated", "retired"]), "Its phase."),
        has("deprecated_at", Kind::Time, "When it was deprecated.").or_null(),
        has("retires_at", Kind::Time, "When it goes.").or_null(),
        has("line", TEXT, "Its family, where it has one.").or_null(),
        has("max_input_tokens", COUNT, "What it takes, where it is known.").or_null(),
        has("max_tokens", COUNT, "What it gives, where it is known.").or_null(),
        has("capabilities", Kind::Free, "What it can do, where it is known.").or_null(),
        has("allowed_fallback_models", TEXTS, "Models that may stand in for it.").or_null(),
        has("posthouse", Kind::Free, "What the original API lacks.").optional(),
    ],
};

/// The name of a key, a workspace.
pub const NAME: Field =
    Field::text("name", 1, 256, "For people.").required().example(r#""Build server""#);
const A_SCOPE: &Kind = &Kind::Text { least: 1, most: 64 };
/// What a key may do.
pub const SCOPES: Field = Field::new(
    "scopes",
    Kind::List { of: A_SCOPE, least: 1, most: 64 },
    "What the key may do: <resource>:<verb>, with * for any.",
)
.required()
.right("send what the key may do, such as [\"sessions:*\", \"agents:read\"]")
.rule("Nothing that your own key may not do.")
.example(r#"["sessions:*", "agents:read"]"#);
/// Whether a key is an administrator's.
pub const ADMIN: Field = Field::new("admin", Kind::Flag, "Whether it is an administrator's.")
    .means("false")
    .rule("Only an administrator makes one.")
    .example("false");
/// Whose a key is.
pub const WORKSPACE_ID: Field =
    Field::text("workspace_id", 1, 128, "Its workspace; your own when it is left out.")
        .rule("Another one only by an administrator.");
/// When a key ends.
pub const EXPIRES_AT: Field = Field::new("expires_at", Kind::SentTime, "When it ends, if ever.")
    .rule("In the future, and not after the end of your own key.")
    .example(r#""2036-01-01T00:00:00Z""#);

/// A new key.
pub static KEY_CREATE: Table = Table {
    name: "KeyCreateParams",
    about: "A new key.",
    fields: &[NAME, SCOPES, ADMIN, WORKSPACE_ID, EXPIRES_AT],
};
const KEY_ID: Field = has("id", Kind::Id(IdKind::Key), "Its id.");
const OF: Field = has("workspace_id", Kind::Id(IdKind::Workspace), "Its workspace.");
const SHOWN_NAME: Field = has("name", TEXT, "For people.").example(r#""Build server""#);
const SHOWN_SCOPES: Field = has("scopes", TEXTS, "What it may do.");
const IS_ADMIN: Field = has("admin", Kind::Flag, "Whether it is an administrator's.");
const HINT: Field = has("hint", TEXT, "Its beginning and its end, where they are known.").or_null();
const ENDS: Field = has("expires_at", Kind::Time, "When it ends.").or_null();
const REVOKED: Field = has("revoked_at", Kind::Time, "When it was revoked.").or_null();

/// A key, without its secret.
pub static KEY: Table = Table {
    name: "Key",
    about: "A key, without its secret.",
    fields: &[
        is(&["api_key"]),
        KEY_ID,
        SHOWN_NAME,
        OF,
        SHOWN_SCOPES,
        IS_ADMIN,
        HINT,
        CREATED,
        ENDS,
        REVOKED,
    ],
};
/// A key that was just made.
pub static NEW_KEY: Table = Table {
    name: "NewKey",
    about: "A key that was just made. Its secret is shown here and nowhere else.",
    fields: &[
        is(&["api_key"]),
        KEY_ID,
        SHOWN_NAME,
        OF,
        SHOWN_SCOPES,
        IS_ADMIN,
        HINT,
        CREATED,
        ENDS,
        REVOKED,
        has("secret", TEXT, "The key itself."),
    ],
};
/// What came of a rotation.
pub static ROTATED: Table = Table {
    name: "RotatedRootKey",
    about: "What came of a rotation: which root key seals now, and what is sealed by it.",
    fields: &[
        is(&["root_key_rotated"]),
        has("root_key", TEXT, "The name of the key that seals from now on."),
        has("rewrapped", COUNT, "How many vaults' keys were sealed anew."),
        has("pending", COUNT, "How many are still sealed by another root key."),
    ],
};
/// `GET /posthouse/v1/keys`, and that of workspaces.
pub static LIST: Table = Table {
    name: "OwnListQuery",
    about: "Keys or workspaces, the newest first.",
    fields: &[LIMIT_MANY, PAGE],
};

/// The name of a workspace.
pub const WORKSPACE_NAME: Field = NAME
    .rule("Taken by no other workspace, and not of the form of an id.")
    .example(r#""Research""#);
/// A new workspace.
pub static WORKSPACE_CREATE: Table =
    Table { name: "WorkspaceCreateParams", about: "A new workspace.", fields: &[WORKSPACE_NAME] };
/// A workspace.
pub static WORKSPACE: Table = Table {
    name: "Workspace",
    about: "A workspace: everything belongs to one, and nobody sees what belongs to another.",
    fields: &[
        is(&["workspace"]),
        has("id", Kind::Id(IdKind::Workspace), "Its id."),
        has("name", TEXT, "For people.").example(r#""Research""#),
        CREATED,
    ],
};
