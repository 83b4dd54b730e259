-- Lists in constant time per page, whatever they are filtered by and however much they leave out.

-- A session's place in lists does not change with its turns, so that a turn costs no index. Every
-- list is a merge of a few places, each of which lies in order; sessions at work have an index of
-- their own.
DROP INDEX sessions_by_age;
DROP INDEX sessions_by_agent;
CREATE INDEX sessions_by_place ON sessions
    (workspace,
     (CASE WHEN archived_at IS NOT NULL THEN 'archived' WHEN status = 'terminated' THEN 'terminated' ELSE 'live' END),
     created_at, id);
CREATE INDEX sessions_by_agent ON sessions
    (workspace, agent,
     (CASE WHEN archived_at IS NOT NULL THEN 'archived' WHEN status = 'terminated' THEN 'terminated' ELSE 'live' END),
     created_at, id);
CREATE INDEX sessions_by_agent_version ON sessions
    (workspace, agent, agent_version,
     (CASE WHEN archived_at IS NOT NULL THEN 'archived' WHEN status = 'terminated' THEN 'terminated' ELSE 'live' END),
     created_at, id);

CREATE INDEX agents_live ON agents (workspace, created_at, id) WHERE archived_at IS NULL;
CREATE INDEX environments_live ON environments (workspace, created_at, id)
    WHERE archived_at IS NULL;
