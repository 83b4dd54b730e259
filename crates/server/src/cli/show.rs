//! Events as lines for people, in a terminal or in a log.

use serde_json::Value;

use super::{plain::harmless, screen::called};

/// The longest piece of foreign text on one line, in characters.
const LONGEST: usize = 200;

/// One event as text, or `None` when it says nothing to a reader.
#[must_use]
pub fn line(event: &Value) -> Option<String> {
    // Ids and reasons come from elsewhere, too.
    words(event).map(|words| harmless(&words))
}

fn words(event: &Value) -> Option<String> {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    Some(match text("type") {
        "user.message" => format!("you    {}", harmless(&message(event))),
        "user.interrupt" => "you    (interrupt)".into(),
        "user.tool_confirmation" => format!("you    {} {}", text("result"), text("tool_use_id")),
        "user.custom_tool_result" => {
            format!("you    result: {}", short(&harmless(&message(event))))
        }
        "agent.message" => format!("agent  {}", harmless(&message(event))),
        "agent.tool_use" | "agent.mcp_tool_use" | "agent.custom_tool_use" => {
            let waits =
                if event["evaluated_permission"] == "ask" { "  (waits for you)" } else { "" };
            let input = short(&harmless(&event["input"].to_string()));
            format!("tool   {} {input}{waits}  {}", called(event), text("id"))
        }
        "agent.tool_result" | "agent.mcp_tool_result" => {
            let failed = if event["is_error"] == true { "failed: " } else { "" };
            format!("tool   {failed}{}", short(&harmless(&message(event))))
        }
        "session.status_running" => "       running".into(),
        "session.status_idle" => {
            format!("       idle ({})", event["stop_reason"]["type"].as_str().unwrap_or("idle"))
        }
        "session.status_rescheduled" => "       waits and tries again".into(),
        "session.status_terminated" => "       terminated".into(),
        "session.deleted" => "       deleted".into(),
        "session.error" => {
            let error = &event["error"];
            let message = harmless(error["message"].as_str().unwrap_or_default());
            format!("error  {message} ({})", error["retry_status"]["type"].as_str().unwrap_or("?"))
        }
        "session.updated" => updated(event),
        _ => return None,
    })
}

/// A tool's result with all of its lines, of which [`line`] shows one.
#[must_use]
pub fn whole_result(event: &Value) -> String {
    let failed = if event["is_error"] == true { "failed: " } else { "" };
    let text = harmless(message(event).trim_end());
    // A line that is indented already is the first of a block.
    let lines: Vec<&str> = text.lines().map(|line| line.trim_start_matches("       ")).collect();
    format!("tool   {failed}{}", lines.join("\n       "))
}

/// What of a session has changed, as far as it is one line.
fn updated(event: &Value) -> String {
    let mut what = Vec::new();
    if let Some(model) = event["agent"]["model"]["id"].as_str() {
        let fallback = event["agent"]["posthouse"]["fallback"].as_array();
        let others = fallback.into_iter().flatten().filter_map(|other| other["id"].as_str());
        let models: Vec<_> = std::iter::once(model).chain(others).collect();
        what.push(format!("model {}", models.join(", then ")));
    }
    if let Some(title) = event["title"].as_str() {
        what.push(format!("title {}", short(title)));
    }
    if event.get("metadata").is_some() {
        what.push("metadata".to_owned());
    }
    harmless(&format!("       updated: {}", what.join("; ")))
}

/// The text of an event's content.
fn message(event: &Value) -> String {
    let blocks = event["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = blocks.iter().map(|block| match block["text"].as_str() {
        Some(text) => text.to_owned(),
        None => format!("[{}]", block["type"].as_str().unwrap_or("?")),
    });
    texts.collect::<Vec<_>>().join("\n       ")
}

fn short(text: &str) -> String {
    let first = text.trim_end().lines().next().unwrap_or_default();
    let mut cut: String = first.chars().take(LONGEST).collect();
    if cut.len() < text.trim_end().len() {
        cut.push('…');
    }
    cut
}

/// What of a message was printed while it was still being written.
#[derive(Debug, Default)]
pub struct Shown {
    id: String,
    text: String,
}

impl Shown {
    /// What to print for a frame, without a line's end where more may follow.
    pub fn next(&mut self, event: &Value) -> String {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match event["type"].as_str() {
            Some("event_start") => {
                let end = self.close();
                if event["event"]["type"] == "agent.message" {
                    self.id = text(&event["event"]["id"]);
                }
                end
            }
            Some("event_delta") if event["event_id"] == self.id.as_str() => {
                let more = harmless(&text(&event["delta"]["content"]["text"]));
                let start = if self.text.is_empty() { "agent  " } else { "" };
                self.text.push_str(&more);
                format!("{start}{more}")
            }
            Some("event_delta") => String::new(),
            _ => match line(event) {
                Some(whole) if !self.text.is_empty() && event["id"] == self.id.as_str() => {
                    let shown = format!("agent  {}", self.text);
                    let rest = whole.strip_prefix(&shown).map(str::to_owned);
                    let ending = rest.unwrap_or_else(|| format!("\n{whole}"));
                    *self = Self::default();
                    format!("{ending}\n")
                }
                Some(whole) => format!("{}{whole}\n", self.close()),
                None => String::new(),
            },
        }
    }

    /// Ends a message that was cut.
    pub fn close(&mut self) -> String {
        let open = !self.text.is_empty();
        *self = Self::default();
        if open { "\n".into() } else { String::new() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_of_models_is_one_line() {
        let agent = json!({
            "model": { "id": "gpt-6-sol" },
            "posthouse": { "fallback": [{ "id": "local/qwen3" }] },
        });
        let event = json!({ "type": "session.updated", "agent": agent, "title": "a\nb" });
        let shown = line(&event).unwrap();
        assert_eq!(shown, "       updated: model gpt-6-sol, then local/qwen3; title a…");
    }

    #[test]
    fn a_message_is_printed_once() {
        let mut shown = Shown::default();
        let delta = |text: &str| {
            json!({
                "type": "event_delta", "event_id": "sevt_1",
                "delta": { "type": "content_delta", "index": 0,
                           "content": { "type": "text", "text": text } },
            })
        };
        let start = json!({ "type": "event_start",
                            "event": { "type": "agent.message", "id": "sevt_1" } });
        let whole = json!({ "type": "agent.message", "id": "sevt_1",
                            "content": [{ "type": "text", "text": "Hello there" }] });
        let printed: String = [start, delta("Hel"), delta("lo"), whole.clone()]
            .iter()
            .map(|event| shown.next(event))
            .collect();
        assert_eq!(printed, "agent  Hello there\n");
        assert_eq!(shown.next(&whole), "agent  Hello there\n");
    }

    #[test]
    fn a_result_is_shown_with_all_of_its_lines() {
        let text = "one\ntwo\u{1b}[2J\n";
        let content = json!([{ "type": "text", "text": text }, { "type": "image" }]);
        let event = json!({ "type": "agent.tool_result", "content": content, "is_error": true });
        let expected = "tool   failed: one\n       two\u{fffd}[2J\n       \n       [image]";
        assert_eq!(whole_result(&event), expected);
    }

    #[test]
    fn a_tool_of_a_server_is_named_with_its_server() {
        let event = json!({ "type": "agent.mcp_tool_use", "id": "sevt_1", "name": "bash",
                            "mcp_server_name": "hub", "input": { "a": 1 },
                            "evaluated_permission": "ask" });
        let expected = "tool   hub: bash {\"a\":1}  (waits for you)  sevt_1";
        assert_eq!(line(&event).unwrap(), expected);
        let result = json!({ "type": "agent.mcp_tool_result", "is_error": true,
                             "content": [{ "type": "text", "text": "no" }] });
        assert_eq!(line(&result).unwrap(), "tool   failed: no");
    }

    #[test]
    fn text_from_elsewhere_does_not_command_the_terminal() {
        let event = json!({ "type": "agent.message",
                            "content": [{ "type": "text", "text": "\u{1b}[2Jx" }] });
        assert_eq!(line(&event).unwrap(), "agent  \u{fffd}[2Jx");
        assert_eq!(line(&json!({ "type": "span.model_request_start" })), None);
    }
}
