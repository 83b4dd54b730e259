//! Content blocks as clients send them.
//!
//! A block is checked here and then kept as it was sent: its shape is also that of the
//! Anthropic Messages API, so that nothing has to be rewritten on the way to a model.

use serde_json::Value;

use crate::{ApiError, Fields, Given, fields};

/// Which blocks a place takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `user.message`: text, image, document.
    Message,
    /// The result of a tool: also search results.
    ToolResult,
    /// `system.message`: text alone.
    System,
}

/// The most blocks that a place takes.
const MOST_BLOCKS: usize = 1000;

/// Checks a list of blocks that must have at least one entry, unless it is a tool's result.
///
/// # Errors
/// 400 that names the block and the field.
pub fn check(value: Value, path: &str, place: Place) -> Result<Value, ApiError> {
    let Value::Array(blocks) = value else {
        let what = format!("is {}", fields::kind_of(&value));
        return Err(fields::wrong(path, &what, "send a list of content blocks"));
    };
    if blocks.is_empty() && place != Place::ToolResult {
        return Err(fields::wrong(path, "is empty", "send at least one content block"));
    }
    if blocks.len() > MOST_BLOCKS {
        let what = format!("has {} blocks", blocks.len());
        return Err(fields::wrong(path, &what, "send at most 1000"));
    }
    for (index, block) in blocks.iter().enumerate() {
        check_block(block, &format!("{path}.{index}"), place)?;
    }
    Ok(Value::Array(blocks))
}

fn check_block(block: &Value, path: &str, place: Place) -> Result<(), ApiError> {
    // Reading takes a block apart, and what is kept is the block itself: only its frame is
    // copied for the reading, never the data of an image.
    let mut fields = Fields::open(frame_of(block), path)?;
    let choices: &[&'static str] = match place {
        Place::Message => &["text", "image", "document", "redacted"],
        Place::ToolResult => &["text", "image", "document", "search_result"],
        Place::System => &["text"],
    };
    match fields.required_choice("type", choices)? {
        "text" => {
            fields.required_text("text", 1..=usize::MAX)?;
        }
        "image" => check_source(&mut fields, &["base64", "url", "file"])?,
        "document" => {
            check_source(&mut fields, &["base64", "text", "url", "file"])?;
            fields.text("title", 0..=500)?;
            fields.text("context", 0..=100_000)?;
        }
        "search_result" => {
            fields.required_text("source", 1..=2048)?;
            fields.required_text("title", 0..=500)?;
            if let Given::Value(content) = fields.any("content") {
                check(content, &fields.path_of("content"), Place::System)?;
            }
            if let Given::Value(mut citations) = fields.object("citations")? {
                citations.flag("enabled")?;
                citations.finish()?;
            }
        }
        _ => {
            return Err(fields::wrong(
                path,
                "is a redacted block, which only the server makes",
                "send the content itself or leave the block out",
            ));
        }
    }
    fields.finish()
}

fn check_source(fields: &mut Fields, kinds: &[&'static str]) -> Result<(), ApiError> {
    let path = fields.path_of("source");
    let source = fields.required("source", "send an object with a type")?;
    let mut source = Fields::open(source, path)?;
    match source.required_choice("type", kinds)? {
        "base64" => {
            source.required_text("media_type", 1..=255)?;
            source.required_text("data", 1..=usize::MAX)?;
        }
        "text" => {
            source.choice("media_type", &["text/plain"])?;
            source.required_text("data", 1..=usize::MAX)?;
        }
        "url" => {
            let url = source.required_text("url", 1..=8192)?;
            if !(url.starts_with("https://") || url.starts_with("http://")) {
                return Err(source.wrong("url", "has no web scheme", "send an https:// URL"));
            }
        }
        _ => {
            return Err(source.wrong(
                "type",
                "is \"file\", which is not supported by this version",
                "send the data as base64",
            ));
        }
    }
    source.finish()
}

/// A copy of a block in which the data of its source, megabytes perhaps, is cut to its first
/// character.
fn frame_of(block: &Value) -> Value {
    let Some(members) = block.as_object() else { return block.clone() };
    let cut = |(name, member): (&String, &Value)| match member {
        Value::String(data) if name == "data" => {
            (name.clone(), data.chars().take(1).collect::<String>().into())
        }
        other => (name.clone(), other.clone()),
    };
    let frame = members.iter().map(|(name, member)| match member {
        Value::Object(source) if name == "source" => {
            (name.clone(), Value::Object(source.iter().map(cut).collect()))
        }
        other => (name.clone(), other.clone()),
    });
    Value::Object(frame.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(block: Value, place: Place) -> String {
        check(json!([block]), "content", place).unwrap_err().message
    }

    #[test]
    fn blocks_are_kept_as_sent() {
        let blocks = json!([
            {"type": "text", "text": "hi"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
            {"type": "document", "title": "t", "source":
                {"type": "text", "media_type": "text/plain", "data": "x"}},
        ]);
        assert_eq!(check(blocks.clone(), "content", Place::Message).unwrap(), blocks);
    }

    #[test]
    fn each_refusal_names_its_place() {
        assert!(
            error(json!({"type": "text", "text": ""}), Place::Message)
                .starts_with("content.0.text: is empty")
        );
        assert!(error(json!({"type": "redacted"}), Place::Message).contains("only the server"));
        assert!(
            error(json!({"type": "text", "text": "a", "x": 1}), Place::Message)
                .contains("unknown field \"content.0.x\"")
        );
        assert!(
            error(
                json!({"type": "image", "source": {"type": "file", "file_id": "f"}}),
                Place::Message
            )
            .starts_with("content.0.source.type: is \"file\"")
        );
        assert!(
            error(
                json!({"type": "image", "source": {"type": "base64", "media_type": "image/png",
            "data": ""}}),
                Place::Message
            )
            .starts_with("content.0.source.data: is empty")
        );
        assert!(
            error(json!({"type": "search_result"}), Place::Message)
                .contains("is not a valid value")
        );
        assert!(check(json!([]), "content", Place::Message).is_err());
        assert!(check(json!([]), "content", Place::ToolResult).is_ok());
    }
}
