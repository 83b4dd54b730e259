//! What a server is told about this client, how its own requests are answered, and what is kept of
//! its news. It has neither a model nor files to lend.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::{
    ClientHandler, ErrorData,
    model::{
        ClientCapabilities, ClientConfig, CustomRequest, CustomResult, ElicitRequestParams,
        ElicitResult, ElicitationAction, ElicitationCapability, ErrorCode,
        FormElicitationCapability, Implementation,
    },
    service::{NotificationContext, RequestContext, RoleClient},
    transport::common::client_side_sse::SseRetryPolicy,
};
use serde_json::Value;

use super::forms;

/// How often a stream is opened anew in a row without success.
const ATTEMPTS: usize = 4;

/// Answers a server.
pub(super) struct Answers {
    with_defaults: bool,
    news: Arc<News>,
}

impl Answers {
    pub(super) fn new(with_defaults: bool, news: Arc<News>) -> Self {
        Self { with_defaults, news }
    }

    fn answer(&self, parameters: &Value) -> Value {
        forms::answer(parameters, self.with_defaults)
    }
}

impl ClientHandler for Answers {
    fn get_info(&self) -> ClientConfig {
        let elicitation = ElicitationCapability::new().with_form(FormElicitationCapability::new());
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation = Some(elicitation);
        ClientConfig::new(capabilities, Implementation::new("posthouse", env!("CARGO_PKG_VERSION")))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let parameters = serde_json::to_value(request).unwrap_or_default();
        let answer = self.answer(&parameters);
        Ok(serde_json::from_value(answer)
            .unwrap_or_else(|_| ElicitResult::new(ElicitationAction::Decline)))
    }

    #[expect(deprecated, reason = "servers of older revisions ask for it")]
    async fn list_roots(
        &self,
        _context: RequestContext<RoleClient>,
    ) -> Result<rmcp::model::ListRootsResult, ErrorData> {
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "roots/list", None))
    }

    /// Forms of a shape that is unknown come this way.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleClient>,
    ) -> Result<CustomResult, ErrorData> {
        if request.method != "elicitation/create" {
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, request.method, None));
        }
        Ok(CustomResult::new(self.answer(&request.params.unwrap_or_default())))
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.news.lose();
    }
}

/// When a stream that was cut is opened anew.
#[derive(Debug)]
pub(super) struct Patience;

impl SseRetryPolicy for Patience {
    fn retry(&self, attempts: usize) -> Option<Duration> {
        let doubled = u32::try_from(attempts).ok().and_then(|attempts| 2_u32.checked_pow(attempts));
        (attempts < ATTEMPTS).then(|| Duration::from_secs(1).saturating_mul(doubled.unwrap_or(1)))
    }
}

/// What is known of changes at the server.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Whether the server says when its tools change.
    tells: AtomicBool,
    /// Streams that bring what it says.
    streams: AtomicUsize,
    /// Whether the list that was asked for last is still the list.
    holds: AtomicBool,
    /// Why the connection has ended, where that is known.
    complaint: Mutex<Option<String>>,
}

impl News {
    /// Whether the server says when its tools change.
    pub(super) fn expect(&self, tells: bool) {
        self.tells.store(tells, Ordering::Relaxed);
    }

    /// The list is asked for.
    pub(super) fn read(&self) {
        self.holds.store(true, Ordering::Relaxed);
    }

    /// The list has changed, or nobody knows.
    pub(super) fn lose(&self) {
        self.holds.store(false, Ordering::Relaxed);
    }

    pub(super) fn may_be_there(&self) -> bool {
        !(self.tells.load(Ordering::Relaxed)
            && self.streams.load(Ordering::Relaxed) > 0
            && self.holds.load(Ordering::Relaxed))
    }

    /// The connection itself brings the news.
    pub(super) fn always(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    /// A stream that brings the news as long as the value lives.
    pub(super) fn listen(self: &Arc<Self>) -> Listening {
        self.always();
        // What was said before it began was said to nobody.
        self.lose();
        Listening(Arc::clone(self))
    }

    pub(super) fn complain(&self, reason: String) {
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    pub(super) fn complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A stream of news.
pub(super) struct Listening(Arc<News>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
        self.0.lose();
    }
}
