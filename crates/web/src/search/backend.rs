//! What a back end is: how it is asked and how its answer is read. Sends nothing.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;

use super::{Hit, Location, Unusable, scope::Scope};

/// A back end. Its answers are data of a stranger: what does not fit is left out.
pub(super) trait Backend: Send + Sync {
    /// Its name, for logs.
    fn name(&self) -> &'static str;

    /// The longest query that it takes.
    fn longest(&self) -> Longest {
        Longest { characters: 1000, words: 150 }
    }

    /// How it is asked.
    ///
    /// # Errors
    /// When the parts make no request.
    fn request(&self, asked: &Asked<'_>) -> Result<Request<Bytes>, http::Error>;

    /// What an answer with the status 200 has found.
    ///
    /// # Errors
    /// [`Failure`], when the answer says that it is none.
    fn read(&self, answer: &Value) -> Result<Vec<Hit>, Failure>;

    /// What a status other than 200 means to this back end; None for what it means to all.
    fn refused(&self, _status: StatusCode) -> Option<Failure> {
        None
    }
}

/// The longest query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Longest {
    pub(super) characters: usize,
    pub(super) words: usize,
}

/// What a back end is asked.
pub(super) struct Asked<'a> {
    /// The query, in one line.
    pub(super) words: &'a str,
    /// Which hosts are of use. Only a hint: every hit is checked.
    pub(super) scope: &'a Scope,
    pub(super) location: Option<&'a Location>,
    /// How many hits are of use.
    pub(super) hits: usize,
}

impl Asked<'_> {
    /// The user's country, in upper case.
    pub(super) fn country(&self) -> Option<&str> {
        self.location?.country.as_deref()
    }
}

/// Why there are no hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// Asked too often.
    TooMany,
    /// The query is too long.
    TooLong,
    /// The query is none.
    Invalid,
    /// It does not work now: what the back end does, for a sentence.
    Unavailable(&'static str),
    /// It does not work until the operator changes something.
    Operator(&'static str),
}

/// What a status means to most back ends.
pub(super) fn of_status(status: StatusCode) -> Failure {
    match status.as_u16() {
        429 => Failure::TooMany,
        413 | 414 => Failure::TooLong,
        400 | 422 => Failure::Invalid,
        401 | 403 => Failure::Operator("does not let this server in"),
        402 => Failure::Operator("wants to be paid first"),
        404 | 405 | 410 => Failure::Operator("is not at the address that is configured"),
        300..=399 => Failure::Operator("is at another address than the one that is configured"),
        _ => Failure::Unavailable("has failed"),
    }
}

/// Where a back end is, and what goes with every request.
pub(super) struct Place {
    /// Without a slash at its end.
    base_url: String,
    headers: HeaderMap,
}

impl Place {
    /// # Errors
    /// [`Unusable::BaseUrl`].
    pub(super) fn new(base_url: &str, headers: HeaderMap) -> Result<Self, Unusable> {
        let url = Url::parse(base_url).map_err(|_| Unusable::BaseUrl)?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !plain {
            return Err(Unusable::BaseUrl);
        }
        Ok(Self { base_url: url.as_str().trim_end_matches('/').to_owned(), headers })
    }

    /// Adds a header with a secret, which is shown nowhere.
    ///
    /// # Errors
    /// [`Unusable::Key`].
    pub(super) fn unlock(
        &mut self,
        name: HeaderName,
        before: &str,
        key: Option<&SecretString>,
    ) -> Result<(), Unusable> {
        let Some(key) = key else { return Ok(()) };
        let value = format!("{before}{}", key.expose_secret());
        let mut value = HeaderValue::try_from(value).map_err(|_| Unusable::Key)?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(())
    }

    /// The same place without a path that its API adds by itself.
    pub(super) fn without(mut self, path: &str) -> Self {
        if let Some(shorter) = self.base_url.strip_suffix(path) {
            self.base_url.truncate(shorter.len());
        }
        self
    }

    /// A request for `path` with these pairs behind it.
    pub(super) fn get(
        &self,
        path: &str,
        pairs: &[(&str, &str)],
    ) -> Result<Request<Bytes>, http::Error> {
        let pairs =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        self.request(Method::GET, &format!("{path}?{pairs}"), Bytes::new())
    }

    /// A request with a body of JSON.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Request<Bytes>, http::Error> {
        let mut request = self.request(Method::POST, path, Bytes::from(body.to_string()))?;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        Ok(request)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Bytes>, http::Error> {
        let uri = format!("{}{path}", self.base_url);
        let mut request = Request::builder().method(method).uri(uri).body(body)?;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        // Nothing here unpacks.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        Ok(request)
    }
}

/// The list at `name`, empty when there is none.
pub(super) fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The text at `name`.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

/// A hit with these texts, if it has an address.
pub(super) fn hit(
    value: &Value,
    url: &str,
    texts: impl IntoIterator<Item = String>,
) -> Option<Hit> {
    Some(Hit {
        url: text(value, url)?.to_owned(),
        title: text(value, "title").unwrap_or_default().to_owned(),
        texts: texts.into_iter().collect(),
    })
}
