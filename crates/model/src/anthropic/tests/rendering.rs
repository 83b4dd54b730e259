//! What a request looks like on the wire.

use std::sync::Arc;

use serde_json::{Value, value::RawValue};

use super::{GOLDEN, answer};
use crate::golden::{natives, raw, request, result, user};
use crate::{
    Effort, Event, Item, ModelSpec, Request, ToolSpec,
    anthropic::{render, request::betas},
    content::{NO_DOCUMENT, NO_IMAGE},
};

const MARKER: &str = r#","cache_control":{"type":"ephemeral"}"#;

fn text(request: &Request) -> String {
    let body = render("anthropic", request).bytes;
    assert_eq!(body, render("anthropic", request).bytes, "pure");
    serde_json::from_slice::<&RawValue>(&body).expect("valid JSON");
    String::from_utf8(body.to_vec()).unwrap()
}

fn json(request: &Request) -> Value {
    serde_json::from_str(&text(request)).unwrap()
}

fn tool(name: &str) -> ToolSpec {
    ToolSpec {
        name: name.to_owned(),
        description: "Does \"it\".".to_owned(),
        input_schema: raw(r#"{"type":"object","maximum":123456789012345678901234}"#),
    }
}

fn full() -> Request {
    let mut request = request(
        "claude-opus-5-5",
        vec![
            user("one"),
            answer(&[r#"{"type":"tool_use","id":"toolu_1","name":"a","input":{}}"#]),
            Item::ToolResults(vec![result("toolu_1", r#"[{"type":"text","text":"done"}]"#)]),
        ],
    );
    request.system = "Be \"good\".".to_owned();
    request.tools = vec![tool("a"), tool("b")].into();
    request
}

#[test]
fn a_whole_request_to_the_byte() {
    assert_eq!(
        text(&full()),
        concat!(
            r#"{"model":"claude-opus-5-5","max_tokens":128000,"stream":true,"#,
            r#""thinking":{"type":"adaptive","block_binding":{"prefix_mismatch_behavior":"drop_block"}},"#,
            r#""system":[{"type":"text","text":"Be \"good\".","cache_control":{"type":"ephemeral"}}],"#,
            r#""tools":[{"name":"a","description":"Does \"it\".","input_schema":{"type":"object","maximum":123456789012345678901234}},"#,
            r#"{"name":"b","description":"Does \"it\".","input_schema":{"type":"object","maximum":123456789012345678901234},"cache_control":{"type":"ephemeral"}}],"#,
            r#""messages":[{"role":"user","content":[{"type":"text","text":"one","cache_control":{"type":"ephemeral"}}]},"#,
            r#"{"role":"assistant","content":[{"type":"tool_use","id":"toolu_1","name":"a","input":{}}]},"#,
            r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":[{"type":"text","text":"done"}],"cache_control":{"type":"ephemeral"}}]}]}"#,
        )
    );
}

#[test]
fn consecutive_requests_differ_in_markers_only() {
    let mut items = vec![
        user("one"),
        answer(&[
            r#"{"type":"thinking","thinking":"","signature":"s"}"#,
            r#"{"type":"text","text":"a"}"#,
        ]),
        Item::ToolResults(vec![
            result("toolu_1", "[]"),
            result("toolu_2", r#"[{"type":"text","text":""}]"#),
        ]),
        user("two"),
        Item::System("Be brief.".to_owned()),
        answer(&[r#"{"type":"text","text":""}"#]),
        user("three"),
        answer(&[r#"{"type":"text","text":"b"}"#]),
        Item::System("Alone.".to_owned()),
        answer(&[r#"{"type":"text","text":"c"}"#]),
        user("four"),
    ];
    let mut base = full();
    let mut longer: Option<String> = None;
    while !items.is_empty() {
        base.items = items.clone();
        let body = text(&base);
        assert!(body.matches(MARKER).count() <= 4, "{body}");
        if !matches!(items.last(), Some(Item::Assistant { .. })) {
            assert_eq!(
                body.matches(MARKER).count(),
                if items.len() == 1 { 3 } else { 4 },
                "{body}"
            );
        }
        let plain = body.replace(MARKER, "");
        let stem = plain.trim_end_matches(['}', ']']).to_owned();
        if let Some(longer) = &longer {
            assert!(longer.starts_with(&stem), "{stem}\n{longer}");
        }
        longer = Some(plain);
        items.pop();
    }
}

#[test]
fn the_end_of_the_request_before_keeps_its_marker() {
    let mut first = request("claude-opus-5", vec![user("one"), Item::System("Be brief.".into())]);
    let before = text(&first);
    first.items.extend([answer(&[r#"{"type":"text","text":"a"}"#]), user("two")]);
    let after = text(&first);
    assert!(after.starts_with(before.strip_suffix("]}").unwrap()), "{before}\n{after}");
    assert_eq!(after.matches(MARKER).count(), 2);
}

#[tokio::test]
async fn responses_are_replayed_to_the_letter() {
    for name in GOLDEN.names {
        let mut events = GOLDEN.decode(vec![GOLDEN.bytes(name)]).await;
        let Some(Event::Ended(response)) = events.pop() else {
            continue;
        };
        let kept: Vec<&str> = natives(&response)
            .into_iter()
            .filter(|native| *native != r#"{"type":"text","text":""}"#)
            .collect();
        let items = vec![user("go"), answer(&natives(&response)), user("on")];
        let body = text(&request("claude-opus-5", items));
        let message = format!(r#"{{"role":"assistant","content":[{}]}}"#, kept.join(","));
        assert!(body.contains(&message), "{name}: {message}\n{body}");
    }
}

#[test]
fn results_come_first_and_the_users_words_behind_them_in_one_message() {
    let mut failed = result("toolu_2", "[]");
    failed.is_error = true;
    let body = json(&request(
        "claude-opus-5",
        vec![
            user("go"),
            answer(&[r#"{"type":"tool_use","id":"toolu_1","name":"a","input":{}}"#]),
            user("early"),
            Item::ToolResults(vec![
                result("toolu_1", r#"[{"type":"text","text":""},{"type":"text","text":"x"}]"#),
                failed,
            ]),
            user("late"),
        ],
    ));
    let message = &body["messages"][2];
    assert_eq!(message["role"], "user");
    let content = message["content"].as_array().unwrap();
    assert_eq!(content.len(), 4);
    assert_eq!(content[0]["tool_use_id"], "toolu_1");
    assert_eq!(content[0]["content"].as_array().unwrap().len(), 1);
    assert_eq!(content[1]["is_error"], true);
    assert_eq!(content[1].get("content"), None);
    assert_eq!(content[2]["text"], "early");
    assert_eq!(content[3]["text"], "late");
    assert_eq!(body["messages"].as_array().unwrap().len(), 3);
}

#[test]
fn system_items_follow_the_user_in_one_message() {
    let items = vec![
        Item::System("First.".into()),
        user("one"),
        Item::System("Second.".into()),
        answer(&[r#"{"type":"text","text":"a"}"#]),
        Item::System("Third.".into()),
    ];
    let body = json(&request("claude-opus-5", items.clone()));
    let roles: Vec<&str> = body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["role"].as_str().unwrap())
        .collect();
    // Behind a response a system message is not allowed.
    assert_eq!(roles, ["user", "system", "assistant", "user"]);
    let system = &body["messages"][1]["content"];
    assert_eq!(system[0]["text"], "First.");
    assert_eq!(system[1]["text"], "Second.");
    assert_eq!(system[1]["cache_control"]["type"], "ephemeral");
    assert_eq!(body.get("system"), None);

    let body = json(&request("claude-sonnet-4-6", items));
    let texts: Vec<&str> = body["system"]
        .as_array()
        .unwrap()
        .iter()
        .map(|block| block["text"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["First.", "Second.", "Third."]);
    // A response must not be left at the end, which this model would refuse.
    assert_eq!(body["messages"].as_array().unwrap().len(), 3);
    assert_eq!(body["messages"][2]["role"], "user");
    assert_eq!(body["messages"][2]["content"][0]["text"], "Go on.");
}

#[test]
fn a_paused_response_ends_the_request_unmarked() {
    let paused = r#"{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{}}"#;
    let body = text(&request(
        "claude-opus-5",
        vec![
            user("one"),
            answer(&[r#"{"type":"text","text":"a"}"#]),
            user("two"),
            answer(&[paused]),
        ],
    ));
    assert!(
        body.ends_with(&format!(r#"{{"role":"assistant","content":[{paused}]}}]}}"#)),
        "{body}"
    );
    assert_eq!(body.matches(MARKER).count(), 2);
}

#[test]
fn what_another_provider_said_is_told_as_far_as_it_can_be_read() {
    let foreign = Item::Assistant {
        provider: "elsewhere".into(),
        wire: crate::WireKind::Anthropic,
        blocks: [
            r#"{"type":"thinking","thinking":"hm","signature":"x"}"#,
            r#"{"type":"text","text":"caf\u00e9","annotations":[1]}"#,
            r#"{"id":"call_1","type":"tool_use","name":"a","input":{"n":12345678901234567890123},"extra":1}"#,
            r#"{"type":"new","text":"x"}"#,
        ]
        .iter()
        .map(|block| raw(block))
        .collect(),
    };
    let only_thinking = Item::Assistant {
        provider: "elsewhere".into(),
        wire: crate::WireKind::Anthropic,
        blocks: [raw(r#"{"type":"thinking","thinking":"hm"}"#)].into_iter().collect(),
    };
    let body = text(&request("claude-opus-5", vec![user("go"), only_thinking, foreign]));
    assert!(body.contains(concat!(
        r#"{"role":"assistant","content":[{"type":"text","text":"café"},"#,
        r#"{"type":"tool_use","id":"call_1","name":"a","input":{"n":12345678901234567890123}}]}"#
    )), "{body}");
    assert_eq!(body.matches("assistant").count(), 1);
}

#[test]
fn a_users_blocks_pass_as_they_are() {
    let blocks = r#"[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}, {"type":"text","text":"say \"cache_control\"","n":1.10}, {"type":"text","text":""}]"#;
    let body = text(&request("claude-opus-5", vec![Item::User(Arc::from(raw(blocks)))]));
    assert!(body.contains(r#"[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}},{"type":"text","text":"say \"cache_control\"","n":1.10,"cache_control":{"type":"ephemeral"}}]"#), "{body}");

    let own = r#"[{"type":"text","text":"a","cache_control":{"type":"ephemeral","ttl":"1h"}}]"#;
    let body = text(&request("claude-opus-5", vec![Item::User(Arc::from(raw(own)))]));
    assert!(body.contains(own), "{body}");

    let plain = text(&request("claude-opus-5", vec![Item::User(Arc::from(raw(r#""hello""#)))]));
    assert!(plain.contains(r#"{"type":"text","text":"hello","cache_control""#), "{plain}");
}

#[test]
fn what_a_model_cannot_see_is_a_sentence() {
    let image = r#"{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}}"#;
    let pdf = r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"AA=="}}"#;
    let text =
        r#"{"type":"document","source":{"type":"text","media_type":"text/plain","data":"d"}}"#;
    let both = format!("[{image},{pdf},{text}]");
    let mut asked = request(
        "claude-opus-5",
        vec![
            Item::User(Arc::from(raw(&both))),
            answer(&[r#"{"type":"tool_use","id":"toolu_1","name":"a","input":{}}"#]),
            Item::ToolResults(vec![result("toolu_1", &both)]),
        ],
    );
    let body = |request: &Request| json(request)["messages"].to_string();
    assert!(!body(&asked).contains("There was"));
    let spec = ModelSpec::clone(&asked.spec);
    asked.spec = Arc::new(ModelSpec { images: false, documents: false, ..spec });
    let body = body(&asked);
    assert_eq!(body.matches(NO_IMAGE).count(), 2);
    assert_eq!(body.matches(NO_DOCUMENT).count(), 2);
    assert_eq!(body.matches("text/plain").count(), 2);
    assert!(!body.contains("example.com") && !body.contains("application/pdf"));
}

#[test]
fn thinking_and_effort_follow_the_model() {
    let with = |model: &str, effort| {
        let mut request = request(model, vec![user("go")]);
        request.effort = effort;
        json(&request)
    };
    let body = with("claude-opus-5", Some(Effort::Xhigh));
    assert_eq!(body["thinking"], serde_json::json!({"type": "adaptive"}));
    assert_eq!(body["output_config"]["effort"], "xhigh");
    assert_eq!(with("claude-opus-5", None).get("output_config"), None);
    assert_eq!(with("claude-opus-4-6", Some(Effort::Xhigh))["output_config"]["effort"], "high");

    let body = with("claude-haiku-4-5-20251001", None);
    assert_eq!(body["max_tokens"], 64_000);
    assert_eq!(body["thinking"], serde_json::json!({"type": "enabled", "budget_tokens": 16_384}));
    let body = with("claude-haiku-4-5", Some(Effort::Low));
    assert_eq!(body["thinking"]["budget_tokens"], 2_048);
    assert_eq!(body.get("output_config"), None);

    let body = with("unheard-of", Some(Effort::Max));
    assert_eq!(body.get("thinking"), None);
    assert_eq!(body["max_tokens"], 32_000);
    assert_eq!(body["output_config"]["effort"], "max");
}

#[test]
fn beta_headers_come_from_the_head_of_the_body_alone() {
    let asked = |request: &Request| betas(&render("anthropic", request).bytes);
    let mut plain = request("claude-opus-5", vec![user(r#"\",\"speed\":\"fast\""#)]);
    plain.system = r#","speed":"fast""#.to_owned();
    assert_eq!(asked(&plain), None);
    plain.model = r#"[x","speed":"fast""#.to_owned();
    assert_eq!(asked(&plain), None);
    plain.fast = true;
    plain.inference_geo = Some("us".to_owned());
    assert_eq!(json(&plain)["speed"], "fast");
    assert_eq!(json(&plain)["inference_geo"], "us");
    assert_eq!(asked(&plain).as_deref(), Some("fast-mode-2026-02-01"));
    let mut bound = request("claude-opus-5-5", vec![user("go")]);
    assert_eq!(asked(&bound).as_deref(), Some("thinking-binding-controls-2026-08-01"));
    bound.fast = true;
    assert_eq!(
        asked(&bound).as_deref(),
        Some("thinking-binding-controls-2026-08-01,fast-mode-2026-02-01")
    );
}
