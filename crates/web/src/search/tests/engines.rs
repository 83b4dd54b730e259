//! What each back end is asked, and what is read from an answer in the shape that it documents.

use super::*;

/// A query with everything that a back end may be told.
fn full(words: &str) -> Query {
    Query {
        query: words.to_owned(),
        domains: Domains {
            allowed: Some(owned(&["docs.rs", "example.com/docs"])),
            blocked: owned(&["old.docs.rs"]),
            environment: None,
        },
        location: Some(Location {
            city: Some("Zürich".to_owned()),
            region: Some("Zurich".to_owned()),
            country: Some("CH".to_owned()),
            timezone: Some("Europe/Zurich".to_owned()),
        }),
    }
}

#[tokio::test]
async fn brave() {
    let answer = json!({
        "type": "search",
        "query": { "original": "tokio spawn", "more_results_available": true },
        "web": { "type": "search", "results": [
            {
                "title": "spawn in tokio - <strong>Rust</strong>",
                "url": "https://docs.rs/tokio/latest/tokio/fn.spawn.html",
                "description": "Spawns a new &quot;task&quot;",
                "extra_snippets": ["One &lt;T&gt;", "Two", 3],
                "language": "en",
            },
            { "title": "Old", "url": "https://old.docs.rs/", "description": "old" },
        ] },
    });
    let peer = Peer::answering("200 OK", answer).await;
    let found = peer.search(Engine::Brave).search(&full("tokio\n spawn")).await.unwrap();
    let texts = ["Spawns a new \"task\"", "One <T>", "Two"];
    let address = "https://docs.rs/tokio/latest/tokio/fn.spawn.html";
    assert_eq!(found, [hit(address, "spawn in tokio - Rust", &texts)]);
    let seen = peer.seen();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/res/v1/web/search"));
    assert_eq!(seen.headers["x-subscription-token"], KEY);
    assert_eq!(seen.headers["accept-encoding"], "identity");
    assert_eq!(seen.headers["x-loc-country"], "CH");
    assert_eq!(seen.headers["x-loc-timezone"], "Europe/Zurich");
    assert!(!seen.headers.contains_key("x-loc-city"), "headers are ASCII");
    let pair = |name: &str| seen.pairs[name].as_str();
    assert_eq!((pair("q"), pair("count"), pair("country")), ("tokio spawn", "20", "CH"));
    assert_eq!(
        pair("goggles"),
        "$discard\n$boost,site=docs.rs\n$boost,site=example.com\n$discard,site=old.docs.rs"
    );

    let peer = Peer::answering("200 OK", json!({ "type": "search" })).await;
    assert_eq!(peer.search(Engine::Brave).search(&query("x")).await, Ok(Vec::new()));
    let pairs = peer.seen().pairs;
    assert_eq!(pairs["count"], "10");
    assert!(!pairs.contains_key("goggles") && !pairs.contains_key("country"), "{pairs:?}");
}

#[tokio::test]
async fn searxng() {
    let answer = json!({
        "query": "tokio spawn site:docs.rs",
        "number_of_results": 0,
        "results": [
            {
                "url": "https://docs.rs/tokio",
                "title": "tokio",
                "content": "A runtime.",
                "engine": "google",
                "parsed_url": ["https", "docs.rs", "/tokio", "", "", ""],
                "score": 1.8,
            },
            { "url": "https://docs.rs/mio", "title": "mio", "content": "" },
        ],
        "answers": [], "corrections": [], "infoboxes": [], "suggestions": [],
        "unresponsive_engines": [["bing", "timeout"]],
    });
    let peer = Peer::answering("200 OK", answer).await;
    let mut wanted = query("tokio spawn");
    wanted.domains.allowed = Some(owned(&["docs.rs"]));
    let found = peer.search(Engine::Searxng).search(&wanted).await.unwrap();
    let expected = [
        hit("https://docs.rs/tokio", "tokio", &["A runtime."]),
        hit("https://docs.rs/mio", "mio", &[]),
    ];
    assert_eq!(found, expected);
    let seen = peer.seen();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/search"));
    assert_eq!(seen.pairs["q"], "tokio spawn site:docs.rs");
    assert_eq!((seen.pairs["format"].as_str(), seen.pairs.len()), ("json", 3));
    assert!(!format!("{seen:?}").contains(KEY), "it has no use for a key");

    let none = json!({ "results": [], "unresponsive_engines": [["bing", "timeout"]] });
    let peer = Peer::answering("200 OK", none).await;
    let error = peer.search(Engine::Searxng).search(&query("x")).await.unwrap_err();
    assert!(error.advice.contains("no engine that answers"), "{error}");
}

#[tokio::test]
async fn tavily() {
    let answer = json!({
        "query": "tokio spawn",
        "answer": null,
        "images": [],
        "results": [{
            "title": "spawn",
            "url": "https://example.com/docs/spawn",
            "content": "Spawns. [...] Returns a handle.",
            "score": 0.8,
            "raw_content": null,
        }, { "title": "Elsewhere", "url": "https://example.com/blog", "content": "x" }],
        "response_time": "1.67",
    });
    let peer = Peer::answering("200 OK", answer).await;
    let found = peer.search(Engine::Tavily).search(&full("tokio spawn")).await.unwrap();
    let texts = ["Spawns.", "Returns a handle."];
    assert_eq!(found, [hit("https://example.com/docs/spawn", "spawn", &texts)]);
    let seen = peer.seen();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/search"));
    assert_eq!(seen.headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(
        seen.body,
        json!({
            "query": "tokio spawn",
            "search_depth": "basic",
            "topic": "general",
            "max_results": 10,
            "include_domains": ["docs.rs", "example.com"],
            "exclude_domains": ["old.docs.rs"],
            "country": "switzerland",
        })
    );
}

#[tokio::test]
async fn serpapi() {
    let answer = json!({
        "search_metadata": { "id": "1", "status": "Success" },
        "organic_results": [{
            "position": 1,
            "title": "tokio",
            "link": "https://docs.rs/tokio",
            "redirect_link": "https://www.google.com/url?q=x",
            "snippet": "A runtime.",
        }],
    });
    let peer = Peer::answering("200 OK", answer).await;
    let found = peer.search(Engine::Serpapi).search(&full("tokio spawn")).await.unwrap();
    assert_eq!(found, [hit("https://docs.rs/tokio", "tokio", &["A runtime."])]);
    let seen = peer.seen();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/search.json"));
    let pair = |name: &str| seen.pairs[name].as_str();
    assert_eq!(pair("q"), "tokio spawn (site:docs.rs OR site:example.com)");
    assert_eq!((pair("engine"), pair("gl"), pair("api_key")), ("google", "ch", KEY));

    let empty = json!({
        "search_metadata": { "status": "Success" },
        "error": "Google hasn't returned any results for this query.",
    });
    let peer = Peer::answering("200 OK", empty).await;
    let mut wanted = query("x");
    wanted.domains.blocked = owned(&["a.example", "b.example/x"]);
    assert_eq!(peer.search(Engine::Serpapi).search(&wanted).await, Ok(Vec::new()));
    assert_eq!(peer.seen().pairs["q"], "x -site:a.example");
    let failed = json!({ "search_metadata": { "status": "Error" }, "error": "x" });
    let peer = Peer::answering("200 OK", failed).await;
    let error = peer.search(Engine::Serpapi).search(&query("x")).await.unwrap_err();
    assert_eq!(error.code, "unavailable");
}

#[tokio::test]
async fn messages() {
    let cited = |said: &str| {
        json!({
            "type": "web_search_result_location",
            "url": "https://docs.rs/tokio",
            "title": "tokio",
            "encrypted_index": "Eo8B",
            "cited_text": said,
        })
    };
    let answer = json!({
        "role": "assistant",
        "content": [
            { "type": "text", "text": "I'll search." },
            { "type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search",
              "input": { "query": "tokio spawn" } },
            { "type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [
                { "type": "web_search_result", "url": "https://docs.rs/tokio", "title": "tokio",
                  "encrypted_content": "EqgfCioIARgB", "page_age": "April 30, 2025" },
                { "type": "web_search_result", "url": "https://docs.rs/mio", "title": "mio",
                  "encrypted_content": "x" },
            ] },
            { "type": "text", "text": "It spawns.", "citations": [cited("Spawns."), cited("Spawns.")] },
            { "type": "text", "text": "And more.", "citations": [cited("Returns a handle.")] },
        ],
        "stop_reason": "end_turn",
    });
    let engine = || Engine::Messages { model: "claude-x".to_owned() };
    let peer = Peer::answering("200 OK", answer).await;
    let found = peer.search(engine()).search(&full("tokio spawn")).await.unwrap();
    let texts = ["Spawns.", "Returns a handle."];
    let expected =
        [hit("https://docs.rs/tokio", "tokio", &texts), hit("https://docs.rs/mio", "mio", &[])];
    assert_eq!(found, expected);
    let seen = peer.seen();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v1/messages"));
    assert_eq!(seen.headers["anthropic-version"], "2023-06-01");
    assert_eq!((&seen.body["model"], &seen.body["stream"]), (&json!("claude-x"), &json!(null)));
    assert_eq!(
        seen.body["tools"],
        json!([{
            "type": "web_search_20250305",
            "name": "web_search",
            "max_uses": 1,
            "allowed_domains": ["docs.rs", "example.com/docs"],
            "user_location": {
                "type": "approximate", "city": "Zürich", "region": "Zurich", "country": "CH",
                "timezone": "Europe/Zurich",
            },
        }])
    );
    assert_eq!(seen.body["messages"], json!([{ "role": "user", "content": "tokio spawn" }]));

    for (error_code, code) in [
        ("too_many_requests", "too_many_requests"),
        ("query_too_long", "query_too_long"),
        ("invalid_tool_input", "invalid_tool_input"),
        ("unavailable", "unavailable"),
        ("something_new", "unavailable"),
    ] {
        let failed = json!({ "content": [{ "type": "web_search_tool_result", "content": {
            "type": "web_search_tool_result_error", "error_code": error_code,
        } }] });
        let peer = Peer::answering("200 OK", failed).await;
        let mut wanted = query("x");
        wanted.domains.blocked = owned(&["a.example"]);
        assert_eq!(peer.search(engine()).search(&wanted).await.unwrap_err().code, code);
        let tool = peer.seen().body["tools"][0].clone();
        assert_eq!(tool["blocked_domains"], json!(["a.example"]));
    }
    let idle = json!({ "content": [{ "type": "text", "text": "No." }] });
    let peer = Peer::answering("200 OK", idle).await;
    let error = peer.search(engine()).search(&query("x")).await.unwrap_err();
    assert!(error.advice.contains("has not searched"), "{error}");
}

#[tokio::test]
async fn responses() {
    let said = "Ünder tokio it spawns. ([docs.rs](https://docs.rs/tokio))\n- Second line.";
    let start = said.find("([").map(|at| said[..at].chars().count()).unwrap();
    let answer = json!({
        "status": "completed",
        "output": [
            { "type": "reasoning", "summary": [] },
            { "type": "web_search_call", "id": "ws_1", "status": "completed", "action": {
                "type": "search", "query": "tokio spawn", "sources": [
                    { "type": "url", "url": "https://docs.rs/tokio" },
                    { "type": "url", "url": "https://docs.rs/mio" },
                ],
            } },
            { "type": "message", "role": "assistant", "content": [{
                "type": "output_text",
                "text": said,
                "annotations": [
                    { "type": "url_citation", "start_index": start, "end_index": start + 34,
                      "url": "https://docs.rs/tokio", "title": "tokio" },
                    { "type": "file_citation", "url": "https://docs.rs/never" },
                ],
            }] },
        ],
    });
    let engine = || Engine::Responses { model: "gpt-x".to_owned() };
    let peer = Peer::answering("200 OK", answer).await;
    let found = peer.search(engine()).search(&full("tokio spawn")).await.unwrap();
    let expected = [
        hit("https://docs.rs/tokio", "tokio", &["Ünder tokio it spawns"]),
        hit("https://docs.rs/mio", "docs.rs", &[]),
    ];
    assert_eq!(found, expected);
    let seen = peer.seen();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/responses"));
    assert_eq!(seen.body["tools"][0]["type"], "web_search");
    assert_eq!(
        seen.body["tools"][0]["filters"],
        json!({ "allowed_domains": ["docs.rs", "example.com"] })
    );
    assert_eq!(seen.body["store"], false);
    let idle = json!({ "output": [{ "type": "message", "content": [] }] });
    let peer = Peer::answering("200 OK", idle).await;
    let error = peer.search(engine()).search(&query("x")).await.unwrap_err();
    assert!(error.advice.contains("has not searched"), "{error}");
}
