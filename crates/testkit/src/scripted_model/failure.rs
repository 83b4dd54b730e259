//! The classes of failure that a script names, and the HTTP statuses they belong to.
//!
//! The names are those of the Messages API, whichever wire a request came in on. Never writes an error body; each wire
//! has its own.

use serde_json::{Map, Value};

/// A failure that is to be told to a client.
pub(super) struct Failure<'a> {
    pub(super) status: u16,
    /// A class, or any other name, which is passed on as it is. Without it, the status says the class.
    pub(super) class: Option<&'a str>,
    /// Without it, the provider's usual text.
    pub(super) message: Option<&'a str>,
    pub(super) request_id: &'a str,
    /// Seconds, as in the header of this name.
    pub(super) retry_after: Option<&'a str>,
    /// Members laid over the error object.
    pub(super) details: Option<&'a Map<String, Value>>,
}

impl<'a> Failure<'a> {
    pub(super) fn of(status: u16, message: &'a str, request_id: &'a str) -> Self {
        let message = Some(message);
        Self { status, class: None, message, request_id, retry_after: None, details: None }
    }
}

/// The class and the Messages API's usual text for an HTTP status.
pub(super) fn class_of(status: u16) -> (&'static str, &'static str) {
    match status {
        401 => ("authentication_error", "invalid x-api-key"),
        402 => ("billing_error", "Your credit balance is too low to access the API."),
        403 => (
            "permission_error",
            "Your API key does not have permission to use the specified resource.",
        ),
        404 => ("not_found_error", "The requested resource could not be found."),
        408 | 504 => ("timeout_error", "Request timed out."),
        409 => ("conflict_error", "The request conflicts with the current state of the resource."),
        413 => ("request_too_large", "Request exceeds the maximum allowed number of bytes."),
        429 => ("rate_limit_error", "This request would exceed your rate limit."),
        529 => ("overloaded_error", "Overloaded"),
        400..=499 => ("invalid_request_error", "The request is not valid."),
        _ => ("api_error", "Internal server error"),
    }
}

/// The status that belongs to a class, for answers that are not streamed.
pub(super) fn status_of(class: &str) -> u16 {
    [400, 401, 402, 403, 404, 408, 409, 413, 429, 529]
        .into_iter()
        .find(|status| class_of(*status).0 == class)
        .unwrap_or(500)
}

/// Lays members over an object, inner objects member by member.
pub(super) fn lay_over(object: &mut Value, over: &Map<String, Value>) {
    for (name, value) in over {
        match (object.get_mut(name), value) {
            (Some(inner @ Value::Object(_)), Value::Object(over)) => lay_over(inner, over),
            _ => object[name.as_str()] = value.clone(),
        }
    }
}
