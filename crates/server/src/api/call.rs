//! One request, as handlers see it: who, when, which ids, which query, which body.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts as _, RawPathParams, Request},
    http::{Method, header, request::Parts},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use posthouse_protocol::{
    ApiError, ErrorKind, Fields, Micros, fields::wrong, id::IdKind, query::Query, schema::EMPTY,
};
use posthouse_store::{
    answers::{self, Post},
    log::Answered,
    tables::Connection,
};

use super::{Answer, Refusal, Shared, respond::RequestId};
use crate::{
    keys::{self, Principal},
    scope::Need,
};

/// The longest body that is read, in bytes.
pub const LONGEST_BODY: usize = 32 * 1024 * 1024;

/// One request.
pub struct Call {
    /// What all handlers share.
    pub app: Shared,
    /// Whom it comes from.
    pub principal: Principal,
    /// When it came.
    pub at: Micros,
    /// Its id, for the log.
    pub request_id: Arc<str>,
    ids: Vec<String>,
    parts: Parts,
    body: Bytes,
}

/// The time of the system's clock.
#[must_use]
pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl Call {
    /// The id at `index` among those of the path.
    ///
    /// # Errors
    /// 400 in the hosted wording when it can't be an id of that kind.
    pub fn id(&self, index: usize, kind: IdKind) -> Result<&str, ApiError> {
        let id = self.name(index);
        if kind.is_well_formed(id) {
            return Ok(id);
        }
        Err(ApiError::invalid(format!("Invalid {} ID.", noun(kind))))
    }

    /// What the path names at `index`, where that is no id of this server.
    #[must_use]
    pub fn name(&self, index: usize) -> &str {
        self.ids.get(index).map_or("", String::as_str)
    }

    /// The query.
    ///
    /// # Errors
    /// 400 when it can't be read.
    pub fn query(&self) -> Result<Query, ApiError> {
        Query::parse(self.parts.uri.query())
    }

    /// Refuses any query.
    ///
    /// # Errors
    /// 400 that names what was sent.
    pub fn no_query(&self) -> Result<(), ApiError> {
        match self.parts.uri.query() {
            None => Ok(()),
            Some(_) => self.query()?.finish(&EMPTY),
        }
    }

    /// The body, as it was sent.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// What tells this request from others where its body is not kept, or is secret:
    /// [`Call::post`] goes by it.
    pub fn stand_in(&mut self, body: Bytes) {
        self.body = body;
    }

    /// The answer to a POST that the log has kept.
    #[must_use]
    pub fn answer(&self, answered: Answered) -> Answer {
        match answered.id {
            Some(id) => Answer::kept(answered.answer, self.app.unwritten.clone(), id),
            None => Answer::new(answered.answer),
        }
    }

    /// Refuses any field in the body.
    ///
    /// # Errors
    /// 400 that names the field, or when the body is no JSON object.
    pub fn no_fields(&self) -> Result<(), ApiError> {
        self.fields()?.finish(&EMPTY)
    }

    /// The fields of the body; none when it is empty.
    ///
    /// # Errors
    /// 400 when it is no JSON object.
    pub fn fields(&self) -> Result<Fields, ApiError> {
        Fields::parse(&self.body)
    }

    /// A header's value; one that is no text counts as absent.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// Asks for what a request needs beyond its route's own need.
    ///
    /// # Errors
    /// 403 that names the scope.
    pub fn require(&self, need: Need) -> Result<(), ApiError> {
        if self.principal.scopes.open(need) { Ok(()) } else { Err(need.refusal()) }
    }

    /// A new id of this moment.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn mint(&self, kind: IdKind) -> Result<String, Refusal> {
        Ok(keys::mint(kind, self.at)?)
    }

    /// Refuses an `Idempotency-Key` where no answer is kept.
    ///
    /// # Errors
    /// 400 that says why it can't be honoured.
    pub fn no_idempotency_key(&self, why: &str) -> Result<(), ApiError> {
        if !self.parts.headers.contains_key("idempotency-key") {
            return Ok(());
        }
        let what = format!("can't be honoured, because {why}");
        Err(wrong("Idempotency-Key", &what, "leave it out"))
    }

    /// What tells this POST from others.
    ///
    /// # Errors
    /// 400 when `Idempotency-Key` is empty or longer than 255 letters.
    pub fn post(&self) -> Result<Post, ApiError> {
        // One key may work in several workspaces, and no answer of one is for another.
        let caller = format!("{} {}", self.principal.key_id, self.principal.workspace);
        let idempotency_key = match self.parts.headers.get("idempotency-key") {
            None => None,
            Some(value) => {
                let key = value.to_str().ok().filter(|key| (1..=255).contains(&key.len()));
                let key = key.ok_or_else(|| {
                    ApiError::invalid("Idempotency-Key: is no key; send 1 to 255 ASCII letters")
                })?;
                Some(answers::scoped_key(&caller, key))
            }
        };
        let path = self.parts.uri.path();
        Ok(Post {
            fingerprint: answers::fingerprint(&caller, path, &self.body),
            idempotency_key,
            retry: self
                .header("x-stainless-retry-count")
                .and_then(|count| count.parse().ok())
                .unwrap_or(0),
            boot: self.app.boot.clone(),
            at: self.at,
            unwritten: self.app.unwritten.clone(),
        })
    }

    /// Does a POST's work in one transaction, once: a retry gets the answer of before. `work`
    /// returns the JSON of the answer.
    ///
    /// # Errors
    /// Those of `work`, of [`Call::post`] and of the database; then nothing is kept.
    pub async fn once(
        &self,
        work: impl FnOnce(&Connection) -> Result<String, Refusal> + Send + 'static,
    ) -> Result<Answer, Refusal> {
        self.once_then(work, || {}).await
    }

    /// Like [`Call::once`]; `after` runs when the work is durable and before anybody learns of it,
    /// also when nobody waits for the answer any more.
    ///
    /// # Errors
    /// As [`Call::once`].
    pub async fn once_then<E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<String, E> + Send + 'static,
        after: impl FnOnce() + Send + 'static,
    ) -> Result<Answer, E>
    where
        E: From<ApiError> + From<posthouse_store::Error> + Send + 'static,
    {
        let post = self.post()?;
        let write = move |connection: &Connection| {
            if let Some(kept) = answers::find_kept(connection, &post)? {
                return Ok((kept.answer, kept.id));
            }
            let json = work(connection)?;
            let id = answers::keep(connection, &post, &json)?;
            Ok::<_, E>((json, id))
        };
        let (json, id) = self.app.database.write_then(write, move |_| after()).await?;
        Ok(Answer::kept(json, self.app.unwritten.clone(), id))
    }
}

/// What messages call the kinds of things that paths name.
fn noun(kind: IdKind) -> &'static str {
    match kind {
        IdKind::Agent => "agent",
        IdKind::Environment => "environment",
        IdKind::Session => "session",
        IdKind::Thread => "thread",
        IdKind::Event => "event",
        IdKind::Resource => "resource",
        IdKind::File => "file",
        IdKind::Vault => "vault",
        IdKind::Credential => "credential",
        IdKind::CredentialUse => "credential use",
        IdKind::SandboxRecord => "sandbox record",
        IdKind::Workspace => "workspace",
        IdKind::Key => "key",
        IdKind::Request => "request",
    }
}

impl Call {
    /// A request that has come by another road than a route of its own: it has no path, no query and
    /// no body.
    pub(super) fn inside(app: Shared, principal: Principal, request_id: Arc<str>) -> Self {
        let (parts, ()) = axum::http::Request::new(()).into_parts();
        Self { app, principal, at: now(), request_id, ids: Vec::new(), parts, body: Bytes::new() }
    }

    /// A request whose body nobody has read yet.
    ///
    /// # Errors
    /// 401, 404.
    pub(super) async fn split(request: Request, app: &Shared) -> Result<(Self, Body), Refusal> {
        let (mut parts, body) = request.into_parts();
        let params = RawPathParams::from_request_parts(&mut parts, app)
            .await
            .map_err(|_| ApiError::not_found("Not found"))?;
        let ids = params.iter().map(|(_, value)| value.to_owned()).collect();
        // The layers before have put both there; without them nobody comes in.
        let principal = parts
            .extensions
            .remove::<Principal>()
            .ok_or_else(|| ApiError::new(ErrorKind::Authentication, "Authentication failed"))?;
        let request_id = parts.extensions.remove::<RequestId>().map(|id| id.0).unwrap_or_default();
        let app = Arc::clone(app);
        let call = Self { app, principal, at: now(), request_id, ids, parts, body: Bytes::new() };
        Ok((call, body))
    }
}

impl FromRequest<Shared> for Call {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Refusal> {
        let (mut call, body) = Self::split(request, app).await?;
        if call.parts.method == Method::POST {
            call.body = read(&call, body).await?;
        }
        Ok(call)
    }
}

/// Refuses a body that is packed.
///
/// # Errors
/// 400 `request_body_encoding_unsupported`.
pub(super) fn refuse_encoding(call: &Call) -> Result<(), ApiError> {
    match call.parts.headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            let message = "content-encoding: is not supported; send the body as it is";
            Err(ApiError::invalid(message).with_code("request_body_encoding_unsupported"))
        }
        _ => Ok(()),
    }
}

async fn read(call: &Call, body: Body) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(
            ErrorKind::TooLarge,
            format!("request body: is larger than {LONGEST_BODY} bytes; send less"),
        )
    };
    refuse_encoding(call)?;
    let length = call
        .parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > LONGEST_BODY) {
        return Err(too_large());
    }
    let cut = |_| ApiError::invalid("request body: was cut; send it whole");
    let mut chunks = body.into_data_stream();
    let Some(first) = chunks.next().await else { return Ok(Bytes::new()) };
    let first = first.map_err(cut)?;
    if length == Some(first.len()) {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(length.unwrap_or(first.len()));
    whole.extend_from_slice(&first);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(cut)?;
        if whole.len() + chunk.len() > LONGEST_BODY {
            return Err(too_large());
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}
