-- Files, their contents, and what is mounted into sessions.

-- One row for each content on disk, whatever number of files shows it. `dead` is 1 from the
-- moment when no file shows it any more until it has been deleted from the disk.
CREATE TABLE blobs (
    id TEXT PRIMARY KEY,
    size BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    dead BIGINT NOT NULL
);
CREATE INDEX blobs_dead ON blobs (id) WHERE dead = 1;
INSERT INTO counters (name, value) VALUES ('blob_bytes', 0);

-- `session` is the session that a file belongs to: it has brought it forth, or has a copy of it.
-- `blob` is null once the file has expired.
CREATE TABLE files (
    id TEXT PRIMARY KEY,
    workspace TEXT NOT NULL,
    session TEXT,
    blob TEXT,
    filename TEXT NOT NULL,
    mime_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    downloadable BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);
CREATE INDEX files_by_age ON files (workspace, created_at, id);
CREATE INDEX files_by_session ON files (session, created_at, id) WHERE session IS NOT NULL;
CREATE INDEX files_by_blob ON files (blob) WHERE blob IS NOT NULL;
CREATE INDEX files_to_expire ON files (expires_at)
    WHERE expires_at IS NOT NULL AND blob IS NOT NULL;
CREATE INDEX files_expired ON files (expires_at)
    WHERE expires_at IS NOT NULL AND blob IS NULL;

-- What is mounted into sessions; `file` is the session's own copy.
CREATE TABLE session_resources (
    id TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    file TEXT NOT NULL UNIQUE,
    mount_path TEXT NOT NULL,
    literal_path TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX session_resources_by_age ON session_resources (session, created_at, id);

-- What was taken in of the files that a session's tools have put out. `stamp` tells a file from
-- the same one after a change.
CREATE TABLE session_outputs (
    session BIGINT NOT NULL,
    path TEXT NOT NULL,
    stamp TEXT NOT NULL,
    PRIMARY KEY (session, path)
);
