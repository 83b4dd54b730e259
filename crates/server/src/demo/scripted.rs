//! A provider without a model behind it: it calls a shell, and then tells what the shell has said.
//!
//! Its answers are made of nothing but the request. It knows no session and reaches nobody.

use posthouse_model::{
    Block, BlockKind, Body, Event, Item, ModelStream, Provider, Request, Response, Stop, Usage,
    View,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

/// What it says in its first answer, beside the first call.
const WHO: &str = "I am a scripted provider, not a model: nobody was asked and nothing left this \
                   machine. I ask for a shell now, as a model would.";

/// The scripted provider.
pub(super) struct Scripted {
    /// The command that is called for in each turn; the last one in all that follow.
    pub(super) commands: [&'static str; 2],
}

/// What of a request decides the answer. It stands in the body, as with any provider.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    model: String,
    /// Turns that are over, as many as there were results of tools before this message.
    turn: usize,
    /// What the tool has said, and whether it has failed, when that is what is new.
    result: Option<(String, bool)>,
}

impl Provider for Scripted {
    fn name(&self) -> &str {
        "demo"
    }

    fn render(&self, request: &Request) -> Body {
        let results = |item: &&Item| matches!(item, Item::ToolResults(_));
        let result = match request.items.last() {
            Some(Item::ToolResults(results)) => results.first().map(|result| {
                let blocks: Value = serde_json::from_str(result.content.get()).unwrap_or_default();
                let text = blocks[0]["text"].as_str().unwrap_or_default().to_owned();
                (text, result.is_error)
            }),
            _ => None,
        };
        let turn = request.items.iter().filter(results).count();
        let asked = Asked { model: request.model.clone(), turn, result };
        Body { bytes: json!(asked).to_string().into(), ..Body::default() }
    }

    fn stream(&self, body: Body) -> ModelStream {
        let asked = serde_json::from_slice::<Asked>(&body.bytes);
        let (events, blocks, stop) = match asked {
            Ok(Asked { result: Some((text, failed)), .. }) => {
                let text = told(&text, failed);
                (said(0, &text), text_block(text).into_iter().collect(), Stop::EndTurn)
            }
            Ok(Asked { turn, .. }) => self.call(turn),
            // It has written that body itself.
            Err(_) => (Vec::new(), Vec::new(), Stop::EndTurn),
        };
        let usage = Usage { input_tokens: 12, output_tokens: 34, ..Usage::default() };
        let ended = Event::Ended(Response { blocks, stop, usage, served: None });
        Box::pin(futures_util::stream::iter(events.into_iter().chain([ended])))
    }
}

impl Scripted {
    fn call(&self, turn: usize) -> (Vec<Event>, Vec<Block>, Stop) {
        let text = if turn == 0 { WHO } else { "I look at what I have written." };
        let command = self.commands[turn.min(self.commands.len() - 1)];
        let mut events = said(0, text);
        events.push(Event::Started { index: 1, kind: BlockKind::ToolUse { name: "bash".into() } });
        let blocks = text_block(text.to_owned()).into_iter().chain(call_block(turn, command));
        (events, blocks.collect(), Stop::ToolUse)
    }
}

/// What is said of a result.
fn told(result: &str, failed: bool) -> String {
    // A result that begins with a note in brackets says what is new of the sandbox.
    let line = result.lines().find(|line| !line.starts_with('[')).unwrap_or("nothing");
    if failed {
        format!("The command was not run to its end. I was told: {line}")
    } else {
        format!("The shell has run my command. The first thing that it has said is {line:?}.")
    }
}

fn said(index: usize, text: &str) -> Vec<Event> {
    let mut events = vec![Event::Started { index, kind: BlockKind::Text }];
    let word = |word: &str| Event::Text { index, text: word.to_owned() };
    events.extend(text.split_inclusive(' ').map(word));
    events
}

// A text that was just made of JSON is JSON: both give a block.

fn text_block(text: String) -> Option<Block> {
    let native = json!({ "type": "text", "text": text }).to_string();
    Some(Block { native: RawValue::from_string(native).ok()?, view: View::Text(text) })
}

fn call_block(turn: usize, command: &str) -> Option<Block> {
    let (call_id, input) = (format!("toolu_demo_{turn}"), json!({ "command": command }));
    let native = json!({ "type": "tool_use", "id": call_id, "name": "bash", "input": input });
    let input = RawValue::from_string(input.to_string()).ok()?;
    Some(Block {
        native: RawValue::from_string(native.to_string()).ok()?,
        view: View::ToolUse { call_id, name: "bash".into(), input: Some(input) },
    })
}
