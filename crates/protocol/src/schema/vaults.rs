//! Tables of vaults, as clients send them and as they are shown, and of the ledger.

use super::{
    Field, Kind, Null, Table,
    agents::{METADATA as SENT_METADATA, METADATA_PATCH},
    answers::{ARCHIVED, COUNT, CREATED, METADATA, TEXT, UPDATED, has, id, is, list},
    credentials::shown::PLACES,
    lists::{CREATED as CREATED_BOUNDS, LIMIT_MANY, PAGE},
};
use crate::id::IdKind;

/// The name of a vault.
pub const NAME: Field =
    Field::text("display_name", 1, 255, "For people.").required().example(r#""Ada's keys""#);
/// Another name. A vault always has one, so that null keeps it.
pub const NEW_NAME: Field = Field { null: Null::AsAbsent, ..NAME }.keeps();

/// A new vault.
pub static CREATE: Table =
    Table { name: "VaultCreateParams", about: "A new vault.", fields: &[NAME, SENT_METADATA] };
/// A change of a vault.
pub static UPDATE: Table = Table {
    name: "VaultUpdateParams",
    about: "A change of a vault. What is left out stays.",
    fields: &[NEW_NAME, METADATA_PATCH],
};

/// A vault.
pub static VAULT: Table = Table {
    name: "Vault",
    about: "A vault: credentials that belong together, mostly those of one person.",
    fields: &[
        is(&["vault"]),
        id(IdKind::Vault),
        has("display_name", TEXT, "For people.").example(r#""Ada's keys""#),
        METADATA,
        CREATED,
        UPDATED,
        ARCHIVED,
    ],
};

/// Whose uses.
pub const VAULT_ID: Field = Field::text("vault_id", 1, 128, "Only uses of this vault's.");
/// Of which credential.
pub const CREDENTIAL_ID: Field = Field::text("credential_id", 1, 128, "Only uses of this one.");
/// By which session.
pub const SESSION_ID: Field = Field::text("session_id", 1, 128, "Only uses by this session.");
/// `GET /posthouse/v1/credential_uses`.
pub static USES: Table = Table {
    name: "CredentialUseListQuery",
    about: "Uses of credentials, the newest first.",
    fields: &[VAULT_ID, CREDENTIAL_ID, SESSION_ID, CREATED_BOUNDS, LIMIT_MANY, PAGE],
};
const AN_EVENT: &Kind = &Kind::Id(IdKind::Event);
/// One use of a credential.
pub static USE: Table = Table {
    name: "CredentialUse",
    about: "One use of a credential. It outlives credential, vault and session, and holds no value.",
    fields: &[
        is(&["credential_use"]),
        id(IdKind::CredentialUse),
        has("vault_id", Kind::Id(IdKind::Vault), "Its vault."),
        has("credential_id", Kind::Id(IdKind::Credential), "The credential."),
        has("session_id", Kind::Id(IdKind::Session), "Null for what was done beside sessions.")
            .or_null(),
        has("event_ids", list(AN_EVENT), "The calls of the session that were under way."),
        has(
            "kind",
            Kind::choice(&["egress", "mcp", "refresh", "validate"]),
            "A request out of a sandbox, one to an MCP server, one for another token, a probe.",
        ),
        has("host", TEXT, "Who has got the value.").example(r#""api.example.com""#),
        has("port", COUNT, "The port there.").example("443"),
        has("method", TEXT, "The request's method.").example(r#""GET""#),
        has("location", Kind::Object(&PLACES), "Where in the request it was put."),
        has("created_at", Kind::Time, "When."),
    ],
};
