//! The requests of the protocol, in its library's words.
//!
//! Lists tools and calls them for whoever asks. Knows no tool.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::request::Parts;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities,
        CompleteRequestMethod, CompleteRequestParams, CompleteResult, ContentBlock, ElicitRequest,
        ElicitRequestParams, ElicitResult, ElicitationAction, ElicitationSchema, Implementation,
        InputRequest, InputRequiredResult, ListPromptsRequestMethod, ListPromptsResult,
        ListResourceTemplatesRequestMethod, ListResourceTemplatesResult,
        ListResourcesRequestMethod, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
        ProgressNotificationParam, ProgressToken, ProtocolVersion, ServerCapabilities,
        ServerConfig, Tool, ToolAnnotations,
    },
    service::{NotificationContext, Peer, RequestContext},
};
use serde_json::Value;

use super::{About, Call, Offer, Offered, Outcome, Question, Refusal, Reply};

/// The revisions that are spoken.
const REVISIONS: [ProtocolVersion; 3] =
    [ProtocolVersion::V_2025_06_18, ProtocolVersion::V_2025_11_25, ProtocolVersion::V_2026_07_28];

/// How long somebody may think about a question.
const THOUGHT: Duration = Duration::from_secs(10 * 60);

/// Answers the requests of one session of the protocol, or one request where there are none.
pub(super) struct Handler<O> {
    offer: Arc<O>,
    about: Arc<About>,
}

impl<O> Clone for Handler<O> {
    fn clone(&self) -> Self {
        Self { offer: Arc::clone(&self.offer), about: Arc::clone(&self.about) }
    }
}

/// Tells a client how a call is going, if it wants to know.
pub struct Progress {
    wanted: Option<(Peer<RoleServer>, ProgressToken)>,
    told: AtomicU32,
}

impl Progress {
    fn of(context: &RequestContext<RoleServer>) -> Self {
        let token = context.meta.get_progress_token();
        let wanted = token.map(|token| (context.peer.clone(), token));
        Self { wanted, told: AtomicU32::new(0) }
    }

    /// Whether the client wants to know.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// Tells it one thing. That it does not arrive is no fault.
    pub async fn tell(&self, message: String) {
        let Some((peer, token)) = &self.wanted else { return };
        let told = self.told.fetch_add(1, Ordering::Relaxed) + 1;
        let step = ProgressNotificationParam::new(token.clone(), f64::from(told));
        if let Err(error) = peer.notify_progress(step.with_message(message)).await {
            tracing::debug!(%error, "a client was not told how its call is going");
        }
    }
}

impl<O: Offer> Handler<O> {
    pub(super) fn new(offer: Arc<O>, about: About) -> Self {
        Self { offer, about: Arc::new(about) }
    }

    /// Calls the tool, and again with what came of its questions.
    async fn call(
        &self,
        caller: &O::Caller,
        mut call: Call,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let progress = Progress::of(context);
        loop {
            let outcome = self.offer.call(caller, call.clone(), &progress).await;
            match outcome.map_err(|refusal| refused(refusal, &call.name))? {
                Outcome::Done { text, structured, is_error } => {
                    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
                    result.is_error = Some(is_error);
                    result.structured_content = structured;
                    return Ok(result.into());
                }
                Outcome::Ask { questions, state } if is_stateless(context) => {
                    let ask = |(key, question)| {
                        let request = ElicitRequest::new(form(question)?);
                        Ok((key, InputRequest::Elicitation(request)))
                    };
                    let asked: BTreeMap<_, _> =
                        questions.into_iter().map(ask).collect::<Result<_, ErrorData>>()?;
                    return Ok(InputRequiredResult::new(Some(asked), Some(state)).into());
                }
                Outcome::Ask { questions, state } => {
                    call.replies.clear();
                    for (key, question) in questions {
                        let asked = context
                            .peer
                            .create_elicitation_with_timeout(form(question)?, Some(THOUGHT))
                            .await;
                        let reply = asked.map_or(Reply::Dismissed, reply);
                        call.replies.insert(key, reply);
                    }
                    call.state = Some(state);
                }
            }
        }
    }
}

impl<O: Offer> ServerHandler for Handler<O> {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        let mut config = ServerConfig::new(capabilities).with_instructions(self.about.instructions);
        config.server_info = Implementation::new(self.about.name, self.about.version);
        config
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(&REVISIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let caller = caller::<O>(&context)?;
        let tools = self.offer.tools(&caller).await.map_err(|refusal| refused(refusal, ""))?;
        Ok(ListToolsResult::with_all_items(tools.into_iter().map(tool).collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let caller = caller::<O>(&context)?;
        let replies = request.input_responses.unwrap_or_default().into_iter();
        let replies = replies.map(|(key, sent)| {
            // What is no reply says nothing.
            let sent: Result<ElicitResult, _> = serde_json::from_value(sent);
            (key, sent.map_or(Reply::Dismissed, reply))
        });
        let call = Call {
            name: request.name.into_owned(),
            input: request.arguments.unwrap_or_default(),
            can_ask: can_ask(context.client_capabilities().as_ref()),
            replies: replies.collect(),
            state: request.request_state,
        };
        tokio::select! {
            answer = self.call(&caller, call, &context) => answer,
            () = context.ct.cancelled() => {
                Err(ErrorData::internal_error("The call was cancelled.", None))
            }
        }
    }

    // What the server does not declare, it does not do: the library's own answers are empty lists.

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Err(ErrorData::method_not_found::<ListPromptsRequestMethod>())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Err(ErrorData::method_not_found::<ListResourcesRequestMethod>())
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Err(ErrorData::method_not_found::<ListResourceTemplatesRequestMethod>())
    }

    async fn complete(
        &self,
        _: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        Err(ErrorData::method_not_found::<CompleteRequestMethod>())
    }

    async fn on_initialized(&self, _: NotificationContext<RoleServer>) {}
}

/// Who asks, as the request says that was sent for this.
fn caller<O: Offer>(context: &RequestContext<RoleServer>) -> Result<O::Caller, ErrorData> {
    let parts = context.extensions.get::<Parts>();
    let caller = parts.and_then(|parts| parts.extensions.get::<O::Caller>()).cloned();
    caller.ok_or_else(|| ErrorData::internal_error("The request has no caller.", None))
}

/// Whether the request has come without a session, so that nothing can be asked in the middle.
fn is_stateless(context: &RequestContext<RoleServer>) -> bool {
    let revision = context.protocol_version();
    revision.is_some_and(|one| one.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

/// A client that says nothing of forms or addresses knows forms, as all of the first ones do.
fn can_ask(client: Option<&ClientCapabilities>) -> bool {
    let asks = client.and_then(|client| client.elicitation.as_ref());
    asks.is_some_and(|asks| asks.form.is_some() || asks.url.is_none())
}

fn tool(offered: Offered) -> Tool {
    let mut tool = Tool::new(offered.name, offered.description, offered.input);
    tool.title = offered.title;
    tool.output_schema = Some(offered.output);
    tool.annotations = Some(ToolAnnotations::new().read_only(offered.reads_only));
    tool
}

fn form(question: Question) -> Result<ElicitRequestParams, ErrorData> {
    let schema: ElicitationSchema = serde_json::from_value(question.form).map_err(|error| {
        tracing::error!(%error, "a question has no form");
        refused(Refusal::Failed, "")
    })?;
    Ok(ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: question.message,
        requested_schema: schema,
    })
}

fn reply(result: ElicitResult) -> Reply {
    match (result.action, result.content) {
        (ElicitationAction::Accept, Some(Value::Object(form))) => Reply::Given(form),
        (ElicitationAction::Decline, _) => Reply::Declined,
        _ => Reply::Dismissed,
    }
}

fn refused(refusal: Refusal, tool: &str) -> ErrorData {
    match refusal {
        Refusal::Unknown => ErrorData::invalid_params(format!("Unknown tool: {tool}"), None),
        Refusal::State => ErrorData::invalid_params(
            "requestState: is none of this server's; call the tool anew",
            None,
        ),
        Refusal::Failed => ErrorData::internal_error("Internal server error", None),
    }
}
