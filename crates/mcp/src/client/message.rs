//! Reads what a server sends as messages of JSON-RPC.
//!
//! `rmcp` knows a message by its shape, and one odd block of a result would cost the whole result its
//! shape. So blocks of unknown kinds become text here, and an answer that still is none becomes an
//! error to the request that waits for it.

use rmcp::model::{
    ClientJsonRpcMessage, ContentBlock, ErrorCode, ErrorData, JsonRpcMessage, ProtocolVersion,
    RequestId, ServerJsonRpcMessage, ServerResult,
};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::NEWEST;

/// Marks errors that are ours and not the server's.
const MARK: &str = "posthouse/connection";

/// Reads one message. None when it is nothing that could be answered or be an answer.
pub(super) fn read(text: &[u8]) -> Option<ServerJsonRpcMessage> {
    let mut message: Value = serde_json::from_slice(text).ok()?;
    // Revision 2025-03-26 knows batches. Of ours there is one request at a time in them.
    if let Value::Array(batch) = &mut message {
        message = if batch.len() == 1 { batch.remove(0) } else { return None };
    }
    tidy(&mut message);
    let id = message.get("id").and_then(|id| RequestId::deserialize(id).ok());
    let answers = message.get("method").is_none();
    match serde_json::from_value(message) {
        Ok(message) => Some(message),
        Err(_) if answers && id.is_some() => {
            Some(failed(id?, "the answer is no message of MCP".to_owned()))
        }
        Err(_) => None,
    }
}

/// Makes text of the blocks whose kind is unknown.
fn tidy(message: &mut Value) {
    let Some(Value::Array(blocks)) = message.pointer_mut("/result/content") else { return };
    for block in blocks {
        if ContentBlock::deserialize(&*block).is_err() {
            *block = json!({ "type": "text", "text": block.to_string() });
        }
    }
}

/// An answer that the server has not given: the connection could not bring it.
pub(super) fn failed(id: RequestId, reason: String) -> ServerJsonRpcMessage {
    let error = ErrorData::new(ErrorCode::INTERNAL_ERROR, reason, Some(json!({ MARK: true })));
    ServerJsonRpcMessage::error(error, Some(id))
}

/// Whether an error was made by [`failed`].
pub(super) fn is_failed(error: &ErrorData) -> bool {
    error.data.as_ref().is_some_and(|data| data.get(MARK).is_some())
}

/// Makes of an answer to `server/discover` that names older revisions alone the answer of a server that
/// has never heard of the question: `rmcp` then shakes hands, and gives up otherwise.
pub(super) fn without_newer(message: ServerJsonRpcMessage) -> ServerJsonRpcMessage {
    let (id, spoken) = match &message {
        JsonRpcMessage::Response(answer) => match &answer.result {
            ServerResult::DiscoverResult(result) => {
                (Some(answer.id.clone()), result.supported_versions.clone())
            }
            _ => return message,
        },
        JsonRpcMessage::Error(error)
            if error.error.code == ErrorCode::UNSUPPORTED_PROTOCOL_VERSION =>
        {
            let data = error.error.data.as_ref().and_then(|data| data.get("supported"));
            let spoken = data.map(Vec::<ProtocolVersion>::deserialize);
            (error.id.clone(), spoken.and_then(Result::ok).unwrap_or_default())
        }
        _ => return message,
    };
    let older =
        |one: &ProtocolVersion| *one < NEWEST && ProtocolVersion::KNOWN_VERSIONS.contains(one);
    if spoken.contains(&NEWEST) || !spoken.iter().any(older) {
        return message;
    }
    let error = ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "an older server", None);
    ServerJsonRpcMessage::error(error, id)
}

/// A message that comes in answer to a request; none where it answers another one.
pub(super) fn for_request(
    message: ServerJsonRpcMessage,
    asked: &RequestId,
) -> Option<ServerJsonRpcMessage> {
    match message {
        JsonRpcMessage::Response(answer) if answer.id.to_string() != asked.to_string() => None,
        JsonRpcMessage::Error(error) => match &error.id {
            Some(id) if id.to_string() != asked.to_string() => None,
            // One that names no request can only mean this one.
            _ => Some(ServerJsonRpcMessage::error(error.error, Some(asked.clone()))),
        },
        message => Some(message),
    }
}

/// The id of the request, if it is one.
pub(super) fn request_id(message: &ClientJsonRpcMessage) -> Option<&RequestId> {
    match message {
        ClientJsonRpcMessage::Request(request) => Some(&request.id),
        _ => None,
    }
}

/// A server's words, made fit for one sentence: no control characters, and not long.
pub(super) fn sentence(text: &str) -> String {
    const LONGEST: usize = 500;
    cut(plain(text).trim(), LONGEST).to_owned()
}

/// The beginning and the end of a program's words, made fit for one sentence: what it said last says
/// most.
pub(super) fn ends(text: &str) -> String {
    const FIRST: usize = 200;
    const LAST: usize = 500;
    let plain = plain(text);
    let plain = plain.trim();
    let mut last = plain.len().saturating_sub(LAST);
    while !plain.is_char_boundary(last) {
        last += 1;
    }
    match (last > FIRST, plain.get(last..)) {
        (true, Some(end)) => format!("{} … {end}", cut(plain, FIRST)),
        _ => plain.to_owned(),
    }
}

fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// The beginning of a text, of at most `bytes` bytes.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
