//! What is sent: blocks, errors, pauses and cuts, chosen by the script, and how it is steered.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use posthouse_testkit::{Reply, Script, ScriptedModel, Step, When};
use serde_json::{Value, json};

use crate::client::{Client, assistant, events, kinds, request, result, user};

#[tokio::test]
async fn streams_every_kind_of_block_in_the_order_of_the_api() {
    let reply = Reply::thinking("hm, let me see")
        .and(Step::RedactedThinking("opaque".into()))
        .and(Step::Ping)
        .and_text("Grüße an alle")
        .and_tool_use("bash", json!({"command": "ls", "deep": {"b": 1, "a": 2}}))
        .and_tool_use("now", json!({}))
        .in_chunks(4, Duration::ZERO);
    let model = ScriptedModel::start(reply).await;
    let events = Client::of(&model).events(&request(json!([user("hello")]))).await;

    let start = &events[0]["message"];
    assert_eq!(start["content"], json!([]));
    assert_eq!(start["model"], "m");
    assert_eq!(start["stop_reason"], Value::Null);
    let joined = |kind: &str, field: &str, index: usize| -> String {
        let deltas =
            events.iter().filter(|event| event["index"] == index && event["delta"]["type"] == kind);
        deltas.map(|event| event["delta"][field].as_str().unwrap()).collect()
    };
    assert_eq!(joined("thinking_delta", "thinking", 0), "hm, let me see");
    assert!(joined("signature_delta", "signature", 0).starts_with("sig_"));
    assert_eq!(joined("text_delta", "text", 2), "Grüße an alle");
    assert_eq!(
        joined("input_json_delta", "partial_json", 3),
        r#"{"command":"ls","deep":{"b":1,"a":2}}"#
    );
    assert_eq!(joined("input_json_delta", "partial_json", 4), "");
    let starts: Vec<&Value> =
        events.iter().filter(|event| event["type"] == "content_block_start").collect();
    assert_eq!(starts[1]["content_block"], json!({"type": "redacted_thinking", "data": "opaque"}));
    assert_ne!(starts[3]["content_block"]["id"], starts[4]["content_block"]["id"]);
    let last = &events[events.len() - 2..];
    assert_eq!(kinds(last), ["message_delta", "message_stop"]);
    assert_eq!(last[0]["delta"]["stop_reason"], "tool_use");
    assert!(kinds(&events).contains(&"ping"));
}

#[tokio::test]
async fn a_reply_without_pauses_goes_out_in_one_write() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let model =
        ScriptedModel::start(Reply::text("x".repeat(400)).in_chunks(10, Duration::ZERO)).await;
    let address = model.url().trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let body = request(json!([user("hi")])).to_string();
    let head = "POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\nanthropic-version: 1\r\n";
    stream
        .write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes())
        .await
        .unwrap();
    let mut buffer = vec![0; 1 << 20];
    let count = stream.read(&mut buffer).await.unwrap();
    assert!(
        buffer[..count].ends_with(b"\r\n0\r\n\r\n"),
        "the end of the answer is not in the first read"
    );
    assert!(String::from_utf8_lossy(&buffer[..count]).contains("transfer-encoding: chunked"));
}

#[tokio::test]
async fn answers_without_streaming_hold_the_same_blocks() {
    let tool = Reply::thinking("t").and_text("a").and_tool_use("bash", json!({"x": 1}));
    let refusal = Reply { stop_details: Some(json!({"type": "refusal"})), ..Reply::default() }
        .with_stop_reason("refusal");
    let raw = Step::Block {
        block: json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}),
        deltas: vec![json!({"type": "input_json_delta", "partial_json": "{\"q\":1}"})],
    };
    let broken = Reply::error_event("overloaded_error", "later");
    let script = Script::of([
        tool,
        refusal,
        Reply::of([raw]).with_usage(json!({"output_tokens": 9})),
        broken,
    ]);
    let model = ScriptedModel::start(script).await;
    let client = Client::of(&model);
    let message = client.message(&request(json!([user("1")]))).await;
    assert_eq!(message["content"][1], json!({"type": "text", "text": "a"}));
    assert_eq!(message["content"][2]["input"], json!({"x": 1}));
    assert_eq!(message["stop_reason"], "tool_use");
    let message = client.message(&request(json!([user("2")]))).await;
    assert_eq!(
        (&message["stop_reason"], &message["stop_details"]["type"]),
        (&json!("refusal"), &json!("refusal"))
    );
    let message = client.message(&request(json!([user("3")]))).await;
    assert_eq!(message["content"][0]["input"], json!({"q": 1}));
    assert_eq!(message["usage"]["output_tokens"], 9);
    let error = client.message(&request(json!([user("4")]))).await;
    assert_eq!(error["error"], json!({"type": "overloaded_error", "message": "later"}));
}

#[tokio::test]
async fn chooses_replies_by_when_and_uses_them_up() {
    let script = Script::of([
        Reply::text("second").when(When { request_index: Some(1), ..When::default() }),
        Reply::text("other model").when_model("big").forever(),
        Reply::text("about rain").when_user_says("rain").times(2),
        Reply::text("be kind")
            .when(When { system_contains: Some("kind".into()), ..When::default() }),
        Reply::text("after bash").when_result_of("bash"),
    ])
    .otherwise(Reply::echo());
    let model = ScriptedModel::start(script).await;
    let client = Client::of(&model);
    let said = async |body: Value| {
        client.message(&body).await["content"][0]["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(said(request(json!([user("rain?")]))).await, "about rain");
    assert_eq!(said(request(json!([user("anything")]))).await, "second");
    assert_eq!(said(request(json!([user("rain again")]))).await, "about rain");
    assert_eq!(said(request(json!([user("rain a third time")]))).await, "rain a third time");
    let mut body = request(json!([user("x")]));
    body["model"] = json!("big");
    assert_eq!(said(body.clone()).await, "other model");
    assert_eq!(said(body).await, "other model");
    let mut body = request(json!([user("y")]));
    body["system"] = json!([{"type": "text", "text": "Be kind."}]);
    assert_eq!(said(body).await, "be kind");
    let call = json!([{"type": "tool_use", "id": "t1", "name": "bash", "input": {}}]);
    let body =
        json!([user("z"), assistant(&call), {"role": "user", "content": [result(&json!("t1"))]}]);
    assert_eq!(said(request(body)).await, "after bash");
}

#[tokio::test]
async fn what_is_not_scripted_is_a_500_and_a_violation() {
    let model = ScriptedModel::start(Script::default()).await;
    let response = Client::of(&model).post(&request(json!([user("hello there")]))).await;
    assert_eq!(response.status(), 500);
    let violations = model.take_violations();
    assert_eq!(violations.len(), 1);
    assert!(violations[0].starts_with("no reply scripted for request 0"), "{violations:?}");
    assert!(violations[0].contains("hello there"));
}

#[tokio::test]
async fn every_status_has_the_error_body_of_its_class() {
    let classes = [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (408, "timeout_error"),
        (409, "conflict_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "api_error"),
        (529, "overloaded_error"),
    ];
    let replies = classes.map(|(status, _)| {
        Reply::status(status).with_header("retry-after", "7").with_message("so it is")
    });
    let model = ScriptedModel::start(Script::of(replies)).await;
    let client = Client::of(&model);
    for (status, class) in classes {
        let response = client.post(&request(json!([user("hi")]))).await;
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["retry-after"], "7");
        let id = response.headers()["request-id"].to_str().unwrap().to_owned();
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(
            body,
            json!({"type": "error", "error": {"type": class, "message": "so it is"}, "request_id": id})
        );
    }
}

#[tokio::test]
async fn cuts_at_the_exact_byte() {
    let whole = Reply::text("some text that is long enough");
    let model = ScriptedModel::start(Script::of([whole.clone()])).await;
    let client = Client::of(&model);
    let body = request(json!([user("hi")]));
    let (full, broken) = client.bytes_until_broken(&body).await;
    assert!(!broken);
    for bytes in [0, 1, 17, full.len() - 1, full.len()] {
        model.push(whole.clone().cut_after(bytes));
        let (seen, broken) = client.bytes_until_broken(&body).await;
        assert!(broken, "the connection ended as if the answer were whole");
        assert_eq!(seen.len(), bytes);
    }
    let paced = Reply::text("abcdef").in_chunks(1, Duration::from_millis(5));
    for reply in [
        paced.clone().and_cut(),
        paced.cut_after(full.len() / 2 + 100),
        Reply::status(500).cut_after(10),
    ] {
        model.push(reply);
        assert!(client.bytes_until_broken(&body).await.1);
    }
    model.push(Reply::text("a").and_cut());
    let (seen, _) = client.bytes_until_broken(&body).await;
    assert_eq!(
        kinds(&events(std::str::from_utf8(&seen).unwrap())).last(),
        Some(&"content_block_stop")
    );
    let mut plain = body;
    plain["stream"] = json!(false);
    model.push(Reply::text("a").cut_after(5));
    assert_eq!(client.bytes_until_broken(&plain).await, (b"{\"id\"".to_vec(), true));
}

#[tokio::test]
async fn cuts_a_large_answer_as_exactly_as_a_small_one() {
    let reply = Reply::text("x".repeat(5_000_000)).cut_after(3_333_333);
    let paced = Reply::text("x".repeat(3_000_000))
        .in_chunks(500_000, Duration::from_millis(1))
        .cut_after(2_222_222);
    let model = ScriptedModel::start(Script::of([reply, paced])).await;
    for bytes in [3_333_333, 2_222_222] {
        let (seen, broken) =
            Client::of(&model).bytes_until_broken(&request(json!([user("hi")]))).await;
        assert_eq!((seen.len(), broken), (bytes, true));
    }
}

#[tokio::test]
async fn pauses_stalls_delays_and_error_events() {
    let script = Script::of([
        Reply::text("abcd").in_chunks(2, Duration::from_millis(60)),
        Reply::text("late").with_delay(Duration::from_millis(120)),
        Reply::error_event("overloaded_error", "Overloaded"),
        Reply::text("then nothing").and_stall(),
    ]);
    let model = ScriptedModel::start(script).await;
    let client = Client::of(&model);
    let body = request(json!([user("hi")]));
    for at_least in [120, 120] {
        let start = Instant::now();
        client.events(&body).await;
        assert!(start.elapsed() >= Duration::from_millis(at_least));
    }
    let events_seen = client.events(&body).await;
    assert_eq!(kinds(&events_seen), ["message_start", "error"]);
    let mut stream = client.post(&body).await.bytes_stream();
    let first = stream.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("then nothing"));
    assert!(tokio::time::timeout(Duration::from_millis(150), stream.next()).await.is_err());
}

#[tokio::test]
async fn is_steered_over_http() {
    let model = ScriptedModel::start(Script::default()).await;
    let client = Client::of(&model);
    let faults = [
        (
            r#"{"replies":[{"steps":[{"text":"a"},{"text":"a","oops":1}]}]}"#,
            "replies[0].steps[1].oops: unknown field",
        ),
        (r#"{"replies":[{"when":{"modell":"x"}}]}"#, "replies[0].when.modell: unknown field"),
        (
            r#"{"replies":[{"steps":[{"text":"a","cut":true}]}]}"#,
            "replies[0].steps[0]: a step is exactly one of",
        ),
        (
            r#"{"replies":[{"steps":[{"ping":true,"chunk":2}]}]}"#,
            "replies[0].steps[0]: `chunk` means nothing",
        ),
        (
            r#"{"replies":[{"steps":[{"cut":true},{"text":"a"}]}]}"#,
            "replies[0].steps[1]: comes after the end",
        ),
        (
            r#"{"otherwise":{"status":529,"steps":[{"text":"a"}]}}"#,
            "otherwise.steps: are only played with status 200",
        ),
    ];
    for (script, expected) in faults {
        let (status, body) = client.steer("PUT", "/script", script).await;
        assert_eq!(status, 400);
        assert!(body["error"].as_str().unwrap().contains(expected), "{body}");
    }
    let script = r#"{"replies":[{"steps":[{"text":"one"}]}],"delay_ms":1}"#;
    assert_eq!(client.steer("PUT", "/script", script).await.0, 200);
    assert_eq!(
        client.steer("POST", "/script/replies", r#"[{"steps":[{"text":"two"}]}]"#).await.0,
        200
    );
    assert_eq!(
        client.steer("POST", "/script/replies", r#"{"steps":[{"echo":true}]}"#).await.0,
        200
    );
    for expected in ["one", "two", "echo me"] {
        assert_eq!(
            client.message(&request(json!([user("echo me")]))).await["content"][0]["text"],
            expected
        );
    }
    let (_, seen) = client.steer("GET", "/requests", "").await;
    assert_eq!(seen.as_array().unwrap().len(), 3);
    assert_eq!(seen[0]["body"]["messages"][0], user("echo me"));
    assert!(seen[2]["received_at_ms"].as_f64() > seen[0]["received_at_ms"].as_f64());
    client.steer("DELETE", "/requests", "").await;
    assert_eq!(client.steer("GET", "/requests", "").await.1, json!([]));
    client.post(&request(json!([user("nothing left")]))).await;
    assert_eq!(client.steer("GET", "/violations", "").await.1.as_array().unwrap().len(), 1);
    client.steer("DELETE", "/violations", "").await;
    assert_eq!(client.steer("GET", "/violations", "").await.1, json!([]));
    assert_eq!(client.steer("GET", "/nowhere", "").await.0, 404);
}

#[tokio::test]
async fn a_script_survives_being_written_as_json() {
    let script = Script::of([
        Reply::thinking("t")
            .and_text("x")
            .and_tool_use("bash", json!({"a": 1}))
            .in_chunks(3, Duration::from_millis(2)),
        Reply::of([Step::Ping, Step::Pause(5), Step::RedactedThinking("d".into()), Step::Stall])
            .when_user_says("w"),
        Reply::error_event("api_error", "m").cut_after(7),
    ]);
    let json = serde_json::to_vec(&script).unwrap();
    let again = Script::from_json(&json).unwrap();
    assert_eq!(serde_json::to_vec(&again).unwrap(), json);
}

#[tokio::test]
async fn an_open_stream_ends_with_the_model() {
    let model = ScriptedModel::start(Reply::text("a").and_stall()).await;
    let mut stream = Client::of(&model).post(&request(json!([user("u")]))).await.bytes_stream();
    stream.next().await.unwrap().unwrap();
    drop(model);
    assert!(stream.next().await.unwrap().is_err());
}
