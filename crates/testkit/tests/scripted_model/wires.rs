//! What holds on every wire: one script, error bodies, lists of models, captured requests, stable prefixes.

use posthouse_testkit::{Models, Reply, Script, ScriptedModel, When};
use serde_json::{Value, json};

use crate::client::{Client, request, user};

const RESPONSES: &str = "/v1/responses";
const CHAT: &str = "/v1/chat/completions";
const GEMINI: &str = "/v1beta/models/m:generateContent";

fn bodies(texts: &[&str]) -> [(&'static str, Value); 3] {
    let mut items = Vec::new();
    let mut contents = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let is_user = index.is_multiple_of(2);
        let role = if is_user { "user" } else { "assistant" };
        items.push(json!({"role": role, "content": text}));
        let role = if is_user { "user" } else { "model" };
        contents.push(json!({"role": role, "parts": [{"text": text}]}));
    }
    [
        (
            RESPONSES,
            json!({"model": "m", "store": false, "instructions": "Be kind.", "input": items}),
        ),
        (CHAT, json!({"model": "m", "messages": items})),
        (
            GEMINI,
            json!({"contents": contents, "systemInstruction": {"parts": [{"text": "Be kind."}]}}),
        ),
    ]
}

fn said(answer: &Value) -> &str {
    let places = [
        &answer["output"][0]["content"][0]["text"],
        &answer["choices"][0]["message"]["content"],
        &answer["candidates"][0]["content"]["parts"][0]["text"],
    ];
    places.into_iter().find_map(Value::as_str).unwrap()
}

#[tokio::test]
async fn one_script_is_played_on_every_wire() {
    let script = Script::of([
        Reply::text("about rain").when_user_says("rain").times(3),
        Reply::text("kind")
            .when(When { system_contains: Some("kind".into()), ..When::default() })
            .when_wire("gemini"),
        Reply::text("chat").when_wire("openai_chat"),
    ])
    .otherwise(Reply::echo());
    let model = ScriptedModel::start(script).await;
    let client = Client::of(&model);
    let mut heard = Vec::new();
    for text in ["rain?", "hello"] {
        for (path, body) in bodies(&[text]) {
            heard.push(said(&client.answer_of(path, &body).await).to_owned());
        }
    }
    assert_eq!(heard, ["about rain", "about rain", "about rain", "hello", "chat", "kind"]);
    assert_eq!(client.message(&request(json!([user("hi")]))).await["content"][0]["text"], "hi");
    let wires: Vec<_> = model.requests().iter().map(|request| request.wire).collect();
    let three = [Some("openai_responses"), Some("openai_chat"), Some("gemini")];
    assert_eq!(wires, [&three[..], &three, &[Some("anthropic")]].concat());
}

#[tokio::test]
async fn a_reply_is_chosen_by_the_tool_whose_result_is_there() {
    let calls = [
        (
            RESPONSES,
            json!({"model": "m", "store": false, "input": [{"role": "user", "content": "u"},
            {"type": "function_call", "call_id": "a", "name": "bash", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "found it"}]}),
        ),
        (
            CHAT,
            json!({"model": "m", "messages": [{"role": "user", "content": "u"},
            {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "bash", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "a", "content": "found it"}]}),
        ),
        (
            GEMINI,
            json!({"contents": [{"role": "user", "parts": [{"text": "u"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "bash", "args": {}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "bash", "response": {"output": "found it"}}}]}]}),
        ),
    ];
    for (path, body) in calls {
        let script = Script::of([
            Reply::text("other").when_result_of("now"),
            Reply::text("right").when_result_of("bash").when_user_says("found"),
        ]);
        let model = ScriptedModel::start(script).await;
        assert_eq!(said(&Client::of(&model).answer_of(path, &body).await), "right", "{path}");
    }
}

#[tokio::test]
async fn every_status_has_the_error_body_of_its_provider() {
    let cases = [
        (400, "invalid_request_error", Value::Null, "INVALID_ARGUMENT"),
        (401, "invalid_request_error", json!("invalid_api_key"), "UNAUTHENTICATED"),
        (403, "invalid_request_error", Value::Null, "PERMISSION_DENIED"),
        (404, "invalid_request_error", json!("model_not_found"), "NOT_FOUND"),
        (429, "tokens", json!("rate_limit_exceeded"), "RESOURCE_EXHAUSTED"),
        (500, "server_error", Value::Null, "INTERNAL"),
        (503, "server_error", Value::Null, "UNAVAILABLE"),
    ];
    for (status, kind, code, name) in cases {
        let reply =
            Reply::status(status).with_header("retry-after", "7").with_message("so it is").times(3);
        let model = ScriptedModel::start(reply).await;
        for (path, body) in bodies(&["hi"]) {
            let response = Client::of(&model).post_to(path, &body).await;
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["retry-after"], "7");
            assert!(response.headers().contains_key("x-request-id"));
            let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
            let expected = match path {
                GEMINI => json!({
                    "code": status, "message": "so it is", "status": name,
                    "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}],
                }),
                _ => json!({"message": "so it is", "type": kind, "param": null, "code": code}),
            };
            assert_eq!(body, json!({"error": expected}));
        }
    }
    let error = json!({"code": "context_length_exceeded"});
    let model = ScriptedModel::start(Reply::status(400).with_error(error)).await;
    let (path, body) = &bodies(&["hi"])[0];
    let answer = Client::of(&model).answer_of(path, body).await;
    assert_eq!(answer["error"]["code"], "context_length_exceeded");
}

#[tokio::test]
async fn models_are_listed_in_the_shape_of_the_caller() {
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    let models = Models { openai: names(&["gpt-x"]), ollama: names(&[]), ..Models::default() };
    let model = ScriptedModel::start(Script { models, ..Script::default() }).await;
    let client = Client::of(&model);
    let (version, bearer, key) =
        (("anthropic-version", "1"), ("authorization", "Bearer k"), ("x-goog-api-key", "k"));
    let list = client.get("/v1/models", version).await;
    assert_eq!(list["data"][0]["display_name"], "Scripted large");
    let list = client.get("/v1/models", bearer).await;
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("gpt-x")));
    assert_eq!(client.get("/v1/models/gpt-x", bearer).await["object"], "model");
    assert_eq!(client.get("/v1/models/gpt-y", bearer).await["error"]["code"], "model_not_found");
    for path in ["/v1beta/models", "/v1/models"] {
        let list = client.get(path, key).await;
        assert_eq!(list["models"][0]["name"], "models/gemini-scripted-large");
    }
    assert_eq!(client.get("/api/tags", bearer).await, json!({"models": []}));
    assert!(client.get("/api/version", bearer).await["version"].is_string());
    let wires: Vec<_> = model.requests().iter().filter_map(|request| request.wire).collect();
    let expected =
        ["anthropic", "openai", "openai", "openai", "gemini", "gemini", "ollama", "ollama"];
    assert_eq!(wires, expected);
}

#[tokio::test]
async fn a_prefix_must_be_stable_on_every_wire() {
    for wire in 0..3 {
        let model = ScriptedModel::start(Reply::text("a").forever()).await;
        let client = Client::of(&model);
        for texts in [&["u"][..], &["u", "a", "v"], &["u", "a", "v", "a", "w"]] {
            let (path, body) = &bodies(texts)[wire];
            client.post_to(path, body).await;
        }
        assert_eq!(model.violations(), Vec::<String>::new());
        let (path, body) = &bodies(&["u", "changed", "v", "a", "w", "a", "x"])[wire];
        client.post_to(path, body).await;
        let found = model.take_violations();
        assert!(found.len() == 1 && found[0].contains("prefix changed"), "{found:?}");
    }
}

#[tokio::test]
async fn a_body_of_another_wire_is_a_400_and_a_violation() {
    let model = ScriptedModel::start(Reply::text("a").forever()).await;
    let client = Client::of(&model);
    for (path, name) in
        [(RESPONSES, "a Responses request"), (CHAT, "a Chat Completions"), (GEMINI, "a Gemini")]
    {
        let response = client.post_to(path, &json!({"model": "m", "prompt": "x"})).await;
        assert_eq!(response.status(), 400);
        let found = model.take_violations();
        assert!(found.len() == 1 && found[0].contains(name), "{found:?}");
    }
    let http = reqwest::Client::new();
    let url = format!("{}/v1beta/models?key=k", model.url());
    http.get(url).send().await.unwrap();
    assert_eq!(model.take_violations().len(), 2, "no header, and the key in the address");
}

#[tokio::test]
async fn streams_are_cut_and_stalled_on_every_wire() {
    let stream = |index: usize| {
        let (path, mut body) = bodies(&["hi"])[index].clone();
        if path == GEMINI {
            return ("/v1beta/models/m:streamGenerateContent?alt=sse", body);
        }
        body["stream"] = json!(true);
        (path, body)
    };
    for wire in 0..3 {
        let (path, body) = stream(wire);
        let script = Script::of([
            Reply::text("whole"),
            Reply::text("whole").cut_after(40),
            Reply::text("half").and_cut(),
            Reply::text("half").and_stall(),
        ]);
        let model = ScriptedModel::start(script).await;
        let client = Client::of(&model);
        assert!(client.post_to(path, &body).await.text().await.unwrap().contains("whole"));
        for expected in [Some(40), None] {
            let mut response = client.post_to(path, &body).await;
            let mut seen = Vec::new();
            let broken = loop {
                match response.chunk().await {
                    Ok(Some(part)) => seen.extend_from_slice(&part),
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            assert!(broken, "{path}");
            assert!(expected.is_none_or(|bytes| bytes == seen.len()));
        }
        let mut response = client.post_to(path, &body).await;
        let first = response.chunk().await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&first).contains("half"));
        let wait = std::time::Duration::from_millis(100);
        assert!(tokio::time::timeout(wait, response.chunk()).await.is_err());
    }
}
