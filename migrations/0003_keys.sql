-- What keys open and until when, and the workspaces that things belong to.

CREATE TABLE workspaces (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);
CREATE INDEX workspaces_by_age ON workspaces (created_at, id);

-- `scopes` is a JSON list of texts. A key that somehow has none opens nothing; those of before
-- opened everything. `hint` is the beginning and the end of the secret.
ALTER TABLE api_keys ADD COLUMN scopes TEXT NOT NULL DEFAULT '[]';
ALTER TABLE api_keys ADD COLUMN hint TEXT;
ALTER TABLE api_keys ADD COLUMN expires_at BIGINT;
UPDATE api_keys SET scopes = '["*:*"]';
CREATE INDEX api_keys_by_age ON api_keys (created_at, id);
CREATE INDEX api_keys_by_workspace ON api_keys (workspace, created_at, id);
