//! MCP servers and their toolsets: what is taken, shown and refused.

use super::*;

fn server(name: &str) -> Value {
    json!({ "type": "url", "name": name, "url": "https://mcp.example.com/mcp" })
}

fn tools_of(name: &str) -> Value {
    json!({ "type": "mcp_toolset", "mcp_server_name": name })
}

fn agent() -> Agent {
    create(with(json!({ "mcp_servers": [server("a")], "tools": [tools_of("a")] }))).unwrap()
}

#[test]
fn servers_and_toolsets_are_shown_resolved() {
    let stdio = json!({
        "type": "posthouse_stdio", "name": "files", "command": "npx",
        "args": ["-y", "server", ""], "env": { "B": "2", "A_1": "" },
    });
    let bare = json!({ "type": "posthouse_stdio", "name": "bare", "command": "/bin/server" });
    let policies = json!({
        "type": "mcp_toolset", "mcp_server_name": "files",
        "default_config": { "enabled": false, "permission_policy": { "type": "always_allow" } },
        "configs": [
            { "name": "read file", "enabled": true },
            { "name": "delete", "permission_policy": { "type": "always_ask" } },
        ],
    });
    let sent = json!({
        "mcp_servers": [server("a"), stdio, bare],
        "tools": [tools_of("bare"), policies, tools_of("a")],
    });
    let agent = create(with(sent)).unwrap();
    let shown = serde_json::to_value(&agent).unwrap();
    let (ask, allow) = (json!({ "type": "always_ask" }), json!({ "type": "always_allow" }));
    assert_eq!(
        shown["mcp_servers"],
        json!([
            server("a"),
            stdio,
            {
                "type": "posthouse_stdio", "name": "bare", "command": "/bin/server", "args": [],
                "env": {},
            },
        ])
    );
    let default = json!({ "enabled": true, "permission_policy": ask });
    assert_eq!(
        shown["tools"],
        json!([
            {
                "type": "mcp_toolset", "mcp_server_name": "bare", "default_config": default,
                "configs": [],
            },
            {
                "type": "mcp_toolset", "mcp_server_name": "files",
                "default_config": { "enabled": false, "permission_policy": allow },
                "configs": [
                    { "name": "read file", "enabled": true, "permission_policy": allow },
                    { "name": "delete", "enabled": false, "permission_policy": ask },
                ],
            },
            {
                "type": "mcp_toolset", "mcp_server_name": "a", "default_config": default,
                "configs": [],
            },
        ])
    );
    assert_eq!(serde_json::from_value::<Agent>(shown).unwrap(), agent);
    assert_eq!(agent.snapshot().mcp_servers, agent.mcp_servers);
    let permission = |index: usize, tool| agent.tools.mcp().nth(index).unwrap().permission(tool);
    assert_eq!(permission(0, "anything"), Some(Policy::AlwaysAsk));
    assert_eq!(permission(1, "read file"), Some(Policy::AlwaysAllow));
    assert_eq!((permission(1, "delete"), permission(1, "other")), (None, None));
    assert_eq!(agent.tools.built_in(), []);
}

#[test]
fn servers_are_refused_by_what_is_wrong_with_them() {
    let url = |url: &str| json!({ "type": "url", "name": "a", "url": url });
    let stdio = |change: Value| {
        let mut server = json!({ "type": "posthouse_stdio", "name": "a", "command": "x" });
        server.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        server
    };
    let many: serde_json::Map<_, _> = (0..65).map(|n| (format!("V{n}"), json!(""))).collect();
    for (server, start) in [
        (json!({ "type": "stdio" }), "Failed to parse request: mcp_servers[0].type: \"stdio\""),
        (json!({ "type": "url", "name": "a" }), "mcp_servers[0].url: is missing"),
        (json!({ "type": "url", "name": "", "url": "x" }), "mcp_servers[0].name: is empty"),
        (url("mcp.example.com"), "mcp_servers[0].url: is no URL"),
        (url("ftp://mcp.example.com"), "mcp_servers[0].url: is neither https nor http"),
        (url("https://user:word@a.example"), "mcp_servers[0].url: has a user name or a password"),
        (url("https://a.example/#x"), "mcp_servers[0].url: has a fragment"),
        (url("https://a.example/ x"), "mcp_servers[0].url: has a space"),
        (url(&format!("https://a.example/{}", "x".repeat(2048))), "mcp_servers[0].url: has 2066"),
        (
            json!({ "type": "url", "name": "a", "url": "https://a.example", "headers": {} }),
            "Failed to parse request body: unknown field \"mcp_servers[0].headers\"",
        ),
        (stdio(json!({ "command": "a\0b" })), "mcp_servers[0].command: has a NUL"),
        (stdio(json!({ "args": ["a", "\0"] })), "mcp_servers[0].args[1]: has a NUL"),
        (stdio(json!({ "args": [7] })), "mcp_servers[0].args[0]: is a number"),
        (stdio(json!({ "args": vec!["x"; 101] })), "mcp_servers[0].args: has 101 entries"),
        (stdio(json!({ "env": { "1A": "" } })), "mcp_servers[0].env: has a name that no"),
        (stdio(json!({ "env": { "": "" } })), "mcp_servers[0].env: has a name that no"),
        (stdio(json!({ "env": { "A=B": "" } })), "mcp_servers[0].env: has a name that no"),
        (stdio(json!({ "env": { "A": 1 } })), "mcp_servers[0].env.A: is a number"),
        (stdio(json!({ "env": { "A": "\0" } })), "mcp_servers[0].env.A: has a NUL"),
        (stdio(json!({ "env": many })), "mcp_servers[0].env: has 65 variables"),
    ] {
        let message = refused(json!({ "mcp_servers": [server], "tools": [tools_of("a")] }));
        assert!(message.starts_with(start), "{message}");
    }
    let twice = json!({ "mcp_servers": [server("a"), server("a")], "tools": [tools_of("a")] });
    let message = refused(twice);
    assert!(message.starts_with("mcp_servers[1].name: \"a\" is taken"), "{message}");
    let many: Vec<_> = (0..21).map(|n| server(&n.to_string())).collect();
    let message = refused(json!({ "mcp_servers": many }));
    assert!(message.starts_with("mcp_servers: has 21 entries"), "{message}");
}

#[test]
fn servers_and_toolsets_go_together_in_the_hosted_words() {
    let both = |servers: &[&str], toolsets: &[&str]| {
        let servers: Vec<_> = servers.iter().map(|name| server(name)).collect();
        let tools: Vec<_> = toolsets.iter().map(|name| tools_of(name)).collect();
        refused(json!({ "mcp_servers": servers, "tools": tools }))
    };
    assert_eq!(
        both(&[], &["deepwiki"]),
        "tools.0.mcp_toolset: references server \"deepwiki\" which is not defined in mcp_servers"
    );
    assert_eq!(
        both(&["a", "deepwiki", "b"], &["b"]),
        "mcp_servers [a, deepwiki] declared but no mcp_toolset in tools references them"
    );
    assert_eq!(
        both(&["deepwiki"], &["deepwiki", "deepwiki"]),
        "tools.1.mcp_toolset: duplicate entry for server \"deepwiki\"; each MCP server may have at \
         most one mcp_toolset"
    );
    let configs = |configs: Value| {
        let toolset = json!({ "type": "mcp_toolset", "mcp_server_name": "a", "configs": configs });
        refused(json!({ "mcp_servers": [server("a")], "tools": [toolset] }))
    };
    assert_eq!(
        configs(json!([{ "name": "x" }, { "name": "x" }])),
        "tools.0.mcp_toolset.configs.1: duplicate entry for tool \"x\""
    );
    assert_eq!(
        configs(json!([{ "permission_policy": { "type": "deny" } }])),
        "Failed to parse request: tools[0].configs[0].permission_policy.type: \"deny\" is not a \
         valid value"
    );
    let long = configs(json!([{ "name": "x".repeat(129) }]));
    assert!(long.starts_with("tools[0].configs[0].name: has 129 characters"), "{long}");
}

#[test]
fn all_toolsets_together_have_at_most_256_entries() {
    let toolset = |name: &str, count: usize| {
        let configs: Vec<_> = (0..count).map(|n| json!({ "name": n.to_string() })).collect();
        json!({ "type": "mcp_toolset", "mcp_server_name": name, "configs": configs })
    };
    let body = |count| {
        with(json!({
            "mcp_servers": [server("a"), server("b")],
            "tools": [toolset("a", 200), toolset("b", count)],
        }))
    };
    assert!(create(body(56)).is_ok());
    let message = create(body(57)).unwrap_err().message;
    assert!(message.starts_with("tools: has 257 configs"), "{message}");
}

#[test]
fn a_change_is_checked_by_what_comes_of_it() {
    let before = agent();
    for same in [
        json!({ "mcp_servers": [server("a")] }),
        json!({ "tools": [tools_of("a")], "mcp_servers": [server("a")] }),
    ] {
        assert_eq!(update(&before, same).unwrap(), Changed::Nothing);
    }
    for (change, start) in [
        (json!({ "tools": null }), "mcp_servers [a] declared but"),
        (json!({ "mcp_servers": null }), "tools.0.mcp_toolset: references server \"a\""),
        (json!({ "mcp_servers": [server("b")] }), "tools.0.mcp_toolset: references server \"a\""),
    ] {
        let message = update(&before, change).unwrap_err().message;
        assert!(message.starts_with(start), "{message}");
    }
    for empty in [json!(null), json!([])] {
        let cleared = updated(&before, json!({ "tools": [], "mcp_servers": empty }));
        assert_eq!((cleared.version, cleared.mcp_servers.len()), (2, 0));
    }
    let moved =
        json!({ "mcp_servers": [{ "type": "url", "name": "a", "url": "http://b.example" }] });
    assert_eq!(updated(&before, moved).mcp_servers[0].url(), Some("http://b.example"));
}

#[test]
fn a_session_may_have_servers_of_its_own() {
    let base = agent();
    let over = |sent: Value| {
        let mut reference = json!({ "type": "agent_with_overrides", "id": "agent_1" });
        reference.as_object_mut().unwrap().extend(sent.as_object().unwrap().clone());
        Reference::parse(reference)?.apply(&base, &Rules)
    };
    let change = |sent: Value| {
        parse_session_update(&base.snapshot(), Fields::open(sent, "agent").unwrap(), &Rules)
    };
    let other = json!({ "mcp_servers": [server("b")], "tools": [tools_of("b")] });
    let none = json!({ "mcp_servers": null, "tools": null });
    for made in [over(other.clone()), change(other)] {
        assert_eq!(made.unwrap().mcp_servers[0].name(), "b");
    }
    for made in [over(none.clone()), change(none)] {
        assert!(made.unwrap().mcp_servers.is_empty());
    }
    for (sent, message) in [
        (
            json!({ "tools": [] }),
            "agent.mcp_servers [a] declared but no mcp_toolset in tools references them",
        ),
        (
            json!({ "mcp_servers": [] }),
            "agent.tools.0.mcp_toolset: references server \"a\" which is not defined in mcp_servers",
        ),
    ] {
        assert_eq!(over(sent.clone()).unwrap_err().message, message);
        assert_eq!(change(sent).unwrap_err().message, message);
    }
}
