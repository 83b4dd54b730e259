-- The first shape of the database. One text for SQLite and PostgreSQL: only text and bigint,
-- JSON as text, times as bigint microseconds since 1970, truth values as 0 and 1.

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('session', 0);

-- Secrets of API keys are kept as SHA-256 alone.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    workspace TEXT NOT NULL,
    name TEXT NOT NULL,
    secret_hash TEXT NOT NULL UNIQUE,
    admin BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

-- The newest version of each agent; `body` is the agent as the wire shows it.
CREATE TABLE agents (
    id TEXT PRIMARY KEY,
    workspace TEXT NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    archived_at BIGINT
);
CREATE INDEX agents_by_age ON agents (workspace, created_at, id);

CREATE TABLE agent_versions (
    agent TEXT NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (agent, version)
);

CREATE TABLE environments (
    id TEXT PRIMARY KEY,
    workspace TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    archived_at BIGINT
);
CREATE INDEX environments_by_age ON environments (workspace, created_at, id);

-- One row a session. From `status` on, everything is a fold over the session's records and
-- changes only in the transaction that appends them.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    workspace TEXT NOT NULL,
    agent TEXT NOT NULL,
    agent_version BIGINT NOT NULL,
    environment TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    archived_at BIGINT,
    fence BIGINT NOT NULL,
    holder TEXT,
    shown BIGINT NOT NULL,
    status TEXT NOT NULL,
    head BIGINT NOT NULL,
    input_head BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    chain_hash TEXT NOT NULL,
    fold TEXT NOT NULL
);
CREATE INDEX sessions_by_age ON sessions (workspace, created_at, id);
CREATE INDEX sessions_at_work ON sessions (status) WHERE status IN ('running', 'rescheduling');
CREATE INDEX sessions_by_agent ON sessions (agent, created_at, id);
CREATE INDEX sessions_held ON sessions (holder) WHERE holder IS NOT NULL;

-- The part of a session's fold that is large and seldom changes, apart from the row that
-- every append rewrites.
CREATE TABLE session_documents (
    session BIGINT PRIMARY KEY,
    body TEXT NOT NULL
);

-- The log. Rows are only ever inserted, or deleted with their whole session.
CREATE TABLE records (
    session BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    fence BIGINT NOT NULL,
    kind TEXT NOT NULL,
    thread TEXT NOT NULL,
    payload TEXT NOT NULL,
    salt TEXT NOT NULL,
    payload_hash TEXT NOT NULL,
    chain_hash TEXT NOT NULL,
    UNIQUE (session, seq)
);

-- Large texts that records name by hash, such as a request's system prompt and tools.
CREATE TABLE session_blobs (
    session BIGINT NOT NULL,
    hash TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (session, hash)
);

-- What each recent POST has answered, so that a client's own retry does not do it twice. Ids
-- begin with the time, so that they sort by age.
CREATE TABLE answers (
    id TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    idempotency_key TEXT,
    at BIGINT NOT NULL,
    boot TEXT NOT NULL,
    matched BIGINT NOT NULL,
    answer TEXT NOT NULL
);
CREATE INDEX answers_by_fingerprint ON answers (fingerprint, at);
CREATE INDEX answers_by_key ON answers (idempotency_key) WHERE idempotency_key IS NOT NULL;
