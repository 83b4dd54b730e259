//! Turns the result of a call into content blocks of the API.

use serde_json::{Value, json};

use super::Called;

/// The most bytes of base64 in one result.
const BASE64: usize = 20 << 20;
/// Images that the API knows.
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];
const PDF: &str = "application/pdf";

/// Reads the result of `tools/call`. None when it is none.
pub(super) fn read(result: &Value) -> Option<Called> {
    let result = result.as_object()?;
    let structured = result.get("structuredContent");
    let blocks = match result.get("content") {
        Some(Value::Array(blocks)) => blocks.as_slice(),
        None | Some(Value::Null) => &[],
        Some(_) => return None,
    };
    let is_error = result.get("isError");
    if result.get("content").is_none() && structured.is_none() && is_error.is_none() {
        return None;
    }
    let mut room = BASE64;
    let mut content: Vec<Value> =
        blocks.iter().filter_map(|block| convert(block, &mut room)).collect();
    if let (true, Some(structured)) = (blocks.is_empty(), structured) {
        content.push(text(structured.to_string()));
    }
    Some(Called { content, is_error: is_error == Some(&Value::Bool(true)) })
}

fn text(text: String) -> Value {
    json!({ "type": "text", "text": text })
}

/// One block; none for a text of blanks alone, which the API does not take.
fn convert(block: &Value, room: &mut usize) -> Option<Value> {
    let field = |name: &str| block.get(name).and_then(Value::as_str);
    let converted = match (field("type"), field("text"), field("data")) {
        (Some("text"), Some(words), _) if words.trim().is_empty() => return None,
        (Some("text"), Some(words), _) => text(words.to_owned()),
        (Some("image"), _, Some(data)) => {
            binary("an image", data, field("mimeType").unwrap_or_default(), room)
        }
        (Some("audio"), _, Some(data)) => {
            let kind = field("mimeType").unwrap_or("unknown");
            text(format!("[audio of type {kind}, {} bytes; it can't be shown]", decoded(data)))
        }
        (Some("resource"), ..) => resource(block.get("resource"), room)?,
        (Some("resource_link"), ..) => text(link(block)),
        _ => text(block.to_string()),
    };
    Some(converted)
}

/// Base64 of some kind, as a block where the API has one for it and as words where not.
fn binary(what: &str, data: &str, kind: &str, room: &mut usize) -> Value {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let block = match kind.as_str() {
        PDF => "document",
        kind if IMAGES.contains(&kind) => "image",
        _ => return text(unshown(what, &kind, data, "its type can't be shown")),
    };
    let data: String = data.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
    if !is_base64(&data) {
        return text(unshown(what, &kind, &data, "its data is no base64"));
    }
    let Some(left) = room.checked_sub(data.len()) else {
        return text(unshown(what, &kind, &data, "the result has too much of such data"));
    };
    *room = left;
    let source = json!({ "type": "base64", "media_type": kind, "data": data });
    json!({ "type": block, "source": source })
}

fn unshown(what: &str, kind: &str, data: &str, why: &str) -> String {
    let kind = if kind.is_empty() { "unknown" } else { kind };
    format!("[{what} of type {kind}, {} bytes; {why}]", decoded(data))
}

fn resource(resource: Option<&Value>, room: &mut usize) -> Option<Value> {
    let resource = resource?;
    let field = |name: &str| resource.get(name).and_then(Value::as_str);
    let uri = field("uri").unwrap_or_default();
    Some(match (field("text"), field("blob")) {
        (Some(words), _) => text(format!("{uri}\n\n{words}")),
        (None, Some(blob)) => {
            let what = format!("the resource {uri}");
            binary(&what, blob, field("mimeType").unwrap_or_default(), room)
        }
        (None, None) => text(resource.to_string()),
    })
}

/// Address, title and description of a resource that the server only names.
fn link(block: &Value) -> String {
    let field =
        |name: &str| block.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let title = field("title").or_else(|| field("name"));
    let parts = [title, field("uri"), field("description"), field("mimeType")];
    parts.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

/// How many bytes base64 stands for.
fn decoded(data: &str) -> usize {
    data.trim_end_matches('=').len() / 4 * 3 + data.trim_end_matches('=').len() % 4 * 3 / 4
}

fn is_base64(data: &str) -> bool {
    let letters = data.trim_end_matches('=');
    !letters.is_empty()
        && data.len().is_multiple_of(4)
        && data.len() - letters.len() <= 2
        && letters.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}
