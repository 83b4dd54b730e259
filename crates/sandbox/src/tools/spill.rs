//! Results that are too long for a model: whole in a file, and a beginning and an end of them in
//! the answer.

use std::path::Path;

use serde_json::Value;

use super::{Outcome, place::Place};

/// Characters of a result that need no file.
pub(crate) const LONGEST: usize = 100_000;

/// Characters of its beginning and its end that stand in the answer otherwise.
const BEGINNING: usize = 50_000;
const END: usize = 20_000;

/// Moves a text that is too long into a file below `folder`, named after the call.
pub(crate) fn shorten(place: &Place, folder: &Path, call: &str, mut outcome: Outcome) -> Outcome {
    let Some(blocks) = outcome.content.as_array_mut() else { return outcome };
    for (number, block) in blocks.iter_mut().enumerate() {
        let Some(Value::String(text)) = block.get_mut("text") else { continue };
        // Bytes first: they are at least as many.
        if text.len() <= LONGEST {
            continue;
        }
        let characters = text.chars().count();
        if characters <= LONGEST {
            continue;
        }
        let path = folder.join(spilled(call, number));
        let kept = match place.replace(&path.to_string_lossy(), text.as_bytes()) {
            // Named as the shell knows it; `read` takes that, too.
            Ok(()) => format!("all of it is in {}", place.on_host(&path).display()),
            Err(error) => format!("the rest could not be kept: {error}"),
        };
        let begin = boundary(text, BEGINNING);
        let end = boundary(text, characters - END);
        *text = format!(
            "[This result has {characters} characters; {kept}. Here are the first {BEGINNING} and \
             the last {END}.]\n{}\n[… {} characters left out …]\n{}",
            &text[..begin],
            characters - BEGINNING - END,
            &text[end..]
        );
    }
    outcome
}

/// Where character number `count` begins.
fn boundary(text: &str, count: usize) -> usize {
    text.char_indices().nth(count).map_or(text.len(), |(at, _)| at)
}

/// A file name from a call's id, whatever that is.
pub(crate) fn spilled(call: &str, number: usize) -> String {
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-') { letter } else { '_' }
    };
    let mut name: String = call.chars().take(80).map(plain).collect();
    if name.is_empty() {
        name.push_str("result");
    }
    if number > 0 {
        name.push_str(&format!("-{number}"));
    }
    name + ".txt"
}
