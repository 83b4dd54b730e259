//! HTTP with SSE of 2024-11-05: one stream that stays open brings all messages, and names the address
//! that ours are sent to. That address must be of the same origin.

use std::{str::FromStr as _, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use rmcp::{
    RoleClient,
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::Transport,
};
use rmcp_events::{Error as EventError, Sse};
use tokio::time::timeout;
use url::Url;

use super::{
    News, events,
    http::{Failure, Http},
    message,
};

/// The most bytes that are read of the answer to a message of ours.
const RECEIPT: usize = 64 << 10;

/// A connection of the old kind.
pub(super) struct Old {
    http: Http,
    /// None once it has ended.
    events: Option<BoxStream<'static, Result<Sse, EventError>>>,
    endpoint: Uri,
    news: Arc<News>,
}

impl Old {
    /// Opens the stream and waits for the address of our messages.
    pub(super) async fn open(http: Http, url: &Url, news: Arc<News>) -> Result<Self, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        let at = Uri::from_str(url.as_str()).map_err(|_| http.failure(None, "has an odd URL"))?;
        let answer = http.send(Method::GET, &at, headers, Bytes::new()).await?;
        let status = answer.status();
        if !status.is_success() {
            let reason = format!("answers with HTTP {}", status.as_u16());
            return Err(http.failure(Some(status), &reason));
        }
        let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return Err(http.failure(None, "does not speak MCP"));
        }
        let limit = http.settings().message_bytes;
        let mut events = events::stream(answer.into_body(), limit, None, None);
        let named = loop {
            match events.next().await {
                Some(Ok(event)) if event.event.as_deref() == Some("endpoint") => {
                    break event.data.unwrap_or_default();
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => {
                    return Err(
                        http.failure(None, "has ended the stream of its old transport at once")
                    );
                }
            }
        };
        let endpoint = url
            .join(named.trim())
            .ok()
            .filter(|endpoint| endpoint.origin() == url.origin() && endpoint.origin().is_tuple());
        let endpoint = endpoint
            .and_then(|endpoint| Uri::from_str(endpoint.as_str()).ok())
            .ok_or_else(|| http.failure(None, "wants messages at an address of another origin"))?;
        Ok(Self { http, events: Some(events), endpoint, news })
    }
}

impl Transport<RoleClient> for Old {
    type Error = Failure;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Failure>> + Send + 'static {
        let (http, endpoint) = (self.http.clone(), self.endpoint.clone());
        async move {
            let body = serde_json::to_vec(&message)
                .map_err(|_| http.failure(None, "can't be sent this message"))?;
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let exchange = async {
                let answer = http.send(Method::POST, &endpoint, headers, body.into()).await?;
                let status = answer.status();
                // Read so that the connection can be used again. Nothing in it matters.
                let _ = events::whole(answer.into_body(), RECEIPT).await;
                if status.is_success() {
                    return Ok(());
                }
                let reason = format!("answers with HTTP {}", status.as_u16());
                Err(http.failure(Some(status), &reason))
            };
            let late = || Err(http.failure(None, "has not taken a message in time"));
            timeout(http.settings().call, exchange).await.unwrap_or_else(|_| late())
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            match self.events.as_mut()?.next().await {
                Some(Ok(Sse { event, data: Some(data), .. }))
                    if matches!(event.as_deref(), None | Some("" | "message")) =>
                {
                    if let Some(message) = message::read(data.as_bytes()) {
                        return Some(message);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    self.news.complain(events::reason(error));
                    return None;
                }
                None => return None,
            }
        }
    }

    async fn close(&mut self) -> Result<(), Failure> {
        self.events = None;
        Ok(())
    }
}
