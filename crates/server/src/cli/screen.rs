//! What `posthouse run` shows of a session: text as it is made, calls on one line, results cut.
//!
//! Pure: events in, text out. Everything that comes in is data and is made harmless here.

use std::fmt::Write as _;

use serde_json::Value;

use super::plain::{cut, harmless, harmless_lines, one_line};

/// How many lines of a result are shown.
const RESULT_LINES: usize = 8;

/// The parts of a call's input that say what it does, in the order in which they are shown.
const TELLING: [&str; 6] = ["command", "file_path", "pattern", "path", "url", "query"];

/// How things are shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// Whether there are colours.
    pub(super) colour: bool,
    /// Whether messages are shown while they are being written.
    pub(super) live: bool,
    /// How many columns a line has.
    pub(super) width: usize,
}

impl Look {
    /// For a file or a pipe: always the same.
    pub(super) const PLAIN: Self = Self { colour: false, live: false, width: 100 };

    /// A text that matters less.
    pub(super) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour && !text.is_empty() {
            return format!("\u{1b}[{code}m{text}\u{1b}[0m");
        }
        text.to_owned()
    }
}

/// What of a message was shown while it was still being written.
#[derive(Debug, Default)]
struct Open {
    id: String,
    shown: String,
    block: u64,
}

/// Makes text of events.
#[derive(Debug)]
pub(super) struct Screen {
    look: Look,
    open: Open,
}

impl Screen {
    /// A screen on which nothing was shown yet.
    pub(super) fn new(look: Look) -> Self {
        Self { look, open: Open::default() }
    }

    /// What to show for an event; without a line's end where more may follow.
    pub(super) fn show(&mut self, event: &Value) -> String {
        match event["type"].as_str().unwrap_or_default() {
            "event_start" => {
                let end = self.close();
                if event["event"]["type"] == "agent.message" {
                    self.open.id = text(&event["event"]["id"]).to_owned();
                }
                end
            }
            "event_delta" => self.more(event),
            "agent.message" => self.message(event),
            kind => match self.line(kind, event) {
                Some(line) => format!("{}{line}\n", self.close()),
                None => String::new(),
            },
        }
    }

    /// Ends a message that was cut.
    pub(super) fn close(&mut self) -> String {
        let open = std::mem::take(&mut self.open);
        let middle = !open.shown.is_empty() && !open.shown.ends_with('\n');
        if middle { "\n".to_owned() } else { String::new() }
    }

    /// A call on one line, as [`Screen::show`] shows it.
    pub(super) fn call(&self, event: &Value) -> String {
        self.paint_call(event, self.look.width)
    }

    /// A call for whoever has to allow it: with all of its input, however long that is.
    pub(super) fn whole_call(&self, event: &Value) -> String {
        self.paint_call(event, usize::MAX)
    }

    fn paint_call(&self, event: &Value, width: usize) -> String {
        let name = called(event);
        let input = &event["input"];
        // What the tools of others do with which part of their input, nobody knows here.
        let telling = if event["type"] == "agent.tool_use" { &TELLING[..] } else { &[] };
        let told: Vec<String> =
            telling.iter().filter_map(|part| input[*part].as_str()).map(one_line).collect();
        let what = match (told.is_empty(), input) {
            (false, _) => told.join("  "),
            (true, Value::Null) => String::new(),
            (true, Value::Object(members)) if members.is_empty() => String::new(),
            (true, input) => one_line(&input.to_string()),
        };
        let line = cut(format!("▸ {name}  {what}").trim_end(), width);
        match line.strip_prefix(&format!("▸ {name}")) {
            Some(rest) => format!("{}{rest}", self.look.paint("1", &format!("▸ {name}"))),
            None => line,
        }
    }

    fn more(&mut self, event: &Value) -> String {
        if !self.look.live || self.open.id.is_empty() || event["event_id"] != *self.open.id {
            return String::new();
        }
        let delta = &event["delta"];
        let mut more = harmless(text(&delta["content"]["text"]));
        let block = delta["index"].as_u64().unwrap_or_default();
        if block != self.open.block {
            self.open.block = block;
            more.insert(0, '\n');
        }
        self.open.shown.push_str(&more);
        more
    }

    /// A whole message: what of it is not shown yet.
    fn message(&mut self, event: &Value) -> String {
        let mut whole = harmless(&content(event));
        if !whole.ends_with('\n') {
            whole.push('\n');
        }
        if event["id"] == *self.open.id
            && let Some(rest) = whole.strip_prefix(&self.open.shown)
        {
            let rest = rest.to_owned();
            self.open = Open::default();
            return rest;
        }
        format!("{}{whole}", self.close())
    }

    fn line(&self, kind: &str, event: &Value) -> Option<String> {
        let look = self.look;
        Some(match kind {
            "agent.tool_use" | "agent.mcp_tool_use" | "agent.custom_tool_use" => self.call(event),
            "agent.tool_result" | "agent.mcp_tool_result" | "user.custom_tool_result" => {
                self.result(event)
            }
            "user.message" => format!("› {}", harmless_lines(&content(event)).trim_end()),
            "user.interrupt" => look.dim("interrupted"),
            "session.error" => {
                let error = &event["error"];
                let message = one_line(text(&error["message"]));
                let retry = text(&error["retry_status"]["type"]);
                let retry = if retry == "retrying" { " (it is tried again)" } else { "" };
                look.paint("31", &format!("error: {message}{retry}"))
            }
            "session.status_terminated" => look.paint("31", "the session was terminated"),
            "session.deleted" => look.paint("31", "the session was deleted"),
            _ => return None,
        })
    }

    fn result(&self, event: &Value) -> String {
        let text = harmless_lines(&content(event)).replace('\t', "    ");
        let failed = event["is_error"] == true;
        let lines: Vec<&str> = text.trim_end().lines().collect();
        let mut shown = String::new();
        for (index, line) in lines.iter().take(RESULT_LINES).enumerate() {
            let mark = if failed && index == 0 { "failed: " } else { "" };
            let line = cut(&format!("  {mark}{line}"), self.look.width);
            let code = if mark.is_empty() { "2" } else { "31" };
            let end = if index == 0 { "" } else { "\n" };
            let _ = write!(shown, "{end}{}", self.look.paint(code, &line));
        }
        match lines.len().saturating_sub(RESULT_LINES) {
            0 if lines.is_empty() && failed => self.look.paint("31", "  failed"),
            0 if lines.is_empty() => self.look.dim("  (no output)"),
            0 => shown,
            1 => format!("{shown}\n{}", self.look.dim("  … 1 more line")),
            more => format!("{shown}\n{}", self.look.dim(&format!("  … {more} more lines"))),
        }
    }
}

/// What a call calls, on one line. A tool of an MCP server has its server's name in front of it: it may
/// be called like one of the sandbox's.
pub(super) fn called(event: &Value) -> String {
    let name = one_line(text(&event["name"]));
    match event["mcp_server_name"].as_str() {
        Some(server) => format!("{}: {name}", one_line(server)),
        None => name,
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The text of an event's content; what is no text is named.
fn content(event: &Value) -> String {
    let blocks = event["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = blocks.iter().map(|block| match block["text"].as_str() {
        Some(text) => text.to_owned(),
        None => format!("[{}]", block["type"].as_str().unwrap_or("?")),
    });
    texts.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LIVE: Look = Look { colour: false, live: true, width: 40 };

    fn start(id: &str) -> Value {
        json!({ "type": "event_start", "event": { "type": "agent.message", "id": id } })
    }

    fn delta(id: &str, index: u32, text: &str) -> Value {
        let content = json!({ "type": "text", "text": text });
        let delta = json!({ "type": "content_delta", "index": index, "content": content });
        json!({ "type": "event_delta", "event_id": id, "delta": delta })
    }

    fn message(id: &str, texts: &[&str]) -> Value {
        let blocks: Vec<Value> =
            texts.iter().map(|text| json!({ "type": "text", "text": text })).collect();
        json!({ "type": "agent.message", "id": id, "content": blocks })
    }

    fn result(text: &str, is_error: bool) -> Value {
        let content = json!([{ "type": "text", "text": text }]);
        json!({ "type": "agent.tool_result", "content": content, "is_error": is_error })
    }

    fn shown(look: Look, events: &[Value]) -> String {
        let mut screen = Screen::new(look);
        let mut text: String = events.iter().map(|event| screen.show(event)).collect();
        text.push_str(&screen.close());
        text
    }

    #[test]
    fn a_message_is_shown_once_as_it_comes() {
        let events = [
            start("a"),
            delta("a", 0, "Hel"),
            delta("a", 0, "lo"),
            delta("a", 1, "you"),
            message("a", &["Hello", "you"]),
            message("b", &["again"]),
        ];
        assert_eq!(shown(LIVE, &events), "Hello\nyou\nagain\n");
        assert_eq!(shown(Look::PLAIN, &events), "Hello\nyou\nagain\n");
    }

    #[test]
    fn a_message_that_was_cut_begins_anew() {
        let events = [start("a"), delta("a", 0, "Hel"), start("b"), delta("b", 0, "Hi")];
        assert_eq!(shown(LIVE, &events), "Hel\nHi\n");
        assert_eq!(shown(Look::PLAIN, &events), "");
        let other = [start("a"), delta("a", 0, "Hel"), message("a", &["Bye"])];
        assert_eq!(shown(LIVE, &other), "Hel\nBye\n");
    }

    #[test]
    fn calls_are_one_line() {
        let screen = Screen::new(LIVE);
        let call = |name: &str, input: Value| {
            screen.call(&json!({ "type": "agent.tool_use", "name": name, "input": input }))
        };
        assert_eq!(call("bash", json!({ "command": "ls -la" })), "▸ bash  ls -la");
        assert_eq!(call("bash", json!({ "command": "cd /\nls" })), "▸ bash  cd / ⏎ ls");
        assert_eq!(call("grep", json!({ "path": "src", "pattern": "x" })), "▸ grep  x  src");
        assert_eq!(call("bash", json!({ "restart": true })), "▸ bash  {\"restart\":true}");
        assert_eq!(call("now", json!({})), "▸ now");
        let long = call("bash", json!({ "command": "x".repeat(100) }));
        assert_eq!(long.chars().count(), 40);
        assert!(long.ends_with("x…"), "{long}");
    }

    #[test]
    fn a_tool_of_a_server_looks_like_no_tool_of_the_sandbox() {
        let call = json!({ "type": "agent.mcp_tool_use", "mcp_server_name": "git\nhub",
                           "name": "bash", "input": { "command": "ls", "and": "more" } });
        let line = "▸ git ⏎ hub: bash  {\"command\":\"ls\",\"and\":\"more\"}";
        let wide = Screen::new(Look { width: 80, ..LIVE });
        assert_eq!(wide.call(&call), line);
        assert_eq!(shown(Look { width: 80, ..LIVE }, &[call]), format!("{line}\n"));
    }

    #[test]
    fn who_allows_a_call_sees_all_of_it() {
        let command = format!("true {}; rm -rf /", "x".repeat(5000));
        let call =
            json!({ "type": "agent.tool_use", "name": "bash", "input": { "command": command } });
        let screen = Screen::new(LIVE);
        assert!(screen.call(&call).ends_with('…'));
        assert!(screen.whole_call(&call).ends_with("; rm -rf /"));
    }

    #[test]
    fn results_are_cut() {
        let lines: Vec<String> = (1..=10).map(|line| line.to_string()).collect();
        let text = shown(LIVE, &[result(&lines.join("\r\n"), false)]);
        assert_eq!(text.lines().count(), 9);
        assert!(text.starts_with("  1\n  2\n") && text.ends_with("  … 2 more lines\n"), "{text}");
        assert_eq!(shown(LIVE, &[result("", false)]), "  (no output)\n");
        assert_eq!(shown(LIVE, &[result("no\nway", true)]), "  failed: no\n  way\n");
    }

    #[test]
    fn colours_are_there_only_when_asked_for() {
        let call = json!({ "type": "agent.tool_use", "name": "bash", "input": {} });
        let events = [call, result("x", true)];
        let colour = Look { colour: true, ..LIVE };
        assert!(shown(colour, &events).contains("\u{1b}[1m▸ bash\u{1b}[0m"));
        assert!(!shown(LIVE, &events).contains('\u{1b}'));
    }

    #[test]
    fn nothing_from_elsewhere_commands_the_terminal() {
        let hostile = "\u{1b}]52;c;eA==\u{7}\u{202e}\0\u{9b}2J";
        let block = json!([{ "type": "text", "text": hostile }]);
        let events = [
            start("a"),
            delta("a", 0, hostile),
            message("a", &[hostile]),
            message("b", &[hostile]),
            json!({ "type": "agent.tool_use", "name": hostile, "input": { "command": hostile } }),
            json!({ "type": "agent.custom_tool_use", "name": "x", "input": { hostile: hostile } }),
            result(hostile, true),
            json!({ "type": "user.message", "content": block }),
            json!({ "type": "session.error", "error": { "message": hostile } }),
            json!({ "type": "agent.message", "id": "c", "content": [{ "type": hostile }] }),
        ];
        for look in [LIVE, Look::PLAIN] {
            let text = shown(look, &events);
            let harmful =
                |letter: &char| (letter.is_control() && *letter != '\n') || *letter == '\u{202e}';
            assert_eq!(text.chars().find(harmful), None, "{text:?}");
        }
    }
}
