//! Turns the result of a call into content blocks of the API.

use serde_json::{Value, json};

use super::Called;

/// The most bytes of base64 in one result.
const BASE64: usize = 20 << 20;
/// The most images and documents in one result: providers refuse a request that has too many.
const SHOWN: usize = 20;
/// The longest image, in bytes. As for images that are read in a sandbox, because providers refuse
/// longer ones, and with them the conversation that they stand in.
const LONGEST_IMAGE: usize = 5 << 20;
/// Images that the API knows.
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];
const PDF: &str = "application/pdf";

/// What is left for images and documents of a result.
struct Room {
    bytes: usize,
    blocks: usize,
}

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
    let mut room = Room { bytes: BASE64, blocks: SHOWN };
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
fn convert(block: &Value, room: &mut Room) -> Option<Value> {
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
fn binary(what: &str, data: &str, kind: &str, room: &mut Room) -> Value {
    let said = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if said != PDF && !IMAGES.contains(&said.as_str()) {
        return text(unshown(what, &said, data, "its type can't be shown"));
    }
    let data: String = data.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
    if !is_base64(&data) {
        return text(unshown(what, &said, &data, "its data is no base64"));
    }
    // Providers refuse what is not what it says, and with it each later request of the conversation.
    let Some(kind) = sniffed(&data) else {
        return text(unshown(what, &said, &data, "its data is something else"));
    };
    if kind != PDF && decoded(&data) > LONGEST_IMAGE {
        return text(unshown(what, kind, &data, "it is too long"));
    }
    let left = (room.bytes.checked_sub(data.len()), room.blocks.checked_sub(1));
    let (Some(bytes), Some(blocks)) = left else {
        return text(unshown(what, kind, &data, "the result has too much of such data"));
    };
    *room = Room { bytes, blocks };
    let block = if kind == PDF { "document" } else { "image" };
    let source = json!({ "type": "base64", "media_type": kind, "data": data });
    json!({ "type": block, "source": source })
}

/// What base64 is by its first bytes, as far as the API has a block for it.
fn sniffed(data: &str) -> Option<&'static str> {
    let begins = |text: &str| data.starts_with(text);
    if begins("iVBORw0KGg") {
        Some("image/png")
    } else if begins("/9j/") {
        Some("image/jpeg")
    } else if begins("R0lGODdh") || begins("R0lGODlh") {
        Some("image/gif")
    // `RIFF`, four bytes of any kind, `WEBP`.
    } else if begins("UklGR") && data.get(11..16) == Some("XRUJQ") {
        Some("image/webp")
    // `%PDF-`, whose last bits share their letter with what follows.
    } else if begins("JVBERi") && data.get(6..7).is_some_and(|letter| "0123".contains(letter)) {
        Some(PDF)
    } else {
        None
    }
}

fn unshown(what: &str, kind: &str, data: &str, why: &str) -> String {
    let kind = if kind.is_empty() { "unknown" } else { kind };
    format!("[{what} of type {kind}, {} bytes; {why}]", decoded(data))
}

fn resource(resource: Option<&Value>, room: &mut Room) -> Option<Value> {
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
