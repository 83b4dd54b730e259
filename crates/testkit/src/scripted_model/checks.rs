//! What more than one API refuses: names, ids, schemas, members, and calls without exactly one answer.
//!
//! Never knows where a wire keeps these; each looks for them itself.

use std::collections::HashSet;

use serde_json::Value;

/// What OpenAI takes for an id (`string_above_max_length`).
const LONGEST_ID: usize = 64;
const LONGEST_NAME: usize = 64;

pub(super) fn check_members(
    body: &Value,
    known: &[&str],
    allowed: &[String],
    found: &mut Vec<String>,
) {
    if known.is_empty() {
        return;
    }
    for name in body.as_object().into_iter().flat_map(|members| members.keys()) {
        if !known.contains(&name.as_str()) && !allowed.contains(name) {
            found.push(format!("{name} is not a member of the request"));
        }
    }
}

/// No provider takes a key in the address, where logs would keep it.
pub(super) fn check_address(path: &str, found: &mut Vec<String>) {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    if query.split('&').any(|pair| pair.starts_with("key=")) {
        found.push("the key stands in the address".to_owned());
    }
}

pub(super) fn check_name(place: &str, name: &Value, found: &mut Vec<String>) {
    let right = name.as_str().is_some_and(|name| is_word(name, LONGEST_NAME));
    if !right {
        found.push(format!("{place} is {name}, not a name of 1 to {LONGEST_NAME} letters, digits, underscores and dashes"));
    }
}

pub(super) fn check_id(place: &str, id: &Value, found: &mut Vec<String>) {
    let right = id.as_str().is_some_and(|id| is_word(id, LONGEST_ID));
    if !right {
        found.push(format!("{place} is {id}, not an id of 1 to {LONGEST_ID} letters, digits, underscores and dashes"));
    }
}

fn is_word(text: &str, longest: usize) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    !text.is_empty() && text.len() <= longest && text.bytes().all(fits)
}

/// Tools with unique names and schemas of type object. A schema may be left out.
#[derive(Default)]
pub(super) struct Tools<'a>(HashSet<&'a str>);

impl<'a> Tools<'a> {
    pub(super) fn check(
        &mut self,
        place: &str,
        name: &'a Value,
        schema: &Value,
        found: &mut Vec<String>,
    ) {
        check_name(&format!("{place}.name"), name, found);
        if name.as_str().is_some_and(|name| !self.0.insert(name)) {
            found.push(format!("{place}: the name {name} is taken"));
        }
        let is_object =
            schema["type"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("object"));
        if !schema.is_null() && !is_object {
            found.push(format!("{place}: the schema is not of type object"));
        }
    }
}

/// Calls of which each needs exactly one answer.
#[derive(Default)]
pub(super) struct Calls {
    open: Vec<String>,
    closed: HashSet<String>,
}

impl Calls {
    pub(super) fn ask(&mut self, id: &str, found: &mut Vec<String>) {
        if self.open.iter().any(|open| open == id) || self.closed.contains(id) {
            found.push(format!("the call {id} is there twice"));
            return;
        }
        self.open.push(id.to_owned());
    }

    pub(super) fn answer(&mut self, place: &str, id: &str, found: &mut Vec<String>) {
        if let Some(position) = self.open.iter().position(|open| open == id) {
            self.closed.insert(self.open.remove(position));
        } else if self.closed.contains(id) {
            found.push(format!("{place}: the call {id} is answered twice"));
        } else {
            found.push(format!("{place}: no call before it has the id {id:?}"));
        }
    }

    /// By now every call must be answered; those that are not are forgotten.
    pub(super) fn settle(&mut self, by: &str, found: &mut Vec<String>) {
        for id in self.open.drain(..) {
            found.push(format!("the call {id} is not answered {by}"));
            self.closed.insert(id);
        }
    }
}
