//! `[mcp]` of the file: what the MCP servers of agents may take, and under which names the server is one.
//!
//! Reads and checks values, each by the name of its key.

use posthouse_engine::McpSettings;
use serde::Deserialize;
use toml::Value;

use super::sandbox::{count, seconds, set, size, wrong};
use crate::Error;

/// The least that a message may be allowed to have: an answer to the handshake fits into it.
const LEAST_MESSAGE: u64 = 64 << 10;
/// The largest message that may be allowed. Each connection may hold one in memory.
const LARGEST_MESSAGE: u64 = 1 << 30;
/// The most of what is counted that may be allowed.
const MOST: u64 = 1_000_000;

/// The MCP servers of agents, and the server as one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mcp {
    /// What the MCP servers of agents may take.
    pub servers: McpSettings,
    /// The names under which agents may be asked as tools, besides addresses and `localhost`, and whose
    /// pages may ask.
    pub names: Vec<String>,
}

/// `[mcp]`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct McpEntry {
    connect_seconds: Option<Value>,
    list_seconds: Option<Value>,
    silence_seconds: Option<Value>,
    call_seconds: Option<Value>,
    keep_seconds: Option<Value>,
    tools: Option<Value>,
    message_size: Option<Value>,
    connections: Option<Value>,
    names: Vec<String>,
}

impl McpEntry {
    /// Checks every value; what is not there keeps its default.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub(super) fn read(self) -> Result<Mcp, Error> {
        let mut mcp = McpSettings::default();
        for (target, value, key) in [
            (&mut mcp.connect, self.connect_seconds, "mcp.connect_seconds"),
            (&mut mcp.list, self.list_seconds, "mcp.list_seconds"),
            (&mut mcp.silence, self.silence_seconds, "mcp.silence_seconds"),
            (&mut mcp.call, self.call_seconds, "mcp.call_seconds"),
            (&mut mcp.keep, self.keep_seconds, "mcp.keep_seconds"),
        ] {
            set(target, value, |value| seconds(key, &value))?;
        }
        set(&mut mcp.tools, self.tools, |value| number("mcp.tools", &value))?;
        set(&mut mcp.connections, self.connections, |value| number("mcp.connections", &value))?;
        set(&mut mcp.message_bytes, self.message_size, |value| {
            let key = "mcp.message_size";
            let bytes = size(key, &value)?;
            let bytes =
                Some(bytes).filter(|bytes| (LEAST_MESSAGE..=LARGEST_MESSAGE).contains(bytes));
            bytes.and_then(|bytes| usize::try_from(bytes).ok()).ok_or_else(|| {
                wrong(key, &value, "is too small or too large", "write from \"64KiB\" to \"1GiB\"")
            })
        })?;
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-');
        let wrong = self.names.iter().find(|name| name.is_empty() || !name.chars().all(is_plain));
        match wrong {
            Some(name) => Err(Error::Config(format!(
                "mcp.names: {name:?} is no host's name; write it as \"agents.example.com\", without \
                 scheme and port"
            ))),
            None => Ok(Mcp { servers: mcp, names: self.names }),
        }
    }
}

fn number(key: &str, value: &Value) -> Result<usize, Error> {
    let number = Some(count(key, value)?).filter(|number| *number <= MOST);
    number.and_then(|number| usize::try_from(number).ok()).ok_or_else(|| {
        wrong(key, value, "is too many", &format!("write a whole number from 1 to {MOST}"))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(text: &str) -> Result<McpSettings, String> {
        let entry: McpEntry = toml::from_str(text).map_err(|error| error.to_string())?;
        entry.read().map(|mcp| mcp.servers).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_is_read_and_has_a_default() {
        assert_eq!(read("").unwrap(), McpSettings::default());
        let read = read(
            "connect_seconds = 1\nlist_seconds = 2\nsilence_seconds = 3\ncall_seconds = 4\n\
             keep_seconds = 5\ntools = 6\nmessage_size = \"1MiB\"\nconnections = 7",
        );
        let expected = McpSettings {
            connect: Duration::from_secs(1),
            list: Duration::from_secs(2),
            silence: Duration::from_secs(3),
            call: Duration::from_secs(4),
            keep: Duration::from_secs(5),
            tools: 6,
            message_bytes: 1 << 20,
            connections: 7,
        };
        assert_eq!(read.unwrap(), expected);
    }

    #[test]
    fn every_key_stands_in_the_document_with_its_default() {
        let document = include_str!("../../../../docs/CONFIGURATION.md");
        let refusal = read("no_such = 1").unwrap_err();
        let keys = refusal.split("expected").nth(1).unwrap().split('`').skip(1).step_by(2);
        let mut written = String::new();
        for key in keys.clone() {
            let row = document.lines().find(|line| line.starts_with(&format!("| `mcp.{key}` |")));
            let row = row.unwrap_or_else(|| panic!("mcp.{key} is not in the document"));
            let default = row.split('|').nth(4).unwrap().trim().trim_matches('`');
            let quote = if default.ends_with("iB") { "\"" } else { "" };
            written.push_str(&format!("{key} = {quote}{default}{quote}\n"));
        }
        assert_eq!(read(&written).unwrap(), McpSettings::default());
        let documented = document.lines().filter(|line| line.starts_with("| `mcp."));
        assert_eq!(documented.count(), keys.count(), "the document has keys that are not read");
    }

    #[test]
    fn a_bad_value_is_named_with_its_key_and_what_would_be_right() {
        for (text, key, right) in [
            ("connect_seconds = 0", "mcp.connect_seconds", "from 1 to"),
            ("call_seconds = \"1h\"", "mcp.call_seconds", "from 1 to"),
            ("tools = 0", "mcp.tools", "at least 1"),
            ("tools = 1000001", "mcp.tools", "1000000"),
            ("connections = -1", "mcp.connections", "at least 1"),
            ("message_size = \"1KiB\"", "mcp.message_size", "64KiB"),
            ("message_size = \"2GiB\"", "mcp.message_size", "1GiB"),
            ("message_size = true", "mcp.message_size", "bytes"),
            ("timeout = 1", "timeout", "connect_seconds"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(key) && error.contains(right), "{text}: {error}");
        }
    }
}
