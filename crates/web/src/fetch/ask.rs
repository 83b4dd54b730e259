//! One GET: what is sent, what its answer says of itself, and so much of its body as is wanted.
//!
//! It follows nothing and holds nothing. Time is bounded by whoever waits.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use posthouse_net::{
    ConnectError, Guard, Refused,
    http::{SendError, Streamed, open_page},
};
use url::Url;

use super::{FetchError, html::one_line};

/// Where pages are, if the operator has not opened the host.
const PORTS: [u16; 4] = [80, 443, 8080, 8443];

/// What is read best comes first.
const ACCEPT: &str = "text/html, application/xhtml+xml, text/markdown;q=0.9, text/plain;q=0.9, \
                      application/pdf;q=0.8, application/json;q=0.8, */*;q=0.5";

/// An answer whose body still comes.
pub(super) struct Answer {
    response: Response<Streamed>,
}

/// Asks for a page.
///
/// # Errors
/// `url_not_allowed` for what the guard refuses, `url_not_accessible` for what does not answer.
pub(super) async fn ask(guard: &Guard, url: &Url, user_agent: &str) -> Result<Answer, FetchError> {
    let without_fragment = &url[..url::Position::AfterQuery];
    let request = Request::get(without_fragment)
        .header(header::ACCEPT, ACCEPT)
        // A small body could else become a large one.
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::ACCEPT_LANGUAGE, "en, *;q=0.5")
        .header(header::USER_AGENT, user_agent)
        .body(Bytes::new());
    let request = request.map_err(|_| {
        FetchError::new(
            "invalid_tool_input",
            "the URL has letters that can't be sent; encode them.",
        )
    })?;
    match open_page(guard, request, &PORTS).await {
        Ok(response) => Ok(Answer { response }),
        Err(error) => Err(refusal(&error)),
    }
}

fn refusal(error: &SendError) -> FetchError {
    match error {
        SendError::Url(_) => FetchError::new("url_not_allowed", format!("{error}. Do not retry.")),
        SendError::Connect(ConnectError::Refused(refused)) => match refused {
            Refused::NotFound { .. } => FetchError::inaccessible(format!(
                "{error}. Check the host name, or use another source."
            )),
            Refused::Unresolved { .. } => FetchError::inaccessible(format!("{error}.")),
            Refused::Malformed(_) => FetchError::new("invalid_tool_input", format!("{error}.")),
            Refused::NotPublic { .. } | Refused::Own { .. } => {
                FetchError::new("url_not_allowed", format!("{error}. Do not retry."))
            }
        },
        _ => FetchError::inaccessible(format!("{error}. Try once more, or use another source.")),
    }
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// `Content-Type`.
    pub(super) fn content_type(&self) -> Option<String> {
        let value = self.headers().get(header::CONTENT_TYPE)?;
        value.to_str().ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// How many bytes its body has, if it says so.
    pub(super) fn length(&self) -> Option<u64> {
        self.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// Where it sends us, if it does.
    ///
    /// # Errors
    /// `url_not_accessible` for a redirect that leads nowhere.
    pub(super) fn redirect(&self, from: &Url) -> Result<Option<Url>, FetchError> {
        if !matches!(self.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let location = self.headers().get(header::LOCATION).map(|value| value.as_bytes());
        let location = location.and_then(|bytes| str::from_utf8(bytes).ok());
        match location.and_then(|location| from.join(location).ok()) {
            Some(next) => Ok(Some(next)),
            None => Err(FetchError::inaccessible(format!(
                "it answers with status {} and does not say where the page is. Use another source.",
                self.status().as_u16()
            ))),
        }
    }

    /// Whether it is the page.
    ///
    /// # Errors
    /// `too_many_requests` for 429, else `url_not_accessible` with the status.
    pub(super) fn check_status(&self) -> Result<(), FetchError> {
        let status = self.status();
        if status.is_success() {
            return Ok(());
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            let seconds = self.headers().get(header::RETRY_AFTER);
            let seconds = seconds.and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
            let when =
                seconds.map_or_else(|| "later".to_owned(), |wait| format!("after {wait} seconds"));
            return Err(FetchError::new(
                "too_many_requests",
                format!(
                    "the site asks for fewer requests. Try again {when}, or use another source."
                ),
            ));
        }
        let advice = match status.as_u16() {
            401 | 403 | 407 => {
                "It wants a sign-in, or no programs. Do not retry; use another source."
            }
            404 | 410 => "There is no such page. Check the URL, or use another source.",
            500..=599 => "Try once more, or use another source.",
            _ => "Use another source.",
        };
        let status = status.as_u16();
        Err(FetchError::inaccessible(format!("the site answers with status {status}. {advice}")))
    }

    /// The first `most` bytes of its body.
    ///
    /// # Errors
    /// `url_not_accessible` when it is cut off, `unsupported_content_type` when it is compressed.
    pub(super) async fn body(self, most: usize) -> Result<Coming, FetchError> {
        if let Some(encoding) = self.headers().get(header::CONTENT_ENCODING)
            && !encoding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity")
            && !encoding.is_empty()
        {
            let encoding = one_line(&String::from_utf8_lossy(encoding.as_bytes()));
            return Err(FetchError::new(
                "unsupported_content_type",
                format!(
                    "the site sends the page compressed ({encoding}) although it was asked not to. Do \
                     not retry; use another source."
                ),
            ));
        }
        let mut coming = Coming {
            bytes: BytesMut::new(),
            whole: false,
            ahead: Bytes::new(),
            body: self.response.into_body(),
        };
        coming.more(most).await?;
        Ok(coming)
    }
}

/// So much of a body as was wanted so far.
pub(super) struct Coming {
    bytes: BytesMut,
    whole: bool,
    /// What came and was not wanted yet.
    ahead: Bytes,
    body: Streamed,
}

impl Coming {
    /// Whether that is all of it.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// What has come, and whether it is all. Ends the connection.
    pub(super) fn end(self) -> (Bytes, bool) {
        (self.bytes.freeze(), self.whole)
    }

    /// Reads on, up to `most` bytes in all.
    ///
    /// # Errors
    /// `url_not_accessible` when it is cut off.
    pub(super) async fn more(&mut self, most: usize) -> Result<(), FetchError> {
        // Growing by itself, it would be up to twice as large.
        self.bytes.reserve(most.saturating_sub(self.bytes.len()));
        loop {
            let room = most.saturating_sub(self.bytes.len());
            self.bytes.extend_from_slice(&self.ahead.split_to(room.min(self.ahead.len())));
            if !self.ahead.is_empty() {
                return Ok(());
            }
            let Some(frame) = self.body.frame().await else {
                self.whole = true;
                return Ok(());
            };
            let frame = frame.map_err(|_| {
                FetchError::inaccessible(
                    "the site has stopped in the middle of the page. Try once more, or use another \
                     source.",
                )
            })?;
            self.ahead = frame.into_data().unwrap_or_default();
        }
    }
}
