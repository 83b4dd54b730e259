//! The Responses wire: what is streamed, what is found wrong, and what has to come back.

use std::time::Duration;

use posthouse_testkit::{Reply, Script, ScriptedModel, Step};
use serde_json::{Value, json};

use crate::client::{Client, kinds};

const PATH: &str = "/v1/responses";

type Tamper = fn(&mut Vec<Value>);

fn request(input: Value) -> Value {
    json!({
        "model": "m", "input": input, "stream": true, "store": false,
        "include": ["reasoning.encrypted_content"], "reasoning": {"summary": "auto"},
    })
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn output(call: &Value) -> Value {
    json!({"type": "function_call_output", "call_id": call["call_id"], "output": "ok"})
}

async fn items(client: &Client, input: Value) -> Vec<Value> {
    let events = client.stream_of(PATH, &request(input)).await;
    events.last().unwrap()["response"]["output"].as_array().unwrap().clone()
}

#[tokio::test]
async fn streams_items_from_their_beginning_to_their_end() {
    let reply = Reply::thinking("hm, so")
        .and_text("Grüße")
        .and_tool_use("bash", json!({"command": "ls"}))
        .in_chunks(3, Duration::ZERO)
        .and_tool_use("now", json!({}))
        .and(Step::Ping);
    let model = ScriptedModel::start(reply).await;
    let events = Client::of(&model).stream_of(PATH, &request(json!([user("hi")]))).await;
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], index);
    }
    let summary = ["response.reasoning_summary_text.delta"; 2];
    let text = ["response.output_text.delta"; 2];
    let arguments = ["response.function_call_arguments.delta"; 6];
    let expected: Vec<&str> = [
        &["response.created", "response.in_progress"][..],
        &["response.output_item.added", "response.reasoning_summary_part.added"],
        &summary,
        &["response.reasoning_summary_text.done", "response.reasoning_summary_part.done"],
        &["response.output_item.done"],
        &["response.output_item.added", "response.content_part.added"],
        &text,
        &["response.output_text.done", "response.content_part.done"],
        &["response.output_item.done"],
        &["response.output_item.added"],
        &arguments,
        &["response.function_call_arguments.done", "response.output_item.done"],
        &["response.output_item.added", "response.function_call_arguments.delta"],
        &["response.function_call_arguments.done", "response.output_item.done"],
        &["response.completed"],
    ]
    .concat();
    assert_eq!(kinds(&events), expected);
    let whole = &events.last().unwrap()["response"];
    let items = whole["output"].as_array().unwrap();
    assert_eq!(items[0]["summary"], json!([{"type": "summary_text", "text": "hm, so"}]));
    assert!(items[0]["encrypted_content"].as_str().unwrap().starts_with("enc_"));
    assert_eq!(items[1]["content"][0]["text"], "Grüße");
    assert_eq!(items[2]["arguments"], r#"{"command":"ls"}"#);
    assert_eq!(items[3]["arguments"], "{}");
    let done: Vec<&Value> = events
        .iter()
        .filter(|event| event["type"] == "response.output_item.done")
        .map(|event| &event["item"])
        .collect();
    assert_eq!(done, items.iter().collect::<Vec<_>>());
    let deltas: String = events
        .iter()
        .filter(|event| event["type"] == arguments[0] && event["output_index"] == 2)
        .map(|event| event["delta"].as_str().unwrap())
        .collect();
    assert_eq!(deltas, r#"{"command":"ls"}"#);
    let usage = &whole["usage"];
    assert_eq!(usage["output_tokens_details"]["reasoning_tokens"], 1);
    let sum = usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
}

#[tokio::test]
async fn thoughts_are_shown_and_sealed_only_if_asked_for() {
    let model = ScriptedModel::start(Reply::thinking("deep").forever()).await;
    let client = Client::of(&model);
    let mut body = request(json!("hi"));
    body["reasoning"] = Value::Null;
    body["include"] = json!([]);
    let events = client.stream_of(PATH, &body).await;
    let item = &events.last().unwrap()["response"]["output"][0];
    assert_eq!(item["summary"], json!([]));
    assert!(item.get("encrypted_content").is_none());
    assert_eq!(model.take_violations(), Vec::<String>::new());
}

#[tokio::test]
async fn ends_in_every_way() {
    let error = json!({"code": "rate_limit_exceeded", "message": "slow"});
    let failed = Reply { stop_details: Some(error.clone()), ..Reply::text("a") };
    let script = Script::of([
        Reply::text("no").with_stop_reason("refusal"),
        Reply::default().with_stop_reason("refusal"),
        Reply::text("a").with_stop_reason("max_tokens"),
        failed.with_stop_reason("failed"),
        Reply::text("a").and(Step::Error { kind: "overloaded_error".into(), message: "m".into() }),
        Reply::text("a").and_cut(),
    ]);
    let model = ScriptedModel::start(script).await;
    let client = Client::of(&model);
    let mut ends = Vec::new();
    for _ in 0..6 {
        let body = request(json!("hi"));
        let mut stream = client.post_to(PATH, &body).await;
        let mut text = String::new();
        while let Ok(Some(part)) = stream.chunk().await {
            text.push_str(std::str::from_utf8(&part).unwrap());
        }
        ends.push(crate::client::events(&text));
    }
    let last = |index: usize| ends[index].last().unwrap();
    assert_eq!(
        last(0)["response"]["output"][0]["content"],
        json!([{"type": "refusal", "refusal": "no"}])
    );
    assert!(kinds(&ends[0]).contains(&"response.refusal.delta"));
    let why = |index: usize| {
        (last(index)["type"].clone(), last(index)["response"]["incomplete_details"].clone())
    };
    let incomplete = |reason| (json!("response.incomplete"), json!({"reason": reason}));
    assert_eq!(why(1), incomplete("content_filter"));
    assert_eq!(why(2), incomplete("max_output_tokens"));
    assert_eq!(last(3)["type"], "response.failed");
    assert_eq!(last(3)["response"]["error"], error);
    assert_eq!(kinds(&ends[4])[ends[4].len() - 2..], ["error", "response.failed"]);
    assert_eq!(last(4)["response"]["error"], json!({"code": "server_error", "message": "m"}));
    assert_eq!(last(5)["type"], "response.output_item.done");
}

#[tokio::test]
async fn finds_what_the_api_refuses_in_one_request() {
    let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "bash", "arguments": "{}"});
    let answer = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "x"});
    let long = "c".repeat(65);
    let inputs = [
        (json!([]), "input is empty"),
        (json!([user("u"), call("a")]), "the call a is not answered"),
        (json!([user("u"), call("a"), answer("a"), answer("a")]), "is answered twice"),
        (json!([user("u"), answer("a")]), "no call before it"),
        (json!([call("a"), call("a"), answer("a")]), "there twice"),
        (json!([{"role": "tool", "content": "x"}]), "unknown role"),
        (json!([{"role": "user", "content": [{"type": "text", "text": "x"}]}]), "input_text"),
        (
            json!([{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}]),
            "output_text",
        ),
        (
            json!([user("u"), {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}, user("v")]),
            "required following item",
        ),
        (json!([{"type": "mystery", "id": "x"}]), "unknown type"),
        (
            json!([{"type": "reasoning", "id": "rs_1", "summary": []}, {"role": "assistant", "content": "x"}]),
            "encrypted_content",
        ),
        (
            json!([{"type": "function_call", "id": "toolu_1", "call_id": "a", "name": "b", "arguments": "{}"}, answer("a")]),
            "begin with fc",
        ),
        (
            json!([{"role": "user", "content": [{"type": "input_image", "image_url": "AAAA"}]}]),
            "neither a URL",
        ),
    ];
    let mut cases: Vec<(Value, &str)> =
        inputs.into_iter().map(|(input, expected)| (request(input), expected)).collect();
    let mut with = |field: &str, value: Value, expected| {
        let mut body = request(json!("hi"));
        body[field] = value;
        cases.push((body, expected));
    };
    with("store", Value::Null, "store is not false");
    with("include", json!([]), "reasoning would be lost");
    with("messages", json!([]), "messages is not a member");
    with("max_output_tokens", json!(1), "max_output_tokens");
    with("previous_response_id", json!("resp_1"), "none is stored");
    let tool =
        |name: &str, schema| json!([{"type": "function", "name": name, "parameters": schema}]);
    with("tools", tool("a.b", json!({"type": "object"})), "not a name");
    with("tools", tool("a", json!({"type": "string"})), "not of type object");
    for (body, expected) in cases {
        let model = ScriptedModel::start(Reply::text("a").forever()).await;
        Client::of(&model).post_to(PATH, &body).await;
        let found = model.take_violations();
        assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
    }
    // Of the call and of its answer.
    for id in [&long, "a b", ""] {
        let model = ScriptedModel::start(Reply::text("a")).await;
        Client::of(&model).post_to(PATH, &request(json!([call(id), answer(id)]))).await;
        let found = model.take_violations();
        assert!(found.len() == 2 && found[1].contains("not an id"), "{found:?}");
    }
}

#[tokio::test]
async fn items_come_back_to_the_letter_and_beside_their_own() {
    let script = Script::of([Reply::thinking("deep")
        .and_tool_use("bash", json!({"a": 1}))
        .and_tool_use("now", json!({}))])
    .otherwise(Reply::text("ok"));
    let tampered: [(Tamper, &str); 6] = [
        (|_| {}, ""),
        (|items| items[0]["encrypted_content"] = json!("forged"), "its encrypted_content is not"),
        (|items| items[0]["summary"] = json!([]), "its summary is not"),
        (|items| drop(items.remove(0)), "without its required reasoning item"),
        (|items| items.swap(1, 2), "without its required following item"),
        (|items| items[1]["arguments"] = json!("{}"), "its arguments is not"),
    ];
    for (tamper, expected) in tampered {
        let model = ScriptedModel::start(script.clone()).await;
        let client = Client::of(&model);
        let mut input = vec![user("u")];
        let mut sent = items(&client, json!(input)).await;
        let answers = [output(&sent[1]), output(&sent[2])];
        tamper(&mut sent);
        input.extend(sent);
        input.extend(answers);
        items(&client, json!(input)).await;
        let found = model.take_violations();
        match expected {
            "" => assert_eq!(found, Vec::<String>::new()),
            _ => assert!(found.iter().any(|text| text.contains(expected)), "{expected}: {found:?}"),
        }
    }
}

#[tokio::test]
async fn what_the_api_does_not_name_is_sent_and_may_come_back() {
    let item = json!({"id": "x_1", "type": "mystery", "payload": {"b": 1, "a": 2}});
    let block = Step::Block {
        block: item.clone(),
        deltas: vec![json!({"type": "response.mystery.delta", "delta": "d"})],
    };
    let raw = Step::Raw(json!({"type": "response.surprise", "value": 1}));
    let script = Script::of([Reply::of([block, raw])]).otherwise(Reply::text("ok"));
    let model = ScriptedModel::start(script).await;
    let client = Client::of(&model);
    let events = client.stream_of(PATH, &request(json!([user("u")]))).await;
    let delta = events.iter().find(|event| event["type"] == "response.mystery.delta").unwrap();
    assert_eq!((&delta["item_id"], &delta["output_index"]), (&json!("x_1"), &json!(0)));
    assert!(kinds(&events).contains(&"response.surprise"));
    items(&client, json!([user("u"), item, user("v")])).await;
    assert_eq!(model.violations(), Vec::<String>::new());
    items(&client, json!([user("u"), {"id": "x_1", "type": "mystery", "payload": {}}, user("v")]))
        .await;
    assert_eq!(model.take_violations().len(), 2, "the item and the prefix");
}

#[tokio::test]
async fn a_long_session_is_read_from_the_cache() {
    let model = ScriptedModel::start(Reply::text("b".repeat(400)).forever()).await;
    let client = Client::of(&model);
    let mut input = vec![user(&"a".repeat(4000))];
    let (mut read, mut all) = (0, 0);
    for turn in 0..30 {
        let events = client.stream_of(PATH, &request(json!(input))).await;
        let response = &events.last().unwrap()["response"];
        let cached = response["usage"]["input_tokens_details"]["cached_tokens"].as_u64().unwrap();
        assert_eq!(cached > 0, turn > 0);
        read += cached;
        all += response["usage"]["input_tokens"].as_u64().unwrap();
        input.extend(response["output"].as_array().unwrap().clone());
        input.push(user(&"c".repeat(400)));
    }
    assert!(read * 100 > all * 80, "{read} of {all}");
}
