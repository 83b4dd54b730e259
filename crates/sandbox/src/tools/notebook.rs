//! Jupyter notebooks as text: cells and what they have printed. It runs nothing.
//!
//! The format is nbformat 4. Pictures in outputs are named, not shown.

use serde_json::Value;

use super::output::Tail;

/// A notebook as text. `None` when it is none.
pub(crate) fn readable(bytes: &[u8]) -> Option<String> {
    let notebook: Value = serde_json::from_slice(bytes).ok()?;
    let cells = notebook.get("cells")?.as_array()?;
    let mut text = String::new();
    for (number, cell) in cells.iter().enumerate() {
        let kind = cell.get("cell_type").and_then(Value::as_str).unwrap_or("unknown");
        text.push_str(&format!("[cell {number}: {kind}]\n"));
        push_ended(&mut text, &joined(cell.get("source")));
        for output in cell.get("outputs").and_then(Value::as_array).into_iter().flatten() {
            text.push_str(&format!("[output of cell {number}]\n"));
            push_ended(&mut text, &printed(output));
        }
        text.push('\n');
    }
    if text.is_empty() {
        text.push_str("(the notebook has no cells)");
    }
    Some(text)
}

fn printed(output: &Value) -> String {
    match output.get("output_type").and_then(Value::as_str) {
        Some("stream") => plain(&joined(output.get("text"))),
        Some("error") => {
            let traceback = joined_by(output.get("traceback"), "\n");
            if traceback.is_empty() {
                let part = |name| output.get(name).and_then(Value::as_str).unwrap_or_default();
                format!("{}: {}", part("ename"), part("evalue"))
            } else {
                plain(&traceback)
            }
        }
        _ => {
            let Some(Value::Object(data)) = output.get("data") else { return String::new() };
            match data.get("text/plain").or_else(|| data.get("text/markdown")) {
                Some(shown) => {
                    let mut text = plain(&joined(Some(shown)));
                    for kind in data.keys().filter(|kind| kind.starts_with("image/")) {
                        push_ended(&mut text, "");
                        text.push_str(&format!("({kind}, not shown)"));
                    }
                    text
                }
                None => {
                    let kinds: Vec<&str> = data.keys().map(String::as_str).collect();
                    format!("({}, not shown)", kinds.join(", "))
                }
            }
        }
    }
}

/// Without the colours that tracebacks have. A long output is cut as that of a shell is.
fn plain(text: &str) -> String {
    let mut tail = Tail::default();
    tail.push(text.as_bytes());
    tail.take()
}

/// A text that a notebook may keep as a list of lines.
fn joined(value: Option<&Value>) -> String {
    joined_by(value, "")
}

fn joined_by(value: Option<&Value>, between: &str) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(lines)) => {
            lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(between)
        }
        _ => String::new(),
    }
}

fn push_ended(text: &mut String, part: &str) {
    text.push_str(part);
    if !text.ends_with('\n') && !text.is_empty() {
        text.push('\n');
    }
}
