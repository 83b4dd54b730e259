//! The object `posthouse` over HTTP: the models that take over, and another model for a session.

use serde_json::{Value, json};

use crate::app::TestApp;

async fn agent(app: &TestApp, extra: Value) -> Value {
    let mut body = json!({ "name": "a", "model": "test/m" });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    app.post("/v1/agents", body).await.ok()
}

async fn session(app: &TestApp, agent: Value) -> Value {
    let environment = app.post("/v1/environments", json!({ "name": "e" })).await.ok();
    let body = json!({ "agent": agent, "environment_id": environment["id"] });
    app.post("/v1/sessions", body).await.ok()
}

fn names(thing: &Value) -> Vec<&str> {
    let Some(fallback) = thing["posthouse"]["fallback"].as_array() else { return Vec::new() };
    fallback.iter().map(|model| model["id"].as_str().unwrap()).collect()
}

fn path(kind: &str, thing: &Value) -> String {
    format!("/v1/{kind}/{}", thing["id"].as_str().unwrap())
}

/// How many `session.updated` a session has.
async fn updates(app: &TestApp, session: &Value) -> usize {
    let events = format!("{}/events?types[]=session.updated", path("sessions", session));
    app.get(&events).await.ok()["data"].as_array().unwrap().len()
}

#[tokio::test]
async fn an_agent_names_the_models_that_take_over() {
    let app = TestApp::new().await;
    let list = json!({ "fallback": ["test/two", { "id": "claude-opus-5", "effort": "low" }] });
    let made = agent(&app, json!({ "posthouse": list })).await;
    assert_eq!(names(&made), ["test/two", "claude-opus-5"]);
    assert_eq!(made["posthouse"]["fallback"][1]["effort"], json!({ "type": "low" }));
    let path = path("agents", &made);
    for same in [json!({}), json!({ "posthouse": {} }), json!({ "posthouse": list })] {
        assert_eq!(app.post(&path, same).await.ok(), made);
    }
    let taken = app.post(&path, json!({ "model": "test/two" })).await.refused(400);
    assert!(taken.starts_with("posthouse.fallback[0]: \"test/two\" is the agent's own"), "{taken}");
    let swapped = json!({ "model": "test/two", "posthouse": { "fallback": ["test/m"] } });
    assert_eq!(names(&app.post(&path, swapped).await.ok()), ["test/m"]);
    for clear in [json!(null), json!({ "fallback": null }), json!({ "fallback": [] })] {
        app.post(&path, json!({ "posthouse": { "fallback": ["test/three"] } })).await.ok();
        let cleared = app.post(&path, json!({ "posthouse": clear })).await.ok();
        assert_eq!(cleared.get("posthouse"), None);
    }
}

#[tokio::test]
async fn a_session_is_given_another_model_at_rest() {
    let app = TestApp::new().await;
    let base = agent(&app, json!({ "posthouse": { "fallback": ["test/two"] } })).await;
    let session = session(&app, base["id"].clone()).await;
    assert_eq!(names(&session["agent"]), ["test/two"]);
    let path = path("sessions", &session);
    for same in [json!({}), json!({ "model": "test/m" }), json!({ "fallback": ["test/two"] })] {
        app.post(&path, json!({ "posthouse": same })).await.ok();
    }
    assert_eq!(updates(&app, &session).await, 0);

    let switch = json!({ "posthouse": { "model": { "id": "claude-opus-5", "effort": "low" } } });
    let switched = app.post(&path, switch).await.ok();
    assert_eq!(switched["agent"]["model"]["id"], "claude-opus-5");
    assert_eq!(switched["agent"]["model"]["effort"], json!({ "type": "low" }));
    assert_eq!(names(&switched["agent"]), ["test/two"]);
    let events = app.get(&format!("{path}/events?types[]=session.updated")).await.ok();
    assert_eq!(events["data"][0]["agent"], switched["agent"]);
    let cleared = app.post(&path, json!({ "posthouse": null })).await.ok();
    assert_eq!(cleared["agent"].get("posthouse"), None);
    assert_eq!(cleared["agent"]["model"]["id"], "claude-opus-5");
    assert_eq!(updates(&app, &session).await, 2);

    let null = app.post(&path, json!({ "posthouse": { "model": null } })).await;
    null.refused(400);
    assert_eq!(null.json()["error"]["details"]["error_code"], "agent_model_required");
    for (sent, start) in [
        (json!({ "model": "nope" }), "posthouse.model: no configured provider"),
        (json!({ "fallback": ["test/x", "test/x"] }), "posthouse.fallback[1]: \"test/x\" is there"),
        (json!({ "tools": [] }), "Failed to parse request body: unknown field \"posthouse.tools\""),
    ] {
        let message = app.post(&path, json!({ "posthouse": sent })).await.refused(400);
        assert!(message.starts_with(start), "{message}");
    }
    assert_eq!(updates(&app, &session).await, 2);

    let hi = json!({ "type": "user.message", "content": [{ "type": "text", "text": "hi" }] });
    app.post(&format!("{path}/events"), json!({ "events": [hi] })).await.ok();
    let switch = json!({ "posthouse": { "model": "test/m" } });
    let busy = app.post(&path, switch.clone()).await.refused(400);
    assert!(busy.starts_with("posthouse: can't be changed while the session is at work"), "{busy}");
}

#[tokio::test]
async fn an_ended_session_keeps_its_model() {
    let app = TestApp::new().await;
    let base = agent(&app, json!({})).await;
    let session = session(&app, base["id"].clone()).await;
    let path = path("sessions", &session);
    app.post(&format!("{path}/archive"), Value::Null).await.ok();
    let switch = json!({ "posthouse": { "model": "test/two" } });
    let refused = app.post(&path, switch).await.refused(400);
    assert!(refused.starts_with("The session is archived"), "{refused}");
}

#[tokio::test]
async fn overrides_name_other_models() {
    let app = TestApp::new().await;
    let base = agent(&app, json!({ "posthouse": { "fallback": ["test/two"] } })).await;
    let with = |extra: Value| {
        let mut agent = json!({ "type": "agent_with_overrides", "id": base["id"] });
        agent.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        agent
    };
    let inherited = session(&app, with(json!({}))).await;
    assert_eq!(names(&inherited["agent"]), ["test/two"]);
    let cleared = session(&app, with(json!({ "posthouse": null }))).await;
    assert_eq!(cleared["agent"].get("posthouse"), None);
    let other = json!({ "model": "test/two", "posthouse": { "fallback": ["test/m"] } });
    let other = session(&app, with(other)).await;
    assert_eq!(
        (names(&other["agent"]), &other["agent"]["model"]["id"]),
        (vec!["test/m"], &json!("test/two"))
    );
    let environment = app.post("/v1/environments", json!({ "name": "e" })).await.ok();
    let body = json!({
        "agent": with(json!({ "model": "test/two" })), "environment_id": environment["id"],
    });
    let refused = app.post("/v1/sessions", body).await.refused(400);
    assert!(refused.starts_with("agent.posthouse.fallback[0]: \"test/two\" is the"), "{refused}");
}
