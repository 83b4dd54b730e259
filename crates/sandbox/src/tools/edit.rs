//! The tool `edit`: replaces a text in a file, to the byte and nothing around it.

use std::io::Read as _;

use serde_json::Value;

use super::{
    Answer, INTERRUPTED, Outcome, Stop,
    input::Input,
    place::{Place, why_io},
    turn::Turn,
};

/// Bytes of a file that can be edited, before and after.
const LONGEST: usize = 32 << 20;

pub(crate) fn run(place: &Place, changes: &Turn, input: &Value, stop: &Stop) -> Answer {
    let known = ["file_path", "old_string", "new_string", "replace_all"];
    let input = Input::new("edit", input, &known)?;
    let name = input.path("file_path")?;
    let old = input.text("old_string")?;
    let new = input.text("new_string")?;
    let all = input.flag("replace_all")?;
    if old.is_empty() {
        return Err(
            "old_string: empty; the text to replace is needed (write makes files)".to_owned()
        );
    }
    if old == new {
        return Err("new_string: the same as old_string; there is nothing to replace".to_owned());
    }
    let Some(_turn) = changes.take(stop) else { return Err(INTERRUPTED.to_owned()) };
    let text = whole(place, name)?;
    let count = text.matches(old).count();
    let places = if count == 1 && repeats(&text, old) { 2 } else { count };
    let changed = match places {
        0 => return Err(not_found(name, &text, old)),
        1 => text.replacen(old, new, 1),
        _ if all => {
            let longer = new.len().saturating_sub(old.len()).saturating_mul(count);
            if text.len().saturating_add(longer) > LONGEST {
                return Err(format!("{name}: would have more than {} MiB then", LONGEST >> 20));
            }
            text.replace(old, new)
        }
        _ => {
            return Err(format!(
                "old_string: appears {places} times in {name} (must be unique); add lines around \
                 it, or set replace_all"
            ));
        }
    };
    place.replace(name, changed.as_bytes())?;
    Ok(Outcome::text(format!("edited {name} ({count} replacement(s))")))
}

fn whole(place: &Place, name: &str) -> Result<String, String> {
    let (file, _) = place.open_file(name)?;
    let mut bytes = Vec::new();
    file.take(LONGEST as u64 + 1).read_to_end(&mut bytes).map_err(|error| why_io(name, &error))?;
    if bytes.len() > LONGEST {
        return Err(format!("{name}: has more than {} MiB; edit it with bash", LONGEST >> 20));
    }
    String::from_utf8(bytes).map_err(|_| format!("{name}: is no UTF-8 text; edit it with bash"))
}

/// Whether the only match has another that overlaps it: then it is not clear which is meant.
fn repeats(text: &str, old: &str) -> bool {
    let Some(at) = text.find(old) else { return false };
    let next = at + old.chars().next().map_or(1, char::len_utf8);
    text[next..].contains(old)
}

fn not_found(name: &str, text: &str, old: &str) -> String {
    let windows =
        old.contains('\n') && !old.contains('\r') && text.contains(&old.replace('\n', "\r\n"));
    let hint = if windows { "; its lines end with \\r\\n, and old_string's with \\n" } else { "" };
    format!("old_string: not found in {name}{hint}")
}
