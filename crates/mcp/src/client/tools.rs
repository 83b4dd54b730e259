//! Takes a server's list of tools apart, and leaves out what no model could be offered.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json, value::to_raw_value};

use super::{Tool, Tools, message};

/// The longest name, in characters.
const NAME: usize = 128;
/// The longest description, in bytes; what is longer is cut.
const DESCRIPTION: usize = 8 << 10;
/// The longest schema, in bytes.
const SCHEMA: usize = 64 << 10;
/// The most bytes of all tools together: lists are kept in memory and in logs.
const ALL: usize = 16 << 20;
/// Sentences about what was left out.
const SENTENCES: usize = 20;

/// A list that grows page by page.
pub(super) struct List {
    tools: Tools,
    names: HashSet<String>,
    limit: usize,
    /// Bytes that are left for more.
    room: usize,
    /// Tools that were left out because there are too many, or too many sentences already.
    unnamed: usize,
}

impl List {
    pub(super) fn new(limit: usize) -> Self {
        let tools = Tools { tools: Vec::new(), valid_for: None, left_out: Vec::new() };
        Self { tools, names: HashSet::new(), limit, room: ALL, unnamed: 0 }
    }

    /// Whether there is room for another page.
    pub(super) fn has_room(&self) -> bool {
        self.tools.tools.len() < self.limit && self.room > 0
    }

    pub(super) fn len(&self) -> usize {
        self.tools.tools.len()
    }

    /// Takes a page: the result of `tools/list`. False when it is none.
    pub(super) fn take(&mut self, page: &Value) -> bool {
        let Some(tools) = page.get("tools").and_then(Value::as_array) else { return false };
        for tool in tools {
            match read(tool) {
                Ok(tool) if self.tools.tools.len() >= self.limit => {
                    self.leave_out(format!(
                        "{}: there are more than {} tools",
                        tool.name, self.limit
                    ));
                }
                Ok(tool) if bytes(&tool) > self.room => {
                    // What is smaller and comes later is not taken in its place.
                    self.room = 0;
                    self.leave_out(format!("{}: all tools take more than {ALL} bytes", tool.name));
                }
                Ok(tool) if self.names.insert(tool.name.clone()) => {
                    self.room -= bytes(&tool);
                    self.tools.tools.push(tool);
                }
                Ok(tool) => {
                    self.leave_out(format!("{}: another tool has this name already", tool.name));
                }
                Err(reason) => self.leave_out(reason),
            }
        }
        if let Some(milliseconds) = page.get("ttlMs").and_then(Value::as_u64) {
            let page = Duration::from_millis(milliseconds);
            self.tools.valid_for = Some(self.tools.valid_for.map_or(page, |all| all.min(page)));
        }
        true
    }

    /// Says that pages were not asked for.
    pub(super) fn cut_off(&mut self, reason: String) {
        self.leave_out(reason);
    }

    pub(super) fn end(mut self) -> Tools {
        if self.unnamed > 0 {
            self.tools.left_out.push(format!("{} more were left out", self.unnamed));
        }
        self.tools
    }

    fn leave_out(&mut self, sentence: String) {
        if self.tools.left_out.len() < SENTENCES {
            self.tools.left_out.push(sentence);
        } else {
            self.unnamed += 1;
        }
    }
}

fn bytes(tool: &Tool) -> usize {
    tool.name.len() + tool.description.len() + tool.input_schema.get().len()
}

fn read(tool: &Value) -> Result<Tool, String> {
    let name = match tool.get("name") {
        Some(Value::String(name)) => name,
        _ => return Err("a tool without a name".to_owned()),
    };
    let shown = message::sentence(message::cut(name, NAME));
    if name.is_empty() || name.chars().count() > NAME || name.chars().any(char::is_control) {
        return Err(format!(
            "{shown:?}: its name is empty, longer than {NAME} characters, or has control characters"
        ));
    }
    let mut schema = match tool.get("inputSchema") {
        Some(Value::Object(schema)) => schema.clone(),
        _ => return Err(format!("{shown}: its inputSchema is no object")),
    };
    match schema.get("type") {
        Some(Value::String(kind)) if kind == "object" => {}
        None => {
            schema.insert("type".to_owned(), json!("object"));
        }
        Some(_) => return Err(format!("{shown}: its inputSchema is of another type than object")),
    }
    let input_schema = to_raw_value(&schema).map_err(|error| format!("{shown}: {error}"))?;
    if input_schema.get().len() > SCHEMA {
        return Err(format!("{shown}: its inputSchema is longer than {SCHEMA} bytes"));
    }
    let description = tool.get("description").and_then(Value::as_str).unwrap_or_default();
    let idempotent = tool.pointer("/annotations/idempotentHint") == Some(&Value::Bool(true))
        || tool.pointer("/annotations/readOnlyHint") == Some(&Value::Bool(true));
    Ok(Tool {
        name: name.clone(),
        description: message::cut(description, DESCRIPTION).to_owned(),
        input_schema: input_schema.into(),
        idempotent,
    })
}
