//! What is known of the routes below `/posthouse/v1`.

use posthouse_protocol::schema::{answers, own, vaults};

use super::{Answer, Body, Operation, PLAIN};

const MCP: &str = "/posthouse/v1/mcp";

/// The operations of paths that the original API lacks.
pub(in crate::openapi) const EXTENSIONS: &[Operation] = &[
    Operation {
        path: "/posthouse/v1/credential_uses",
        name: "listCredentialUses",
        about: "Lists what credentials were used for, the newest use first. An extension.",
        query: Some(&vaults::USES),
        answer: Answer::Table(&answers::CREDENTIAL_USES),
        ..PLAIN
    },
    Operation {
        path: "/posthouse/v1/sandboxes",
        name: "listSandboxes",
        about: "Lists the sandboxes that live. An extension.",
        answer: Answer::Table(&answers::SANDBOXES),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/posthouse/v1/sandboxes/{session}/kill",
        name: "killSandbox",
        about: "Interrupts a session and ends its sandbox; an Idempotency-Key is refused. An \
                extension.",
        body: Body::Empty,
        answer: Answer::Table(&own::KILLED),
        keeps_answer: false,
        ..PLAIN
    },
    Operation {
        path: "/posthouse/v1/sandboxes/{session}/records",
        name: "listSandboxRecords",
        about: "Lists what a session's sandboxes were made with, what their doors have let through and \
                refused, and where secrets were put in, the newest first. An extension.",
        query: Some(&own::RECORDS),
        answer: Answer::Table(&answers::SANDBOX_RECORDS),
        ..PLAIN
    },
    Operation {
        path: "/posthouse/v1/keys",
        name: "listKeys",
        about: "Lists keys, the newest first. An extension.",
        query: Some(&own::LIST),
        answer: Answer::Table(&answers::KEYS),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/posthouse/v1/keys",
        name: "createKey",
        about: "Makes a key; this answer alone has its secret, and an Idempotency-Key is refused. \
                An extension.",
        body: Body::Json(&own::KEY_CREATE),
        answer: Answer::Table(&own::NEW_KEY),
        names_others: true,
        keeps_answer: false,
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/posthouse/v1/keys/{key}/revoke",
        name: "revokeKey",
        about: "Revokes a key at once; a second time changes nothing, and an Idempotency-Key is \
                refused. An extension.",
        body: Body::Empty,
        answer: Answer::Table(&own::KEY),
        keeps_answer: false,
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/posthouse/v1/root_key/rotate",
        name: "rotateRootKey",
        about: "Reads the root keys again and seals the keys of vaults with the first of them. For \
                administrators. An extension.",
        body: Body::Empty,
        answer: Answer::Table(&own::ROTATED),
        keeps_answer: false,
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: MCP,
        name: "sendMcpMessage",
        about: "Takes a message of an MCP client: agents as tools of an MCP server (Streamable HTTP). An \
                extension.",
        body: Body::Message,
        answer: Answer::Messages,
        keeps_answer: false,
        ..PLAIN
    },
    Operation {
        path: MCP,
        name: "listenToMcp",
        about: "Opens the stream of an MCP client's session. An extension.",
        answer: Answer::Messages,
        ..PLAIN
    },
    Operation {
        method: "DELETE",
        path: MCP,
        name: "endMcpSession",
        about: "Ends an MCP client's session, and no session of an agent. An extension.",
        answer: Answer::Messages,
        ..PLAIN
    },
    Operation {
        path: "/posthouse/v1/workspaces",
        name: "listWorkspaces",
        about: "Lists workspaces, the newest first. An extension.",
        query: Some(&own::LIST),
        answer: Answer::Table(&answers::WORKSPACES),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/posthouse/v1/workspaces",
        name: "createWorkspace",
        about: "Makes a workspace. An extension.",
        body: Body::Json(&own::WORKSPACE_CREATE),
        answer: Answer::Table(&own::WORKSPACE),
        ..PLAIN
    },
];
