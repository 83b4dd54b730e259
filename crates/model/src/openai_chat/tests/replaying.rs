//! Responses on their way back: to the server that sent them, and to other models.

use serde_json::{Value, value::RawValue};

use super::{GOLDEN, answer, body, call, json};
use crate::{
    Event, Item, WireKind,
    golden::{self, natives, request, result, user},
};

/// The message into which a recording's blocks merge for a server.
fn replayed(server: &str, blocks: &[&str]) -> String {
    let items = vec![user("go"), answer(blocks), user("on")];
    let body = body(server, &request("some-model", items));
    let from = body.find(r#"{"role":"assistant""#).expect("a message");
    let to = body.find(r#",{"role":"user","content":"on"}"#).unwrap();
    body[from..to].to_owned()
}

#[tokio::test]
async fn responses_are_replayed_to_the_letter() {
    for name in GOLDEN.names {
        let mut events = GOLDEN.decode(vec![GOLDEN.bytes(name)]).await;
        let Some(Event::Ended(response)) = events.pop() else {
            continue;
        };
        let natives = natives(&response);
        let message = replayed("unknown", &natives);
        for native in &natives {
            let members: std::collections::BTreeMap<String, &RawValue> =
                serde_json::from_str(native).unwrap();
            assert_eq!(members.len(), 1, "{name}: {native}");
            for (member, value) in members {
                // Fragments of one member meet inside of its quotes or brackets.
                let inner = value.get().trim_matches(['[', ']', '"']);
                let text_beside_parts = format!(r#""text":"{inner}""#);
                assert!(
                    message.contains(inner) || message.contains(&text_beside_parts),
                    "{name}: {inner}\n{message}"
                );
                assert_eq!(
                    message.matches(&format!(r#""{member}":"#)).count(),
                    1,
                    "{name}: {message}"
                );
            }
        }
    }
}

#[test]
fn fragments_merge_into_one_message_in_their_order() {
    let blocks = [
        r#"{"reasoning":"a \u00e9"}"#,
        r#"{"content":"b"}"#,
        r#"{"reasoning":"c"}"#,
        r#"{"content":"d\n"}"#,
        &call("call_1"),
        r#"{"audio":{"id":"a1","n":1.10}}"#,
        &call("call_2"),
    ];
    let calls = [call("call_1"), call("call_2")].map(|call| {
        call.trim_start_matches(r#"{"tool_calls":["#).trim_end_matches("]}").to_owned()
    });
    assert_eq!(
        replayed("unknown", &blocks),
        format!(
            r#"{{"role":"assistant","reasoning":"a \u00e9c","content":"bd\n","tool_calls":[{}],"audio":{{"id":"a1","n":1.10}}}}"#,
            calls.join(",")
        )
    );
}

#[test]
fn text_between_parts_becomes_a_part() {
    let part = r#"{"type":"thinking","thinking":[{"type":"text","text":"hm"}]}"#;
    let blocks = [
        &*format!(r#"{{"content":[{part}]}}"#),
        r#"{"content":"a \"b\""}"#,
        r#"{"content":[{"type":"reference","reference_ids":[1.0]}]}"#,
    ];
    assert_eq!(
        replayed("mistral", &blocks),
        format!(
            r#"{{"role":"assistant","content":[{part},{{"type":"text","text":"a \"b\""}},{{"type":"reference","reference_ids":[1.0]}}]}}"#
        )
    );
}

#[test]
fn each_server_gets_back_what_it_takes() {
    let blocks = [
        r#"{"reasoning":"r"}"#,
        r#"{"reasoning_content":"rc"}"#,
        r#"{"refusal":"no"}"#,
        r#"{"audio":{"id":"a"}}"#,
        &call("call_1"),
    ];
    let members = |server: &str| -> Vec<String> {
        let message: Value = serde_json::from_str(&replayed(server, &blocks)).unwrap();
        let mut members: Vec<String> = message.as_object().unwrap().keys().cloned().collect();
        members.retain(|member| !["role", "content", "tool_calls"].contains(&&**member));
        members.sort();
        members
    };
    assert_eq!(members("unknown"), ["audio", "reasoning", "reasoning_content", "refusal"]);
    assert_eq!(members("openai"), ["refusal"]);
    assert_eq!(members("groq"), ["reasoning"]);
    assert_eq!(members("deepseek"), ["reasoning_content"]);
    assert_eq!(members("mistral"), Vec::<String>::new());
    let message = |server: &str| replayed(server, &[&call("call_1")]);
    assert!(message("openai").starts_with(r#"{"role":"assistant","content":null,"tool_calls":["#));
    assert!(message("mistral").starts_with(r#"{"role":"assistant","content":"","tool_calls":["#));
    assert!(message("deepseek").starts_with(
        r#"{"role":"assistant","reasoning_content":"","content":null,"tool_calls":["#
    ));
}

#[test]
fn thinking_alone_is_no_message() {
    for thinking in [r#"{"reasoning":"hm"}"#, r#"{"thinking":"hm"}"#, r#"{"thinking_blocks":[{}]}"#]
    {
        let items = vec![user("go"), answer(&[thinking]), user("on")];
        let body = body("unknown", &request("some-model", items));
        let merged = r#""messages":[{"role":"user","content":"go\n\non"}]}"#;
        assert!(body.ends_with(merged), "{body}");
    }
}

#[test]
fn a_turn_of_another_provider_is_told_with_ids_that_fit() {
    let foreign = golden::answer(
        WireKind::Anthropic,
        &[
            r#"{"type":"thinking","thinking":"hm","signature":"x"}"#,
            r#"{"type":"text","text":"One."}"#,
            r#"{"type":"text","text":"Two."}"#,
            r#"{"type":"tool_use","id":"toolu_01","name":"look up","input":{"n":12345678901234567890123}}"#,
            r#"{"type":"tool_use","id":"toolu_02","name":"lookup","input":{}}"#,
        ],
    );
    let picture =
        r#"[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}]"#;
    let mut failed = result("toolu_02", r#"[{"type":"text","text":"broke"}]"#);
    failed.is_error = true;
    let mut shown = result("toolu_01", picture);
    shown.name = "look up".into();
    let items = vec![
        user("go"),
        foreign,
        Item::ToolResults(vec![shown, failed]),
        answer(&[&call("abcDEF123")]),
        Item::ToolResults(vec![result("abcDEF123", "[]")]),
        user("on"),
    ];
    let request = request("some-model", items);
    for server in crate::openai_chat::servers() {
        let body = json(server, &request);
        let messages = body["messages"].as_array().unwrap();
        let turn = &messages[1];
        assert_eq!(turn["content"], "One.\n\nTwo.", "{server}");
        assert!(
            turn["tool_calls"][0]["function"]["name"].as_str().unwrap().starts_with("look_up_")
        );
        assert_eq!(
            turn["tool_calls"][0]["function"]["arguments"],
            r#"{"n":12345678901234567890123}"#
        );
        let id = |at: usize| turn["tool_calls"][at]["id"].as_str().unwrap();
        assert_eq!(messages[2]["tool_call_id"], id(0), "{server}");
        assert_eq!(messages[3]["tool_call_id"], id(1), "{server}");
        assert_eq!(messages[3]["content"], "The tool failed:\n\nbroke");
        if server == "mistral" {
            assert_ne!(id(0), id(1));
            for at in [0, 1] {
                assert_eq!(id(at).len(), 9);
                assert!(id(at).bytes().all(|byte| byte.is_ascii_alphanumeric()));
            }
            assert_eq!(messages[2]["name"], turn["tool_calls"][0]["function"]["name"]);
            // Between results and a user stands an answer.
            let roles: Vec<&str> =
                messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
            assert_eq!(
                roles,
                [
                    "user",
                    "assistant",
                    "tool",
                    "tool",
                    "assistant",
                    "user",
                    "assistant",
                    "tool",
                    "assistant",
                    "user"
                ]
            );
        } else {
            assert_eq!(id(0), "toolu_01");
        }
        let signed = turn["tool_calls"][0].get("extra_content").is_some();
        assert_eq!(signed, server == "gemini", "{server}");
        assert_eq!(turn["tool_calls"][1].get("extra_content"), None);
    }
}

#[tokio::test]
async fn other_wires_are_told_what_can_be_read() {
    let mut told = Vec::new();
    for name in ["reasoning_details", "refusal", "thinking_parts", "input_not_an_object"] {
        let mut events = GOLDEN.decode(vec![GOLDEN.bytes(name)]).await;
        let Some(Event::Ended(response)) = events.pop() else { panic!("{name}") };
        let items = vec![user("go"), answer(&natives(&response)), user("on")];
        let body = WireKind::Anthropic.wire().render("anthropic", &request("claude-opus-5", items));
        let body: Value = serde_json::from_slice(&body.bytes).unwrap();
        told.push(body["messages"][1]["content"].to_string());
    }
    assert_eq!(
        told,
        [
            r#"[{"type":"text","text":"Looking."},{"type":"tool_use","id":"toolu_1","name":"lookup","input":{"q":1}}]"#,
            r#"[{"type":"text","text":"I can't help with that."}]"#,
            r#"[{"type":"text","text":"So be it."}]"#,
            concat!(
                r#"[{"type":"tool_use","id":"call_1","name":"read","input":{}},"#,
                r#"{"type":"tool_use","id":"call_2","name":"read","input":{}},"#,
                r#"{"type":"tool_use","id":"call_3","name":"read","input":{}}]"#
            ),
        ]
        .map(|content| serde_json::from_str::<Value>(content).unwrap().to_string())
    );
}
