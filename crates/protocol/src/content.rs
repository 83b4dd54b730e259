//! Content blocks as clients send them.
//!
//! A block is checked here and then kept as it was sent: its shape is also that of the
//! Anthropic Messages API, so that nothing has to be rewritten on the way to a model.

use serde_json::Value;

use crate::{
    ApiError, Fields, Given, fields,
    schema::{Field, Union, content as schema},
};

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

impl Place {
    /// The blocks that it takes.
    fn blocks(self) -> &'static Union {
        match self {
            Self::Message => &schema::MESSAGE_BLOCK,
            Self::ToolResult => &schema::RESULT_BLOCK,
            Self::System => &schema::SYSTEM_BLOCK,
        }
    }
}

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
    if blocks.len() > schema::MOST_BLOCKS {
        let what = format!("has {} blocks", blocks.len());
        let right = format!("send at most {}", schema::MOST_BLOCKS);
        return Err(fields::wrong(path, &what, &right));
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
    match fields.tag(place.blocks())? {
        "text" => {
            fields.required_text(&schema::TEXT_FIELD)?;
            fields.finish(&schema::TEXT)
        }
        "image" => {
            check_source(&mut fields, &schema::IMAGE_SOURCE_FIELD, &schema::IMAGE_SOURCE)?;
            fields.finish(&schema::IMAGE)
        }
        "document" => {
            check_source(&mut fields, &schema::DOCUMENT_SOURCE_FIELD, &schema::DOCUMENT_SOURCE)?;
            fields.text(&schema::TITLE)?;
            fields.text(&schema::CONTEXT)?;
            fields.finish(&schema::DOCUMENT)
        }
        _ => {
            fields.required_text(&schema::SOURCE)?;
            fields.required_text(&schema::RESULT_TITLE)?;
            if let Given::Value(content) = fields.any(&schema::FOUND)? {
                check(content, &fields.path_of(&schema::FOUND), Place::System)?;
            }
            if let Given::Value(mut citations) = fields.object(&schema::CITATIONS_FIELD)? {
                citations.flag(&schema::CITED)?;
                citations.finish(&schema::CITATIONS)?;
            }
            fields.finish(&schema::SEARCH_RESULT)
        }
    }
}

fn check_source(fields: &mut Fields, field: &Field, kinds: &Union) -> Result<(), ApiError> {
    let path = fields.path_of(field);
    let mut source = Fields::open(fields.required(field)?, path)?;
    match source.tag(kinds)? {
        "base64" => {
            source.required_text(&schema::MEDIA_TYPE)?;
            source.required_text(&schema::DATA)?;
            source.finish(&schema::BASE64)
        }
        "text" => {
            source.choice(&schema::PLAIN_TYPE)?;
            source.required_text(&schema::DATA)?;
            source.finish(&schema::PLAIN)
        }
        _ => {
            let url = source.required_text(&schema::URL_FIELD)?;
            if !(url.starts_with("https://") || url.starts_with("http://")) {
                let what = "has no web scheme";
                return Err(source.wrong(&schema::URL_FIELD, what, "send an https:// URL"));
            }
            source.finish(&schema::URL)
        }
    }
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
            .starts_with("content.0.source.type: file is not supported")
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
