//! The public API: what all handlers share, and the one list of all routes.
//!
//! Every route is closed: a key is asked for before a handler runs, by the one layer in
//! [`auth`]. A path that does not exist says so even without a key.

pub mod agents;
pub mod auth;
pub mod call;
pub mod environments;
pub mod events;
pub mod files;
pub mod resources;
pub mod respond;
pub mod sandboxes;
pub mod sessions;
pub mod stream;
pub mod threads;
pub mod written;

use std::sync::Arc;

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
    routing::{MethodRouter, get, post},
};
use posthouse_engine::Engine;
use posthouse_protocol::agent::ModelRules;
use posthouse_store::{Blobs, Database, answers::Unwritten};
use tokio::sync::watch;

pub use call::Call;
pub use respond::{Answer, Refusal};

use crate::{config, keys::Keys};

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
}

/// What handlers are given.
pub type Shared = Arc<App>;

/// Every route there is. A test asks each of them without a key.
#[must_use]
pub fn routes() -> Vec<(&'static str, MethodRouter<Shared>)> {
    vec![
        ("/v1/agents", get(agents::list).post(agents::create)),
        ("/v1/agents/{agent}", get(agents::retrieve).post(agents::update)),
        ("/v1/agents/{agent}/archive", post(agents::archive)),
        ("/v1/agents/{agent}/versions", get(agents::versions)),
        ("/v1/environments", get(environments::list).post(environments::create)),
        (
            "/v1/environments/{environment}",
            get(environments::retrieve).post(environments::update).delete(environments::delete),
        ),
        ("/v1/environments/{environment}/archive", post(environments::archive)),
        ("/v1/files", get(files::list).post(files::upload)),
        ("/v1/files/{file}", get(files::retrieve).delete(files::delete)),
        ("/v1/files/{file}/content", get(files::content)),
        ("/v1/sessions", get(sessions::list).post(sessions::create)),
        (
            "/v1/sessions/{session}",
            get(sessions::retrieve).post(sessions::update).delete(sessions::delete),
        ),
        ("/v1/sessions/{session}/archive", post(sessions::archive)),
        ("/v1/sessions/{session}/events", get(events::list).post(events::send)),
        ("/v1/sessions/{session}/events/stream", get(stream::session)),
        ("/v1/sessions/{session}/resources", get(resources::list).post(resources::add)),
        (
            "/v1/sessions/{session}/resources/{resource}",
            get(resources::retrieve).post(resources::update).delete(resources::delete),
        ),
        ("/v1/sessions/{session}/threads", get(threads::list)),
        ("/v1/sessions/{session}/threads/{thread}", get(threads::retrieve)),
        ("/v1/sessions/{session}/threads/{thread}/archive", post(threads::archive)),
        ("/v1/sessions/{session}/threads/{thread}/events", get(events::list_thread)),
        ("/v1/sessions/{session}/threads/{thread}/stream", get(stream::thread)),
        ("/posthouse/v1/sandboxes", get(sandboxes::list)),
        ("/posthouse/v1/sandboxes/{session}/kill", post(sandboxes::kill)),
    ]
}

/// The whole API.
pub fn router(app: Shared) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(path, methods))
        .method_not_allowed_fallback(respond::wrong_method)
        .route_layer(from_fn_with_state(Arc::clone(&app), auth::authenticate))
        .fallback(respond::no_route)
        .layer(from_fn(respond::finish))
        .with_state(app)
}
