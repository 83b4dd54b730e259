//! Errors as clients see them. Statuses and types: the SDK's own error table.

use serde_json::{Map, Value, json};

/// What kind of refusal, which decides status, public type and whether a retry helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// 400: the request is wrong as it stands.
    Invalid,
    /// 401: no key, or one that is not known.
    Authentication,
    /// 403: the key may not do that.
    Permission,
    /// 404: no such thing, or one that is not the caller's.
    NotFound,
    /// 405: the path exists, the method does not.
    Method,
    /// 409: the thing has changed in the meantime; the same request never succeeds.
    Conflict,
    /// 413: the body is too large.
    TooLarge,
    /// 429: too many requests.
    RateLimited,
    /// 500: a fault of the server. The cause stands in the server's own log.
    Internal,
    /// 503: the server is stopping or can't reach its database.
    Unavailable,
}

impl ErrorKind {
    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Authentication => 401,
            Self::Permission => 403,
            Self::NotFound => 404,
            Self::Method => 405,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }

    /// The `error.type` on the wire.
    #[must_use]
    pub fn public_type(self) -> &'static str {
        match self {
            Self::Invalid | Self::Method => "invalid_request_error",
            Self::Authentication => "authentication_error",
            Self::Permission => "permission_error",
            Self::NotFound => "not_found_error",
            Self::Conflict => "conflict_error",
            Self::TooLarge => "request_too_large",
            Self::RateLimited => "rate_limit_error",
            Self::Internal | Self::Unavailable => "api_error",
        }
    }

    /// The value of `x-should-retry`: SDKs retry every 409 and 5xx by themselves, so that
    /// only what can change by waiting says yes.
    #[must_use]
    pub fn should_retry(self) -> bool {
        matches!(self, Self::RateLimited | Self::Internal | Self::Unavailable)
    }
}

/// A refusal, ready for the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind.
    pub kind: ErrorKind,
    /// For the caller: `<path>: <what is wrong>; <what would be right>`.
    pub message: String,
    /// A stable machine code, where the API has one.
    pub code: Option<&'static str>,
}

/// A message quotes what was sent, and that may be very long. Where it is and what would be right
/// stand at its ends.
fn shortened(message: String) -> String {
    const HEAD: usize = 1_000;
    const TAIL: usize = 500;
    if message.len() <= HEAD + TAIL {
        return message;
    }
    let count = message.chars().count();
    let head: String = message.chars().take(HEAD).collect();
    let tail: String = message.chars().skip(HEAD.max(count.saturating_sub(TAIL))).collect();
    format!("{head} … {tail}")
}

impl ApiError {
    /// An error of that kind. A message that is too long loses its middle.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: shortened(message.into()), code: None }
    }

    /// A 400.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A 404.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// A 409.
    #[must_use]
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// The same error with a machine code.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The body on the wire.
    #[must_use]
    pub fn body(&self, request_id: &str) -> Value {
        let mut error = Map::new();
        error.insert("type".into(), self.kind.public_type().into());
        error.insert("message".into(), self.message.clone().into());
        if let Some(code) = self.code {
            error.insert("details".into(), json!({ "error_code": code }));
        }
        json!({ "type": "error", "error": error, "request_id": request_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_keeps_its_ends() {
        let short = ApiError::invalid("name: is missing; send a text");
        assert_eq!(short.message, "name: is missing; send a text");
        let quoted = format!("name: {:?} is wrong; send a text", "é".repeat(100_000));
        let message = ApiError::invalid(quoted).message;
        assert!(message.starts_with("name: \"ééé") && message.ends_with("is wrong; send a text"));
        assert_eq!(message.chars().count(), 1_503);
    }
}
