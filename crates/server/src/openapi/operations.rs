//! What is known of each route besides its need: its words, its tables.

mod extensions;

use posthouse_protocol::schema::{
    Table, agents, answers, credentials,
    credentials::shown::{CREDENTIAL, VALIDATION},
    environments, events, files, lists, own, resources, sessions, vaults,
};

pub(super) use extensions::EXTENSIONS;

/// One method of one path.
pub(super) struct Operation {
    /// The method.
    pub method: &'static str,
    /// The path, as the route has it.
    pub path: &'static str,
    /// Its name for generated clients.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// The query that it takes.
    pub query: Option<&'static Table>,
    /// The body that it takes.
    pub body: Body,
    /// What comes of it.
    pub answer: Answer,
    /// Whether its body names things that may be missing.
    pub names_others: bool,
    /// Whether the answer to a body is kept, so that a retry with its `Idempotency-Key` gets it
    /// again.
    pub keeps_answer: bool,
}

/// The body of a request.
pub(super) enum Body {
    /// None at all.
    None,
    /// None, or `{}`.
    Empty,
    /// JSON.
    Json(&'static Table),
    /// A form.
    Form(&'static Table),
    /// A message of the Model Context Protocol.
    Message,
}

/// The body of a success.
pub(super) enum Answer {
    /// JSON.
    Table(&'static Table),
    /// A file.
    Bytes,
    /// Server-sent events.
    Events,
    /// Messages of the Model Context Protocol.
    Messages,
}

/// Reads nothing, changes nothing, says little: what operations differ from.
const PLAIN: Operation = Operation {
    method: "GET",
    path: "",
    name: "",
    about: "",
    query: None,
    body: Body::None,
    answer: Answer::Bytes,
    names_others: false,
    keeps_answer: true,
};

/// The operations of the API. A route that neither this list nor [`EXTENSIONS`] has is missing in `openapi.json`, and a test says so.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        path: "/v1/agents",
        name: "listAgents",
        about: "Lists agents, the newest first.",
        query: Some(&lists::AGENTS),
        answer: Answer::Table(&answers::AGENTS),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/agents",
        name: "createAgent",
        about: "Makes an agent.",
        body: Body::Json(&agents::CREATE),
        answer: Answer::Table(&answers::AGENT),
        ..PLAIN
    },
    Operation {
        path: "/v1/agents/{agent}",
        name: "getAgent",
        about: "Shows an agent, or an older version of it.",
        query: Some(&lists::AGENT),
        answer: Answer::Table(&answers::AGENT),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/agents/{agent}",
        name: "updateAgent",
        about: "Makes the next version of an agent.",
        body: Body::Json(&agents::UPDATE),
        answer: Answer::Table(&answers::AGENT),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/agents/{agent}/archive",
        name: "archiveAgent",
        about: "Archives an agent; a second time changes nothing.",
        body: Body::Empty,
        answer: Answer::Table(&answers::AGENT),
        ..PLAIN
    },
    Operation {
        path: "/v1/agents/{agent}/versions",
        name: "listAgentVersions",
        about: "Lists the versions of an agent, the newest first.",
        query: Some(&lists::VERSIONS),
        answer: Answer::Table(&answers::AGENTS),
        ..PLAIN
    },
    Operation {
        path: "/v1/environments",
        name: "listEnvironments",
        about: "Lists environments, the newest first.",
        query: Some(&lists::ENVIRONMENTS),
        answer: Answer::Table(&answers::ENVIRONMENTS),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/environments",
        name: "createEnvironment",
        about: "Makes an environment.",
        body: Body::Json(&environments::CREATE),
        answer: Answer::Table(&answers::ENVIRONMENT),
        ..PLAIN
    },
    Operation {
        path: "/v1/environments/{environment}",
        name: "getEnvironment",
        about: "Shows an environment.",
        answer: Answer::Table(&answers::ENVIRONMENT),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/environments/{environment}",
        name: "updateEnvironment",
        about: "Changes an environment.",
        body: Body::Json(&environments::UPDATE),
        answer: Answer::Table(&answers::ENVIRONMENT),
        ..PLAIN
    },
    Operation {
        method: "DELETE",
        path: "/v1/environments/{environment}",
        name: "deleteEnvironment",
        about: "Deletes an environment; sessions keep their copy.",
        answer: Answer::Table(&answers::ENVIRONMENT_DELETED),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/environments/{environment}/archive",
        name: "archiveEnvironment",
        about: "Archives an environment; a second time changes nothing.",
        body: Body::Empty,
        answer: Answer::Table(&answers::ENVIRONMENT),
        ..PLAIN
    },
    Operation {
        path: "/v1/files",
        name: "listFiles",
        about: "Lists files, the newest first.",
        query: Some(&lists::FILES),
        answer: Answer::Table(&answers::FILES),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/files",
        name: "uploadFile",
        about: "Takes a file in.",
        body: Body::Form(&files::UPLOAD),
        answer: Answer::Table(&answers::FILE),
        ..PLAIN
    },
    Operation {
        path: "/v1/files/{file}",
        name: "getFile",
        about: "Shows what is known of a file.",
        answer: Answer::Table(&answers::FILE),
        ..PLAIN
    },
    Operation {
        method: "DELETE",
        path: "/v1/files/{file}",
        name: "deleteFile",
        about: "Deletes a file and what it is mounted as.",
        answer: Answer::Table(&answers::FILE_DELETED),
        ..PLAIN
    },
    Operation {
        path: "/v1/files/{file}/content",
        name: "downloadFile",
        about: "Hands out the content of a file that an agent has made.",
        answer: Answer::Bytes,
        ..PLAIN
    },
    Operation {
        path: "/v1/models",
        name: "listModels",
        about: "Lists the models of all providers.",
        query: Some(&lists::MODELS),
        answer: Answer::Table(&answers::MODELS),
        ..PLAIN
    },
    Operation {
        path: "/v1/models/{model}",
        name: "getModel",
        about: "Shows a model.",
        answer: Answer::Table(&own::MODEL),
        ..PLAIN
    },
    Operation {
        path: "/v1/sessions",
        name: "listSessions",
        about: "Lists sessions by their time of creation.",
        query: Some(&lists::SESSIONS),
        answer: Answer::Table(&answers::SESSIONS),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/sessions",
        name: "createSession",
        about: "Opens a session.",
        body: Body::Json(&sessions::CREATE),
        answer: Answer::Table(&answers::SESSION),
        names_others: true,
        ..PLAIN
    },
    Operation {
        path: "/v1/sessions/{session}",
        name: "getSession",
        about: "Shows a session.",
        answer: Answer::Table(&answers::SESSION),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/sessions/{session}",
        name: "updateSession",
        about: "Changes title, metadata, tools and models of a session.",
        body: Body::Json(&sessions::UPDATE),
        answer: Answer::Table(&answers::SESSION),
        ..PLAIN
    },
    Operation {
        method: "DELETE",
        path: "/v1/sessions/{session}",
        name: "deleteSession",
        about: "Deletes a session that is not at work, with all that belongs to it.",
        answer: Answer::Table(&answers::SESSION_DELETED),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/sessions/{session}/archive",
        name: "archiveSession",
        about: "Ends a session that is not at work; its events stay readable.",
        body: Body::Empty,
        answer: Answer::Table(&answers::SESSION),
        ..PLAIN
    },
    Operation {
        path: "/v1/sessions/{session}/events",
        name: "listEvents",
        about: "Lists a session's events by their place in the log.",
        query: Some(&lists::EVENTS),
        answer: Answer::Table(&answers::EVENTS),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/sessions/{session}/events",
        name: "sendEvents",
        about: "Sends events; all are durable before the answer, or none is taken.",
        body: Body::Json(&events::BATCH),
        answer: Answer::Table(&answers::SENT),
        ..PLAIN
    },
    Operation {
        path: "/v1/sessions/{session}/events/stream",
        name: "streamEvents",
        about: "Follows a session's log.",
        query: Some(&lists::STREAM),
        answer: Answer::Events,
        ..PLAIN
    },
    Operation {
        path: "/v1/sessions/{session}/resources",
        name: "listResources",
        about: "Lists what is mounted into a session.",
        query: Some(&lists::RESOURCES),
        answer: Answer::Table(&answers::RESOURCES),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/sessions/{session}/resources",
        name: "addResource",
        about: "Mounts a file, also while the session is at work.",
        body: Body::Json(&resources::FILE),
        answer: Answer::Table(&answers::RESOURCE),
        ..PLAIN
    },
    Operation {
        path: "/v1/sessions/{session}/resources/{resource}",
        name: "getResource",
        about: "Shows what is mounted.",
        answer: Answer::Table(&answers::RESOURCE),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/sessions/{session}/resources/{resource}",
        name: "updateResource",
        about: "Changes the token of a repository, of which this version mounts none.",
        body: Body::Json(&resources::UPDATE),
        answer: Answer::Table(&answers::RESOURCE),
        keeps_answer: false,
        ..PLAIN
    },
    Operation {
        method: "DELETE",
        path: "/v1/sessions/{session}/resources/{resource}",
        name: "deleteResource",
        about: "Takes a file away, also while the session is at work.",
        answer: Answer::Table(&answers::RESOURCE_DELETED),
        ..PLAIN
    },
    Operation {
        path: "/v1/sessions/{session}/threads",
        name: "listThreads",
        about: "Lists a session's threads, the primary one first.",
        query: Some(&lists::THREADS),
        answer: Answer::Table(&answers::THREADS),
        ..PLAIN
    },
    Operation {
        path: "/v1/sessions/{session}/threads/{thread}",
        name: "getThread",
        about: "Shows a thread.",
        answer: Answer::Table(&answers::THREAD),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/sessions/{session}/threads/{thread}/archive",
        name: "archiveThread",
        about: "Archives a thread that an agent has made; the primary one is refused.",
        body: Body::Empty,
        answer: Answer::Table(&answers::THREAD),
        keeps_answer: false,
        ..PLAIN
    },
    Operation {
        path: "/v1/sessions/{session}/threads/{thread}/events",
        name: "listThreadEvents",
        about: "Lists a thread's events, the oldest first.",
        query: Some(&lists::THREAD_EVENTS),
        answer: Answer::Table(&answers::EVENTS),
        ..PLAIN
    },
    Operation {
        path: "/v1/sessions/{session}/threads/{thread}/stream",
        name: "streamThread",
        about: "Follows a thread's log.",
        query: Some(&lists::STREAM),
        answer: Answer::Events,
        ..PLAIN
    },
    Operation {
        path: "/v1/vaults",
        name: "listVaults",
        about: "Lists vaults, the newest first.",
        query: Some(&lists::VAULTS),
        answer: Answer::Table(&answers::VAULTS),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/vaults",
        name: "createVault",
        about: "Makes a vault.",
        body: Body::Json(&vaults::CREATE),
        answer: Answer::Table(&vaults::VAULT),
        ..PLAIN
    },
    Operation {
        path: "/v1/vaults/{vault}",
        name: "getVault",
        about: "Shows a vault.",
        answer: Answer::Table(&vaults::VAULT),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/vaults/{vault}",
        name: "updateVault",
        about: "Changes a vault.",
        body: Body::Json(&vaults::UPDATE),
        answer: Answer::Table(&vaults::VAULT),
        ..PLAIN
    },
    Operation {
        method: "DELETE",
        path: "/v1/vaults/{vault}",
        name: "deleteVault",
        about: "Deletes a vault with its credentials; the ledger stays.",
        answer: Answer::Table(&answers::VAULT_DELETED),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/vaults/{vault}/archive",
        name: "archiveVault",
        about: "Archives a vault with its credentials and wipes their secrets; a second time \
                changes nothing.",
        body: Body::Empty,
        answer: Answer::Table(&vaults::VAULT),
        ..PLAIN
    },
    Operation {
        path: "/v1/vaults/{vault}/credentials",
        name: "listCredentials",
        about: "Lists the credentials of a vault, the newest first.",
        query: Some(&lists::CREDENTIALS),
        answer: Answer::Table(&answers::CREDENTIALS),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/vaults/{vault}/credentials",
        name: "createCredential",
        about: "Makes a credential. 409 when the vault has a live one for that server or variable.",
        body: Body::Json(&credentials::CREATE),
        answer: Answer::Table(&CREDENTIAL),
        ..PLAIN
    },
    Operation {
        path: "/v1/vaults/{vault}/credentials/{credential}",
        name: "getCredential",
        about: "Shows a credential, without what is secret in it.",
        answer: Answer::Table(&CREDENTIAL),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/vaults/{vault}/credentials/{credential}",
        name: "updateCredential",
        about: "Changes a credential, or what is secret in it.",
        body: Body::Json(&credentials::UPDATE),
        answer: Answer::Table(&CREDENTIAL),
        ..PLAIN
    },
    Operation {
        method: "DELETE",
        path: "/v1/vaults/{vault}/credentials/{credential}",
        name: "deleteCredential",
        about: "Deletes a credential; the ledger stays.",
        answer: Answer::Table(&answers::CREDENTIAL_DELETED),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/vaults/{vault}/credentials/{credential}/archive",
        name: "archiveCredential",
        about: "Archives a credential and wipes its secrets; a second time changes nothing.",
        body: Body::Empty,
        answer: Answer::Table(&CREDENTIAL),
        ..PLAIN
    },
    Operation {
        method: "POST",
        path: "/v1/vaults/{vault}/credentials/{credential}/mcp_oauth_validate",
        name: "validateCredential",
        about: "Asks the MCP server of an mcp_oauth credential whether its token is good, and gets \
                another one where it is not. An Idempotency-Key is refused.",
        body: Body::Empty,
        answer: Answer::Table(&VALIDATION),
        keeps_answer: false,
        ..PLAIN
    },
];
