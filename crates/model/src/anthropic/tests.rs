//! Tests of the Messages wire; what they share.

mod decoding;
mod over_http;
mod rendering;
mod waiting;

use std::{collections::VecDeque, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::value::RawValue;
use sse_stream::SseByteStream;

use crate::{Block, Catalog, Event, Item, Request, Response, ToolResult, View, anthropic::Decoder};

/// Every golden stream.
const GOLDEN: &[&str] = &[
    "citations",
    "error",
    "framing",
    "input_not_an_object",
    "max_tokens_before_tool_input",
    "max_tokens_in_tool_input",
    "parallel_tool_use",
    "redacted_thinking",
    "refusal",
    "server_tool_use",
    "text",
    "thinking",
    "unknown_block",
    "window_exceeded",
];

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests_data").join(name)
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(data(&format!("{name}.sse"))).unwrap()
}

/// Decodes chunks as they would come from a connection that then ends.
async fn decode(chunks: Vec<Bytes>) -> Vec<Event> {
    let mut sse = SseByteStream::new(stream::iter(chunks.into_iter().map(Ok::<_, std::io::Error>)));
    let mut decoder = Decoder::new();
    let mut events = VecDeque::new();
    while let Some(event) = sse.next().await {
        if let Some(data) = event.unwrap().data {
            decoder.decode(&data, &mut events);
        }
    }
    events.extend(decoder.end());
    events.into()
}

/// One line per event and per block.
fn lines(events: &[Event]) -> String {
    let mut lines = String::new();
    let mut line = |text: String| {
        lines.push_str(&text);
        lines.push('\n');
    };
    for event in events {
        match event {
            Event::Ended(response) => {
                line(format!("ended {:?} {:?}", response.stop, response.served));
                line(format!("  {:?}", response.usage));
                for block in &response.blocks {
                    line(format!("  native {}", block.native.get()));
                    line(format!("    view {}", view(&block.view)));
                }
            }
            event => line(format!("{event:?}")),
        }
    }
    lines
}

fn view(view: &View) -> String {
    match view {
        View::ToolUse { call_id, name, input } => format!(
            "tool_use {call_id} {name} {}",
            input.as_ref().map_or("unfinished", |input| input.get())
        ),
        other => format!("{other:?}"),
    }
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

fn user(text: &str) -> Item {
    Item::User(Arc::from(raw(&format!(r#"[{{"type":"text","text":"{text}"}}]"#))))
}

fn answer(blocks: &[&str]) -> Item {
    Item::Assistant {
        provider: "anthropic".into(),
        blocks: blocks.iter().map(|block| raw(block)).collect(),
    }
}

fn result(call_id: &str, content: &str) -> ToolResult {
    ToolResult { call_id: call_id.to_owned(), content: Arc::from(raw(content)), is_error: false }
}

fn request(model: &str, items: Vec<Item>) -> Request {
    Request {
        model: model.to_owned(),
        spec: Catalog::built_in().spec(model),
        effort: None,
        fast: false,
        inference_geo: None,
        system: String::new(),
        tools: Vec::new().into(),
        items,
    }
}

fn natives(response: &Response) -> Vec<&str> {
    response.blocks.iter().map(|Block { native, .. }| native.get()).collect()
}
