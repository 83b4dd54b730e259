//! A client of the public API for the command line and the demo: the same road that everybody
//! else takes.

use std::{path::Path, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use reqwest::{Method, RequestBuilder, Response, header};
use serde_json::Value;
use sse_stream::SseByteStream;

use crate::{Error, local::LocalServer};

/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(5);

/// One server and the key that opens it.
pub struct Client {
    http: reqwest::Client,
    url: String,
    key: String,
}

/// One frame of a stream.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Where to go on after a cut, when the frame says so.
    pub id: Option<String>,
    /// The event.
    pub event: Value,
}

type Bodies = Pin<Box<dyn Stream<Item = Result<Bytes, reqwest::Error>> + Send>>;

/// An open stream of events.
pub struct Events {
    frames: SseByteStream<Bodies>,
    url: String,
}

impl Client {
    /// A client of the server at `url`.
    ///
    /// # Errors
    /// [`Error::Connection`] when no client can be made at all.
    pub fn new(url: impl Into<String>, key: impl Into<String>) -> Result<Self, Error> {
        let url = url.into().trim_end_matches('/').to_owned();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .no_proxy()
            .build()
            .map_err(|source| Error::Connection { url: url.clone(), source })?;
        Ok(Self { http, url, key: key.into() })
    }

    /// A client of the server that works on a data folder of this machine.
    ///
    /// # Errors
    /// [`Error::NoServer`].
    pub fn local(data: &Path) -> Result<Self, Error> {
        let none = || Error::NoServer { place: data.display().to_string() };
        let server = LocalServer::read(data).ok_or_else(none)?;
        Self::new(server.url, server.token)
    }

    /// The server's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `GET`.
    ///
    /// # Errors
    /// [`Error::NoServer`], [`Error::Connection`], [`Error::Refused`], [`Error::Strange`].
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        self.read(self.request(Method::GET, path)).await
    }

    /// The bytes behind a `GET`, whatever they are.
    ///
    /// # Errors
    /// [`Error::NoServer`], [`Error::Connection`], [`Error::Refused`].
    pub async fn download(&self, path: &str) -> Result<Bytes, Error> {
        let response = self.send(self.request(Method::GET, path)).await?;
        response.bytes().await.map_err(|error| self.failed(error))
    }

    /// `POST` of a JSON body.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let request = self
            .request(Method::POST, path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_string());
        self.read(request).await
    }

    /// All entries of a list, page by page.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn all(&self, path: &str) -> Result<Vec<Value>, Error> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut entries = Vec::new();
        let mut page = self.get(path).await?;
        loop {
            if let Some(Value::Array(data)) = page.get_mut("data").map(Value::take) {
                entries.extend(data);
            }
            let Some(next) = page.get("next_page").and_then(Value::as_str) else {
                return Ok(entries);
            };
            page = self.get(&format!("{path}{separator}page={next}")).await?;
        }
    }

    /// Opens a stream, after the frame `last` when it is given.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn stream(&self, path: &str, last: Option<&str>) -> Result<Events, Error> {
        let mut request =
            self.request(Method::GET, path).header(header::ACCEPT, "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = self.send(request).await?;
        let bodies: Bodies = Box::pin(response.bytes_stream());
        Ok(Events { frames: SseByteStream::new(bodies), url: self.url.clone() })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key)
    }

    async fn read(&self, request: RequestBuilder) -> Result<Value, Error> {
        let bytes = self.send(request).await?.bytes().await.map_err(|e| self.failed(e))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Strange { url: self.url.clone(), what: error.to_string() })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|error| self.failed(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body: Value = match response.bytes().await {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) => return Err(self.failed(error)),
        };
        let text = |value: &Value| value.as_str().unwrap_or("without a reason").to_owned();
        Err(Error::Refused {
            status: status.as_u16(),
            message: text(&body["error"]["message"]),
            request_id: text(&body["request_id"]),
        })
    }

    fn failed(&self, error: reqwest::Error) -> Error {
        if error.is_connect() {
            return Error::NoServer { place: self.url.clone() };
        }
        Error::Connection { url: self.url.clone(), source: error.without_url() }
    }
}

impl Events {
    /// The next event; `None` when the stream has ended or was cut.
    ///
    /// # Errors
    /// [`Error::Strange`] when a frame is no event, [`Error::Refused`] when the server ends the
    /// stream with an error.
    pub async fn next(&mut self) -> Result<Option<Frame>, Error> {
        loop {
            let Some(Ok(frame)) = self.frames.next().await else { return Ok(None) };
            let Some(data) = frame.data else { continue };
            let event: Value = serde_json::from_str(&data).map_err(|error| Error::Strange {
                url: self.url.clone(),
                what: error.to_string(),
            })?;
            match event["type"].as_str() {
                Some("ping") => {}
                Some("error") => {
                    return Err(Error::Refused {
                        status: 200,
                        message: event["error"]["message"].as_str().unwrap_or_default().into(),
                        request_id: "stream".into(),
                    });
                }
                _ => return Ok(Some(Frame { id: frame.id, event })),
            }
        }
    }
}
