//! Agents as tools of an MCP server, asked by a client without manners.

use std::sync::Arc;

use futures_util::StreamExt as _;
use posthouse_model::{Credential, Provider, Remote, Settings, WireKind};
use posthouse_testkit::{Reply as ModelReply, Script, ScriptedModel};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::{
    app::{Reply, TestApp, send},
    keys::{make, secret, workspace},
};

const PATH: &str = "/posthouse/v1/mcp";
const REVISION: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";

/// A server with a scripted model and a key that opens everything in a workspace of its own.
struct World {
    app: TestApp,
    _model: ScriptedModel,
    key: String,
    environment: String,
}

impl World {
    async fn new(replies: Vec<ModelReply>) -> Self {
        let model = ScriptedModel::start(Script::of(replies)).await;
        let settings = Settings {
            base_url: model.url(),
            ..Settings::new("anthropic", WireKind::Anthropic, Some(Credential::ApiKey("k".into())))
        };
        let provider: Arc<dyn Provider> = Arc::new(Remote::new(settings).unwrap());
        let app = TestApp::with(vec![provider]).await;
        let workspace = workspace(&app, "w").await;
        let more = json!({ "name": "k", "workspace_id": workspace });
        let key = secret(&make(&app, json!(["*:*"]), more).await);
        let mut world = Self { app, _model: model, key, environment: String::new() };
        let environment = world.post("/v1/environments", json!({ "name": "e" })).await.ok();
        world.environment = environment["id"].as_str().unwrap().to_owned();
        world
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.app.bare(method, path).bearer_auth(&self.key)
    }

    async fn post(&self, path: &str, body: Value) -> Reply {
        send(self.request(Method::POST, path).body(body.to_string())).await
    }

    async fn expose(&self, name: &str, tools: Value) -> String {
        let tool = json!({ "name": name, "environment_id": self.environment });
        let agent = json!({
            "name": name, "model": "anthropic/m", "tools": tools, "description": "For tests.",
            "posthouse": { "mcp_tool": tool },
        });
        self.post("/v1/agents", agent).await.ok()["id"].as_str().unwrap().to_owned()
    }

    /// A message of the newest revision, with nothing before it.
    async fn ask(&self, key: &str, method: &str, params: Value, can_ask: bool) -> Reply {
        let capabilities = if can_ask { json!({ "elicitation": {} }) } else { json!({}) };
        let mut params = params;
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": REVISION,
            "io.modelcontextprotocol/clientInfo": { "name": "c", "version": "1" },
            "io.modelcontextprotocol/clientCapabilities": capabilities,
            "progressToken": "p",
        });
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut request = self
            .app
            .bare(Method::POST, PATH)
            .bearer_auth(key)
            .header("mcp-protocol-version", REVISION)
            .header("mcp-method", method);
        if let Some(name) = params["name"].as_str() {
            request = request.header("mcp-name", name);
        }
        send(as_client(request).body(body.to_string())).await
    }

    async fn call(&self, tool: &str, input: Value) -> Value {
        self.call_with(tool, input, json!({}), false).await
    }

    async fn call_with(&self, tool: &str, input: Value, more: Value, can_ask: bool) -> Value {
        let mut params = json!({ "name": tool, "arguments": input });
        let more = more.as_object().unwrap().clone();
        params.as_object_mut().unwrap().extend(more);
        let reply = self.ask(&self.key, "tools/call", params, can_ask).await;
        answer(&reply)["result"].clone()
    }

    async fn tools(&self, key: &str) -> Vec<String> {
        let reply = self.ask(key, "tools/list", json!({}), false).await;
        let tools = answer(&reply)["result"]["tools"].clone();
        let names = tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap());
        names.map(str::to_owned).collect()
    }

    /// Opens a session of an older revision.
    async fn open(&self, key: &str, capabilities: Value) -> String {
        let params = json!({
            "protocolVersion": LEGACY, "capabilities": capabilities,
            "clientInfo": { "name": "c", "version": "1" },
        });
        let body = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
        let request = as_client(self.app.bare(Method::POST, PATH).bearer_auth(key));
        let reply = send(request.body(body.to_string())).await;
        assert_eq!(answer(&reply)["result"]["protocolVersion"], LEGACY);
        let session = reply.headers["mcp-session-id"].to_str().unwrap().to_owned();
        let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        let reply = send(self.within(key, &session).body(ready.to_string())).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
        session
    }

    fn within(&self, key: &str, session: &str) -> RequestBuilder {
        let request = self.app.bare(Method::POST, PATH).bearer_auth(key);
        as_client(request.header("mcp-session-id", session).header("mcp-protocol-version", LEGACY))
    }
}

fn as_client(request: RequestBuilder) -> RequestBuilder {
    let request = request.header("content-type", "application/json");
    request.header("accept", "application/json, text/event-stream")
}

/// All messages of a response.
fn messages(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim);
    data.filter(|data| !data.is_empty()).map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// The message that answers.
fn answer(reply: &Reply) -> Value {
    match reply.headers["content-type"].to_str().unwrap() {
        "application/json" => reply.json(),
        _ => messages(&reply.text)
            .into_iter()
            .find(|message| message.get("id").is_some() && message.get("method").is_none())
            .unwrap_or_else(|| panic!("no answer: {}", reply.text)),
    }
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {result}"))
}

/// The text of a call that the tool has refused.
fn refused(result: &Value) -> &str {
    assert_eq!(result["isError"], true, "{result}");
    text(result)
}

fn weather() -> Value {
    let schema = json!({ "type": "object", "properties": {} });
    json!([{ "type": "custom", "name": "weather", "description": "w", "input_schema": schema }])
}

fn asking_tools() -> Value {
    let policy = json!({ "permission_policy": { "type": "always_ask" } });
    json!([{ "type": "agent_toolset_20260401", "default_config": policy }])
}

#[tokio::test]
async fn an_agent_is_called_goes_on_and_shows_its_result() {
    let world = World::new(vec![ModelReply::text("Hello."), ModelReply::text("Still here.")]).await;
    world.expose("greeter", json!([])).await;
    let general = ["session_follow", "session_answer", "session_result", "session_stop"];
    assert_eq!(world.tools(&world.key).await, [&["greeter"][..], &general].concat());

    let params = json!({ "name": "greeter", "arguments": { "message": "Hi" } });
    let reply = world.ask(&world.key, "tools/call", params, false).await;
    let told: Vec<Value> = messages(&reply.text)
        .into_iter()
        .filter(|message| message["method"] == "notifications/progress")
        .collect();
    assert_eq!(told.len(), 1, "{}", reply.text);
    assert_eq!(told[0]["params"]["message"], "Hello.");
    let result = &answer(&reply)["result"];
    assert_eq!((text(result), &result["isError"]), ("Hello.", &json!(false)));
    let structured = &result["structuredContent"];
    assert_eq!(structured["status"], "idle");
    assert_eq!(structured["stop_reason"], json!({ "type": "end_turn" }));
    assert_eq!(structured["open_calls"], json!([]));
    let session = structured["session_id"].as_str().unwrap();
    let shown = send(world.request(Method::GET, &format!("/v1/sessions/{session}"))).await.ok();
    assert_eq!(shown["title"], "greeter (over MCP)");
    assert_eq!(shown["environment_id"], world.environment.as_str());

    let more = json!({ "message": "And now?", "session_id": session });
    let result = world.call("greeter", more).await;
    assert_eq!(text(&result), "Still here.");
    assert_eq!(result["structuredContent"]["session_id"], session);
    let result = world.call("session_result", json!({ "session_id": session })).await;
    assert_eq!(text(&result), "Still here.");
    assert_eq!(result["structuredContent"]["files"], json!([]));
    let whole = json!({ "session_id": session, "after": 0 });
    let result = world.call("session_follow", whole).await;
    assert_eq!(text(&result), "Hello.\n\nStill here.");
    let after = result["structuredContent"]["after"].clone();
    let rest = json!({ "session_id": session, "after": after });
    assert_eq!(text(&world.call("session_follow", rest).await), "");
}

#[tokio::test]
async fn a_wait_that_is_over_leaves_the_session_at_work() {
    let world = World::new(vec![ModelReply::text("Never.").and_stall()]).await;
    world.expose("slow", json!([])).await;
    let result = world.call("slow", json!({ "message": "Hi", "wait_seconds": 0 })).await;
    let structured = &result["structuredContent"];
    assert_eq!((&structured["status"], &result["isError"]), (&json!("running"), &json!(false)));
    let session = structured["session_id"].as_str().unwrap();
    assert!(text(&result).contains(session) && text(&result).contains("session_follow"));
    let follow = json!({ "session_id": session, "wait_seconds": 0 });
    let result = world.call("session_follow", follow).await;
    assert_eq!(result["structuredContent"]["status"], "running");
    let result = world.call("session_stop", json!({ "session_id": session })).await;
    assert_eq!(result["structuredContent"]["status"], "idle", "{result}");
}

#[tokio::test]
async fn a_failed_turn_is_an_error() {
    let failure = ModelReply { status: 400, message: Some("No.".into()), ..ModelReply::default() };
    let world = World::new(vec![failure]).await;
    world.expose("failing", json!([])).await;
    let result = world.call("failing", json!({ "message": "Hi" })).await;
    assert!(refused(&result).contains("No."), "{result}");
    assert_eq!(result["structuredContent"]["errors"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_call_that_waits_is_answered() {
    let call = ModelReply::tool_use("weather", json!({ "place": "here" }));
    let world = World::new(vec![call, ModelReply::text("Mild.")]).await;
    world.expose("forecaster", weather()).await;
    let result = world.call("forecaster", json!({ "message": "Weather?" })).await;
    let structured = &result["structuredContent"];
    assert_eq!(structured["stop_reason"]["type"], "requires_action");
    let open = &structured["open_calls"][0];
    assert_eq!((&open["name"], &open["awaits"]), (&json!("weather"), &json!("result")));
    assert_eq!(open["input"], json!({ "place": "here" }));
    let base = json!({ "session_id": structured["session_id"], "tool_use_id": open["id"] });
    let with = |name: &str, value: Value| {
        let mut input = base.clone();
        input[name] = value;
        input
    };
    for (input, says) in [
        (base.clone(), "result: is missing"),
        (with("allow", json!(true)), "result: is missing"),
        (with("tool_use_id", json!("sevt_x")), "tool_use_id: \"sevt_x\" is no call that waits"),
    ] {
        let result = world.call("session_answer", input).await;
        assert!(refused(&result).starts_with(says), "{result}");
    }
    let result = world.call("session_answer", with("result", json!("mild"))).await;
    assert_eq!(text(&result), "Mild.");
    let again = world.call("session_answer", with("result", json!("mild"))).await;
    assert!(refused(&again).contains("is no call that waits"), "{again}");
}

#[tokio::test]
async fn somebody_is_asked_where_the_client_can() {
    let call = || ModelReply::tool_use("bash", json!({ "command": "true" }));
    let replies = vec![call(), ModelReply::text("Then not."), call()];
    let world = World::new(replies).await;
    world.expose("careful", asking_tools()).await;
    let input = json!({ "message": "Do it." });
    let asked = world.call_with("careful", input.clone(), json!({}), true).await;
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let requests = asked["inputRequests"].as_object().unwrap();
    let (id, request) = requests.iter().next().unwrap();
    assert_eq!(request["method"], "elicitation/create");
    let message = request["params"]["message"].as_str().unwrap();
    assert!(message.contains("bash") && message.contains("true"), "{message}");
    assert_eq!(request["params"]["requestedSchema"]["required"], json!(["allow"]));
    let state = asked["requestState"].as_str().unwrap();
    let reply = |content: Value, state: &str| {
        let reply = json!({ "action": "accept", "content": content });
        json!({ "inputResponses": { id: reply }, "requestState": state })
    };
    // A state that is not ours, and a form that is none: the call stays open.
    let forged = reply(json!({ "allow": true }), "{}");
    let mut params = json!({ "name": "careful", "arguments": input });
    params.as_object_mut().unwrap().extend(forged.as_object().unwrap().clone());
    let result = answer(&world.ask(&world.key, "tools/call", params, true).await);
    assert_eq!(result["error"]["code"], -32602, "{result}");
    let result = world
        .call_with("careful", input.clone(), reply(json!({ "allow": "x" }), state), true)
        .await;
    assert_eq!(result["structuredContent"]["open_calls"][0]["id"], id.as_str());
    let verdict = reply(json!({ "allow": false, "note": "Too risky." }), state);
    let result = world.call_with("careful", input.clone(), verdict, true).await;
    assert_eq!(text(&result), "Then not.");
    let session = result["structuredContent"]["session_id"].as_str().unwrap();
    let events =
        send(world.request(Method::GET, &format!("/v1/sessions/{session}/events"))).await.text;
    assert!(events.contains("Too risky."), "{events}");
    // Whoever can't be asked is told.
    let result = world.call("careful", input).await;
    let open = &result["structuredContent"]["open_calls"][0];
    assert_eq!((&open["name"], &open["awaits"]), (&json!("bash"), &json!("confirmation")));
}

#[tokio::test]
async fn somebody_is_asked_in_the_middle_of_a_call_of_an_older_revision() {
    let call = ModelReply::tool_use("bash", json!({ "command": "true" }));
    let world = World::new(vec![call, ModelReply::text("Then not.")]).await;
    world.expose("careful", asking_tools()).await;
    let session = world.open(&world.key, json!({ "elicitation": {} })).await;
    let params = json!({ "name": "careful", "arguments": { "message": "Do it." } });
    let body = json!({ "jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params });
    let request = world.within(&world.key, &session).body(body.to_string());
    let mut stream = request.send().await.unwrap().bytes_stream();
    let mut seen = String::new();
    let mut answered = false;
    while let Some(chunk) = stream.next().await {
        seen.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        if !seen.ends_with("\n\n") || answered {
            continue;
        }
        let question = messages(&seen).into_iter().find(|one| one["method"].is_string());
        let Some(question) = question else { continue };
        assert_eq!(question["method"], "elicitation/create");
        let reply =
            json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "decline" } });
        let reply = send(world.within(&world.key, &session).body(reply.to_string())).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
        answered = true;
    }
    let last = messages(&seen).pop().unwrap();
    assert_eq!((last["id"].clone(), text(&last["result"])), (json!(5), "Then not."));
}

#[tokio::test]
async fn another_workspace_sees_nothing() {
    let world = World::new(vec![ModelReply::text("Hello.")]).await;
    world.expose("greeter", json!([])).await;
    let result = world.call("greeter", json!({ "message": "Hi" })).await;
    let session = result["structuredContent"]["session_id"].as_str().unwrap();
    let other = workspace(&world.app, "other").await;
    let more = json!({ "name": "k", "workspace_id": other });
    let other = secret(&make(&world.app, json!(["*:*"]), more).await);
    assert!(!world.tools(&other).await.contains(&"greeter".to_owned()));
    let call = async |tool: &str, input: Value| {
        let params = json!({ "name": tool, "arguments": input });
        answer(&world.ask(&other, "tools/call", params, false).await)
    };
    let refused = call("greeter", json!({ "message": "Hi" })).await;
    assert_eq!(refused["error"]["message"], "Unknown tool: greeter");
    for tool in ["session_follow", "session_result", "session_stop"] {
        let theirs = call(tool, json!({ "session_id": session })).await;
        let nobody = call(tool, json!({ "session_id": "sesn_000000000000000000000000" })).await;
        assert_eq!(text(&theirs["result"]), "Session not found.");
        assert_eq!(theirs, nobody);
    }
    // Nor does he listen to what others have opened, or end it.
    let opened = world.open(&world.key, json!({})).await;
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    let reply = send(world.within(&other, &opened).body(list.clone())).await;
    assert_eq!(reply.status, 404, "{}", reply.text);
    for method in [Method::GET, Method::DELETE] {
        let request = world.app.bare(method, PATH).bearer_auth(&other);
        let reply = send(as_client(request.header("mcp-session-id", &opened))).await;
        assert_eq!(reply.status, 404, "{}", reply.text);
    }
    let reply = send(world.within(&world.key, &opened).body(list)).await;
    assert!(reply.text.contains("greeter"), "{}", reply.text);
    let request = world.request(Method::DELETE, PATH).header("mcp-session-id", &opened);
    assert_eq!(send(as_client(request)).await.status, 200);
}

#[tokio::test]
async fn what_is_not_exposed_any_more_is_gone() {
    let replies = vec![ModelReply::text("One."), ModelReply::text("Two.")];
    let world = World::new(replies).await;
    let (first, second) =
        (world.expose("one", json!([])).await, world.expose("two", json!([])).await);
    let mut sessions = Vec::new();
    for name in ["one", "two"] {
        let result = world.call(name, json!({ "message": "Hi" })).await;
        sessions.push(result["structuredContent"]["session_id"].clone());
    }
    world.post(&format!("/v1/agents/{first}/archive"), json!({})).await.ok();
    let hidden = json!({ "version": 1, "posthouse": { "mcp_tool": null } });
    world.post(&format!("/v1/agents/{second}"), hidden).await.ok();
    let tools = world.tools(&world.key).await;
    assert!(tools.iter().all(|name| name.starts_with("session_")), "{tools:?}");
    for session in sessions {
        let result = world.call("session_follow", json!({ "session_id": session })).await;
        assert_eq!(refused(&result), "Session not found.");
    }
    let params = json!({ "name": "one", "arguments": { "message": "Hi" } });
    let reply = answer(&world.ask(&world.key, "tools/call", params, false).await);
    assert_eq!(reply["error"]["code"], -32602);
    // The name is free again.
    world.expose("one", json!([])).await;
}

#[tokio::test]
async fn an_agent_becomes_a_tool_only_where_its_sessions_could_begin() {
    let world = World::new(Vec::new()).await;
    world.expose("taken", json!([])).await;
    let environment = world.post("/v1/environments", json!({ "name": "gone" })).await.ok();
    let gone = environment["id"].as_str().unwrap().to_owned();
    world.post(&format!("/v1/environments/{gone}/archive"), json!({})).await.ok();
    let vault = world.post("/v1/vaults", json!({ "display_name": "v" })).await.ok();
    let vault = vault["id"].as_str().unwrap().to_owned();
    let body = |tool: Value| json!({ "name": "a", "model": "anthropic/m", "posthouse": { "mcp_tool": tool } });
    let tool = |name: &str, environment: &str, vaults: Value| {
        body(json!({ "name": name, "environment_id": environment, "vault_ids": vaults }))
    };
    let nobody = "env_000000000000000000000000";
    let own = world.environment.as_str();
    for (sent, status, says) in [
        (tool("taken", own, json!([])), 400, "posthouse.mcp_tool.name: \"taken\" is the name of"),
        (tool("session_stop", own, json!([])), 400, "posthouse.mcp_tool.name: \"session_stop\" is"),
        (tool("a", nobody, json!([])), 404, "posthouse.mcp_tool.environment_id: env_0"),
        (tool("a", &gone, json!([])), 400, "posthouse.mcp_tool.environment_id: is archived"),
        (
            tool("a", own, json!(["vlt_000000000000000000000000"])),
            404,
            "posthouse.mcp_tool.vault_ids[0]",
        ),
    ] {
        let message = world.post("/v1/agents", sent).await.refused(status);
        assert!(message.starts_with(says), "{message}");
    }
    let made = world.post("/v1/agents", tool("a", own, json!([vault]))).await.ok();
    // What stays as it was is not looked at again, also not for whoever may read no vaults.
    world.post(&format!("/v1/vaults/{vault}/archive"), json!({})).await.ok();
    let path = format!("/v1/agents/{}", made["id"].as_str().unwrap());
    world.post(&path, json!({ "version": 1, "name": "b" })).await.ok();
    let result = world.call("a", json!({ "message": "Hi" })).await;
    assert!(refused(&result).contains("archived"), "{result}");
}

#[tokio::test]
async fn a_key_opens_what_it_opens_elsewhere() {
    let world = World::new(vec![ModelReply::text("Hello.")]).await;
    let bare = as_client(world.app.bare(Method::POST, PATH)).body("{}");
    let reply = send(bare).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(reply.headers["www-authenticate"], "Bearer realm=\"posthouse\"");
    let key = async |scopes: Value| secret(&make(&world.app, scopes, json!({ "name": "k" })).await);
    let reader = key(json!(["*:read"])).await;
    for method in [Method::POST, Method::GET, Method::DELETE] {
        let reply = send(as_client(world.app.bare(method, PATH).bearer_auth(&reader))).await;
        assert_eq!(reply.status, 403, "{}", reply.text);
    }
    // Whoever may begin sessions and send nothing begins none here.
    let opener = key(json!(["sessions:create"])).await;
    let environment = world.app.post("/v1/environments", json!({ "name": "e" })).await.ok();
    let tool = json!({ "name": "t", "environment_id": environment["id"] });
    let agent = json!({ "name": "a", "model": "anthropic/m", "posthouse": { "mcp_tool": tool } });
    world.app.post("/v1/agents", agent).await.ok();
    let params = json!({ "name": "t", "arguments": { "message": "Hi" } });
    let reply = answer(&world.ask(&opener, "tools/call", params.clone(), false).await);
    assert!(refused(&reply["result"]).contains("events:create"), "{reply}");
    assert_eq!(world.app.get("/v1/sessions").await.ok()["data"], json!([]));
    let sender = key(json!(["sessions:create", "events:create", "events:read"])).await;
    let reply = answer(&world.ask(&sender, "tools/call", params, false).await);
    assert_eq!(text(&reply["result"]), "Hello.");
}

#[tokio::test]
async fn a_strangers_page_may_not_ask() {
    let world = World::new(Vec::new()).await;
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }).to_string();
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("host", "evil.example"),
        ("host", "evil.example:8787"),
    ] {
        for method in [Method::POST, Method::GET, Method::DELETE] {
            let request = world.request(method, PATH).header(name, value).body(list.clone());
            let reply = send(as_client(request)).await;
            assert_eq!(reply.status, 403, "{name}: {value}: {}", reply.text);
        }
    }
    for origin in ["http://localhost:3000", "http://127.0.0.1"] {
        let session = world.open(&world.key, json!({})).await;
        let request = world.within(&world.key, &session).header("origin", origin);
        let reply = send(request.body(list.clone())).await;
        assert_eq!(reply.status, 200, "{origin}: {}", reply.text);
    }
}

#[tokio::test]
async fn hostile_messages_are_refused() {
    let world = World::new(vec![ModelReply::text("Fine.")]).await;
    world.expose("greeter", json!([])).await;
    for body in ["", "{", "[]", "7", "{\"jsonrpc\":\"1.0\"}", "{\"jsonrpc\":\"2.0\",\"id\":1}"] {
        let request = as_client(world.request(Method::POST, PATH)).body(body);
        let reply = send(request).await;
        assert!(reply.status.is_client_error(), "{body}: {} {}", reply.status, reply.text);
    }
    let large = "x".repeat(5 << 20);
    let request = as_client(world.request(Method::POST, PATH)).body(large);
    assert_eq!(send(request).await.status, 413);
    let session = "sesn_000000000000000000000000";
    for (tool, input) in [
        ("greeter", json!({})),
        ("greeter", json!({ "message": " " })),
        ("greeter", json!({ "message": ["x"] })),
        ("greeter", json!({ "message": "x", "more": 1 })),
        ("greeter", json!({ "message": "x", "wait_seconds": -1 })),
        ("greeter", json!({ "message": "x", "wait_seconds": 3601 })),
        ("greeter", json!({ "message": "x", "session_id": "../../etc" })),
        ("greeter", json!({ "message": "x", "session_id": session })),
        ("session_follow", json!({ "session_id": session, "after": "x" })),
        ("session_stop", json!({ "session_id": 7 })),
    ] {
        let result = world.call(tool, input.clone()).await;
        assert!(!refused(&result).is_empty(), "{tool} {input}");
    }
    assert_eq!(text(&world.call("greeter", json!({ "message": "Hi" })).await), "Fine.");
}
