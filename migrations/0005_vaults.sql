-- Vaults and their credentials, what they were used for, and what sandboxes have done.

-- `data_key` is the key that seals this vault's credentials, itself sealed by the root key whose
-- name is `root_key`, in base64. Archiving a vault wipes it.
CREATE TABLE vaults (
    id TEXT PRIMARY KEY,
    workspace TEXT NOT NULL,
    body TEXT NOT NULL,
    root_key TEXT,
    data_key TEXT,
    created_at BIGINT NOT NULL,
    archived_at BIGINT
);
CREATE INDEX vaults_by_age ON vaults (workspace, created_at, id);
CREATE INDEX vaults_live ON vaults (workspace, created_at, id) WHERE archived_at IS NULL;
CREATE INDEX vaults_by_root_key ON vaults (root_key) WHERE root_key IS NOT NULL;

-- `body` is the credential as the wire shows it, without any secret. `target` is what one vault
-- has at most one live credential for: the MCP server's address in its normal form, or the name of
-- the variable. `sealed` is base64, and null once the credential is archived. `version` grows with
-- each change, so that a refreshed token does not overwrite a newer one.
CREATE TABLE credentials (
    id TEXT PRIMARY KEY,
    vault TEXT NOT NULL,
    workspace TEXT NOT NULL,
    body TEXT NOT NULL,
    target TEXT NOT NULL,
    sealed TEXT,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    archived_at BIGINT
);
CREATE INDEX credentials_by_age ON credentials (vault, created_at, id);
CREATE INDEX credentials_live ON credentials (vault, created_at, id) WHERE archived_at IS NULL;
CREATE UNIQUE INDEX credentials_by_target ON credentials (vault, target)
    WHERE archived_at IS NULL;

-- The ledger. Rows are only ever inserted, and outlive credential, vault and session. `body` is the
-- use as the wire shows it.
CREATE TABLE credential_uses (
    id TEXT PRIMARY KEY,
    workspace TEXT NOT NULL,
    vault TEXT NOT NULL,
    credential TEXT NOT NULL,
    session TEXT,
    body TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX credential_uses_by_age ON credential_uses (workspace, at, id);
CREATE INDEX credential_uses_by_credential ON credential_uses (workspace, credential, at, id);
CREATE INDEX credential_uses_by_vault ON credential_uses (workspace, vault, at, id);
CREATE INDEX credential_uses_by_session ON credential_uses (workspace, session, at, id)
    WHERE session IS NOT NULL;

-- What a session's sandboxes are and have done; deleted with the session.
CREATE TABLE sandbox_records (
    id TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX sandbox_records_by_age ON sandbox_records (session, at, id);
