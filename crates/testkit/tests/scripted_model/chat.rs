//! The Chat Completions wire: what is streamed, what is found wrong, and what has to come back.

use std::time::Duration;

use posthouse_testkit::{Reply, Script, ScriptedModel, Step};
use serde_json::{Value, json};

use crate::client::Client;

const PATH: &str = "/v1/chat/completions";

fn request(messages: Value) -> Value {
    json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "messages": messages})
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn call(id: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": "bash", "arguments": "{}"}})
}

fn asks(ids: &[&str]) -> Value {
    let calls: Vec<Value> = ids.iter().map(|id| call(id)).collect();
    json!({"role": "assistant", "content": null, "tool_calls": calls})
}

fn answer(id: &str) -> Value {
    json!({"role": "tool", "tool_call_id": id, "content": "ok"})
}

fn deltas(chunks: &[Value]) -> Vec<&Value> {
    chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["delta"])
        .filter(|delta| delta.is_object())
        .collect()
}

fn joined(chunks: &[Value], field: &str) -> String {
    deltas(chunks).iter().filter_map(|delta| delta[field].as_str()).collect()
}

#[tokio::test]
async fn streams_chunks_with_calls_that_may_take_turns() {
    let reply = Reply::thinking("hm")
        .and_text("Grüße")
        .and_tool_use("bash", json!({"command": "ls"}))
        .and_tool_use("bash", json!({"command": "pwd"}))
        .in_chunks(6, Duration::ZERO);
    let turns = Reply { reasoning_field: Some("reasoning".into()), ..reply.clone() }.interleaved();
    let model = ScriptedModel::start(Script::of([reply, turns])).await;
    let client = Client::of(&model);
    for (field, order) in
        [("reasoning_content", [0, 0, 0, 0, 1, 1, 1, 1]), ("reasoning", [0, 1, 0, 1, 0, 1, 0, 1])]
    {
        let body = request(json!([user("hi")]));
        let text = client.post_to(PATH, &body).await.text().await.unwrap();
        assert!(text.ends_with("data: [DONE]\n\n"));
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: {"));
        let chunks: Vec<Value> =
            lines.map(|line| serde_json::from_str(&format!("{{{line}")).unwrap()).collect();
        assert_eq!(joined(&chunks, field), "hm");
        assert_eq!(joined(&chunks, "content"), "Grüße");
        let calls: Vec<&Value> = deltas(&chunks)
            .into_iter()
            .map(|delta| &delta["tool_calls"][0])
            .filter(|call| call.is_object())
            .collect();
        let indices: Vec<u64> = calls.iter().map(|call| call["index"].as_u64().unwrap()).collect();
        assert_eq!(indices, order);
        let arguments = |index: u64| -> String {
            let own = calls.iter().filter(|call| call["index"] == index);
            own.map(|call| call["function"]["arguments"].as_str().unwrap()).collect()
        };
        assert_eq!(arguments(0), r#"{"command":"ls"}"#);
        assert_eq!(arguments(1), r#"{"command":"pwd"}"#);
        let [end, usage] = &chunks[chunks.len() - 2..] else { panic!("too short") };
        assert_eq!(end["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!((&end["usage"], &usage["choices"]), (&Value::Null, &json!([])));
        assert!(usage["usage"]["completion_tokens"].as_u64() > Some(0));
    }
}

#[tokio::test]
async fn ends_in_every_way() {
    let script = Script::of([
        Reply::text("a").with_stop_reason("max_tokens"),
        Reply::text("no").with_stop_reason("refusal"),
        Reply::default().with_stop_reason("refusal"),
        Reply::text("a").with_stop_reason("insufficient_system_resource"),
        Reply::text("a").and(Step::Error { kind: "rate_limit_error".into(), message: "m".into() }),
    ]);
    let model = ScriptedModel::start(script).await;
    let client = Client::of(&model);
    let mut body = request(json!([user("hi")]));
    body["stream_options"] = Value::Null;
    for expected in ["length", "stop", "content_filter", "insufficient_system_resource"] {
        let chunks = client.stream_of(PATH, &body).await;
        assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], expected);
        assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()));
        let refusal = if expected == "stop" { "no" } else { "" };
        assert_eq!(joined(&chunks, "refusal"), refusal);
    }
    let text = client.post_to(PATH, &body).await.text().await.unwrap();
    assert!(text.ends_with("\n\n") && !text.contains("[DONE]"));
    let error = text.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let error: Value = serde_json::from_str(error).unwrap();
    assert_eq!(
        error["error"],
        json!({"message": "m", "type": "tokens", "param": null, "code": "rate_limit_exceeded"})
    );
}

#[tokio::test]
async fn finds_what_the_api_refuses_in_one_request() {
    let image = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]);
    let schema = |kind: &str| json!([{"type": "function", "function": {"name": "a", "parameters": {"type": kind}}}]);
    let messages = [
        (json!([]), "messages is empty"),
        (json!([user("u"), asks(&["a"]), user("v")]), "the call a is not answered"),
        (json!([user("u"), asks(&["a"]), user("v"), answer("a")]), "the call a is not answered"),
        (json!([user("u"), asks(&["a", "b"]), answer("a"), answer("b"), answer("b")]), "twice"),
        (json!([user("u"), asks(&["a"]), answer("a"), answer("z")]), "no call before it"),
        (
            json!([user("u"), asks(&["a"]), {"role": "tool", "tool_call_id": "a", "content": image}]),
            "here text is taken",
        ),
        (json!([user("u"), asks(&[]), user("v")]), "tool_calls is empty"),
        (json!([user("u"), {"role": "assistant"}, user("v")]), "neither content nor tool_calls"),
        (json!([user("u"), {"role": "assistant", "content": "x"}]), "the last message is"),
        (json!([{"role": "function", "content": "x"}]), "unknown role"),
        (
            json!([{"role": "user", "content": "x", "cache_control": {}}]),
            "cache_control is not a member",
        ),
        (json!([{"role": "user", "content": [{"type": "image", "source": {}}]}]), "has the type"),
    ];
    let mut cases: Vec<(Value, &str)> =
        messages.into_iter().map(|(messages, expected)| (request(messages), expected)).collect();
    let mut with = |field: &str, value: Value, expected| {
        let mut body = request(json!([user("u")]));
        body[field] = value;
        cases.push((body, expected));
    };
    with("tools", json!([]), "tools is empty");
    with("tools", schema("array"), "not of type object");
    with("system", json!("x"), "system is not a member");
    with("stream", json!(false), "stream_options");
    for (body, expected) in cases {
        let model = ScriptedModel::start(Reply::text("a").forever()).await;
        Client::of(&model).post_to(PATH, &body).await;
        let found = model.take_violations();
        let hits = found.iter().filter(|text| text.contains(expected)).count();
        assert!(hits == 1 && found.len() <= 2, "{expected}: {found:?}");
    }
    let mut right =
        request(json!([{"role": "system", "content": "s"}, {"role": "user", "content": image},
        asks(&["a", "b"]), answer("b"), answer("a")]));
    right["tools"] = schema("object");
    right["top_k"] = json!(3);
    let script = Script { allow_members: vec!["top_k".into()], ..Reply::text("a").into() };
    let model = ScriptedModel::start(script).await;
    Client::of(&model).post_to(PATH, &right).await;
    assert_eq!(model.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn calls_come_back_to_the_letter_and_prefixes_are_cached() {
    let script = Script::of([Reply::tool_use("bash", json!({"a": 1})).times(2)])
        .otherwise(Reply::text("ok"));
    for tampers in [false, true] {
        let model = ScriptedModel::start(script.clone()).await;
        let client = Client::of(&model);
        let mut body = request(json!([user(&"u".repeat(4000))]));
        body["stream"] = json!(false);
        body["stream_options"] = Value::Null;
        let first = client.answer_of(PATH, &body).await;
        let mut message = first["choices"][0]["message"].clone();
        message.as_object_mut().unwrap().retain(|name, _| name != "annotations");
        let id = message["tool_calls"][0]["id"].as_str().unwrap().to_owned();
        if tampers {
            message["tool_calls"][0]["function"]["arguments"] = json!("{\"a\":2}");
        }
        let messages = body["messages"].as_array_mut().unwrap();
        messages.extend([message, answer(&id)]);
        let second = client.answer_of(PATH, &body).await;
        let cached = &second["usage"]["prompt_tokens_details"]["cached_tokens"];
        assert!(cached.as_u64() > Some(990), "{cached}");
        assert_eq!(model.take_violations().len(), usize::from(tampers));
    }
}

#[tokio::test]
async fn a_step_without_a_form_is_a_500_and_a_violation() {
    let script = Script::of([
        Reply::of([Step::RedactedThinking("d".into())]),
        Reply::of([Step::Raw(json!({"reasoning_details": [{"type": "x"}]}))]),
    ]);
    let model = ScriptedModel::start(script).await;
    let client = Client::of(&model);
    let response = client.post_to(PATH, &request(json!([user("u")]))).await;
    assert_eq!(response.status(), 500);
    let found = model.take_violations();
    assert!(found.len() == 1 && found[0].contains("no redacted thinking"), "{found:?}");
    let chunks = client.stream_of(PATH, &request(json!([user("u")]))).await;
    assert_eq!(deltas(&chunks)[1]["reasoning_details"], json!([{"type": "x"}]));
}
