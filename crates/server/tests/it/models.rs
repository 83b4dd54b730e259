//! `/v1/models`: the list of what all providers serve, and what a plain name of this machine means.

use std::sync::{Arc, Mutex};

use posthouse_model::{
    Body, ListedModel, Listing, ModelStream, Provider, Request, WireKind, providers::family,
};
use serde_json::json;

use crate::app::TestApp;

/// A provider that lists models and says nothing.
struct Shop {
    name: &'static str,
    wire: WireKind,
    local: bool,
    models: Mutex<Vec<ListedModel>>,
}

impl Shop {
    fn new(name: &'static str, wire: WireKind, models: &[(&str, i64)]) -> Arc<Self> {
        let listed = |(id, created): &(&str, i64)| ListedModel {
            id: (*id).to_owned(),
            created: Some(*created),
            ..ListedModel::default()
        };
        let models = Mutex::new(models.iter().map(listed).collect());
        Arc::new(Self { name, wire, local: wire == WireKind::OpenaiChat, models })
    }
}

impl Provider for Shop {
    fn name(&self) -> &str {
        self.name
    }

    fn claims(&self, model: &str) -> bool {
        family(model).is_some_and(|(_, wire)| wire == self.wire)
    }

    fn wire(&self) -> WireKind {
        self.wire
    }

    fn is_local(&self) -> bool {
        self.local
    }

    fn list(&self) -> Listing<'_> {
        Box::pin(std::future::ready(Ok(self.models.lock().unwrap().clone())))
    }

    fn render(&self, _: &Request) -> Body {
        Body::default()
    }

    fn stream(&self, _: Body) -> ModelStream {
        Box::pin(futures_util::stream::pending())
    }
}

const DAY: i64 = 24 * 3600;

async fn app() -> (TestApp, Arc<Shop>) {
    let anthropic = Shop::new(
        "anthropic",
        WireKind::Anthropic,
        &[("claude-opus-5", 9 * DAY), ("claude-sonnet-4-5-20250929", 3 * DAY)],
    );
    let gateway = Shop::new("gateway", WireKind::Anthropic, &[("claude-opus-5", 5 * DAY)]);
    let near = Shop::new("near", WireKind::OpenaiChat, &[("qwen3:latest", 7 * DAY), ("o/x", 0)]);
    let app = TestApp::with(vec![anthropic, gateway, Arc::clone(&near) as Arc<dyn Provider>]).await;
    (app, near)
}

async fn ids(app: &TestApp, query: &str) -> Vec<String> {
    let list = app.get(&format!("/v1/models{query}")).await.ok();
    let data = list["data"].as_array().unwrap();
    let ids: Vec<_> = data.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(list["first_id"].as_str(), ids.first().map(String::as_str));
    assert_eq!(list["last_id"].as_str(), ids.last().map(String::as_str));
    ids
}

#[tokio::test]
async fn all_providers_are_one_list_with_the_newest_first() {
    let (app, _) = app().await;
    let all = [
        "claude-opus-5",
        "qwen3:latest",
        "gateway/claude-opus-5",
        "claude-sonnet-4-5-20250929",
        "o/x",
    ];
    assert_eq!(ids(&app, "").await, all);
    assert_eq!(ids(&app, "?limit=2").await, all[..2]);
    assert_eq!(ids(&app, "?limit=2&after_id=qwen3:latest").await, all[2..4]);
    assert_eq!(ids(&app, "?after_id=gateway%2Fclaude-opus-5&beta=true").await, all[3..]);
    assert_eq!(ids(&app, "?limit=1&before_id=gateway/claude-opus-5").await, all[1..2]);
    assert_eq!(ids(&app, "?before_id=claude-opus-5").await, [""; 0]);
    let more =
        async |query: &str| app.get(&format!("/v1/models{query}")).await.ok()["has_more"].clone();
    assert_eq!(more("?limit=5").await, false);
    assert_eq!(more("?limit=4").await, true);
    assert_eq!(more("?limit=1&before_id=gateway/claude-opus-5").await, true);
    assert_eq!(more("?limit=2&before_id=gateway/claude-opus-5").await, false);
    assert_eq!(ids(&app, "?lifecycle[]=deprecated").await, all[3..4]);
    assert_eq!(ids(&app, "?lifecycle=retired").await, [""; 0]);
    let both = ids(&app, "?lifecycle[]=deprecated&lifecycle[]=active&lifecycle[]=retired").await;
    assert_eq!(both, all);
    for (query, message) in [
        ("?limit=0", "limit: is 0"),
        ("?limit=1001", "limit: is 1001"),
        ("?after_id=none", "after_id: \"none\" is no model of this list"),
        ("?before_id=none", "before_id: \"none\" is no model"),
        ("?before_id=o/x&after_id=o/x", "before_id: comes with after_id"),
        ("?lifecycle=old", "lifecycle: \"old\" is not a valid value"),
        (
            "?lifecycle=active&lifecycle=active&lifecycle=active&lifecycle=active",
            "lifecycle: has 4",
        ),
        ("?page=x", "page: is no parameter"),
    ] {
        let refusal = app.get(&format!("/v1/models{query}")).await.refused(400);
        assert!(refusal.starts_with(message), "{query}: {refusal}");
    }
}

#[tokio::test]
async fn a_model_is_shown_with_what_is_known_of_it() {
    let (app, _) = app().await;
    let opus = app.get("/v1/models/claude-opus-5").await.ok();
    assert_eq!(
        opus["capabilities"]["effort"],
        json!({
            "supported": true, "low": { "supported": true }, "medium": { "supported": true },
            "high": { "supported": true }, "xhigh": { "supported": true },
            "max": { "supported": true },
        })
    );
    assert_eq!(opus["capabilities"]["image_input"], json!({ "supported": true }));
    assert_eq!(opus["capabilities"]["batch"], json!({ "supported": false }));
    assert_eq!(opus["created_at"], "1970-01-10T00:00:00.000000Z");
    assert_eq!(opus["max_input_tokens"], 1_000_000);
    assert_eq!(opus["max_tokens"], 128_000);
    assert_eq!(opus["line"], "opus");
    assert_eq!(opus["display_name"], "Claude Opus 5");
    let prices = json!({
        "currency": "USD", "input": "5.00", "output": "25.00", "cache_read": "0.50",
        "cache_write_5m": "6.25", "cache_write_1h": "10.00",
    });
    let own = json!({
        "provider": "anthropic", "wire": "anthropic", "window_from": "catalog", "prices": prices,
    });
    assert_eq!(opus["posthouse"], own);

    let unknown = app.get("/v1/models/o/x").await.ok();
    assert_eq!(
        unknown,
        json!({
            "type": "model", "id": "o/x", "display_name": "o/x",
            "created_at": "1970-01-01T00:00:00.000000Z", "lifecycle": "active",
            "deprecated_at": null, "retires_at": null, "line": null, "max_input_tokens": null,
            "max_tokens": null, "capabilities": null, "allowed_fallback_models": null,
            "posthouse": {
                "provider": "near", "wire": "openai_chat", "window_from": "assumed",
                "prices": null,
            },
        })
    );
    assert_eq!(app.get("/v1/models/o%2Fx").await.ok(), unknown);
    let old = app.get("/v1/models/claude-sonnet-4-5").await.ok();
    assert_eq!(old["id"], "claude-sonnet-4-5-20250929", "an alias");
    assert_eq!(old["lifecycle"], "deprecated");
    assert_eq!(old["retires_at"], "2026-11-30T00:00:00.000000Z");
    assert_eq!(app.get("/v1/models/qwen3").await.ok()["id"], "qwen3:latest");
    assert_eq!(app.get("/v1/models/near/qwen3").await.ok()["id"], "qwen3:latest");
    let message = app.get("/v1/models/gpt-9").await.refused(404);
    assert_eq!(message, "model: gpt-9");
}

#[tokio::test]
async fn a_name_that_has_just_come_can_be_used() {
    let (app, near) = app().await;
    let make =
        async |model: &str| app.post("/v1/agents", json!({ "name": "a", "model": model })).await;
    assert_eq!(make("qwen3").await.ok()["model"]["id"], "qwen3");
    let refusal = make("llama").await.refused(400);
    assert!(refusal.contains("no configured provider serves \"llama\""), "{refusal}");
    near.models.lock().unwrap().push(ListedModel { id: "llama".into(), ..ListedModel::default() });
    // Whoever asks for a stranger is told by what was said within the last second.
    let made = loop {
        let reply = make("llama").await;
        if reply.status == 200 {
            break reply.ok();
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert_eq!(made["model"]["id"], "llama");
    let geo = json!({ "name": "a", "model": { "id": "qwen3", "inference_geo": "us" } });
    let refusal = app.post("/v1/agents", geo).await.refused(400);
    assert!(refusal.starts_with("model.inference_geo: "), "{refusal}");
}

#[tokio::test]
async fn a_session_with_a_plain_name_goes_on_when_who_serves_it_is_back() {
    let near = Shop::new("near", WireKind::OpenaiChat, &[("qwen3:latest", 7 * DAY)]);
    let shop = || vec![Arc::clone(&near) as Arc<dyn Provider>];
    let app = TestApp::with(shop()).await;
    let agent = app.post("/v1/agents", json!({ "name": "a", "model": "qwen3" })).await.ok();
    let environment = app.post("/v1/environments", json!({ "name": "e" })).await.ok();
    let body = json!({ "agent": agent["id"], "environment_id": environment["id"] });
    let session = app.post("/v1/sessions", body).await.ok();
    let path = format!("/v1/sessions/{}/events", session["id"].as_str().unwrap());

    let models = std::mem::take(&mut *near.models.lock().unwrap());
    let app = app.restart_with(shop()).await;
    let text = json!([{ "type": "text", "text": "go on" }]);
    let message = json!({ "events": [{ "type": "user.message", "content": text }] });
    let say = async || {
        app.post(&path, message.clone()).await.ok();
        let kinds = "types[]=session.error&types[]=span.model_request_start";
        loop {
            let events = app.get(&format!("{path}?{kinds}&order=desc&limit=1")).await.ok();
            if let Some(newest) = events["data"].as_array().unwrap().first() {
                break newest.clone();
            }
            tokio::task::yield_now().await;
        }
    };
    let failed = say().await;
    let message = failed["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("no configured provider serves \"qwen3\""), "{message}");
    *near.models.lock().unwrap() = models;
    while say().await["type"] != "span.model_request_start" {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
