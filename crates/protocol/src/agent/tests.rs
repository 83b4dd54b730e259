//! Tables of bodies sent and agents or refusals that come of them.

mod extension;
mod mcp;
mod web;

use serde_json::{Value, json};

use super::*;

const AT: Micros = Micros(1_763_600_000_000_000);
const LATER_ON: Micros = Micros(1_763_600_001_000_000);

/// One model with all settings, one with none, a search back end, and a registry.
struct Rules;

impl ModelRules for Rules {
    fn exists(&self, model: &str) -> Result<(), String> {
        if ["rich", "rich-2", "plain"].contains(&model) {
            return Ok(());
        }
        Err(format!("no configured provider serves {model:?}; configured: test"))
    }

    fn default_effort(&self, model: &str) -> Option<Effort> {
        match model {
            "rich" => Some(Effort::High),
            "rich-2" => Some(Effort::Medium),
            _ => None,
        }
    }

    fn supports_effort(&self, model: &str, effort: Effort) -> bool {
        model.starts_with("rich") && effort != Effort::Max
    }

    fn supports_fast(&self, model: &str) -> bool {
        model.starts_with("rich")
    }

    fn supports_geo(&self, model: &str) -> bool {
        model.starts_with("rich")
    }

    fn has_search(&self) -> bool {
        true
    }

    fn is_of_a_registry(&self, name: &str) -> bool {
        name == "co.uk"
    }
}

fn create(body: Value) -> Result<Agent, ApiError> {
    parse_create(Fields::open(body, "").unwrap(), "agent_1".into(), AT, &Rules)
}

fn with(extra: Value) -> Value {
    let mut body = json!({ "name": "a", "model": "plain" });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

fn refused(extra: Value) -> String {
    create(with(extra)).unwrap_err().message
}

fn update(current: &Agent, body: Value) -> Result<Changed, ApiError> {
    apply_update(current, Fields::open(body, "").unwrap(), LATER_ON, &Rules)
}

fn updated(current: &Agent, body: Value) -> Agent {
    match update(current, body).unwrap() {
        Changed::Version(agent) => *agent,
        Changed::Nothing => panic!("nothing has changed"),
    }
}

fn toolset(extra: Value) -> Value {
    let mut tool = json!({ "type": "agent_toolset_20260401" });
    tool.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    tool
}

fn custom(name: &str) -> Value {
    json!({ "type": "custom", "name": name, "description": "d", "input_schema": {"type": "object"} })
}

#[test]
fn a_bare_agent_has_every_field() {
    let agent = create(with(json!({}))).unwrap();
    let shown = serde_json::to_value(&agent).unwrap();
    assert_eq!(
        shown,
        json!({
            "type": "agent", "id": "agent_1", "version": 1, "name": "a", "description": null,
            "model": { "id": "plain", "effort": null, "speed": "standard", "inference_geo": null },
            "system": null, "tools": [], "mcp_servers": [], "skills": [], "multiagent": null,
            "metadata": {}, "execution_identity": { "type": "service_account" },
            "created_at": "2025-11-20T00:53:20.000000Z",
            "updated_at": "2025-11-20T00:53:20.000000Z",
            "archived_at": null,
        })
    );
    assert_eq!(serde_json::from_value::<Agent>(shown).unwrap(), agent);
    let empty = json!({
        "mcp_servers": null, "skills": null, "multiagent": {}, "tools": null, "metadata": null,
        "description": "", "system": null, "execution_identity": null,
    });
    assert_eq!(create(with(empty)).unwrap(), agent);
    let snapshot = serde_json::to_value(agent.snapshot()).unwrap();
    for absent in ["metadata", "created_at", "updated_at", "archived_at"] {
        assert_eq!(snapshot.get(absent), None);
    }
    assert_eq!(snapshot["type"], "agent");
}

#[test]
fn toolsets_echo_what_was_sent_resolved() {
    let bare = create(with(json!({ "tools": [toolset(json!({}))] }))).unwrap();
    assert_eq!(
        serde_json::to_value(&bare.tools).unwrap(),
        json!([{
            "type": "agent_toolset_20260401",
            "default_config": { "enabled": true, "permission_policy": { "type": "always_allow" } },
            "configs": [],
        }])
    );
    assert_eq!(bare.tools.permission("bash"), Some(Policy::AlwaysAllow));
    assert_eq!(bare.tools.permission("web_fetch"), Some(Policy::AlwaysAllow));
    let offered: Vec<_> = bare.tools.built_in().iter().map(|(tool, _)| tool.as_str()).collect();
    let order = ["bash", "read", "write", "edit", "glob", "grep", "web_fetch", "web_search"];
    assert_eq!(offered, order);

    let sent = toolset(json!({
        "default_config": { "enabled": false, "permission_policy": { "type": "always_ask" } },
        "configs": [
            { "name": "bash", "enabled": true },
            { "name": "read", "type": "read", "permission_policy": { "type": "always_allow" } },
            { "name": "web_fetch", "allowed_domains": null },
            { "name": "web_search", "enabled": false },
        ],
    }));
    let agent = create(with(json!({ "tools": [sent, custom("mine")] }))).unwrap();
    let shown = serde_json::to_value(&agent.tools).unwrap();
    let (ask, allow) = (json!({ "type": "always_ask" }), json!({ "type": "always_allow" }));
    assert_eq!(
        shown[0]["configs"],
        json!([
            { "type": "bash", "name": "bash", "enabled": true, "permission_policy": ask },
            { "type": "read", "name": "read", "enabled": false, "permission_policy": allow },
            {
                "type": "web_fetch", "name": "web_fetch", "enabled": false,
                "permission_policy": ask, "allowed_domains": null, "blocked_domains": null,
                "max_content_tokens": null, "url_sources": null,
            },
            {
                "type": "web_search", "name": "web_search", "enabled": false,
                "permission_policy": ask, "allowed_domains": null, "blocked_domains": null,
                "user_location": null,
            },
        ])
    );
    assert_eq!(serde_json::from_value::<Vec<Tool>>(shown).unwrap(), agent.tools);
    assert_eq!(agent.tools.built_in(), [(ToolName::Bash, Policy::AlwaysAsk)]);
    assert_eq!(agent.tools.permission("read"), None);
    assert_eq!(agent.tools.custom().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["mine"]);
}

#[test]
fn tools_are_refused_in_the_known_words() {
    let config =
        |config: Value| refused(json!({ "tools": [toolset(json!({"configs": [config]}))] }));
    assert_eq!(
        config(json!({ "name": "x" })),
        "Failed to parse request: tools[0].configs[0].name: \"x\" is not a valid value; expected \
         one of bash, edit, glob, grep, read, web_fetch, web_search, write"
    );
    assert_eq!(
        config(json!({ "name": "x", "permission_policy": { "type": "deny" } })),
        "Failed to parse request: tools[0].configs[0].permission_policy.type: \"deny\" is not a \
         valid value"
    );
    let policy = json!({ "permission_policy": { "type": "deny" } });
    assert_eq!(
        refused(json!({ "tools": [toolset(json!({ "default_config": policy }))] })),
        "Failed to parse request: tools[0].default_config.permission_policy.type: \"deny\" is not \
         a valid value"
    );
    assert_eq!(
        refused(json!({ "tools": [toolset(
            json!({ "configs": [{ "name": "bash" }, { "name": "bash" }] })
        )] })),
        "tools.0.agent_toolset_20260401.configs.1: duplicate entry for tool \
         \"AGENT_TOOL_NAME_BASH\""
    );
    assert_eq!(
        refused(json!({ "tools": [toolset(json!({})), toolset(json!({}))] })),
        "tools.1.agent_toolset_20260401: duplicate entry; at most one agent_toolset_20260401 is \
         allowed"
    );
    assert!(
        config(json!({ "name": "bash", "permission_policy": { "type": "auto" } }))
            .starts_with("tools[0].configs[0].permission_policy.type: auto is not supported")
    );
    assert_eq!(
        config(json!({ "name": "bash", "allowed_domains": null })),
        "Failed to parse request body: unknown field \"tools[0].configs[0].allowed_domains\""
    );
    for (field, value) in [
        ("skills", json!([{ "type": "anthropic", "skill_id": "xlsx" }])),
        ("multiagent", json!({ "type": "coordinator", "agents": [] })),
    ] {
        let message = refused(json!({ field: value }));
        assert!(message.starts_with(&format!("{field}: is not supported")), "{message}");
    }
}

#[test]
fn custom_tools_are_checked_and_kept_as_sent() {
    let schema = json!({
        "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"],
        "additionalProperties": false, "x-own": 1, "examples": [{ "$ref": "data" }],
    });
    let mut tool = custom("mine");
    tool["input_schema"] = schema.clone();
    let agent = create(with(json!({ "tools": [tool] }))).unwrap();
    assert_eq!(agent.tools.custom().next().unwrap().input_schema, schema);

    let broken = |change: &dyn Fn(&mut Value)| {
        let mut tool = custom("mine");
        change(&mut tool);
        refused(json!({ "tools": [tool] }))
    };
    type Change = fn(&mut Value);
    let table: [(Change, &str); 11] = [
        (|tool| tool["name"] = json!("a b"), "tools[0].name: \"a b\" has other characters"),
        (|tool| tool["name"] = json!("bash"), "tools[0].name: \"bash\" is the name of a built-in"),
        (|tool| tool["name"] = json!("mcp__x"), "tools[0].name: begins with"),
        (|tool| tool["name"] = json!("x".repeat(129)), "tools[0].name: has 129 characters"),
        (|tool| tool["description"] = json!(""), "tools[0].description: is empty"),
        (|tool| tool["input_schema"] = json!(null), "tools[0].input_schema: is null"),
        (|tool| tool["input_schema"] = json!({}), "tools[0].input_schema.type: is missing"),
        (|tool| tool["input_schema"]["anyOf"] = json!([]), "tools[0].input_schema: has anyOf"),
        (
            |tool| tool["input_schema"]["properties"] = json!({ "p".repeat(65): {} }),
            "tools[0].input_schema.properties: has a name of 65",
        ),
        (
            |tool| tool["input_schema"]["properties"] = json!({ "p": { "$ref": "#/x" } }),
            "tools[0].input_schema: has a $ref",
        ),
        (|tool| tool["colour"] = json!(1), "Failed to parse request body: unknown field"),
    ];
    for (change, start) in table {
        let message = broken(&change);
        assert!(message.starts_with(start), "{message}");
    }
    let twice = refused(json!({ "tools": [custom("a"), custom("a")] }));
    assert!(twice.starts_with("tools.1.custom.name: \"a\" is taken"), "{twice}");
}

#[test]
fn a_model_is_resolved_when_it_is_saved() {
    let model = |model: Value| create(json!({ "name": "a", "model": model })).map(|a| a.model);
    let rich = model(json!("rich")).unwrap();
    assert_eq!(serde_json::to_value(&rich).unwrap()["effort"], json!({ "type": "high" }));
    assert_eq!(model(json!({ "id": "rich" })).unwrap(), rich);
    assert_eq!(model(json!({ "id": "rich", "effort": null, "speed": null })).unwrap(), rich);
    for effort in [json!("low"), json!({ "type": "low" })] {
        let low = model(json!({ "id": "rich", "effort": effort })).unwrap();
        assert_eq!(low.effort, Some(Effort::Low));
    }
    let all = json!({ "id": "rich", "speed": "fast", "inference_geo": "us" });
    assert_eq!(model(all).unwrap().speed, Speed::Fast);
    let fail = |sent: Value| model(sent).unwrap_err().message;
    for (sent, start) in [
        (json!("nope"), "model: no configured provider serves \"nope\"; configured: test"),
        (json!({ "id": "nope" }), "model.id: no configured provider"),
        (json!({ "id": "rich", "effort": "max" }), "model.effort: max is not supported by rich"),
        (json!({ "id": "plain", "effort": "low" }), "model.effort: low is not supported"),
        (json!({ "id": "rich", "effort": "x" }), "Failed to parse request: model.effort: \"x\""),
        (
            json!({ "id": "rich", "effort": { "type": "x" } }),
            "Failed to parse request: model.effort.type: \"x\"",
        ),
        (json!({ "id": "plain", "speed": "fast" }), "model.speed: fast is not supported"),
        (json!({ "id": "plain", "inference_geo": "us" }), "model.inference_geo: \"us\" is not"),
        (
            json!({ "id": "rich", "inference_geo": "mars" }),
            "Failed to parse request: model.inference_geo: \"mars\" is not a valid value",
        ),
        (
            json!({ "id": "rich", "x": 1 }),
            "Failed to parse request body: unknown field \"model.x\"",
        ),
        (json!(""), "model: is empty"),
        (json!(7), "model: is a number"),
        (json!(null), "model: is null"),
    ] {
        let message = fail(sent);
        assert!(message.starts_with(start), "{message}");
    }
}

#[test]
fn limits_and_unknown_fields_are_refused() {
    assert!(refused(json!({ "name": "" })).starts_with("name: is empty"));
    assert!(refused(json!({ "name": "x".repeat(257) })).starts_with("name: has 257"));
    assert!(refused(json!({ "description": "x".repeat(2049) })).starts_with("description: has"));
    assert!(refused(json!({ "system": "x".repeat(100_001) })).starts_with("system: has 100001"));
    assert_eq!(
        refused(json!({ "colour": 1 })),
        "Failed to parse request body: unknown field \"colour\""
    );
    let role = json!({ "type": "aws_role", "role_arn": "arn" });
    assert!(refused(json!({ "execution_identity": role })).starts_with("execution_identity.type"));
    assert!(create(with(json!({ "execution_identity": { "type": "service_account" } }))).is_ok());
}

#[test]
fn an_update_has_three_states() {
    let before = create(json!({
        "name": "a", "model": { "id": "rich", "effort": "low", "speed": "fast" },
        "description": "d", "system": "s", "metadata": { "a": "1", "b": "2" },
        "tools": [toolset(json!({}))],
    }))
    .unwrap();
    for same in [
        json!({}),
        json!({ "version": 1 }),
        json!({ "name": "a", "metadata": {}, "system": "s" }),
        json!({ "model": { "id": "rich", "speed": "fast" } }),
        json!({ "tools": [toolset(json!({ "configs": null }))], "execution_identity": null }),
    ] {
        assert_eq!(update(&before, same).unwrap(), Changed::Nothing);
    }
    let cleared = updated(
        &before,
        json!({ "description": null, "system": "", "tools": null, "metadata": { "a": null } }),
    );
    assert_eq!((cleared.version, cleared.updated_at), (2, LATER_ON.into()));
    assert_eq!(cleared.created_at, before.created_at);
    assert_eq!((cleared.description, cleared.system, cleared.tools.len()), (None, None, 0));
    assert_eq!(cleared.metadata.len(), 1);

    let model = |sent: Value| updated(&before, json!({ "model": sent })).model;
    let plain_name = model(json!("rich"));
    assert_eq!((plain_name.effort, plain_name.speed), (Some(Effort::Low), Speed::Standard));
    assert_eq!(model(json!("rich-2")).effort, Some(Effort::Medium));
    assert_eq!(model(json!("plain")).effort, None);
    assert_eq!(model(json!({ "id": "rich", "effort": null })).effort, Some(Effort::High));

    for clear in [json!({ "name": null }), json!({ "model": null }), json!({ "name": "" })] {
        assert!(update(&before, clear).is_err());
    }
    let stale = update(&before, json!({ "version": 2 })).unwrap_err();
    assert_eq!(stale.kind, crate::ErrorKind::Conflict);
    assert!(update(&before, json!({ "version": 0 })).is_err());
    let archived = Agent { archived_at: Some(LATER_ON.into()), ..before };
    assert_eq!(update(&archived, json!({})).unwrap_err().message, "Cannot modify archived agent");
}

#[test]
fn overrides_change_the_copy_alone() {
    let base = create(json!({
        "name": "a", "model": { "id": "rich", "effort": "low" }, "system": "s",
        "tools": [toolset(json!({}))],
    }))
    .unwrap();
    let over = |sent: Value| {
        let mut agent = json!({ "type": "agent_with_overrides", "id": "agent_1" });
        agent.as_object_mut().unwrap().extend(sent.as_object().unwrap().clone());
        Reference::parse(agent)?.apply(&base, &Rules)
    };
    assert_eq!(over(json!({})).unwrap(), base.snapshot());
    let changed = over(json!({ "model": "rich", "system": null, "tools": [] })).unwrap();
    assert_eq!((changed.id.as_str(), changed.version), ("agent_1", 1));
    assert_eq!(changed.model.effort, Some(Effort::High));
    assert_eq!((changed.system, changed.tools.len()), (None, 0));
    let error = over(json!({ "model": null })).unwrap_err();
    assert_eq!(error.code, Some("agent_model_required"));
    let message = over(json!({ "tools": [{ "type": "x" }] })).unwrap_err().message;
    assert!(message.starts_with("Failed to parse request: agent.tools[0].type"), "{message}");
    assert!(over(json!({ "skills": [1] })).is_err());
    assert!(over(json!({ "name": "b" })).is_err());
    assert!(over(json!({ "model": "nope" })).unwrap_err().message.starts_with("agent.model: no"));
}

#[test]
fn a_session_update_changes_tools_alone() {
    let current = create(with(json!({ "tools": [custom("a")] }))).unwrap().snapshot();
    let change =
        |sent: Value| parse_session_update(&current, Fields::open(sent, "agent").unwrap(), &Rules);
    assert_eq!(change(json!({})).unwrap(), current);
    assert_eq!(change(json!({ "mcp_servers": [] })).unwrap(), current);
    assert_eq!(change(json!({ "tools": [] })).unwrap().tools.len(), 0);
    assert_eq!(
        change(json!({ "model": "rich" })).unwrap_err().message,
        "Failed to parse request body: unknown field \"agent.model\""
    );
}
