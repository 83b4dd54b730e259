//! `/posthouse/v1/mcp`: agents as the tools of an MCP server.
//!
//! The protocol is `posthouse-mcp`'s; here is what the tools do. They work by the same functions as the
//! routes of sessions and events, with the rights of the key that asks, and on sessions of exposed
//! agents alone.

pub(super) mod exposed;
mod follow;
mod input;
mod tools;

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use futures_util::StreamExt as _;
use posthouse_mcp::{
    client::Work,
    server::{About, Call as ToolCall, Caller, Endpoint, Names, Offer, Offered, Outcome, Progress},
};
use posthouse_protocol::{ApiError, ErrorKind};

use super::{Call, Refusal, Shared, respond::RequestId};
use crate::{config::Config, keys::Principal};

/// Where MCP clients ask.
pub type Tools = Endpoint<Agents>;

/// How long an answer that is under way when the server stops may still take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What models should know who use the server.
const INSTRUCTIONS: &str = "Each agent is a tool: it takes a message, works on it in a session of its \
    own, and answers when it is done or when the wait is over. A session that is still at work is \
    followed with session_follow; one that waits for an answer to a tool call gets it with \
    session_answer. A call that is cancelled leaves its session at work; session_stop stops it.";

/// The endpoint of a server.
#[must_use]
pub fn endpoint(config: &Config) -> Tools {
    let about =
        About { name: "posthouse", version: env!("CARGO_PKG_VERSION"), instructions: INSTRUCTIONS };
    Endpoint::new(Agents, about, Names::new(config.mcp.names.iter().cloned()))
}

/// `POST`, `GET` and `DELETE /posthouse/v1/mcp`.
///
/// # Errors
/// 401; what the protocol refuses is its own response.
pub async fn serve(State(app): State<Shared>, mut request: Request) -> Result<Response, Refusal> {
    let extensions = request.extensions_mut();
    let principal = extensions
        .remove::<Principal>()
        .ok_or_else(|| ApiError::new(ErrorKind::Authentication, "Authentication failed"))?;
    let request_id = extensions.remove::<RequestId>().map(|id| id.0).unwrap_or_default();
    let listens = request.method() == axum::http::Method::GET;
    let visitor = Visitor { app: Arc::clone(&app), principal, request_id };
    let response = app.mcp.answer(request, visitor).await;
    let mut stopping = app.stopping.clone();
    let stop = async move {
        // A sender that is gone has stopped, too.
        let _ = stopping.wait_for(|stop| *stop).await;
        if !listens {
            tokio::time::sleep(LAST_WORDS).await;
        }
    };
    Ok(response.map(|body| {
        let body = Body::new(body);
        match http_body::Body::size_hint(&body).exact() {
            Some(_) => body,
            None => Body::from_stream(body.into_data_stream().take_until(Box::pin(stop))),
        }
    }))
}

/// Whoever asks.
#[derive(Clone)]
pub struct Visitor {
    app: Shared,
    principal: Principal,
    request_id: Arc<str>,
}

impl Visitor {
    fn call(&self) -> Call {
        Call::inside(Arc::clone(&self.app), self.principal.clone(), Arc::clone(&self.request_id))
    }
}

impl Caller for Visitor {
    fn name(&self) -> String {
        format!("{} {}", self.principal.key_id, self.principal.workspace)
    }
}

/// The agents of the caller's workspace that are exposed.
pub struct Agents;

impl Offer for Agents {
    type Caller = Visitor;

    fn tools<'a>(
        &'a self,
        caller: &'a Visitor,
    ) -> Work<'a, Result<Vec<Offered>, posthouse_mcp::server::Refusal>> {
        Box::pin(
            async move { tools::list(&caller.call()).map_err(|refusal| failed(&refusal, caller)) },
        )
    }

    fn call<'a>(
        &'a self,
        caller: &'a Visitor,
        call: ToolCall,
        progress: &'a Progress,
    ) -> Work<'a, Result<Outcome, posthouse_mcp::server::Refusal>> {
        Box::pin(async move {
            let Ok(state) = call.state.as_deref().map(tools::State::read).transpose() else {
                return Err(posthouse_mcp::server::Refusal::State);
            };
            match tools::call(&caller.call(), call, state, progress).await {
                Ok(Some(outcome)) => Ok(outcome),
                Ok(None) => Err(posthouse_mcp::server::Refusal::Unknown),
                // Something to learn from, for the model that has called.
                Err(Refusal::Api(error)) => {
                    Ok(Outcome::Done { text: error.message, structured: None, is_error: true })
                }
                Err(fault) => Err(failed(&fault, caller)),
            }
        })
    }
}

/// Writes to the log what nobody else learns.
fn failed(refusal: &Refusal, caller: &Visitor) -> posthouse_mcp::server::Refusal {
    let request = &*caller.request_id;
    tracing::error!(request, fault = ?refusal, "a request of an MCP client has failed");
    posthouse_mcp::server::Refusal::Failed
}
