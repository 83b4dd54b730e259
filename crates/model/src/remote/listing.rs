//! What a provider lists, page by page, and no more of it than is sensible.

use std::time::Duration;

use bytes::Bytes;
use reqwest::{
    StatusCode,
    header::{ACCEPT, HeaderValue},
};
use tokio::time::timeout;

use super::{LONGEST_ERROR, Remote, not_sent, read, redact_text, transient};
use crate::{Failure, ListedModel, Usage, wire::Target};

/// How much of a list of models is read, in all.
const LONGEST_LIST: usize = 16 * 1024 * 1024;

/// How many pages of a list of models are read: more than any provider has.
const MOST_PAGES: usize = 50;

/// How many models are kept of a list: the longest that is known has some hundreds.
const MOST_MODELS: usize = 10_000;

/// How long a list of models may take.
const LISTING: Duration = Duration::from_secs(10);

impl Remote {
    /// Asks for all models, as far as they come in time.
    pub(super) async fn list_models(&self) -> Result<Vec<ListedModel>, Failure> {
        timeout(LISTING, self.list_all()).await.unwrap_or_else(|_| {
            Err(transient("the provider did not list its models in time".to_owned()))
        })
    }

    async fn list_all(&self) -> Result<Vec<ListedModel>, Failure> {
        let wire = self.wire;
        let mut target = wire.listing();
        let mut models = Vec::new();
        let mut left = LONGEST_LIST;
        // A provider may always name a next page.
        for _ in 0..MOST_PAGES {
            let (url, mut headers) = self.place(target);
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
            let answer = self.client.get(url).headers(headers).send().await;
            let answer = answer.map_err(|error| not_sent(&error))?;
            let status = answer.status();
            let longest = if status == StatusCode::OK { left } else { LONGEST_ERROR };
            let body = read(answer, longest).await;
            if status != StatusCode::OK {
                let (kind, mut message) = wire.refusal(status, &body);
                redact_text(&mut message, self.credential.as_deref());
                return Err(Failure { kind, message, retry_after: None, usage: Usage::default() });
            }
            left = left.saturating_sub(body.len());
            let page = wire.listed(&Bytes::from(body)).ok_or_else(|| {
                transient("the provider's list of models can't be read".to_owned())
            })?;
            let named = page.models.into_iter().filter(|model| !model.id.is_empty());
            models.extend(named.take(MOST_MODELS - models.len()));
            match page.next {
                Some(next) if left > 0 && models.len() < MOST_MODELS => {
                    target = Target { path: next.into(), headers: wire.listing().headers };
                }
                _ => break,
            }
        }
        Ok(models)
    }
}
