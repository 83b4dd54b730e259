//! What an agent has beyond the original API.

use super::*;

fn exposed() -> Value {
    json!({ "name": "ask_me-1", "environment_id": "env_1", "vault_ids": ["vlt_1", "vlt_2"] })
}

#[test]
fn what_is_unset_is_not_shown() {
    let plain = create(with(json!({ "posthouse": { "mcp_elicitation": "decline" } }))).unwrap();
    assert_eq!(serde_json::to_value(&plain).unwrap().get("posthouse"), None);
    let sent = json!({ "mcp_elicitation": "defaults", "mcp_tool": exposed() });
    let agent = create(with(json!({ "posthouse": sent }))).unwrap();
    let shown = serde_json::to_value(&agent).unwrap();
    let mut tool = exposed();
    tool["description"] = json!(null);
    let expected = json!({ "fallback": [], "mcp_elicitation": "defaults", "mcp_tool": tool });
    assert_eq!(shown["posthouse"], expected);
    assert_eq!(serde_json::from_value::<Agent>(shown).unwrap(), agent);
    // An agent of an older version has neither.
    let stored: Extension = serde_json::from_value(json!({ "fallback": [] })).unwrap();
    assert_eq!(stored, Extension::default());
}

#[test]
fn each_member_is_kept_changed_and_cleared_by_itself() {
    let all = json!({
        "fallback": ["rich"], "mcp_elicitation": "defaults", "mcp_tool": exposed(),
    });
    let before = create(with(json!({ "posthouse": all }))).unwrap();
    let change = |sent: Value| updated(&before, json!({ "posthouse": sent })).posthouse;
    for same in
        [json!({}), json!({ "mcp_elicitation": "defaults" }), json!({ "mcp_tool": exposed() })]
    {
        assert_eq!(update(&before, json!({ "posthouse": same })).unwrap(), Changed::Nothing);
    }
    assert_eq!(change(json!(null)), Extension::default());
    let declines = change(json!({ "mcp_elicitation": null }));
    assert_eq!(
        declines,
        Extension { mcp_elicitation: Elicitation::Decline, ..before.posthouse.clone() }
    );
    let hidden = change(json!({ "mcp_tool": null }));
    assert_eq!(hidden, Extension { mcp_tool: None, ..before.posthouse.clone() });
    // An object replaces the one before.
    let moved = change(json!({ "mcp_tool": { "name": "b", "environment_id": "env_2" } }));
    assert_eq!(moved.mcp_tool.unwrap().vault_ids, [""; 0]);
}

#[test]
fn a_tool_that_can_not_be_offered_is_refused() {
    let tool = |change: Value| {
        let mut tool = exposed();
        tool.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        refused(json!({ "posthouse": { "mcp_tool": tool } }))
    };
    for (change, start) in [
        (json!({ "name": "two words" }), "posthouse.mcp_tool.name: \"two words\" has other"),
        (json!({ "name": "x".repeat(65) }), "posthouse.mcp_tool.name: has 65"),
        (json!({ "description": "x".repeat(1025) }), "posthouse.mcp_tool.description: has 1025"),
        (json!({ "environment_id": null }), "posthouse.mcp_tool.environment_id: is null"),
        (json!({ "environment_id": "agent_1" }), "posthouse.mcp_tool.environment_id: \"agent_1\""),
        (
            json!({ "vault_ids": ["vlt_1", "vlt_1"] }),
            "posthouse.mcp_tool.vault_ids[1]: is the same",
        ),
        (json!({ "vault_ids": vec!["vlt_1"; 51] }), "posthouse.mcp_tool.vault_ids: has 51"),
    ] {
        let message = tool(change);
        assert!(message.starts_with(start), "{message}");
    }
    let elicitation = refused(json!({ "posthouse": { "mcp_elicitation": "accept" } }));
    assert!(elicitation.contains("expected one of decline, defaults"), "{elicitation}");
}

#[test]
fn a_session_can_not_be_offered_as_a_tool() {
    let base = create(with(json!({ "posthouse": { "mcp_tool": exposed() } }))).unwrap();
    let over = |sent: Value| {
        let reference =
            json!({ "type": "agent_with_overrides", "id": "agent_1", "posthouse": sent });
        Reference::parse(reference)?.apply(&base, &Rules)
    };
    assert_eq!(
        over(json!({ "mcp_tool": exposed() })).unwrap_err().message,
        "Failed to parse request body: unknown field \"agent.posthouse.mcp_tool\""
    );
    let made = over(json!({ "mcp_elicitation": "defaults" })).unwrap();
    assert_eq!(made.posthouse.mcp_elicitation, Elicitation::Defaults);
}
