//! Ollama: it speaks the compatible wire, and says by routes of its own what it serves and how
//! long a conversation each model takes.
//!
//! What is read of it (`/api/tags`, `/api/show`) is in the document `docs/api.md` of its
//! repository. Loads no model and changes nothing there.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use reqwest::{Client, header::HeaderMap};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{ListedModel, Listing, Provider};
use crate::{Body, ModelStream, Remote, Request, Settings, SetupError, WireKind};

/// How long the models may take to describe themselves. One that does not is described later.
const SHOWING: Duration = Duration::from_millis(600);

/// How many are asked at once.
const AT_ONCE: usize = 8;

/// The longest list or description, in bytes. A description holds licences and templates.
const LONGEST: usize = 4 << 20;

/// An Ollama.
pub struct Ollama {
    remote: Remote,
    client: Client,
    /// The address in front of `/v1`.
    root: String,
    headers: HeaderMap,
    /// The windows of models, by their digests.
    windows: Mutex<HashMap<String, Option<u64>>>,
}

/// `GET /api/tags`.
#[derive(Deserialize)]
struct Tags {
    models: Vec<Tag>,
}

#[derive(Deserialize)]
struct Tag {
    name: String,
    #[serde(default)]
    digest: String,
    modified_at: Option<String>,
}

/// `POST /api/show`, as far as it is read.
#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    parameters: String,
    #[serde(default)]
    model_info: Map<String, Value>,
}

impl fmt::Debug for Ollama {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ollama").field("remote", &self.remote).finish_non_exhaustive()
    }
}

impl Ollama {
    /// Sets it up; `settings` are those of its compatible routes. Opens no connection.
    ///
    /// # Errors
    /// As [`Remote::new`].
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let root = settings.base_url.trim_end_matches('/');
        let root = root.strip_suffix("/v1").unwrap_or(root).to_owned();
        let remote = Remote::new(settings)?;
        let (client, headers) = remote.for_own_routes();
        Ok(Self { remote, client, root, headers, windows: Mutex::default() })
    }

    /// What it lists by its own routes; `None` when they can't be read.
    async fn tags(&self) -> Option<Vec<Tag>> {
        let tags: Tags = self.read(self.client.get(format!("{}/api/tags", self.root))).await?;
        Some(tags.models)
    }

    /// The window of each model, asked once in a model's life.
    async fn windows(&self, tags: &[Tag]) {
        let unknown: Vec<(String, String)> = {
            let mut known = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            let listed: HashSet<&str> = tags.iter().map(key).collect();
            known.retain(|key, _| listed.contains(&**key));
            let new = tags.iter().filter(|tag| !known.contains_key(key(tag)));
            new.map(|tag| (key(tag).to_owned(), tag.name.clone())).collect()
        };
        let show = async |(key, name): (String, String)| {
            let body = json!({ "model": name }).to_string();
            let request = self.client.post(format!("{}/api/show", self.root)).body(body);
            if let Some(shown) = self.read::<Shown>(request).await {
                let mut known = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
                known.insert(key, window(&shown));
            }
        };
        let shown = stream::iter(unknown).for_each_concurrent(AT_ONCE, show);
        // What has come by then is kept.
        let _ = timeout(SHOWING, shown).await;
    }

    async fn read<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Option<T> {
        let mut answer = request.headers(self.headers.clone()).send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.ok()? {
            body.extend_from_slice(&chunk);
            if body.len() > LONGEST {
                return None;
            }
        }
        serde_json::from_slice(&body).ok()
    }
}

/// What tells a model from another one that once had its name.
fn key(tag: &Tag) -> &str {
    if tag.digest.is_empty() { &tag.name } else { &tag.digest }
}

/// How many tokens a model takes: what its maker of this machine has set, else what it was
/// trained for.
fn window(shown: &Shown) -> Option<u64> {
    let set = shown.parameters.lines().find_map(|line| {
        let (name, value) = line.trim().split_once(char::is_whitespace)?;
        (name == "num_ctx").then(|| value.trim().parse().ok())?
    });
    set.or_else(|| {
        let kind = shown.model_info.get("general.architecture")?.as_str()?;
        shown.model_info.get(&format!("{kind}.context_length"))?.as_u64()
    })
}

impl Provider for Ollama {
    fn name(&self) -> &str {
        self.remote.name()
    }

    fn claims(&self, model: &str) -> bool {
        self.remote.claims(model)
    }

    fn wire(&self) -> WireKind {
        self.remote.wire()
    }

    fn is_local(&self) -> bool {
        self.remote.is_local()
    }

    fn list(&self) -> Listing<'_> {
        Box::pin(async move {
            // Something else may listen there, or nothing: the wire's own list says which.
            let Some(tags) = self.tags().await else { return self.remote.list().await };
            self.windows(&tags).await;
            let known = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            let listed = |tag: Tag| ListedModel {
                window: known.get(key(&tag)).copied().flatten(),
                created: tag
                    .modified_at
                    .and_then(|at| at.parse::<jiff::Timestamp>().ok())
                    .map(jiff::Timestamp::as_second),
                id: tag.name,
                ..ListedModel::default()
            };
            Ok(tags.into_iter().map(listed).collect())
        })
    }

    fn render(&self, request: &Request) -> Body {
        self.remote.render(request)
    }

    fn stream(&self, body: Body) -> ModelStream {
        self.remote.stream(body)
    }
}
