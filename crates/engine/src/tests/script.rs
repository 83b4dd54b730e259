//! What the agent is, and the lines of its client and its model.

use std::sync::Arc;

use posthouse_model::{
    Block, Body, Failure, FailureKind, ModelStream, Provider, Request, Response, Stop, Usage, View,
};
use posthouse_protocol::event::ClientEvent;
use serde_json::{Value, json, value::to_raw_value};

use crate::{own::SessionOpened, tools::ServerTool};

pub(super) const THREAD: &str = "sthr_primary";

/// A new session of an agent that may use its sandbox freely but for `write`, which asks, and
/// `edit`, which is switched off; its client runs `weather` and `clock`.
pub(super) fn opened() -> SessionOpened {
    let custom = |name: &str| {
        json!({
            "type": "custom",
            "name": name,
            "description": "Tells.",
            "input_schema": { "type": "object" },
        })
    };
    let config = |name: &str, enabled: bool, policy: &str| json!({ "name": name, "enabled": enabled, "permission_policy": { "type": policy } });
    let agent = json!({
        "type": "agent",
        "id": "agent_1",
        "version": 1,
        "name": "Scout",
        "description": null,
        "model": {
            "id": "test/model", "effort": null, "speed": "standard", "inference_geo": null,
        },
        "system": "Be brief.",
        "tools": [
            {
                "type": "agent_toolset_20260401",
                "default_config": {
                    "enabled": true, "permission_policy": { "type": "always_allow" },
                },
                "configs": [
                    config("write", true, "always_ask"),
                    config("edit", false, "always_allow"),
                ],
            },
            custom("weather"),
            custom("clock"),
        ],
        "mcp_servers": [],
        "skills": [],
        "multiagent": null,
        "execution_identity": { "type": "service_account" },
    });
    SessionOpened {
        session: "sesn_1".to_owned(),
        thread: THREAD.into(),
        agent: serde_json::from_value(agent).unwrap(),
        environment: "env_1".to_owned(),
        config: to_raw_value(&json!({})).unwrap(),
        passthrough_hosts: Vec::new(),
        vault_ids: Vec::new(),
        title: None,
        metadata: [].into(),
    }
}

/// The same session, of an agent with two MCP servers: of `notes` it may read freely, has to ask
/// before it writes, and may not `wipe`; it has to ask for everything of `mail`.
pub(super) fn opened_with_servers() -> SessionOpened {
    let mut opened = opened();
    let server = |name: &str| json!({ "type": "url", "name": name, "url": format!("https://{name}.test/mcp") });
    let toolset = |name: &str, configs: Value| {
        json!({
            "type": "mcp_toolset",
            "mcp_server_name": name,
            "default_config": {
                "enabled": true, "permission_policy": { "type": "always_ask" },
            },
            "configs": configs,
        })
    };
    let config = |name: &str, enabled: bool| json!({ "name": name, "enabled": enabled, "permission_policy": { "type": "always_allow" } });
    let notes = json!([config("read_note", true), config("wipe", false)]);
    opened.agent.mcp_servers =
        ["notes", "mail"].map(|name| serde_json::from_value(server(name)).unwrap()).into();
    let toolsets = [toolset("notes", notes), toolset("mail", json!([]))];
    opened.agent.tools.extend(toolsets.map(|one| serde_json::from_value(one).unwrap()));
    opened
}

/// What those servers have.
pub(super) fn notes() -> Vec<ServerTool> {
    ["read_note", "write_note", "wipe"].map(|name| server_tool(name, "Works with notes.")).into()
}

pub(super) fn server_tool(name: &str, description: &str) -> ServerTool {
    ServerTool {
        name: name.to_owned(),
        description: description.to_owned(),
        input_schema: to_raw_value(&json!({ "type": "object" })).unwrap().into(),
        idempotent: false,
    }
}

pub(super) fn text_blocks(text: &str) -> Value {
    json!([{ "type": "text", "text": text }])
}

pub(super) fn say(text: &str) -> ClientEvent {
    ClientEvent::Message { content: text_blocks(text) }
}

pub(super) fn instruct(text: &str) -> ClientEvent {
    ClientEvent::System { content: text_blocks(text) }
}

pub(super) fn interrupt() -> ClientEvent {
    ClientEvent::Interrupt { thread: None }
}

/// Calls go by the names that the model gave them.
pub(super) fn allow(call: &str) -> ClientEvent {
    ClientEvent::Confirmation { call: call.to_owned(), allow: true, deny_message: None }
}

pub(super) fn deny(call: &str, message: Option<&str>) -> ClientEvent {
    let deny_message = message.map(str::to_owned);
    ClientEvent::Confirmation { call: call.to_owned(), allow: false, deny_message }
}

pub(super) fn tell(call: &str, text: &str) -> ClientEvent {
    ClientEvent::CustomToolResult {
        call: call.to_owned(),
        content: text_blocks(text),
        is_error: false,
    }
}

pub(super) fn said(text: &str) -> Block {
    Block {
        native: to_raw_value(&json!({ "type": "text", "text": text })).unwrap(),
        view: View::Text(text.to_owned()),
    }
}

pub(super) fn thought() -> Block {
    let native = json!({ "type": "thinking", "thinking": "hm", "signature": "s" });
    Block { native: to_raw_value(&native).unwrap(), view: View::Thinking }
}

pub(super) fn call(call_id: &str, name: &str) -> Block {
    call_with(call_id, name, Some("{}"))
}

/// A call that the output limit has cut off.
pub(super) fn cut(call_id: &str, name: &str) -> Block {
    call_with(call_id, name, None)
}

pub(super) fn call_with(call_id: &str, name: &str, input: Option<&str>) -> Block {
    let native = json!({ "type": "tool_use", "id": call_id, "name": name, "input": {} });
    Block {
        native: to_raw_value(&native).unwrap(),
        view: View::ToolUse {
            call_id: call_id.to_owned(),
            name: name.to_owned(),
            input: input.map(|input| serde_json::from_str(input).unwrap()),
        },
    }
}

pub(super) fn response(blocks: Vec<Block>, stop: Stop) -> Response {
    let usage = Usage { input_tokens: 100, output_tokens: 10, ..Usage::default() };
    Response { blocks, stop, usage, served: None }
}

pub(super) fn ends_with(text: &str) -> Response {
    response(vec![said(text)], Stop::EndTurn)
}

pub(super) fn calls<const N: usize>(calls: [(&str, &str); N]) -> Response {
    let blocks = calls.map(|(id, name)| call(id, name));
    response(blocks.into(), Stop::ToolUse)
}

pub(super) fn failed(kind: FailureKind) -> Failure {
    Failure {
        kind,
        message: "The model is not well.".to_owned(),
        retry_after: None,
        usage: Usage::default(),
    }
}

pub(super) fn thread() -> Arc<str> {
    THREAD.into()
}

/// A provider that is never asked: tests say what it answers.
pub(super) struct Silent;

impl Provider for Silent {
    fn name(&self) -> &str {
        "test"
    }

    fn render(&self, _: &Request) -> Body {
        unreachable!("requests are looked at before they are rendered")
    }

    fn stream(&self, _: Body) -> ModelStream {
        unreachable!("nothing is sent")
    }
}
