//! Which addresses a conversation has shown.

use std::sync::Arc;

use posthouse_model::{Item, ToolResult};
use serde_json::{Value, json, value::to_raw_value};

use super::check;
use crate::{
    own::SessionOpened,
    state::{Entry, State, Thread},
};

fn opened() -> SessionOpened {
    serde_json::from_value(json!({
        "session": "sesn_1",
        "thread": "sthr_1",
        "agent": {
            "type": "agent", "id": "agent_1", "version": 1, "name": "Scout", "description": null,
            "model": {
                "id": "test/model", "effort": null, "speed": "standard", "inference_geo": null,
            },
            "system": "Our handbook is https://handbook.test/start .",
            "tools": [{
                "type": "custom", "name": "weather", "description": "Tells.",
                "input_schema": { "type": "object" },
            }],
            "mcp_servers": [],
            "skills": [],
            "multiagent": null,
            "execution_identity": { "type": "service_account" },
        },
        "environment": "env_1",
        "config": {},
        "title": null,
        "metadata": {},
    }))
    .unwrap()
}

fn thread(items: Vec<Item>) -> Thread {
    let mut state = State::new(Arc::new(opened().agent));
    let record = posthouse_store::Record {
        seq: 1,
        at: posthouse_protocol::Micros(1),
        fence: 0,
        kind: crate::own::kind::SESSION_OPENED.into(),
        thread: "sthr_1".into(),
        payload: serde_json::to_string(&opened()).unwrap().into(),
    };
    state.apply(&record).unwrap();
    let mut thread = state.threads.remove(0);
    let entry = |item| Entry { seq: 2, item, tokens: 1 };
    thread.entries = items.into_iter().map(entry).collect();
    thread
}

fn raw(value: &Value) -> Arc<serde_json::value::RawValue> {
    to_raw_value(value).unwrap().into()
}

fn user(text: &str) -> Item {
    Item::User(raw(&json!([{ "type": "text", "text": text }])))
}

fn result(name: &str, content: Value, is_error: bool) -> Item {
    let content = raw(&content);
    Item::ToolResults(vec![ToolResult {
        call_id: "a".to_owned(),
        name: name.into(),
        content,
        is_error,
    }])
}

/// What is fetched: the address, with a star behind it when it is not the one asked for.
fn fetched(items: Vec<Item>, url: &str) -> Result<String, String> {
    let input = to_raw_value(&json!({ "url": url })).unwrap();
    let shown = check(&thread(items), &opened().agent, &input)?;
    let star = if shown.note.is_some() { " *" } else { "" };
    if let Some(note) = &shown.note {
        assert!(note.starts_with(&format!("Note: fetched {}, not the URL you gave. ", shown.url)));
    }
    Ok(format!("{}{star}", shown.url))
}

#[test]
fn an_address_stands_in_a_text_somehow() {
    let page = "https://a.test/docs/x";
    let texts = [
        "See https://a.test/docs/x",
        "See https://a.test/docs/x.",
        "(https://a.test/docs/x)",
        "[docs](https://a.test/docs/x) and more",
        "[docs](https://a.test/docs/x \"Title\")",
        "<https://a.test/docs/x>",
        "\"https://a.test/docs/x\"",
        "**https://a.test/docs/x**",
        "{\"url\":\"https://a.test/docs/x\"}",
        "HTTPS://A.TEST/docs/x!?",
        "http://b.test/https://a.test/docs/x",
        "a.test/docs/x",
        "look at (a.test/docs/x), please",
        "日本語https://a.test/docs/x。 ok https://a.test/docs/x",
    ];
    for text in texts {
        assert_eq!(fetched(vec![user(text)], page).as_deref(), Ok(page), "{text}");
    }
    let brackets = "https://en.a.test/wiki/Rust_(language)";
    assert_eq!(fetched(vec![user(&format!("({brackets})"))], brackets).as_deref(), Ok(brackets));
}

#[test]
fn what_ends_most_addresses_is_a_part_of_some() {
    let urls = [
        "https://a.test/a|b",
        "https://a.test/?q=a|b|c",
        "https://a.test/?q={x}^y`z",
        "https://a.test/a)b",
        "https://a.test/a]b[c",
        "https://a.test/x.",
    ];
    for url in urls {
        let texts = [
            url.to_owned(),
            format!("see {url}, and so on"),
            format!("[x]({url}) | y |"),
            format!("`{url}`"),
            format!("{{\"url\":\"{url}\"}}"),
        ];
        for text in texts {
            assert!(fetched(vec![user(&text)], url).is_ok(), "{text}");
        }
        let hit = json!([{ "type": "search_result", "source": url, "title": "", "content": [] }]);
        assert!(fetched(vec![result("web_search", hit, false)], url).is_ok(), "{url}");
    }
    // What stands behind an address is still none of it.
    for text in ["https://a.test/x|y", "`https://a.test/x`y", "(https://a.test/x)y"] {
        assert!(fetched(vec![user(text)], "https://a.test/x").is_ok(), "{text}");
        assert!(fetched(vec![user(text)], "https://a.test/xy").is_err(), "{text}");
    }
    let long = format!("https://a.test/{}", "x".repeat(2048));
    assert!(fetched(vec![user(&long)], &long).unwrap_err().contains("url_too_long"));
}

#[test]
fn a_near_miss_is_what_was_shown() {
    let cases = [
        ("https://a.test/x", "http://a.test/x", "https://a.test/x *"),
        ("https://www.a.test/x", "https://a.test/x", "https://www.a.test/x *"),
        ("https://a.test/x", "https://www.a.test/x/", "https://a.test/x *"),
        ("https://a.test/x/", "https://a.test/x", "https://a.test/x/ *"),
        ("https://a.test/x", "https://a.test/x#part", "https://a.test/x *"),
        ("https://a.test/x#one", "https://a.test/x", "https://a.test/x#one *"),
        ("https://a.test", "https://a.test/", "https://a.test/"),
        ("a.test", "http://a.test", "http://a.test/"),
        ("www.a.test", "https://a.test", "https://www.a.test/ *"),
        (
            "https://münchen.test/x",
            "https://xn--mnchen-3ya.test/x",
            "https://xn--mnchen-3ya.test/x",
        ),
        ("https://a.test/?q=%20", "https://a.test/?q=%20", "https://a.test/?q=%20"),
    ];
    for (text, url, expected) in cases {
        assert_eq!(fetched(vec![user(text)], url).as_deref(), Ok(expected), "{text} · {url}");
    }
    let both = vec![user("https://a.test/x"), user("http://a.test/x")];
    assert_eq!(fetched(both, "https://a.test/x").as_deref(), Ok("https://a.test/x"));
}

#[test]
fn what_was_not_shown_is_not_fetched() {
    let cases = [
        ("https://a.test/deep/page", "https://a.test/"),
        ("https://a.test/deep/page", "https://a.test/deep"),
        ("https://a.test/", "https://a.test/deep"),
        ("https://a.test/x", "https://a.test/x?secret=1"),
        ("https://a.test/x?q=1", "https://a.test/x?q=2"),
        ("https://a.test/x", "https://a.test:8443/x"),
        ("https://a.test/x", "https://user:pw@a.test/x"),
        ("https://a.test/x", "https://b.a.test/x"),
        ("https://b.a.test/x", "https://a.test/x"),
        ("https://a.test.evil.test/x", "https://a.test/x"),
        ("https://evil-a.test/x", "https://a.test/x"),
        ("mail me@a.test", "https://a.test"),
        ("https://evil.test/#https", "https://a.test/x"),
        ("ftp://a.test/x", "https://a.test/x"),
        ("nothing", "https://a.test/x"),
    ];
    for (text, url) in cases {
        let refused = fetched(vec![user(text)], url).unwrap_err();
        assert!(
            refused.starts_with(
                "Web fetch error: url_not_in_prior_context — this URL was not \
                                 fetched because it is not among the URLs this conversation has \
                                 shown you. "
            ) || refused.contains("invalid_tool_input"),
            "{text} · {url}: {refused}"
        );
    }
    for url in ["", "a.test", "file:///etc/passwd", "javascript:alert(1)", "https://"] {
        assert!(fetched(vec![user(url)], url).unwrap_err().contains("invalid_tool_input"), "{url}");
    }
    let long = format!("https://a.test/{}", "x".repeat(2048));
    assert!(fetched(vec![user(&long)], &long).unwrap_err().contains("url_too_long"));
    let none = to_raw_value(&json!({ "uri": "https://a.test" })).unwrap();
    assert!(
        check(&thread(vec![]), &opened().agent, &none).unwrap_err().contains("invalid_tool_input")
    );
}

#[test]
fn only_sources_show_addresses() {
    let url = "https://a.test/x";
    let text = json!([{ "type": "text", "text": url }]);
    let hit = json!([{
        "type": "search_result", "source": url, "title": "X",
        "content": [{ "type": "text", "text": "so" }],
    }]);
    let page = json!([{
        "type": "document", "title": null, "context": null,
        "source": { "type": "text", "media_type": "text/plain", "data": format!("see [x]({url})") },
    }]);
    let native = to_raw_value(&json!({ "type": "text", "text": url })).unwrap();
    let said = Item::Assistant {
        provider: "test".into(),
        wire: posthouse_model::WireKind::Anthropic,
        blocks: vec![native].into(),
    };
    let cases = [
        (true, user(url)),
        (true, Item::User(raw(&hit))),
        (true, Item::User(raw(&page))),
        (true, Item::System(url.to_owned())),
        (true, result("weather", text.clone(), false)),
        (true, result("web_search", hit.clone(), false)),
        (true, result("web_fetch", page.clone(), false)),
        // What may have come from the model itself, or from anybody.
        (false, said),
        (false, result("web_fetch", text.clone(), true)),
        (false, result("bash", text.clone(), false)),
        (false, result("read", page, false)),
        (false, result("mcp__a__b", text.clone(), false)),
        (false, result("mcp__find_tools", text, false)),
    ];
    for (shows, item) in cases {
        assert_eq!(fetched(vec![item.clone()], url).is_ok(), shows, "{item:?}");
    }
    let handbook = "https://handbook.test/start";
    assert_eq!(fetched(vec![], handbook).as_deref(), Ok(handbook));
}

#[test]
fn the_agents_rules_of_sources_hold() {
    use posthouse_protocol::agent::{
        DefaultConfig, FetchOptions, Policy, Tool, ToolConfig, ToolName, ToolOptions,
        ToolReference, Toolset, UrlSource, UrlSources,
    };
    let url = "https://a.test/x";
    let content = json!([{ "type": "text", "text": url }]);
    let shows = |sources: UrlSources, item: Item| {
        let mut agent = opened().agent;
        let policy = Policy::AlwaysAllow;
        let options = FetchOptions { url_sources: Some(sources), ..FetchOptions::default() };
        agent.tools.push(Tool::Toolset(Toolset {
            default_config: DefaultConfig { enabled: true, permission_policy: policy },
            configs: vec![ToolConfig {
                name: ToolName::WebFetch,
                enabled: true,
                permission_policy: policy,
                options: ToolOptions::Fetch(options),
            }],
        }));
        let input = to_raw_value(&json!({ "url": url })).unwrap();
        check(&thread(vec![item]), &agent, &input).is_ok()
    };
    let only =
        |name: &str| UrlSource::Only { tools: vec![ToolReference { name: name.to_owned() }] };
    let rules = |user_input, client_tool_results, server_tool_results| UrlSources {
        user_input,
        client_tool_results,
        server_tool_results,
    };
    let (all, none) = (|| UrlSource::All, || UrlSource::None);
    assert!(!shows(rules(none(), all(), all()), user(url)));
    assert!(shows(rules(all(), none(), none()), user(url)));
    let custom = || result("weather", content.clone(), false);
    assert!(!shows(rules(all(), none(), all()), custom()));
    assert!(shows(rules(none(), only("weather"), none()), custom()));
    let search = || result("web_search", content.clone(), false);
    assert!(shows(rules(none(), none(), only("web_search")), search()));
    assert!(!shows(rules(all(), all(), only("web_fetch")), search()));
}

#[test]
fn a_strangers_text_does_not_hold_the_server_up() {
    let texts = [
        "http://".repeat(300_000),
        "https://a.test".repeat(100_000),
        format!("https://a.test/{}", ".".repeat(2_000_000)),
        format!("https://a.test/{}", "(".repeat(2_000_000)),
        "https://a.test/)|".repeat(100_000),
        "a.test/".repeat(200_000),
    ];
    for text in texts {
        let page = result("web_fetch", json!([{ "type": "text", "text": text }]), false);
        assert!(fetched(vec![page, user(&text)], "https://a.test/nowhere").is_err());
    }
    // A long address lets long places stand for it.
    let long = format!("https://a.test/nowhere/{}", "x".repeat(2000));
    for text in [
        format!("https://a.test/{} ", ".".repeat(8000)).repeat(200),
        "https://a.test.".repeat(80_000),
    ] {
        assert!(fetched(vec![user(&text)], &long).is_err());
    }
}

#[test]
fn other_addresses_hide_none() {
    let url = "https://a.test/shown";
    let others: String = (0..50_000).map(|at| format!("https://b.test/{at} ")).collect();
    let page = result("web_fetch", json!([{ "type": "text", "text": others }]), false);
    assert_eq!(fetched(vec![user(url), page], url).as_deref(), Ok(url));
    let row = format!("{url}{}", ".".repeat(100));
    assert_eq!(fetched(vec![user(&row)], url).as_deref(), Ok(url));
}
