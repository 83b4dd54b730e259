//! The public API: what all handlers share, and the one list of all routes.
//!
//! Every route is closed: a key is asked for before a handler runs, by the one layer in
//! [`auth`], and whether it opens what the [`Route`] needs. A path that does not exist says so
//! even without a key.

pub mod agents;
pub mod auth;
pub mod call;
pub mod credentials;
pub mod environments;
pub mod events;
pub mod files;
pub mod keys;
pub mod mcp;
pub mod models;
pub mod resources;
pub mod respond;
pub mod root_key;
pub mod sandboxes;
pub mod sessions;
pub mod stream;
pub mod threads;
pub mod uses;
pub mod vaults;
pub mod workspaces;
pub mod written;

use std::sync::Arc;

use axum::{
    Router,
    handler::Handler,
    http::Method,
    middleware::{from_fn, from_fn_with_state},
    routing::{MethodRouter, delete, get, post},
};
use posthouse_engine::{Engine, Vaults};
use posthouse_net::Guard;
use posthouse_protocol::agent::ModelRules;
use posthouse_store::{Blobs, Database, answers::Unwritten};
use tokio::sync::watch;

pub use call::Call;
pub use respond::{Answer, Refusal};

use crate::{
    config,
    keys::Keys,
    root_keys::Keyring,
    scope::{Need, Resource, Verb},
};

/// What all handlers share.
pub struct App {
    /// The database.
    pub database: Database,
    /// The contents of files.
    pub blobs: Blobs,
    /// Bounds on files.
    pub files: config::Files,
    /// What works on sessions.
    pub engine: Engine,
    /// Where secrets are sealed, opened and used.
    pub vaults: Vaults,
    /// The way out.
    pub guard: Guard,
    /// What seals the keys of vaults.
    pub keyring: Keyring,
    /// What agents may ask of models.
    pub rules: Arc<dyn ModelRules>,
    /// Who may come in.
    pub keys: Keys,
    /// The life of this process.
    pub boot: String,
    /// The answers that nobody has received whole yet.
    pub unwritten: Unwritten,
    /// Becomes true when the server stops: streams end then.
    pub stopping: watch::Receiver<bool>,
    /// Agents as tools of an MCP server.
    pub mcp: mcp::Tools,
}

/// What handlers are given.
pub type Shared = Arc<App>;

/// One method of one path: the unit that keys open and `openapi.json` describes.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with its ids in braces; a star is in front of one that may have slashes.
    pub path: &'static str,
    /// What a key must open.
    pub need: Need,
    /// What answers.
    handler: MethodRouter<Shared>,
}

impl Route {
    /// The path for people, who need no stars.
    #[must_use]
    pub fn shown_path(&self) -> String {
        self.path.replace("{*", "{")
    }

    fn get<H: Handler<T, Shared>, T: 'static>(
        path: &'static str,
        resource: Resource,
        handler: H,
    ) -> Self {
        let need = Need { resource, verb: Verb::Read };
        Self { method: Method::GET, path, need, handler: get(handler) }
    }

    fn post<H: Handler<T, Shared>, T: 'static>(
        path: &'static str,
        resource: Resource,
        verb: Verb,
        handler: H,
    ) -> Self {
        let need = Need { resource, verb };
        Self { method: Method::POST, path, need, handler: post(handler) }
    }

    fn delete<H: Handler<T, Shared>, T: 'static>(
        path: &'static str,
        resource: Resource,
        handler: H,
    ) -> Self {
        let need = Need { resource, verb: Verb::Delete };
        Self { method: Method::DELETE, path, need, handler: delete(handler) }
    }
}

/// Every route there is, and what it needs. A test asks each of them without a key.
#[must_use]
pub fn routes() -> Vec<Route> {
    use Resource::{
        Agents, Environments, Events, Files, Keys, Models, Sandboxes, Sessions, Vaults, Workspaces,
    };
    use Verb::{Archive, Create, Update};
    const AGENT: &str = "/v1/agents/{agent}";
    const ENVIRONMENT: &str = "/v1/environments/{environment}";
    const FILE: &str = "/v1/files/{file}";
    const SESSION: &str = "/v1/sessions/{session}";
    const EVENTS: &str = "/v1/sessions/{session}/events";
    const RESOURCES: &str = "/v1/sessions/{session}/resources";
    const RESOURCE: &str = "/v1/sessions/{session}/resources/{resource}";
    const THREAD: &str = "/v1/sessions/{session}/threads/{thread}";
    const VAULT: &str = "/v1/vaults/{vault}";
    const CREDENTIALS: &str = "/v1/vaults/{vault}/credentials";
    const CREDENTIAL: &str = "/v1/vaults/{vault}/credentials/{credential}";
    const CREDENTIAL_ARCHIVE: &str = "/v1/vaults/{vault}/credentials/{credential}/archive";
    const MCP: &str = "/posthouse/v1/mcp";
    const MCP_NEED: Need = Need { resource: Sessions, verb: Create };
    const VALIDATE: &str = "/v1/vaults/{vault}/credentials/{credential}/mcp_oauth_validate";
    vec![
        Route::get("/v1/agents", Agents, agents::list),
        Route::post("/v1/agents", Agents, Create, agents::create),
        Route::get(AGENT, Agents, agents::retrieve),
        Route::post(AGENT, Agents, Update, agents::update),
        Route::post("/v1/agents/{agent}/archive", Agents, Archive, agents::archive),
        Route::get("/v1/agents/{agent}/versions", Agents, agents::versions),
        Route::get("/v1/environments", Environments, environments::list),
        Route::post("/v1/environments", Environments, Create, environments::create),
        Route::get(ENVIRONMENT, Environments, environments::retrieve),
        Route::post(ENVIRONMENT, Environments, Update, environments::update),
        Route::delete(ENVIRONMENT, Environments, environments::delete),
        Route::post(
            "/v1/environments/{environment}/archive",
            Environments,
            Archive,
            environments::archive,
        ),
        Route::get("/v1/files", Files, files::list),
        Route::post("/v1/files", Files, Create, files::upload),
        Route::get(FILE, Files, files::retrieve),
        Route::delete(FILE, Files, files::delete),
        Route::get("/v1/files/{file}/content", Files, files::content),
        Route::get("/v1/models", Models, models::list),
        Route::get("/v1/models/{*model}", Models, models::retrieve),
        Route::get("/v1/sessions", Sessions, sessions::list),
        Route::post("/v1/sessions", Sessions, Create, sessions::create),
        Route::get(SESSION, Sessions, sessions::retrieve),
        Route::post(SESSION, Sessions, Update, sessions::update),
        Route::delete(SESSION, Sessions, sessions::delete),
        Route::post("/v1/sessions/{session}/archive", Sessions, Archive, sessions::archive),
        Route::get(EVENTS, Events, events::list),
        Route::post(EVENTS, Events, Create, events::send),
        Route::get("/v1/sessions/{session}/events/stream", Events, stream::session),
        Route::get(RESOURCES, Sessions, resources::list),
        Route::post(RESOURCES, Sessions, Update, resources::add),
        Route::get(RESOURCE, Sessions, resources::retrieve),
        Route::post(RESOURCE, Sessions, Update, resources::update),
        Route {
            need: Need { resource: Sessions, verb: Update },
            ..Route::delete(RESOURCE, Sessions, resources::delete)
        },
        Route::get("/v1/sessions/{session}/threads", Sessions, threads::list),
        Route::get(THREAD, Sessions, threads::retrieve),
        Route::post(
            "/v1/sessions/{session}/threads/{thread}/archive",
            Sessions,
            Archive,
            threads::archive,
        ),
        Route::get("/v1/sessions/{session}/threads/{thread}/events", Events, events::list_thread),
        Route::get("/v1/sessions/{session}/threads/{thread}/stream", Events, stream::thread),
        Route::get("/v1/vaults", Vaults, vaults::list),
        Route::post("/v1/vaults", Vaults, Create, vaults::create),
        Route::get(VAULT, Vaults, vaults::retrieve),
        Route::post(VAULT, Vaults, Update, vaults::update),
        Route::delete(VAULT, Vaults, vaults::delete),
        Route::post("/v1/vaults/{vault}/archive", Vaults, Archive, vaults::archive),
        Route::get(CREDENTIALS, Vaults, credentials::list),
        Route::post(CREDENTIALS, Vaults, Create, credentials::create),
        Route::get(CREDENTIAL, Vaults, credentials::retrieve),
        Route::post(CREDENTIAL, Vaults, Update, credentials::update),
        Route::delete(CREDENTIAL, Vaults, credentials::delete),
        Route::post(CREDENTIAL_ARCHIVE, Vaults, Archive, credentials::archive),
        Route::post(VALIDATE, Vaults, Update, credentials::validate),
        Route::get("/posthouse/v1/credential_uses", Vaults, uses::list),
        Route::get("/posthouse/v1/sandboxes", Sandboxes, sandboxes::list),
        Route::post("/posthouse/v1/sandboxes/{session}/kill", Sandboxes, Archive, sandboxes::kill),
        Route::get("/posthouse/v1/sandboxes/{session}/records", Sandboxes, sandboxes::records),
        Route::get("/posthouse/v1/keys", Keys, keys::list),
        Route::post("/posthouse/v1/keys", Keys, Create, keys::create),
        Route::post("/posthouse/v1/keys/{key}/revoke", Keys, Archive, keys::revoke),
        Route::post("/posthouse/v1/root_key/rotate", Keys, Update, root_key::rotate),
        Route::post(MCP, Sessions, Create, mcp::serve),
        Route { need: MCP_NEED, ..Route::get(MCP, Sessions, mcp::serve) },
        Route { need: MCP_NEED, ..Route::delete(MCP, Sessions, mcp::serve) },
        Route::get("/posthouse/v1/workspaces", Workspaces, workspaces::list),
        Route::post("/posthouse/v1/workspaces", Workspaces, Create, workspaces::create),
    ]
}

/// The whole API.
pub fn router(app: Shared) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, Route { path, need, handler, .. }| {
            router.route(path, handler.route_layer(from_fn_with_state(need, auth::permit)))
        })
        .method_not_allowed_fallback(respond::wrong_method)
        .route_layer(from_fn_with_state(Arc::clone(&app), auth::authenticate))
        .fallback(respond::no_route)
        .layer(from_fn(respond::finish))
        .with_state(app)
}
