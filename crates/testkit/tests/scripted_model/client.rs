//! A bare HTTP client and short ways to write a request. Never asserts on what a test is about.

use futures_util::StreamExt;
use posthouse_testkit::ScriptedModel;
use serde_json::{Value, json};

pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    pub(crate) fn of(model: &ScriptedModel) -> Self {
        Self { http: reqwest::Client::new(), url: model.url() }
    }

    pub(crate) async fn post(&self, body: &Value) -> reqwest::Response {
        let request = self.http.post(format!("{}/v1/messages", self.url));
        let request = request.header("x-api-key", "k").header("anthropic-version", "2023-06-01");
        request
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn events(&self, body: &Value) -> Vec<Value> {
        let text = self.post(body).await.text().await.unwrap();
        events(&text)
    }

    pub(crate) async fn message(&self, body: &Value) -> Value {
        let mut body = body.clone();
        body["stream"] = json!(false);
        serde_json::from_str(&self.post(&body).await.text().await.unwrap()).unwrap()
    }

    pub(crate) async fn bytes_until_broken(&self, body: &Value) -> (Vec<u8>, bool) {
        let mut stream = self.post(body).await.bytes_stream();
        let (mut seen, mut broken) = (Vec::new(), false);
        while let Some(part) = stream.next().await {
            match part {
                Ok(part) => seen.extend_from_slice(&part),
                Err(_) => broken = true,
            }
        }
        (seen, broken)
    }

    /// To any wire, with the key that each of them wants.
    pub(crate) async fn post_to(&self, path: &str, body: &Value) -> reqwest::Response {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth("k");
        request.header("x-goog-api-key", "k").body(body.to_string()).send().await.unwrap()
    }

    /// What a stream of any wire says, without comments and its end.
    pub(crate) async fn stream_of(&self, path: &str, body: &Value) -> Vec<Value> {
        let text = self.post_to(path, body).await.text().await.unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
        lines
            .filter(|data| *data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }

    pub(crate) async fn answer_of(&self, path: &str, body: &Value) -> Value {
        serde_json::from_str(&self.post_to(path, body).await.text().await.unwrap()).unwrap()
    }

    pub(crate) async fn get(&self, path: &str, header: (&str, &str)) -> Value {
        let request = self.http.get(format!("{}{path}", self.url)).header(header.0, header.1);
        let response = request.header("x-api-key", "k").send().await.unwrap();
        serde_json::from_str(&response.text().await.unwrap()).unwrap()
    }

    pub(crate) async fn steer(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request =
            self.http.request(method, format!("{}{path}", self.url)).body(body.to_owned());
        let response = request.send().await.unwrap();
        (response.status().as_u16(), serde_json::from_str(&response.text().await.unwrap()).unwrap())
    }
}

pub(crate) fn events(text: &str) -> Vec<Value> {
    let event = |frame: &str| {
        let (name, data) = frame.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: ").unwrap(), data["type"].as_str().unwrap());
        data
    };
    text.split_terminator("\n\n").map(event).collect()
}

pub(crate) fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

pub(crate) fn request(messages: Value) -> Value {
    json!({"model": "m", "max_tokens": 64, "stream": true, "messages": messages})
}

pub(crate) fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

pub(crate) fn assistant(content: &Value) -> Value {
    json!({"role": "assistant", "content": content})
}

pub(crate) fn result(id: &Value) -> Value {
    json!({"type": "tool_result", "tool_use_id": id, "content": "ok"})
}
