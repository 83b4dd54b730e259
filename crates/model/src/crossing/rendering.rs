//! Conversations that several providers have had, rendered for each of them.

use std::sync::Arc;

use serde_json::{Value, value::RawValue};

use super::{
    Chance, SPEAKERS, Speaker,
    bodies::{check, own_ids},
    conversations::{Maker, TOOLS, asked},
};
use crate::{
    Item, Request, WireKind,
    golden::{answer, raw, request, user},
    openai_chat,
    portable::Portable,
};

/// How many conversations are made.
const CONVERSATIONS: u64 = 16;

/// The marker that moves on with an Anthropic conversation.
const MARKER: &str = r#","cache_control":{"type":"ephemeral"}"#;

#[tokio::test]
async fn every_wire_renders_every_conversation() {
    let mut maker = Maker::new().await;
    for seed in 0..CONVERSATIONS {
        let items = maker.items(&mut Chance(seed)).await;
        for speaker in SPEAKERS {
            let hint = format!("seed {seed}, {}", speaker.name);
            let request = asked(speaker, items.clone(), seed);
            check(speaker, &request, &hint);
            own_blocks_stand_in_their_place(speaker, &request, &hint);
            nobody_reads_anothers_thinking(speaker, &request, &hint);
            past_calls_bear_their_tools_names(speaker, &request, &hint);
            the_beginning_stays(speaker, &request, seed, &hint);
        }
    }
}

fn is_own(speaker: Speaker, item: &Item) -> bool {
    matches!(item, Item::Assistant { provider, wire, .. }
        if **provider == *speaker.name && *wire == speaker.kind)
}

fn blocks(item: &Item) -> &[Box<RawValue>] {
    match item {
        Item::Assistant { blocks, .. } => blocks,
        _ => &[],
    }
}

fn rendered(speaker: Speaker, request: &Request) -> String {
    let body = speaker.wire().render(speaker.name, request);
    String::from_utf8(body.bytes.to_vec()).unwrap()
}

fn own_blocks_stand_in_their_place(speaker: Speaker, request: &Request, hint: &str) {
    let body = rendered(speaker, request);
    let mut rest = &*body;
    for block in request.items.iter().filter(|item| is_own(speaker, item)).flat_map(blocks) {
        let json: Value = serde_json::from_str(block.get()).unwrap_or_default();
        let mut expected = vec![block.get().to_owned()];
        match speaker.kind {
            // The API refuses its own empty texts.
            WireKind::Anthropic if json["type"] == "text" && json["text"] == "" => continue,
            // What of it goes back has tests of its own.
            WireKind::OpenaiResponses if json["type"] == "reasoning" => continue,
            // A model that had no signatures may be followed by one that wants them.
            WireKind::Gemini if !json["functionCall"].is_null() => {
                expected = vec![block.get().strip_suffix('}').unwrap().to_owned()];
            }
            WireKind::OpenaiChat => {
                expected = members_of_chat(block, &json);
                // The members of a message merge, so the places of blocks are those of members.
                rest = &body;
            }
            _ => {}
        }
        for expected in expected {
            let at = rest.find(&expected).unwrap_or_else(|| panic!("{hint}: {expected} in {rest}"));
            if speaker.kind != WireKind::OpenaiChat {
                rest = &rest[at + expected.len()..];
            }
        }
    }
}

/// What every server of Chat Completions takes back.
fn members_of_chat(block: &RawValue, json: &Value) -> Vec<String> {
    let inner = |begin: &str, end: &str| {
        let inner = block.get().strip_prefix(begin).and_then(|rest| rest.strip_suffix(end));
        vec![inner.unwrap().to_owned()]
    };
    if json["content"].is_string() {
        return inner(r#"{"content":""#, r#""}"#);
    }
    if json["tool_calls"].is_array() {
        return inner(r#"{"tool_calls":["#, "]}");
    }
    Vec::new()
}

/// Strings that only the provider that sent them may see again.
fn secrets(item: &Item) -> Vec<String> {
    fn walk(json: &Value, member: &str, all: bool, found: &mut Vec<String>) {
        match json {
            Value::String(text) => {
                let sealed = ["signature", "thoughtSignature", "encrypted_content", "data"];
                if (all || sealed.contains(&member)) && text.len() >= 12 {
                    found.push(text.clone());
                }
            }
            Value::Array(list) => list.iter().for_each(|json| walk(json, member, all, found)),
            Value::Object(members) => {
                for (name, json) in members {
                    walk(json, name, all && name != "type", found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    for block in blocks(item) {
        // Some have numbers that no machine knows.
        let Ok(json) = serde_json::from_str::<Value>(block.get()) else { continue };
        let members = json.as_object().unwrap();
        let thinks = members.keys().any(|name| name.starts_with("reasoning"))
            || json["thought"] == true
            || ["thinking", "redacted_thinking", "reasoning"]
                .contains(&json["type"].as_str().unwrap_or_default());
        walk(&json, "", thinks, &mut found);
    }
    found
}

fn nobody_reads_anothers_thinking(speaker: Speaker, request: &Request, hint: &str) {
    let body = rendered(speaker, request);
    let of = |own: bool| {
        let items = request.items.iter().filter(move |item| is_own(speaker, item) == own);
        items.flat_map(secrets).collect::<Vec<String>>()
    };
    let own = of(true);
    for secret in of(false) {
        let known = own.iter().any(|own| own.contains(&secret));
        assert!(known || !body.contains(&secret), "{hint}: {secret} in {body}");
    }
}

fn past_calls_bear_their_tools_names(speaker: Speaker, request: &Request, hint: &str) {
    let body = rendered(speaker, request);
    for item in &request.items {
        let Item::ToolResults(results) = item else { continue };
        for result in results.iter().filter(|result| TOOLS.contains(&&*result.name)) {
            let name = format!(r#""name":"{}""#, speaker.sent(&result.name));
            assert!(body.contains(&name), "{hint}: {name} in {body}");
        }
    }
    for name in TOOLS {
        for theirs in SPEAKERS.map(|other| other.sent(name)) {
            let foreign = theirs != speaker.sent(name);
            let called = format!(r#""name":"{theirs}""#);
            assert!(!foreign || !body.contains(&called), "{hint}: {called} in {body}");
        }
    }
}

#[test]
fn an_answer_that_somebody_else_has_paused_goes_on() {
    let text = r#"{"type":"text","text":"Half of "}"#;
    let mut items = vec![user("go"), answer(WireKind::Anthropic, &[text])];
    for speaker in SPEAKERS {
        let body = rendered(speaker, &request("claude-opus-5-5", items.clone()));
        let ends_well = match speaker.name {
            // Its own is sent back as it is, and the Responses API takes any.
            "anthropic" => body.ends_with(&format!("{text}]}}]}}")),
            "openai_responses" => body.ends_with(r#""content":"Half of "}]}"#),
            _ => body.contains("Go on."),
        };
        assert!(ends_well, "{}: {body}", speaker.name);
    }
    // Who has gone on is sent the same again.
    let native = r#"{"content":"it."}"#;
    items.push(answer(WireKind::OpenaiChat, &[native]));
    items.push(user("thanks"));
    let speaker = Speaker::new("openai_chat", WireKind::OpenaiChat);
    let (_, older) = check(speaker, &request("m", items[..2].to_vec()), "older");
    let (_, newer) = check(speaker, &request("m", items), "newer");
    assert_eq!(older[..], newer[..3]);
}

/// Each request that was made in the course of a conversation is the beginning of the last one.
fn the_beginning_stays(speaker: Speaker, request: &Request, seed: u64, hint: &str) {
    let (head, messages) = unmarked(check(speaker, request, hint));
    let items = &request.items;
    for at in 1..items.len() {
        // One that has nothing to say lets what users say before and behind it meet.
        let answered = matches!(&items[at], Item::Assistant { wire, blocks, .. }
            if blocks.iter().any(|block| wire.portable(block).is_some()));
        let spoken = !matches!(items[at - 1], Item::Assistant { .. });
        if !(answered && spoken) || meets(speaker, &items[..at], &items[at..]) {
            continue;
        }
        let older = asked(speaker, items[..at].to_vec(), seed);
        let hint = format!("{hint}, {at} of {} items", items.len());
        let (older_head, older) = unmarked(check(speaker, &older, &hint));
        let told = items[at..].iter().any(|item| matches!(item, Item::System(_)));
        assert!(told || older_head == head, "{hint}");
        // Of the chat's messages, the first may hold the operator's texts.
        let privileged = |messages: &[String]| {
            let first = messages.first().map_or("", String::as_str);
            usize::from(
                first.contains(r#""role":"system""#) || first.contains(r#""role":"developer""#),
            )
        };
        let skipped = |messages: &[String]| if told { privileged(messages) } else { 0 };
        let (older, newer) = (&older[skipped(&older)..], &messages[skipped(&messages)..]);
        for (older, newer) in older.iter().zip(newer) {
            assert_eq!(older, newer, "{hint}");
        }
        assert!(older.len() <= newer.len(), "{hint}: {older:?} {newer:?}");
    }
}

fn unmarked((head, messages): (String, Vec<String>)) -> (String, Vec<String>) {
    let messages = messages.iter().map(|message| message.replace(MARKER, "")).collect();
    (head, messages)
}

/// Whether an id that this speaker gives later is one that it was sent for a foreign call before:
/// the one case in which the past has to change.
fn meets(speaker: Speaker, before: &[Item], after: &[Item]) -> bool {
    let given = own_ids(speaker, after);
    let foreign = before.iter().filter_map(|item| match item {
        Item::Assistant { wire, blocks, .. } => Some((wire, blocks)),
        _ => None,
    });
    let mut portable =
        foreign.flat_map(|(wire, blocks)| blocks.iter().filter_map(|block| wire.portable(block)));
    portable
        .any(|block| matches!(block, Portable::ToolUse { call_id, .. } if given.contains(&call_id)))
}

#[test]
fn conversations_of_next_to_nothing_are_rendered() {
    let nothing = Item::User(Arc::from(raw("[]")));
    let system = || Item::System("Be brief.".to_owned());
    let none = Item::Assistant {
        provider: "nobody".into(),
        wire: WireKind::Gemini,
        blocks: Vec::new().into(),
    };
    let text = r#"{"type":"text","text":"Half of "}"#;
    let paused = || answer(WireKind::Anthropic, &[text]);
    let conversations = [
        vec![],
        vec![nothing.clone()],
        vec![system()],
        vec![system(), system()],
        vec![system(), nothing, system()],
        vec![none.clone()],
        vec![user("go"), none],
        vec![paused()],
        vec![user("go"), paused()],
        vec![user("go"), paused(), paused(), system()],
        vec![Item::ToolResults(Vec::new())],
        vec![user("go"), Item::ToolResults(Vec::new()), user("on")],
    ];
    for (index, items) in conversations.into_iter().enumerate() {
        for server in openai_chat::servers() {
            check(
                Speaker::chat(server),
                &request("m", items.clone()),
                &format!("{index} {server}"),
            );
        }
        for speaker in SPEAKERS {
            for seed in 0..8 {
                let request = asked(speaker, items.clone(), seed);
                check(speaker, &request, &format!("{index} {}", speaker.name));
            }
        }
    }
}
