//! What is found wrong in requests, what is kept of them, and what their caching would have cost.

use posthouse_testkit::{Reply, Script, ScriptedModel};
use serde_json::{Value, json};

use crate::client::{Client, assistant, request, result, user};

#[tokio::test]
async fn emulates_prompt_caching() {
    let model = ScriptedModel::start(Reply::text("a").forever()).await;
    let client = Client::of(&model);
    let system = json!([{"type": "text", "text": "s".repeat(8000), "cache_control": {"type": "ephemeral", "ttl": "1h"}}]);
    let turn = |texts: &[&str]| {
        let mut messages: Vec<Value> = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let mut block = json!({"type": "text", "text": text.repeat(400)});
            if index + 1 == texts.len() {
                block["cache_control"] = json!({"type": "ephemeral"});
            }
            messages.push(json!({"role": if index % 2 == 0 { "user" } else { "assistant" }, "content": [block]}));
        }
        let mut body = request(json!(messages));
        body["system"] = system.clone();
        body
    };
    let usage = async |body: &Value| client.message(body).await["usage"].clone();
    let number = |value: &Value| value.as_u64().unwrap();
    let first = usage(&turn(&["hello"])).await;
    assert_eq!(number(&first["cache_read_input_tokens"]), 0);
    assert!(number(&first["cache_creation"]["ephemeral_1h_input_tokens"]) >= 2000);
    assert!(number(&first["cache_creation"]["ephemeral_5m_input_tokens"]) >= 500);
    let second = usage(&turn(&["hello", "a", "more"])).await;
    assert_eq!(second["cache_read_input_tokens"], first["cache_creation_input_tokens"]);
    assert!(number(&second["cache_creation_input_tokens"]) >= 500);
    let other = usage(&turn(&["another"])).await;
    assert!(number(&other["cache_read_input_tokens"]) >= 2000);
    assert!(number(&other["cache_read_input_tokens"]) < number(&second["cache_read_input_tokens"]));
    for usage in [first, second, other] {
        assert!(number(&usage["input_tokens"]) < 200, "{usage}");
    }
}

// Plays requests against a model that answers text, and returns what it found wrong in the last one.
async fn violations_of(requests: impl IntoIterator<Item = Value>) -> Vec<String> {
    let model = ScriptedModel::start(Reply::text("a").forever()).await;
    let client = Client::of(&model);
    let mut found = Vec::new();
    for body in requests {
        found = model.take_violations();
        assert_eq!(found, Vec::<String>::new(), "before the last request");
        client.message(&body).await;
        found = model.take_violations();
    }
    found
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

#[tokio::test]
async fn finds_what_the_api_refuses_in_one_request() {
    let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "bash", "input": {}});
    let answers = |results: Value| {
        request(
            json!([user("u"), assistant(&json!([call("a"), call("b")])), {"role": "user", "content": results}]),
        )
    };
    let results = |ids: &[&str]| json!(ids.iter().map(|id| result(&json!(id))).collect::<Vec<_>>());
    let hello = || request(json!([user("u")]));
    let marked = json!({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}});
    let schema = json!({"type": "object"});
    let cases = [
        (answers(results(&["a"])), "tool_use b is not answered"),
        (answers(results(&["a", "b", "a"])), "a is answered twice"),
        (answers(results(&["a", "b", "c"])), "\"c\" has no tool_use"),
        (
            answers(
                json!([result(&json!("a")), {"type": "text", "text": "t"}, result(&json!("b"))]),
            ),
            "behind other content",
        ),
        (
            request(
                json!([user("u"), assistant(&json!([call("a"), call("a")])), {"role": "user", "content": results(&["a"])}]),
            ),
            "there twice",
        ),
        (
            request(json!([{"role": "user", "content": [{"type": "text", "text": ""}]}])),
            "without text",
        ),
        (request(json!([{"role": "user", "content": []}])), "is empty"),
        (request(json!([{"role": "user", "content": ""}])), "is empty"),
        (request(json!([])), "messages is empty"),
        (request(json!([user("u"), {"role": "developer", "content": "x"}])), "unknown role"),
        (
            request(
                json!([user("u"), assistant(&json!("x")), {"role": "system", "content": "x"}, user("v")]),
            ),
            "role system",
        ),
        (
            request(json!([user("u"), assistant(&json!("x"))])),
            "the last message is the assistant's",
        ),
        (
            request(json!([{"role": "user", "content": vec![marked.clone(); 5]}])),
            "5 cache_control markers",
        ),
        (with(hello(), "max_tokens", Value::Null), "max_tokens"),
        (
            with(
                hello(),
                "tools",
                json!([{"name": "a", "input_schema": schema}, {"name": "a", "input_schema": schema}]),
            ),
            "is taken",
        ),
        (
            with(hello(), "tools", json!([{"name": "a", "input_schema": {"type": "string"}}])),
            "type object",
        ),
        (with(hello(), "messages", json!("hello")), "not a Messages request"),
    ];
    for (body, expected) in cases {
        let found = violations_of([body]).await;
        assert!(found.len() == 1 && found[0].contains(expected), "{expected}: {found:?}");
    }
    let server = json!([{"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, {"type": "text", "text": "x"}]);
    let split = json!([user("u"), assistant(&json!([call("a"), call("b")])), {"role": "user", "content": results(&["a"])},
        {"role": "user", "content": results(&["b"])}, {"role": "system", "content": "s"}, assistant(&server), user("v")]);
    let tools = json!([{"type": "web_search_20250305", "name": "web_search"}, {"type": "computer_toolset_20260801"}]);
    let right =
        with(with(request(split), "tools", tools), "system", json!([marked.clone(), marked]));
    assert_eq!(violations_of([right]).await, Vec::<String>::new());
}

#[tokio::test]
async fn finds_missing_headers() {
    let model = ScriptedModel::start(Reply::text("a").forever()).await;
    let http = reqwest::Client::new();
    let body = request(json!([user("u")])).to_string();
    http.post(format!("{}/v1/messages", model.url())).body(body).send().await.unwrap();
    let found = model.take_violations();
    assert_eq!(found.len(), 2, "{found:?}");
    http.get(format!("{}/v1/models", model.url()))
        .bearer_auth("k")
        .header("anthropic-version", "1")
        .send()
        .await
        .unwrap();
    assert_eq!(model.requests().len(), 2);
    assert_eq!(model.requests()[1].path, "/v1/models");
    assert_eq!(model.requests()[1].headers["authorization"], "Bearer k");
}

#[tokio::test]
async fn a_prefix_must_be_stable() {
    let turns = |texts: &[&str]| {
        let role = |index: usize| {
            if index.is_multiple_of(2) { "user" } else { "assistant" }
        };
        request(json!(
            texts
                .iter()
                .enumerate()
                .map(|(index, text)| json!({"role": role(index), "content": text}))
                .collect::<Vec<_>>()
        ))
    };
    let mut marked = turns(&["u", "a", "v"]);
    marked["messages"][0]["content"] =
        json!([{"type": "text", "text": "u", "cache_control": {"type": "ephemeral"}}]);
    let right = [turns(&["u"]), marked, turns(&["u", "a", "v", "a", "w"]), turns(&["x", "a", "v"])];
    assert_eq!(violations_of(right).await, Vec::<String>::new());
    for wrong in [
        turns(&["u", "changed", "v", "a", "w"]),
        turns(&["u", "a", "changed", "a", "w"]),
        turns(&["u", "a", "w"]),
    ] {
        let found = violations_of([turns(&["u"]), turns(&["u", "a", "v"]), wrong]).await;
        assert!(found.len() == 1 && found[0].contains("prefix changed: messages["), "{found:?}");
    }
    // Two clients that begin alike, each of which goes its own way.
    let twins = [
        turns(&["u"]),
        turns(&["u"]),
        turns(&["u", "a", "v"]),
        turns(&["u", "a", "w"]),
        turns(&["u", "a", "v", "a", "x"]),
    ];
    assert_eq!(violations_of(twins).await, Vec::<String>::new());

    let script = Script::from(Reply::text("a").forever()).allowing_prefix_change();
    let model = ScriptedModel::start(script).await;
    for body in [turns(&["u"]), turns(&["u", "a", "v"]), turns(&["u", "b", "v", "a", "w"])] {
        Client::of(&model).message(&body).await;
    }
}

#[tokio::test]
async fn a_retry_after_a_failure_is_not_a_second_client() {
    let script =
        Script::of([Reply::status(529), Reply::text("p").and_cut(), Reply::text("a").forever()]);
    let model = ScriptedModel::start(script).await;
    let client = Client::of(&model);
    let hello = request(json!([user("u")]));
    client.post(&hello).await;
    client.bytes_until_broken(&hello).await;
    client.post(&hello).await;
    client.post(&request(json!([user("u"), assistant(&json!("a")), user("v")]))).await;
    assert_eq!(model.violations(), Vec::<String>::new());
    client.post(&request(json!([user("u"), assistant(&json!("b")), user("v")]))).await;
    assert_eq!(model.take_violations().len(), 1);
}

#[tokio::test]
async fn what_was_sent_must_come_back_as_it_was() {
    let script =
        Script::of([Reply::thinking("deep").and_tool_use("bash", json!({"a": 1, "b": 2}))])
            .otherwise(Reply::text("ok"));
    let tampered: [fn(&mut Value); 6] = [
        |_| {},
        |content| content[0]["thinking"] = json!("deeper"),
        |content| content[0]["signature"] = json!("forged"),
        |content| content[1]["input"] = json!({"b": 2, "a": 1}),
        |content| content[1]["name"] = json!("sh"),
        |content| content.as_array_mut().unwrap().retain(|block| block["type"] != "thinking"),
    ];
    for (index, tamper) in tampered.iter().enumerate() {
        let model = ScriptedModel::start(script.clone()).await;
        let client = Client::of(&model);
        let body = with(request(json!([user("u")])), "thinking", json!({"type": "adaptive"}));
        let mut content = client.message(&body).await["content"].clone();
        let id = content[1]["id"].clone();
        content[1]["caller"] = Value::Null;
        tamper(&mut content);
        let messages =
            json!([user("u"), assistant(&content), {"role": "user", "content": [result(&id)]}]);
        client.message(&with(body, "messages", messages)).await;
        let found = model.take_violations();
        match index {
            0 => assert_eq!(found, Vec::<String>::new()),
            _ => assert!(!found.is_empty(), "case {index}: {found:?}"),
        }
    }
}

#[tokio::test]
async fn a_paused_turn_may_be_sent_back_as_it_is() {
    let script =
        Script::of([Reply::text("working").with_stop_reason("pause_turn"), Reply::text("done")]);
    let model = ScriptedModel::start(script).await;
    let client = Client::of(&model);
    let first = client.message(&request(json!([user("u")]))).await;
    client.message(&request(json!([user("u"), assistant(&first["content"])]))).await;
    assert_eq!(model.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn without_recording_nothing_is_kept_or_checked() {
    let model = ScriptedModel::start(Script::bench_echo()).await;
    let client = Client::of(&model);
    let body = json!({"model": "m", "messages": [user("again"), assistant(&json!([])), {"role": "user", "content": [result(&json!("x"))]}]});
    assert_eq!(client.message(&body).await["content"][0]["text"], "again");
    assert!(model.requests().is_empty() && model.violations().is_empty());
}

#[tokio::test]
async fn dropping_it_panics_on_violations_and_frees_the_port() {
    let model = ScriptedModel::start(Script::default()).await;
    let (client, address) =
        (Client::of(&model), model.url().trim_start_matches("http://").to_owned());
    client.post(&request(json!([user("u")]))).await;
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drop(model)));
    let message = *dropped.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("no reply scripted"), "{message}");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());

    let model = ScriptedModel::start(Script::default()).await;
    model.allow_violations();
    Client::of(&model).post(&request(json!([user("u")]))).await;
    drop(model);
}
