//! Names and descriptions that strangers have written, as a model may see them. Pure.

use std::{collections::HashSet, fmt::Write as _, sync::Arc};

use sha2::{Digest as _, Sha256};

/// The longest name that every provider takes.
const LONGEST_NAME: usize = 64;
/// How much of a server's name a shortened name keeps.
const SERVER_KEPT: usize = 20;
/// The longest description, in characters.
const LONGEST_DESCRIPTION: usize = 8_000;
/// The longest description of one line, in characters.
const LONGEST_LINE: usize = 200;

/// The name under which models call a server's tool: `mcp__<server>__<tool>` where that says
/// unmistakably which tool is meant, otherwise one with a hash of both. It depends on the two alone,
/// but for a name that another tool has taken.
pub(super) fn name(server: &str, tool: &str, taken: &HashSet<Arc<str>>) -> Arc<str> {
    // With such a server's name, the first two underscores behind it end it.
    let plain = is_plain(server) && !server.contains("__") && !server.ends_with('_');
    if plain && is_plain(tool) {
        let name = format!("mcp__{server}__{tool}");
        if name.len() <= LONGEST_NAME && !taken.contains(&*name) {
            return name.into();
        }
    }
    (0u32..)
        .map(|attempt| hashed(server, tool, attempt))
        .find(|name| !taken.contains(&**name))
        .map_or_else(|| unreachable!("there are more hashes than tools"), Arc::from)
}

fn hashed(server: &str, tool: &str, attempt: u32) -> String {
    let mut hasher = Sha256::new();
    hasher.update(format!("{attempt} {} ", server.len()));
    hasher.update(server);
    hasher.update(tool);
    let mut hash = String::new();
    for byte in &hasher.finalize()[..4] {
        let _ = write!(hash, "{byte:02x}");
    }
    let server = safe(server, SERVER_KEPT);
    let room = LONGEST_NAME - "mcp__".len() - server.len() - "__".len() - 1 - hash.len();
    format!("mcp__{server}__{}_{hash}", safe(tool, room))
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_letter)
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

fn safe(name: &str, longest: usize) -> String {
    let letter = |one: char| if u8::try_from(one).is_ok_and(is_letter) { one } else { '_' };
    name.chars().take(longest).map(letter).collect()
}

/// A description without what nobody can see: controls, marks of direction, tags.
pub(super) fn description(text: &str) -> String {
    let shown = |one: &char| matches!(one, '\n' | '\t') || !is_hidden(*one);
    cut(text.chars().filter(shown), LONGEST_DESCRIPTION)
}

/// A description on one line, so that it can't look like the line of another tool.
pub(super) fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    cut(words.join(" ").chars().filter(|one| !is_hidden(*one)), LONGEST_LINE)
}

fn cut(mut letters: impl Iterator<Item = char>, longest: usize) -> String {
    let mut kept: String = letters.by_ref().take(longest).collect();
    if letters.next().is_some() {
        kept.push('…');
    }
    kept
}

fn is_hidden(one: char) -> bool {
    one.is_control()
        || matches!(
            one,
            '\u{ad}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}
