//! What calls of the web tools come to, in the blocks of the API. Connects to loopback alone.

use std::{net::SocketAddr, time::Duration};

use posthouse_net::{Guard, Rules};
use posthouse_protocol::agent::{DefaultConfig, Policy, ToolConfig, Toolset, UserLocation};
use posthouse_web::{fetch, search};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};

use super::*;

/// A server that answers every request alike.
async fn peer(content_type: &str, body: &str) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 16 << 10];
            let read = stream.read(&mut buffer).await;
            // Whoever has had enough goes away.
            let _ = (read, stream.write_all(answer.as_bytes()).await);
        }
    });
    (address, serving)
}

fn web(peer: SocketAddr, searches: bool) -> Web {
    let names = ["docs.example", "other.example"];
    let resolve = names.iter().map(|name| ((*name).to_owned(), peer)).collect();
    let guard = Guard::new(Rules { resolve, ..Rules::default() }, vec![]);
    let settings = search::Settings {
        engine: search::Engine::Searxng,
        base_url: "http://other.example".to_owned(),
        key: None,
        headers: http::HeaderMap::new(),
        hits: 5,
        time: Duration::from_secs(10),
    };
    let search = Search::new(guard.clone(), settings).unwrap();
    let settings = fetch::Settings { robots: false, ..fetch::Settings::default() };
    Web { reader: Reader::new(guard, settings), search: searches.then_some(search) }
}

/// A session whose agent has this set for one tool.
fn standpoint(set: Option<(ToolName, ToolOptions)>, networking: Networking) -> Standpoint {
    let configs = set.into_iter().map(|(name, options)| ToolConfig {
        name,
        enabled: true,
        permission_policy: Policy::AlwaysAllow,
        options,
    });
    let toolset = Toolset {
        default_config: DefaultConfig { enabled: true, permission_policy: Policy::AlwaysAllow },
        configs: configs.collect(),
    };
    let mut agent: SessionAgent = serde_json::from_value(json!({
        "type": "agent", "id": "agent_1", "version": 1, "name": "a", "description": null,
        "model": { "id": "m", "effort": null, "speed": "standard", "inference_geo": null },
        "system": null, "tools": [], "mcp_servers": [], "skills": [], "multiagent": null,
        "execution_identity": { "type": "service_account" },
    }))
    .unwrap();
    agent.tools = vec![Tool::Toolset(toolset)];
    Standpoint {
        session: "sesn_1".into(),
        workspace: "wrkspc_1".into(),
        vaults: Vec::new().into(),
        agent: agent.into(),
        networking,
    }
}

fn limited(hosts: &[&str]) -> Networking {
    Networking::Limited {
        allowed_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        allow_mcp_servers: true,
        allow_package_managers: true,
    }
}

fn call(input: &str) -> ToolCall {
    ToolCall {
        session: "sesn_1".into(),
        thread: "sthr_1".into(),
        call: "sevt_1".into(),
        name: "web_search".into(),
        input: RawValue::from_string(input.to_owned()).unwrap().into(),
    }
}

fn shown(url: &str, note: Option<&str>) -> Shown {
    Shown { url: url.to_owned(), note: note.map(str::to_owned) }
}

fn text(outcome: &ToolOutcome) -> &str {
    assert_eq!(outcome.content.as_array().map(Vec::len), Some(1), "{outcome:?}");
    outcome.content[0]["text"].as_str().unwrap()
}

#[tokio::test]
async fn a_page_is_a_document_with_a_note_before_it() {
    let (address, _serving) = peer("text/plain", "Hello.").await;
    let (web, from) = (web(address, false), standpoint(None, Networking::Unrestricted));
    let page = web.fetch(&from, &call("{}"), &shown("http://docs.example/x", None)).await;
    let document = json!({
        "type": "document",
        "source": { "type": "text", "media_type": "text/plain", "data": "Hello." },
        "title": null,
        "context": null,
    });
    let expected = ToolOutcome { content: json!([document]), ..ToolOutcome::default() };
    assert_eq!(page, expected);
    let note = "Note: fetched http://docs.example/x, not the URL you gave.";
    let near = web.fetch(&from, &call("{}"), &shown("http://docs.example/x", Some(note))).await;
    assert_eq!(near.content, json!([{ "type": "text", "text": note }, document]));
    assert_eq!((near.is_error, near.searches), (false, 0), "a fetch is not counted");
}

#[tokio::test]
async fn a_page_fits_into_a_block_of_the_api() {
    let from = standpoint(None, Networking::Unrestricted);
    let long = format!("<title>{}</title>x", "ü".repeat(600));
    let (address, _serving) = peer("text/html; charset=utf-8", &long).await;
    let page =
        web(address, false).fetch(&from, &call("{}"), &shown("http://docs.example/x", None)).await;
    assert_eq!(page.content[0]["title"], "ü".repeat(500));
    let (address, _serving) = peer("text/html", "<script>run()</script> ").await;
    let empty =
        web(address, false).fetch(&from, &call("{}"), &shown("http://docs.example/x", None)).await;
    assert_eq!(text(&empty), "The page was fetched, and has no text.");
}

#[tokio::test]
async fn a_pdf_comes_as_such() {
    let (address, _serving) = peer("application/pdf", "%PDF-1.4 x").await;
    let (web, from) = (web(address, false), standpoint(None, Networking::Unrestricted));
    let page = web.fetch(&from, &call("{}"), &shown("http://docs.example/x.pdf", None)).await;
    assert_eq!(
        page.content[0]["source"],
        json!({ "type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQgeA==" })
    );
}

#[tokio::test]
async fn the_lists_of_agent_and_environment_hold_for_pages() {
    let (address, _serving) = peer("text/plain", &"long ".repeat(1000)).await;
    let web = web(address, false);
    let options = |options| Some((ToolName::WebFetch, ToolOptions::Fetch(options)));
    let only = FetchOptions {
        allowed_domains: Some(vec!["other.example".to_owned()]),
        ..FetchOptions::default()
    };
    let not = FetchOptions {
        blocked_domains: Some(vec!["docs.example".to_owned()]),
        ..FetchOptions::default()
    };
    for (from, said) in [
        (
            standpoint(options(only), Networking::Unrestricted),
            "Web fetch error: url_not_allowed — ",
        ),
        (standpoint(options(not), Networking::Unrestricted), "Web fetch error: url_not_allowed — "),
        (standpoint(None, limited(&["other.example"])), "Web fetch error: url_not_allowed — "),
        (
            standpoint(None, limited(&[])),
            "Web fetch error: url_not_allowed — this session's environment allows no web hosts, so \
             no URL can be fetched. Do not retry; tell the user that web_fetch needs hosts in the \
             environment's allowed_hosts.",
        ),
    ] {
        let page = web.fetch(&from, &call("{}"), &shown("http://docs.example/", None)).await;
        assert!(page.is_error && text(&page).starts_with(said), "{page:?}");
    }
    let short = FetchOptions { max_content_tokens: Some(10), ..FetchOptions::default() };
    let from = standpoint(options(short), limited(&["docs.example"]));
    let page = web.fetch(&from, &call("{}"), &shown("http://docs.example/", None)).await;
    let data = page.content[0]["source"]["data"].as_str().unwrap();
    assert!(data.starts_with("long long") && data.len() < 1000, "{data}");
    let odd = web.fetch(&from, &call("{}"), &shown("nowhere", None)).await;
    assert!(text(&odd).starts_with("Web fetch error: invalid_tool_input — "), "{odd:?}");
}

#[tokio::test]
async fn what_is_found_are_search_results_that_count() {
    let answer = json!({ "results": [
        { "url": "https://docs.example/", "title": "Docs", "content": "What they say." },
        { "url": "https://other.example/", "title": "Other" },
    ] });
    let (address, _serving) = peer("application/json", &answer.to_string()).await;
    let web = web(address, true);
    let from = standpoint(None, Networking::Unrestricted);
    let found = web.search(&from, &call(r#"{"query":"docs"}"#)).await;
    let hit = |url: &str, title: &str, text: &str| {
        json!({
            "type": "search_result",
            "source": url,
            "title": title,
            "content": [{ "type": "text", "text": text }],
            "citations": { "enabled": true },
        })
    };
    let docs = hit("https://docs.example/", "Docs", "What they say.");
    let other = hit("https://other.example/", "Other", "Other");
    let content = json!([docs, other]);
    assert_eq!(found, ToolOutcome { content, searches: 1, ..ToolOutcome::default() });

    let options = SearchOptions {
        allowed_domains: Some(vec!["docs.example".to_owned()]),
        user_location: Some(UserLocation {
            city: Some("Rome".to_owned()),
            ..UserLocation::default()
        }),
        ..SearchOptions::default()
    };
    let set = Some((ToolName::WebSearch, ToolOptions::Search(options)));
    let from = standpoint(set, Networking::Unrestricted);
    let found = web.search(&from, &call(r#"{"query":"docs"}"#)).await;
    assert_eq!(found.content, json!([docs]));

    let from = standpoint(None, limited(&["elsewhere.example.com"]));
    let none = web.search(&from, &call(r#"{"query":"docs"}"#)).await;
    assert!(text(&none).starts_with("Nothing was found"), "{none:?}");
    assert_eq!((none.is_error, none.searches), (false, 1));
}

#[tokio::test]
async fn a_search_that_is_none_is_an_error_that_does_not_count() {
    let (address, _serving) = peer("text/html", "<html>").await;
    let from = standpoint(None, Networking::Unrestricted);
    let ask = async |web: Web, from: &Standpoint, input: &str| {
        let outcome = web.search(from, &call(input)).await;
        assert_eq!((outcome.is_error, outcome.searches), (true, 0), "{outcome:?}");
        text(&outcome).to_owned()
    };
    for input in ["{}", "{\"query\":7}", "{\"query\":[\"a\"]}", "[]", "null", "{\"query\":\"\"}"] {
        let said = ask(web(address, true), &from, input).await;
        assert!(said.starts_with("Web search error: invalid_tool_input — "), "{input}: {said}");
    }
    let query = r#"{"query":"docs"}"#;
    let said = ask(web(address, true), &from, query).await;
    assert!(said.starts_with("Web search error: unavailable — "), "{said}");
    let said = ask(web(address, false), &from, query).await;
    assert!(said.contains("[web.search]"), "{said}");
    let said = ask(web(address, true), &standpoint(None, limited(&["db.internal"])), query).await;
    assert_eq!(
        said,
        "Web search error: url_not_allowed — no host in this session's environment (its \
         allowed_hosts) can be searched: the list is empty or holds only local, private or internal \
         names. Do not retry; tell the user that web_search needs public host names in the \
         environment's allowed_hosts."
    );
}
