//! The tools of the web: their options, as they are taken, shown and refused.

use super::*;

/// A server without a search back end.
struct Searchless;

impl ModelRules for Searchless {
    fn exists(&self, model: &str) -> Result<(), String> {
        Rules.exists(model)
    }
    fn default_effort(&self, model: &str) -> Option<Effort> {
        Rules.default_effort(model)
    }
    fn supports_effort(&self, model: &str, effort: Effort) -> bool {
        Rules.supports_effort(model, effort)
    }
    fn supports_fast(&self, model: &str) -> bool {
        Rules.supports_fast(model)
    }
    fn supports_geo(&self, model: &str) -> bool {
        Rules.supports_geo(model)
    }
}

fn configs(configs: Value) -> Value {
    json!({ "tools": [toolset(json!({ "configs": configs })), custom("mine"), custom("other")] })
}

fn config(config: Value) -> String {
    refused(configs(json!([config])))
}

#[test]
fn options_are_shown_as_they_are_kept() {
    let sources = json!({
        "user_input": "none",
        "client_tool_results": {
            "type": "except", "tools": [{ "type": "tool_reference", "name": "mine" }],
        },
    });
    let agent = create(with(configs(json!([
        {
            "name": "web_fetch", "allowed_domains": ["docs.Example.com"],
            "blocked_domains": null, "max_content_tokens": 20000, "url_sources": sources,
        },
        {
            "name": "web_search", "blocked_domains": ["example.com/private", "bücher.example"],
            "user_location": { "type": "approximate", "country": "DE" },
        },
    ]))))
    .unwrap();
    let shown = serde_json::to_value(&agent).unwrap();
    let allow = json!({ "type": "always_allow" });
    assert_eq!(
        shown["tools"][0]["configs"],
        json!([
            {
                "type": "web_fetch", "name": "web_fetch", "enabled": true,
                "permission_policy": allow, "allowed_domains": ["docs.Example.com"],
                "blocked_domains": null, "max_content_tokens": 20000,
                "url_sources": {
                    "user_input": { "type": "none" },
                    "client_tool_results": {
                        "type": "except",
                        "tools": [{ "type": "tool_reference", "name": "mine" }],
                    },
                    "server_tool_results": null,
                },
            },
            {
                "type": "web_search", "name": "web_search", "enabled": true,
                "permission_policy": allow, "allowed_domains": null,
                "blocked_domains": ["example.com/private", "bücher.example"],
                "user_location": {
                    "type": "approximate", "city": null, "region": null, "country": "DE",
                    "timezone": null,
                },
            },
        ])
    );
    assert_eq!(serde_json::from_value::<Agent>(shown.clone()).unwrap(), agent);
    // What is shown may be sent back.
    let same = json!({ "tools": shown["tools"] });
    assert_eq!(update(&agent, same).unwrap(), Changed::Nothing);
    let Tool::Toolset(toolset) = &agent.tools[0] else { panic!() };
    let config = toolset.config(ToolName::WebFetch).unwrap();
    let ToolOptions::Fetch(options) = config.options.clone() else { panic!() };
    let sources = options.url_sources.unwrap();
    assert!(!sources.user_input.takes("") && sources.server_tool_results.takes("web_search"));
    let client = sources.client_tool_results;
    assert!(!client.takes("mine") && client.takes("other"));
}

#[test]
fn sources_have_short_words() {
    let fetch = |sources: Value| {
        let body = configs(json!([{ "name": "web_fetch", "url_sources": sources }]));
        let agent = create(with(body)).unwrap();
        let shown = serde_json::to_value(&agent.tools).unwrap();
        shown[0]["configs"][0]["url_sources"].clone()
    };
    let (all, none) = (json!({ "type": "all" }), json!({ "type": "none" }));
    assert_eq!(fetch(json!(null)), json!(null));
    for (sent, shown) in [
        (json!({}), json!([null, null, null])),
        (json!({ "user_input": null, "client_tool_results": "all" }), json!([null, all, null])),
        (json!({ "user_input": all, "server_tool_results": "none" }), json!([all, null, none])),
        (json!({ "user_input": "none", "client_tool_results": none }), json!([none, none, null])),
    ] {
        let came = fetch(sent);
        let members = ["user_input", "client_tool_results", "server_tool_results"];
        assert_eq!(json!(members.map(|name| &came[name])), shown);
    }
    let only =
        json!({ "type": "only", "tools": [{ "type": "tool_reference", "name": "web_fetch" }] });
    assert_eq!(fetch(json!({ "server_tool_results": only }))["server_tool_results"], only);
}

#[test]
fn lists_of_domains_are_refused_in_the_hosted_words() {
    for name in ["web_fetch", "web_search"] {
        let both =
            json!({ "name": name, "allowed_domains": ["a.com"], "blocked_domains": ["b.com"] });
        let place = "tools.0.agent_toolset_20260401.configs.0";
        assert_eq!(
            config(both),
            format!("{place}: Only one of allowed_domains or blocked_domains may be set.")
        );
        for list in ["allowed_domains", "blocked_domains"] {
            assert_eq!(
                config(json!({ "name": name, list: [] })),
                format!(
                    "tools[0].configs[0].{list}: Empty list of domains is ambiguous. Provide at \
                     least one domain or null."
                )
            );
            assert_eq!(
                config(json!({ "name": name, list: ["a.com", "10.0.0.1"] })),
                format!(
                    "{place}.{list}.1: IP addresses are not supported; provide a plain hostname like \
                     \"example.com\""
                )
            );
            let long = config(json!({ "name": name, list: vec!["a.com"; 65] }));
            assert!(long.starts_with(&format!("tools[0].configs[0].{list}: has 65")), "{long}");
        }
    }
    let path = config(json!({ "name": "web_fetch", "allowed_domains": ["a.com/x"] }));
    assert!(path.contains("allowed_domains.0: paths are not supported"), "{path}");
    let address = config(json!({ "name": "web_fetch", "allowed_domains": ["10.0.0.1"] }));
    let words = "allowed_domains.0: IP addresses are not supported; provide a plain hostname like \
                 \"example.com\"";
    assert!(address.ends_with(words), "{address}");
    for (name, entry) in [("web_fetch", "co.uk"), ("web_search", "co.uk/x")] {
        let all = config(json!({ "name": name, "blocked_domains": ["a.co.uk", entry] }));
        assert!(all.contains("blocked_domains.1: names below which everybody registers"), "{all}");
    }
}

#[test]
fn other_options_are_refused_by_what_is_wrong_with_them() {
    let named = |name: &str| json!({ "type": "tool_reference", "name": name });
    let only = |tools: Value| json!({ "type": "only", "tools": tools });
    let sources = |sources: Value| json!({ "name": "web_fetch", "url_sources": sources });
    let client = |tools: Value| sources(json!({ "client_tool_results": only(tools) }));
    let server = |tools: Value| sources(json!({ "server_tool_results": only(tools) }));
    let location = |country: &str| json!({ "name": "web_search", "user_location": { "type": "approximate", "country": country } });
    let none = json!({
        "user_input": "none", "client_tool_results": { "type": "none" },
        "server_tool_results": "none",
    });
    let many: Vec<_> = (0..129).map(|n| named(&n.to_string())).collect();
    for (sent, says) in [
        (json!({ "name": "web_fetch", "max_content_tokens": 0 }), "max_content_tokens: is 0"),
        (json!({ "name": "web_fetch", "user_location": null }), "unknown field"),
        (json!({ "name": "web_search", "url_sources": null }), "unknown field"),
        (json!({ "name": "bash", "allowed_domains": null }), "unknown field"),
        (location("de"), "user_location.country: \"de\" is no country's code"),
        (location("DEU"), "user_location.country: has 3 characters"),
        (json!({ "name": "web_search", "user_location": {} }), "user_location.type: is missing"),
        (sources(none), "url_sources: all three sources are none"),
        (
            sources(json!({ "user_input": only(json!([named("x")])) })),
            "url_sources.user_input.type: \"only\" is not a valid value; expected one of all, none",
        ),
        (sources(json!({ "user_input": "some" })), "user_input: \"some\" is not a valid value"),
        (client(json!([])), "client_tool_results.tools: has 0 entries"),
        (client(json!(many)), "client_tool_results.tools: has 129 entries"),
        (
            client(json!([named("mine"), named("mine")])),
            "client_tool_results.tools.1.name: \"mine\" is there twice",
        ),
        (
            client(json!([named("mine"), named("Mine")])),
            "client_tool_results.tools.1.name: \"Mine\" is no custom tool in tools",
        ),
        (client(json!([named("web_search")])), "\"web_search\" is no custom tool"),
        (
            server(json!([named("mine")])),
            "server_tool_results.tools[0].name: \"mine\" is not a valid value; expected one of \
             web_search, web_fetch",
        ),
    ] {
        let message = config(sent);
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn a_search_is_asked_for_by_name_only_where_there_is_a_back_end() {
    let create = |tools: Value| {
        let fields = Fields::open(with(json!({ "tools": tools })), "").unwrap();
        parse_create(fields, "agent_1".into(), AT, &Searchless)
    };
    let sets = |set: Value| create(json!([toolset(set)]));
    let bare = sets(json!({})).unwrap();
    // Whoever offers tools knows that there is none.
    assert_eq!(bare.tools.permission("web_search"), Some(Policy::AlwaysAllow));
    for fine in [
        json!({ "configs": [{ "name": "web_search", "enabled": false }] }),
        json!({ "default_config": { "enabled": false }, "configs": [{ "name": "web_search" }] }),
        json!({ "configs": [{ "name": "web_fetch" }] }),
    ] {
        assert!(sets(fine).is_ok());
    }
    for named in [
        json!({ "configs": [{ "name": "web_search" }] }),
        json!({ "configs": [{ "name": "web_search", "enabled": true }] }),
        json!({
            "default_config": { "enabled": false },
            "configs": [{ "name": "web_search", "enabled": true }],
        }),
    ] {
        let message = sets(named).unwrap_err().message;
        assert_eq!(
            message,
            "tools.0.agent_toolset_20260401.configs.0: web_search needs a search back end, and this \
             server has none; configure web.search.backend (docs/CONFIGURATION.md), or send \
             \"enabled\": false"
        );
    }
}

#[test]
fn entries_of_older_versions_are_read() {
    for stored in [
        json!({ "name": "web_fetch", "enabled": false, "permission_policy": { "type": "always_ask" } }),
        json!({
            "type": "web_fetch", "name": "web_fetch", "enabled": false,
            "permission_policy": { "type": "always_ask" }, "allowed_domains": null,
            "blocked_domains": null, "max_content_tokens": null, "url_sources": null,
        }),
    ] {
        let config: ToolConfig = serde_json::from_value(stored).unwrap();
        assert_eq!(config.options, ToolOptions::Fetch(FetchOptions::default()));
        assert!(!config.enabled);
    }
    let bash =
        json!({ "name": "bash", "enabled": true, "permission_policy": { "type": "always_ask" } });
    let bash: ToolConfig = serde_json::from_value(bash).unwrap();
    assert_eq!(bash.options, ToolOptions::None);
}
