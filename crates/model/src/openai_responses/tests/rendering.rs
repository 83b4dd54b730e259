//! What a request looks like on the wire.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json, value::RawValue};

use super::{GOLDEN, answer, rendered};
use crate::golden::{natives, raw, request, result, tool, user};
use crate::{Effort, Event, Item, ModelSpec, Request, WireKind};

const REASONING: &str =
    r#"{"id":"rs_1","type":"reasoning","encrypted_content":"gAAA","summary":[]}"#;

const CALL: &str = r#"{"id":"fc_1","type":"function_call","status":"completed","arguments":"{\"n\":1.10}","call_id":"call_1","name":"lookup"}"#;

fn text(request: &Request) -> String {
    let body = rendered(request).bytes;
    assert_eq!(body, rendered(request).bytes, "pure");
    serde_json::from_slice::<&RawValue>(&body).expect("valid JSON");
    String::from_utf8(body.to_vec()).unwrap()
}

fn json_of(request: &Request) -> Value {
    serde_json::from_str(&text(request)).unwrap()
}

/// Compares a request with the one in `tests_data`, which the types of the official SDK accept.
fn is_golden(name: &str, request: &Request) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests_data/openai_responses");
    let path = folder.join(format!("{name}.request.json"));
    let body = text(request);
    if std::env::var_os("POSTHOUSE_BLESS").is_some() {
        std::fs::write(&path, &body).unwrap();
    }
    assert_eq!(body, std::fs::read_to_string(&path).unwrap(), "{name}");
}

fn content(json: &str) -> Item {
    Item::User(Arc::from(raw(json)))
}

fn with_images() -> Item {
    content(
        r#"[{"type":"text","text":"See \"this\""},
        {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}},
        {"type":"image","source":{"type":"url","url":"https://example.com/a.png"}},
        {"type":"document","title":"Terms","source":{"type":"base64","media_type":"application/pdf","data":"BB=="}},
        {"type":"document","source":{"type":"url","url":"https://example.com/b.pdf"}}]"#,
    )
}

fn failed(call_id: &str, content: &str) -> crate::ToolResult {
    crate::ToolResult { is_error: true, ..result(call_id, content) }
}

/// A conversation with everything in it that this wire writes itself.
fn whole() -> Request {
    let second = CALL.replace('1', "2");
    let items = vec![
        with_images(),
        answer(&[
            REASONING,
            r#"{"id":"msg_1","type":"message","status":"completed","content":[{"type":"output_text","annotations":[],"logprobs":[],"text":"Let me look."}],"role":"assistant","phase":"commentary"}"#,
            CALL,
            &second,
        ]),
        Item::ToolResults(vec![
            result("call_1", r#"[{"type":"text","text":"one"},{"type":"text","text":"two"}]"#),
            failed(
                "call_2",
                r#"[{"type":"text","text":"half"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"CC=="}}]"#,
            ),
        ]),
        Item::System("Be brief.".to_owned()),
        user("go on"),
    ];
    let mut request = request("gpt-6.1-sol", items);
    request.system = "Be \"good\".".to_owned();
    request.tools = vec![tool("lookup"), tool(&"long".repeat(20))].into();
    request.effort = Some(Effort::High);
    request.fast = true;
    request
}

/// A conversation that another provider has begun.
fn foreign() -> Request {
    let long = "x".repeat(70);
    let call = format!(
        r#"{{"type":"tool_use","id":"{long}","name":"{}","input":{{"n":12345678901234567890123}}}}"#,
        "long".repeat(20)
    );
    let elsewhere = crate::golden::answer(
        WireKind::Anthropic,
        &[
            r#"{"type":"thinking","thinking":"hm","signature":"x"}"#,
            r#"{"type":"text","text":"caf\u00e9"}"#,
            r#"{"type":"tool_use","id":"toolu_1","name":"lookup","input":{}}"#,
            &call,
        ],
    );
    let image = r#"[{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}}]"#;
    request(
        "gpt-6.1-sol",
        vec![
            user("go"),
            elsewhere,
            Item::ToolResults(vec![
                result("toolu_1", image),
                crate::ToolResult { name: "long".repeat(20).into(), ..failed(&long, "[]") },
            ]),
            user("on"),
        ],
    )
}

#[test]
fn requests_are_written_to_the_byte() {
    is_golden("whole", &whole());
    is_golden("foreign", &foreign());
    let mut bare = request("someone/model", vec![user("go"), Item::System("Late.".to_owned())]);
    bare.conversation = "".into();
    bare.system = "Early.".to_owned();
    is_golden("bare", &bare);
}

#[test]
fn a_longer_conversation_begins_with_the_shorter_one() {
    let mut items = whole().items;
    items.extend(foreign().items);
    items.extend([
        Item::System("Alone.".to_owned()),
        answer(&[REASONING]),
        answer(&[REASONING, CALL]),
        Item::ToolResults(vec![result("call_1", "[]")]),
        answer(&[r#"{"type":"hologram","size":1.10}"#, REASONING]),
        user("end"),
    ]);
    let mut base = whole();
    let mut longer: Option<String> = None;
    while !items.is_empty() {
        base.items = items.clone();
        let body = text(&base);
        let stem = body.strip_suffix("]}").unwrap();
        if let Some(longer) = &longer {
            assert!(longer.starts_with(stem), "{stem}\n{longer}");
        }
        longer = Some(body);
        items.pop();
    }
}

#[tokio::test]
async fn responses_are_replayed_to_the_letter() {
    let mut replayed = 0;
    for name in GOLDEN.names {
        let mut events = GOLDEN.decode(vec![GOLDEN.bytes(name)]).await;
        let Some(Event::Ended(response)) = events.pop() else { continue };
        let natives = natives(&response);
        if natives.iter().all(|native| native.contains(r#""type":"reasoning""#)) {
            continue;
        }
        let body = text(&request("gpt-6.1-sol", vec![user("go"), answer(&natives), user("on")]));
        assert!(body.contains(&format!(r#"]}},{},{{"#, natives.join(","))), "{name}: {body}");
        replayed += 1;
    }
    assert_eq!(replayed, 12);
}

#[test]
fn reasoning_that_the_provider_would_refuse_is_left_out() {
    let kept_by = |model: &str, blocks: &[&str]| {
        let body = json_of(&request(model, vec![answer(blocks), user("on")]));
        let input = body["input"].as_array().unwrap().clone();
        let kinds = input.iter().map(|item| item["type"].as_str().unwrap().to_owned());
        kinds.collect::<Vec<_>>().join(" ")
    };
    let kept = |blocks: &[&str]| kept_by("gpt-6.1-sol", blocks);
    assert_eq!(kept(&[REASONING, CALL]), "reasoning function_call message");
    assert_eq!(kept_by("unheard-of", &[REASONING, CALL]), "reasoning function_call message");
    assert_eq!(kept_by("gpt-4.1", &[REASONING, CALL]), "function_call message");
    assert_eq!(kept(&[REASONING, CALL, REASONING]), "reasoning function_call message");
    assert_eq!(kept(&[REASONING]), "message");
    for empty in [
        r#"{"id":"rs_1","type":"reasoning","summary":[]}"#,
        r#"{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"s"}],"encrypted_content":null}"#,
        r#"{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":"","content":[]}"#,
    ] {
        assert_eq!(kept(&[empty, CALL]), "function_call message", "{empty}");
    }
    let open =
        r#"{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"t"}]}"#;
    assert_eq!(kept(&[open, CALL]), "reasoning function_call message");
}

#[test]
fn the_operators_texts_stand_where_the_model_takes_them() {
    let items = vec![user("one"), Item::System("Now.".into()), Item::System(String::new())];
    let mut asked = request("gpt-6.1-sol", items);
    asked.system = "Always.".into();
    let body = json_of(&asked);
    assert_eq!(body["instructions"], "Always.");
    assert_eq!(body["input"].as_array().unwrap().len(), 2);
    assert_eq!(
        body["input"][1],
        json!({"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Now."}]})
    );
    let unknown = ModelSpec::unknown(WireKind::OpenaiResponses);
    asked.spec = Arc::new(ModelSpec { mid_conversation_system: false, ..unknown });
    let body = json_of(&asked);
    assert_eq!(body["instructions"], "Always.\n\nNow.");
    assert_eq!(body["input"].as_array().unwrap().len(), 1);
    asked.items.clear();
    asked.system.clear();
    assert_eq!(json_of(&asked).get("instructions"), None);
}

#[test]
fn settings_follow_the_model() {
    let with = |model: &str, effort| {
        let mut request = request(model, vec![user("go")]);
        request.effort = effort;
        json_of(&request)
    };
    let body = with("gpt-6.1-sol", None);
    assert_eq!(body["include"], json!(["reasoning.encrypted_content"]));
    assert_eq!((&body["stream"], &body["store"]), (&json!(true), &json!(false)));
    assert_eq!(body["prompt_cache_key"], "sthr_1");
    assert_eq!(body["max_output_tokens"], 128_000);
    for absent in ["reasoning", "service_tier", "instructions", "tools", "parallel_tool_calls"] {
        assert_eq!(body.get(absent), None, "{absent}");
    }
    assert_eq!(with("gpt-6.1-sol", Some(Effort::Max))["reasoning"], json!({"effort": "max"}));
    assert_eq!(with("gpt-5.5", Some(Effort::Max))["reasoning"], json!({"effort": "xhigh"}));

    // Neither is accepted by a model that does not reason.
    let body = with("gpt-4.1-2025-04-14", Some(Effort::High));
    assert_eq!((body.get("include"), body.get("reasoning")), (None, None));

    let body = with("unheard-of", Some(Effort::Low));
    assert_eq!((body.get("include"), body.get("max_output_tokens")), (None, None));
    assert_eq!(body["reasoning"]["effort"], "low");

    let mut long = request("gpt-6.1-sol", vec![user("go")]);
    long.conversation = "x".repeat(80).into();
    assert_eq!(json_of(&long)["prompt_cache_key"].as_str().unwrap().len(), 64);
}

#[test]
fn what_a_model_cannot_take_is_told_in_a_sentence() {
    let mut blind = request("m", vec![with_images()]);
    let mut spec = ModelSpec::unknown(WireKind::OpenaiResponses);
    (spec.images, spec.documents) = (false, false);
    blind.spec = Arc::new(spec);
    let body = json_of(&blind);
    let parts = body["input"][0]["content"].as_array().unwrap();
    let texts: Vec<&str> = parts.iter().map(|part| part["text"].as_str().unwrap()).collect();
    let image = "[There was an image here. This model can't see images.]";
    let document = "[There was a document here. This model can't read documents.]";
    assert_eq!(texts, ["See \"this\"", image, image, "Terms", document, document]);

    let picture = r#"[{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}}]"#;
    blind.items = vec![answer(&[CALL]), Item::ToolResults(vec![result("call_1", picture)])];
    assert_eq!(json_of(&blind)["input"][1]["output"], image);
}

#[test]
fn results_say_when_they_failed() {
    let output = |result: crate::ToolResult| {
        let items = vec![answer(&[CALL]), Item::ToolResults(vec![result])];
        json_of(&request("gpt-6.1-sol", items))["input"][1].clone()
    };
    let said = r#"[{"type":"text","text":"no"}]"#;
    let whole = json!({"type": "function_call_output", "call_id": "call_1", "output": "no"});
    assert_eq!(output(result("call_1", said)), whole);
    assert_eq!(output(result("call_1", "[]"))["output"], "");
    assert_eq!(output(failed("call_1", said))["output"], "The tool failed:\nno");
    assert_eq!(output(failed("call_1", "[]"))["output"], "The tool failed.");
}

#[test]
fn a_user_who_says_nothing_is_not_sent() {
    let items = vec![user(""), content("[]"), content(r#""plain""#)];
    let body = json_of(&request("gpt-6.1-sol", items));
    assert_eq!(body["input"].as_array().unwrap().len(), 1);
    assert_eq!(body["input"][0]["content"][0]["text"], "plain");
}

#[test]
fn ids_and_names_fit_the_api() {
    let body = json_of(&foreign());
    let input = body["input"].as_array().unwrap();
    let of = |kind: &str, member: &str| -> Vec<String> {
        let items = input.iter().filter(|item| item["type"] == kind);
        items.map(|item| item[member].as_str().unwrap().to_owned()).collect()
    };
    let calls = of("function_call", "call_id");
    assert_eq!(calls, of("function_call_output", "call_id"));
    assert_eq!(calls[0], "toolu_1");
    let fits = |text: &str| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    assert!(calls.iter().all(|call| fits(call)), "{calls:?}");
    assert!(of("function_call", "name").iter().all(|name| fits(name)));

    let asked = whole();
    let sent = json_of(&asked)["tools"][1]["name"].as_str().unwrap().to_owned();
    assert!(fits(&sent));
    assert_eq!(rendered(&asked).renamed, [(sent.clone(), "long".repeat(20))]);
    assert_eq!(of("function_call", "name")[1], sent);
}

#[test]
fn another_wire_tells_what_was_said_and_called() {
    let refusal = r#"{"type":"message","content":[{"type":"refusal","refusal":"No."}]}"#;
    let empty = r#"{"type":"message","content":[{"type":"output_text","text":""}]}"#;
    let cut = r#"{"type":"function_call","call_id":"call|9","name":"lookup","arguments":"{\"a"}"#;
    let mut asked = whole();
    asked.model = "claude-opus-5".to_owned();
    asked.items = vec![
        user("go"),
        answer(&[REASONING, refusal, empty, r#"{"type":"hologram"}"#, CALL, cut]),
        Item::ToolResults(vec![result("call_1", "[]"), result("call|9", "[]")]),
    ];
    let body = WireKind::Anthropic.wire().render("anthropic", &asked);
    let body = String::from_utf8(body.bytes.to_vec()).unwrap();
    assert!(
        body.contains(
            r#"[{"type":"text","text":"No."},{"type":"tool_use","id":"call_1","name":"lookup","input":{"n":1.10}},{"type":"tool_use","id":""#
        ),
        "{body}"
    );
    let body: Value = serde_json::from_str(&body).unwrap();
    let (calls, results) = (&body["messages"][1]["content"], &body["messages"][2]["content"]);
    assert_eq!(calls[2]["input"], json!({}));
    assert_eq!(calls[1]["id"], results[0]["tool_use_id"]);
    assert_eq!(calls[2]["id"], results[1]["tool_use_id"]);
    assert_ne!(calls[2]["id"], "call|9");
    assert_eq!(calls.as_array().unwrap().len(), 3);
}
