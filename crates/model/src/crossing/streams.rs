//! Streams that a broken or hostile provider sends: recordings with something wrong in them.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Value, json, value::RawValue};

use super::{
    Chance, SPEAKERS, Speaker,
    bodies::check,
    conversations::{answer, asked, shown},
    decode, recordings,
};
use crate::{
    Block, BlockKind, Event, View, WireKind,
    golden::{lines, user},
};

/// How often each recording is broken.
const TIMES: u64 = 40;

/// Values where others are due.
const ODD: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-1",
    "18446744073709551615",
    "18446744073709551616",
    "1e999",
    "0.5",
    r#""""#,
    r#""\ud800""#,
    r#""\u0000\n""#,
    r#""[DONE]""#,
    r#""text""#,
    r#""tool_use""#,
    "[]",
    "{}",
    "[[]]",
    r#"["text"]"#,
    r#"["message","message"]"#,
    r#"[{"type":"text","text":"in a list"}]"#,
    r#"{"type":"text","type":"tool_use"}"#,
    r#"{"type":"tool_use","id":"x","name":"y","input":{},"input":{}}"#,
    r#"{"a":{"b":[1,2,{"c":null}]}}"#,
];

/// Frames from nowhere.
const FRAMES: &[&str] = &[
    "",
    "{",
    "[]",
    "[DONE]",
    "null",
    "\"text\"",
    "{}",
    "[[[[",
    r#"{"type":"error"}"#,
    r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#,
    r#"{"error":null}"#,
    r#"{"error":"busy"}"#,
    r#"{"error":429}"#,
    r#"{"error":{"code":503,"message":{"deep":[]},"status":"UNAVAILABLE"}}"#,
    r#"[{"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}]"#,
    r#"{"type":"message_stop"}"#,
    r#"{"type":"response.completed","response":{"output":[{"type":"function_call","call_id":"z","name":"lookup","arguments":"[1]"}]}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"z","name":"lookup","input":[]}}"#,
    r#"{"type":"content_block_start","index":0,"content_block":["text"]}"#,
    r#"{"type":"content_block_start","index":9,"content_block":{"type":"tool_use","id":"z","name":"lookup","input":{},"input":{}}}"#,
    r#"{"type":"content_block_start","index":9,"content_block":{"type":"tool_use","id":"z","name":"lookup","input":{"a":"\ud800"}}}"#,
    r#"{"type":"content_block_start","index":9,"content_block":{"type":"text","text":{}}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"odd","text":" odd","id":"9","input":"{","signature":["x"]}}"#,
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"odd","text":[1]}}"#,
    r#"{"type":"response.output_text.delta","output_index":9,"delta":"x"}"#,
    r#"{"type":"response.output_item.added","output_index":0,"item":["message"]}"#,
    r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":[{"type":"output_text","text":"another"}]}}"#,
    r#"{"choices":[{"index":0,"delta":{"content":7,"refusal":[1],"reasoning":true,"tool_calls":{"a":1}}}]}"#,
    r#"{"choices":[{"index":0,"delta":{"content":[{"type":"image_url"},{"type":"text","text":"x"}]}}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"z","function":{"name":"lookup","arguments":"{\"a\":\"\\ud800\"}"}}]}}]}"#,
    r#"{"choices":[{"index":0,"delta":{"tool_calls":"x"},"finish_reason":"tool_calls"}]}"#,
    r#"{"choices":[],"usage":{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615,"total_tokens":1}}"#,
    r#"{"usageMetadata":{"promptTokenCount":18446744073709551615,"toolUsePromptTokenCount":18446744073709551615,"candidatesTokenCount":18446744073709551615,"thoughtsTokenCount":9}}"#,
    r#"{"type":"message_delta","usage":{"input_tokens":18446744073709551615,"output_tokens":18446744073709551615,"cache_read_input_tokens":18446744073709551615}}"#,
    r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"lookup","args":[1]}},{"functionCall":{"name":5}},{"functionCall":["a"]}]}}]}"#,
    r#"{"candidates":[{"content":{"parts":[["text"],{},{"text":null},{"thought":true}]}}]}"#,
    r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"lookup","args":{"a":"\ud800"}}}]},"finishReason":"STOP"}]}"#,
];

/// The data of a recording's events.
fn frames(recording: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(recording).replace("\r\n", "\n").replace('\r', "\n");
    let data = text.split("\n\n").map(|event| {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
        lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
    });
    data.filter(|data| !data.is_empty()).collect()
}

fn stream(frames: &[String]) -> Vec<u8> {
    let event = |frame: &String| {
        let lines: String = frame.split('\n').map(|line| format!("data: {line}\n")).collect();
        format!("{lines}\n")
    };
    frames.iter().map(event).collect::<String>().into_bytes()
}

/// Breaks something.
fn broken(recording: &[u8], chance: &mut Chance) -> Vec<u8> {
    if chance.one_in(5) {
        let mut bytes = recording.to_vec();
        for _ in 0..=chance.below(3) {
            let at = chance.below(bytes.len());
            bytes[at] ^= 1 << chance.below(8);
        }
        return bytes;
    }
    let mut frames = frames(recording);
    for _ in 0..=chance.below(3) {
        if frames.is_empty() {
            break;
        }
        let (at, other) = (chance.below(frames.len()), chance.below(frames.len()));
        match chance.below(8) {
            0 => drop(frames.remove(at)),
            1 => frames.insert(other, frames[at].clone()),
            2 => frames.swap(at, other),
            3 => {
                let mut cut = chance.below(frames[at].len() + 1);
                while !frames[at].is_char_boundary(cut) {
                    cut -= 1;
                }
                frames[at].truncate(cut);
            }
            4 => frames.insert(at, (*chance.pick(FRAMES)).to_owned()),
            5 => frames.truncate(at),
            _ => frames[at] = odd(&frames[at], chance),
        }
    }
    stream(&frames)
}

/// A frame with one of its values replaced, textually, so that what JSON values can't hold can be
/// there.
fn odd(frame: &str, chance: &mut Chance) -> String {
    const HERE: &str = "HERE-IS-THE-ODD-VALUE";
    fn count(json: &Value) -> usize {
        1 + match json {
            Value::Array(list) => list.iter().map(count).sum::<usize>(),
            Value::Object(members) => members.values().map(count).sum::<usize>(),
            _ => 0,
        }
    }
    fn mark(json: &mut Value, left: &mut usize) {
        if *left == 0 {
            *json = HERE.into();
            *left = usize::MAX;
            return;
        }
        *left -= 1;
        match json {
            Value::Array(list) => list.iter_mut().for_each(|json| mark(json, left)),
            Value::Object(members) => members.values_mut().for_each(|json| mark(json, left)),
            _ => {}
        }
    }
    let Ok(mut json) = serde_json::from_str::<Value>(frame) else { return frame.to_owned() };
    let mut left = chance.below(count(&json));
    mark(&mut json, &mut left);
    let value = match chance.below(40) {
        0 => format!(r#""{}""#, "x".repeat(100_000)),
        1 => format!("{}{}", "[".repeat(20_000), "]".repeat(20_000)),
        2 => format!("{}1{}", r#"{"a":"#.repeat(20_000), "}".repeat(20_000)),
        _ => (*chance.pick(ODD)).to_owned(),
    };
    json.to_string().replace(&format!(r#""{HERE}""#), &value)
}

fn in_pieces(bytes: Vec<u8>, chance: &mut Chance) -> Vec<Bytes> {
    let mut rest = Bytes::from(bytes);
    let mut pieces = Vec::new();
    while !rest.is_empty() && pieces.len() < 9 {
        pieces.push(rest.split_to(chance.below(rest.len()) + 1));
    }
    pieces.push(rest);
    pieces
}

/// What is true of the events of any stream of that many bytes.
fn are_sound(speaker: Speaker, events: &[Event], bytes: usize, hint: &str) {
    let ends = |event: &&Event| matches!(event, Event::Ended(_) | Event::Failed(_));
    assert_eq!(events.iter().filter(ends).count(), 1, "{hint}");
    assert!(events.last().as_ref().is_some_and(ends), "{hint}");
    let mut begun: Vec<&BlockKind> = Vec::new();
    let mut told: HashMap<usize, String> = HashMap::new();
    for event in events {
        match event {
            Event::Started { index, kind } => {
                assert_eq!(*index, begun.len(), "{hint}");
                begun.push(kind);
            }
            Event::Text { index, text } => {
                assert_eq!(begun[*index], &BlockKind::Text, "{hint}");
                assert!(!text.is_empty(), "{hint}");
                told.entry(*index).or_default().push_str(text);
            }
            Event::Usage(usage) => {
                let mut sum = *usage;
                sum.add(usage);
                let _ = (usage.window_tokens(), sum.window_tokens());
            }
            Event::Ended(response) => {
                assert_eq!(response.blocks.len(), begun.len(), "{hint}");
                for (index, block) in response.blocks.iter().enumerate() {
                    let told = told.get(&index).map_or("", String::as_str);
                    is_sound(speaker, block, begun[index], told, hint);
                }
                let size: usize = response.blocks.iter().map(|it| it.native.get().len()).sum();
                assert!(size <= 4 * bytes + 1024, "{hint}: {size} of {bytes}");
            }
            Event::Failed(failure) => {
                assert!(failure.message.chars().count() < 1000, "{hint}: {}", failure.message);
                let _ = failure.usage.window_tokens();
            }
        }
    }
}

fn is_sound(speaker: Speaker, block: &Block, begun: &BlockKind, told: &str, hint: &str) {
    let native = block.native.get();
    assert!(native.starts_with('{'), "{hint}: {native}");
    serde_json::from_str::<&RawValue>(native).unwrap();
    match (&block.view, begun) {
        (View::Text(text), BlockKind::Text) => {
            // A message that comes whole may say something else than its deltas did.
            let whole = speaker.kind == WireKind::OpenaiResponses
                && said(native).is_none_or(|said| *text == said);
            assert!(text == told || whole, "{hint}: {told} in {native}");
        }
        (View::Thinking, BlockKind::Thinking) | (View::Opaque, BlockKind::Opaque) => {}
        (View::ToolUse { input, .. }, BlockKind::ToolUse { .. }) => {
            if let Some(input) = input {
                assert!(input.get().starts_with('{'), "{hint}: {input}");
                serde_json::from_str::<&RawValue>(input.get()).unwrap();
            }
        }
        (view, begun) => panic!("{hint}: {view:?} began as {begun:?} in {native}"),
    }
}

/// Whatever was kept can be sent on, to its provider and to others. Says whether anything was.
fn goes_on(speaker: Speaker, events: &[Event], seed: u64, hint: &str) -> bool {
    let Some(Event::Ended(response)) = events.last() else { return false };
    let mut chance = Chance(seed);
    let mut items = vec![user("go")];
    items.extend(answer(speaker, response, &mut chance));
    items.push(user("on"));
    for next in [speaker, *chance.pick(&SPEAKERS)] {
        let hint = format!("to {} {hint}: {:.2000?}", next.name, shown(&response.blocks));
        check(next, &asked(next, items.clone(), seed), &hint);
    }
    true
}

/// What a message of the Responses API says; `None` when half a character is in it.
fn said(native: &str) -> Option<String> {
    let json: Value = serde_json::from_str(native).ok()?;
    let parts = json["content"].as_array().into_iter().flatten();
    let texts = parts.flat_map(|part| [&part["text"], &part["refusal"]]);
    let texts = texts.chain([&json["content"]]);
    Some(texts.filter_map(Value::as_str).collect())
}

/// The servers of Chat Completions are read alike but for their ids.
fn readers() -> impl Iterator<Item = Speaker> {
    let same = |server| !["unknown", "mistral"].contains(&server);
    SPEAKERS.into_iter().filter(move |speaker| !speaker.server.is_some_and(same))
}

#[tokio::test]
async fn a_broken_stream_breaks_nothing_else() {
    let mut ended = 0_usize;
    for speaker in readers() {
        for (name, recording) in recordings(speaker.kind) {
            for seed in 0..TIMES {
                let mut chance = Chance(seed);
                let bytes = broken(&recording, &mut chance);
                let hint = format!("{name}, seed {seed}, {}", speaker.name);
                let length = bytes.len();
                let events = decode(speaker.wire(), in_pieces(bytes, &mut chance)).await;
                are_sound(speaker, &events, length, &hint);
                ended += usize::from(goes_on(speaker, &events, seed, &hint));
            }
        }
    }
    assert!(ended > 1000, "{ended} of the broken streams ended well");
}

#[tokio::test]
async fn any_frame_may_come_at_any_time() {
    for speaker in readers() {
        for (number, (name, recording)) in recordings(speaker.kind).into_iter().enumerate() {
            let frames = frames(&recording);
            let third = |(odd, _): &(usize, _)| (odd + number) % 3 == 0;
            for (odd, frame) in FRAMES.iter().enumerate().filter(third) {
                let at = odd % frames.len();
                let mut frames = frames.clone();
                frames.insert(at, (*frame).to_owned());
                let bytes = stream(&frames);
                let hint = format!("{frame} at {at} of {name}, {}", speaker.name);
                let length = bytes.len();
                let events = decode(speaker.wire(), vec![Bytes::from(bytes)]).await;
                are_sound(speaker, &events, length, &hint);
                goes_on(speaker, &events, odd as u64, &hint);
            }
        }
    }
}

#[tokio::test]
async fn a_long_text_comes_through() {
    let long = "ü\n".repeat(350_000);
    let text = |kind: WireKind| match kind {
        WireKind::Anthropic => vec![
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": long}}),
            json!({"type": "message_stop"}),
        ],
        WireKind::OpenaiResponses => {
            let content = json!([{"type": "output_text", "text": long}]);
            let item = json!({"type": "message", "content": content});
            vec![
                json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
                json!({"type": "response.completed", "response": {}}),
            ]
        }
        WireKind::OpenaiChat => vec![
            json!({"choices": [{"delta": {"content": long}}]}),
            json!({"choices": [{"finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}),
        ],
        WireKind::Gemini => vec![
            json!({"candidates": [{"content": {"parts": [{"text": long}]}, "finishReason": "STOP"}]}),
        ],
    };
    for kind in WireKind::ALL {
        let speaker = *SPEAKERS.iter().find(|speaker| speaker.kind == kind).unwrap();
        let frames: Vec<String> = text(speaker.kind).iter().map(Value::to_string).collect();
        let bytes = stream(&frames);
        let length = bytes.len();
        let events = decode(speaker.wire(), vec![Bytes::from(bytes)]).await;
        are_sound(speaker, &events, length, speaker.name);
        let Some(Event::Ended(response)) = events.last() else { panic!("{}", lines(&events)) };
        assert!(matches!(&response.blocks[0].view, View::Text(text) if *text == long));
    }
}
