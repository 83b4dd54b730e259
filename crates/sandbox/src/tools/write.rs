//! The tool `write`: puts a text into a file. What was there is whole until the new text is.

use serde_json::Value;

use super::{Answer, INTERRUPTED, Outcome, Stop, input::Input, place::Place, turn::Turn};

pub(crate) fn run(place: &Place, changes: &Turn, input: &Value, stop: &Stop) -> Answer {
    let input = Input::new("write", input, &["file_path", "content"])?;
    let name = input.path("file_path")?;
    let content = input.text("content")?;
    let Some(_turn) = changes.take(stop) else { return Err(INTERRUPTED.to_owned()) };
    place.replace(name, content.as_bytes())?;
    Ok(Outcome::text(format!("wrote {} bytes to {name}", content.len())))
}
