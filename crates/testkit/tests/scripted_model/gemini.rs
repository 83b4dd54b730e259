//! The Gemini wire: what is streamed, what is found wrong, and what has to come back.

use std::time::Duration;

use posthouse_testkit::{Reply, Script, ScriptedModel, Step, ToolUse};
use serde_json::{Value, json};

use crate::client::Client;

const PATH: &str = "/v1beta/models/gemini-3-pro:streamGenerateContent?alt=sse";
type Tamper = fn(&mut Vec<Value>);

const WHOLE: &str = "/v1beta/models/gemini-3-pro:generateContent";

fn request(contents: Value) -> Value {
    json!({"contents": contents, "generationConfig": {"thinkingConfig": {"includeThoughts": true}}})
}

fn content(role: &str, parts: Value) -> Value {
    json!({"role": role, "parts": parts})
}

fn user(text: &str) -> Value {
    content("user", json!([{"text": text}]))
}

fn call(id: &str) -> Value {
    json!({"functionCall": {"id": id, "name": "bash", "args": {}}, "thoughtSignature": "AAAA"})
}

fn answer(id: &str) -> Value {
    json!({"functionResponse": {"id": id, "name": "bash", "response": {"output": "x"}}})
}

fn parts(chunks: &[Value]) -> Vec<Value> {
    let lists = chunks.iter().map(|chunk| &chunk["candidates"][0]["content"]["parts"]);
    lists.filter_map(Value::as_array).flatten().cloned().collect()
}

#[tokio::test]
async fn streams_parts_and_puts_the_signature_on_the_first_call() {
    let reply = Reply::thinking("hm so")
        .and_text("Grüße")
        .in_chunks(3, Duration::ZERO)
        .and_tool_use("bash", json!({"b": 1, "a": 2}))
        .and_tool_use("now", json!({}));
    let model = ScriptedModel::start(Script::of([reply.clone(), reply])).await;
    let client = Client::of(&model);
    let chunks = client.stream_of(PATH, &request(json!([user("hi")]))).await;
    let all = parts(&chunks);
    let texts: Vec<(&str, bool)> = all
        .iter()
        .filter_map(|part| Some((part["text"].as_str()?, part["thought"] == true)))
        .collect();
    assert_eq!(texts, [("hm ", true), ("so", true), ("Grü", false), ("ße", false), ("", false)]);
    let calls: Vec<&Value> = all.iter().filter(|part| part["functionCall"].is_object()).collect();
    assert_eq!(calls[0]["functionCall"]["args"].to_string(), r#"{"b":1,"a":2}"#);
    assert!(calls[0]["thoughtSignature"].is_string());
    assert!(calls[1].get("thoughtSignature").is_none());
    assert_ne!(calls[0]["functionCall"]["id"], calls[1]["functionCall"]["id"]);
    let last = chunks.last().unwrap();
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    assert_eq!(last["usageMetadata"]["thoughtsTokenCount"], 1);
    assert_eq!(last["modelVersion"], "gemini-3-pro");

    let mut silent = request(json!([user("ho")]));
    silent["generationConfig"] = json!({});
    let all = parts(&client.stream_of(PATH, &silent).await);
    assert!(all.iter().all(|part| part.get("thought").is_none()));
    assert!(all.iter().any(|part| part["thoughtSignature"].is_string()));
}

#[tokio::test]
async fn ends_in_every_way() {
    let named = Step::ToolUse {
        tool_use: ToolUse {
            name: "bash".into(),
            input: Default::default(),
            id: Some(String::new()),
            chunk: None,
        },
        pause_ms: None,
    };
    let blocked =
        Reply { stop_details: Some(json!({"blockReason": "SAFETY"})), ..Reply::default() };
    let script = Script::of([
        Reply::thinking("t").and_text("a").with_stop_reason("max_tokens"),
        Reply::text("a").with_stop_reason("refusal"),
        Reply::of([named]).with_stop_reason("MALFORMED_FUNCTION_CALL"),
        blocked.with_stop_reason("refusal"),
        Reply::text("a").and(Step::Error { kind: "overloaded_error".into(), message: "m".into() }),
    ]);
    let model = ScriptedModel::start(script).await;
    let client = Client::of(&model);
    let body = request(json!([user("hi")]));
    for expected in ["MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL"] {
        let chunks = client.stream_of(PATH, &body).await;
        let candidate = &chunks.last().unwrap()["candidates"][0];
        assert_eq!(candidate["finishReason"], expected);
        let sealed = candidate["content"]["parts"][0]["thoughtSignature"].is_string();
        assert_eq!(sealed, expected == "MAX_TOKENS");
        assert!(parts(&chunks).iter().all(|part| part["functionCall"].get("id").is_none()));
    }
    let chunks = client.stream_of(PATH, &body).await;
    assert_eq!(chunks.len(), 1);
    assert_eq!(chunks[0]["promptFeedback"], json!({"blockReason": "SAFETY"}));
    assert!(chunks[0].get("candidates").is_none());
    let chunks = client.stream_of(PATH, &body).await;
    let error = json!({"code": 503, "message": "m", "status": "UNAVAILABLE"});
    assert_eq!(chunks.last().unwrap()["error"], error);
}

#[tokio::test]
async fn finds_what_the_api_refuses_in_one_request() {
    let unsigned = json!({"functionCall": {"name": "bash", "args": {}}});
    let declares = |function: Value| {
        let mut body = request(json!([user("u")]));
        body["tools"] = json!([{"functionDeclarations": [function]}]);
        body
    };
    let asks = |parts: Value, answers: Value| {
        request(json!([user("u"), content("model", parts), content("user", answers)]))
    };
    let cases = [
        (request(json!([])), "contents is empty"),
        (request(json!([user("u"), content("model", json!([{"text": "x"}]))])), "the last content"),
        (request(json!([content("assistant", json!([{"text": "x"}]))])), "unknown role"),
        (request(json!([content("user", json!([]))])), "parts is empty"),
        (
            request(json!([content("user", json!([{"type": "text", "text": "x"}]))])),
            "type is not a member",
        ),
        (
            request(json!([content(
                "user",
                json!([{"text": "x", "inlineData": {"mimeType": "a/b", "data": ""}}])
            )])),
            "2 kinds",
        ),
        (
            asks(json!([call("a"), call("b")]), json!([answer("a")])),
            "1 functionResponse parts stand behind 2",
        ),
        (asks(json!([call("a")]), json!([answer("b")])), "has no functionCall"),
        (asks(json!([unsigned]), json!([answer("a")])), "has no thoughtSignature"),
        (request(json!([user("u"), content("user", json!([answer("a")]))])), "behind 0"),
        (
            request(json!([
                content("model", json!([call("a")])),
                content("user", json!([answer("a")]))
            ])),
            "at the beginning",
        ),
        (declares(json!({"name": "1a"})), "does not begin"),
        (declares(json!({"name": "a", "parameters": {"type": "STRING"}})), "not of type object"),
        (
            declares(
                json!({"name": "a", "parameters": {"type": "object", "additionalProperties": false}}),
            ),
            "additionalProperties is not",
        ),
        (json!({"contents": [user("u")], "system": "x"}), "system is not a member"),
    ];
    for (body, expected) in cases {
        let model = ScriptedModel::start(Reply::text("a").forever()).await;
        Client::of(&model).post_to(PATH, &body).await;
        let found = model.take_violations();
        assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
    }
    let schema = json!({"$schema": "x", "type": "object", "additionalProperties": false});
    let mut right = asks(json!([call("a")]), json!([answer("a")]));
    right["tools"] =
        declares(json!({"name": "a", "parametersJsonSchema": schema}))["tools"].clone();
    let model = ScriptedModel::start(Reply::text("a")).await;
    Client::of(&model).post_to(PATH, &right).await;
    assert_eq!(model.violations(), Vec::<String>::new());
    Client::of(&model).post_to(PATH.trim_end_matches("?alt=sse"), &right).await;
}

#[tokio::test]
async fn signatures_come_back_on_their_own_part_and_prefixes_are_cached() {
    let script = Script::of([Reply::thinking("deep")
        .and_tool_use("bash", json!({"a": 1, "b": 2}))
        .and_tool_use("bash", json!({}))])
    .otherwise(Reply::text("ok"));
    let tampered: [(Tamper, &str); 5] = [
        (|_| {}, ""),
        (
            |parts| drop(parts[0].as_object_mut().unwrap().remove("thoughtSignature")),
            "its thoughtSignature is not",
        ),
        (|parts| parts[0]["thoughtSignature"] = json!("AAAA"), "its thoughtSignature is not"),
        (
            |parts| parts[1]["thoughtSignature"] = parts[0]["thoughtSignature"].take(),
            "is not what was sent",
        ),
        (
            |parts| parts[0]["functionCall"]["args"] = json!({"b": 2, "a": 1}),
            "its functionCall.args is not",
        ),
    ];
    for (tamper, expected) in tampered {
        let model = ScriptedModel::start(script.clone()).await;
        let client = Client::of(&model);
        let question = user(&"u".repeat(4000));
        let first = client.answer_of(WHOLE, &request(json!([question]))).await;
        let mut sent = parts(&[first]);
        sent.retain(|part| part["functionCall"].is_object());
        let answers: Vec<Value> =
            sent.iter().map(|part| answer(part["functionCall"]["id"].as_str().unwrap())).collect();
        tamper(&mut sent);
        let contents =
            json!([question, content("model", json!(sent)), content("user", json!(answers))]);
        let second = client.answer_of(WHOLE, &request(contents)).await;
        let cached = &second["usageMetadata"]["cachedContentTokenCount"];
        assert!(cached.as_u64() > Some(990), "{cached}");
        let found = model.take_violations();
        match expected {
            "" => assert_eq!(found, Vec::<String>::new()),
            _ => assert!(found.iter().any(|text| text.contains(expected)), "{expected}: {found:?}"),
        }
    }
}
