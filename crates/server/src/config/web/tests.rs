//! What of `[web]` is read, what is refused, and where keys go.

use std::{collections::BTreeMap, time::Duration};

use reqwest::header::HeaderValue;
use secrecy::ExposeSecret as _;

use super::*;

const KEY: &str = "sekrit-key-42";

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Web, String> {
    let entry: WebEntry = toml::from_str(text).map_err(|error| error.to_string())?;
    let door = |model: &str| {
        let (wire, model) = match model.split_once('/') {
            Some(("openai", model)) => (WireKind::OpenaiResponses, model),
            Some(("gemini", model)) => (WireKind::Gemini, model),
            Some(_) => return Err("nobody has it".to_owned()),
            None => (WireKind::Anthropic, model),
        };
        let headers = [("x-api-key".parse().unwrap(), HeaderValue::from_static("k"))];
        let headers = headers.into_iter().collect();
        Ok((model.to_owned(), Door { wire, base_url: "https://m.example".into(), headers }))
    };
    let variable = |name: &str| {
        let found = variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    entry.read(&door, &variable).map_err(|error| error.to_string())
}

fn search(text: &str, variables: &[(&str, &str)]) -> Result<search::Settings, String> {
    read(&format!("[search]\n{text}"), variables).map(|web| web.search.unwrap())
}

#[test]
fn nobody_searches_unless_somebody_is_named() {
    let web = read("", &[("BRAVE_API_KEY", KEY), ("TAVILY_API_KEY", KEY)]).unwrap();
    assert!(web.search.is_none());
    assert_eq!(format!("{:?}", web.fetch), format!("{:?}", fetch::Settings::default()));
}

#[test]
fn every_key_is_read() {
    let web = read(
        "[fetch]\nseconds = 5\npage_size = \"1MiB\"\npdf_size = 100\nrobots = false\n\
         user_agent = \"house-reader/2 (x)\"\n[search]\nbackend = \"tavily\"\nresults = 3\n\
         seconds = 7\nbase_url = \"https://t.example/\"\nkey_env = \"MINE\"",
        &[("MINE", " sekrit-key-42\n"), ("TAVILY_API_KEY", "other")],
    );
    let Web { fetch, search } = web.unwrap();
    assert_eq!((fetch.time, fetch.page_bytes), (Duration::from_secs(5), 1 << 20));
    assert_eq!((fetch.pdf_bytes, fetch.robots), (100, false));
    assert_eq!(fetch.user_agent, "house-reader/2 (x)");
    let search = search.unwrap();
    assert_eq!((&search.engine, search.base_url.as_str()), (&Engine::Tavily, "https://t.example/"));
    assert_eq!((search.hits, search.time), (3, Duration::from_secs(7)));
    assert_eq!(search.key.as_ref().unwrap().expose_secret(), KEY);
    assert!(!format!("{search:?}").contains(KEY), "{search:?}");
}

#[test]
fn a_key_goes_to_the_host_that_it_is_for() {
    for (backend, variable, host) in [
        ("brave", "BRAVE_API_KEY", "api.search.brave.com"),
        ("brave", "BRAVE_SEARCH_API_KEY", "api.search.brave.com"),
        ("tavily", "TAVILY_API_KEY", "api.tavily.com"),
        ("serpapi", "SERPAPI_API_KEY", "serpapi.com"),
        ("serpapi", "SERPAPI_KEY", "serpapi.com"),
    ] {
        let text = format!("backend = {backend:?}");
        let found = search(&text, &[(variable, KEY)]).unwrap();
        assert_eq!(found.key.unwrap().expose_secret(), KEY);
        assert_eq!(found.base_url, format!("https://{host}"));
        let error = search(&text, &[]).unwrap_err();
        assert!(error.contains(variable) && error.contains("key_env"), "{error}");
        let elsewhere = format!("{text}\nbase_url = \"https://proxy.example\"");
        assert!(search(&elsewhere, &[(variable, KEY)]).unwrap().key.is_none(), "{backend}");
        let plain = format!("{text}\nbase_url = \"http://{host}\"");
        assert!(search(&plain, &[(variable, KEY)]).unwrap().key.is_none(), "{backend}");
        let named = format!("{elsewhere}\nkey_env = {variable:?}");
        assert!(search(&named, &[(variable, KEY)]).unwrap().key.is_some(), "{backend}");
    }
}

#[test]
fn a_model_searches_by_its_provider() {
    let found = search("backend = \"model\"\nmodel = \"claude-x\"", &[]).unwrap();
    assert_eq!(found.engine, Engine::Messages { model: "claude-x".to_owned() });
    assert_eq!(found.base_url, "https://m.example");
    assert_eq!(found.headers["x-api-key"], "k");
    let found = search("backend = \"model\"\nmodel = \"openai/gpt-x\"", &[]).unwrap();
    assert_eq!(found.engine, Engine::Responses { model: "gpt-x".to_owned() });
}

#[test]
fn a_bad_value_is_named_with_its_key_and_what_would_be_right() {
    let keys = [("BRAVE_API_KEY", KEY), ("ODD", "odd\nkey")];
    for (text, key, right) in [
        ("[search]\nbackend = \"duckduckgo\"", "web.search.backend", "\"searxng\""),
        ("[search]\nbackend = 1", "web.search.backend", "\"brave\""),
        ("[search]\nresults = 1", "web.search.backend", "is missing"),
        ("[search]\nbackend = \"brave\"\nresults = 11", "web.search.results", "1 to 10"),
        ("[search]\nbackend = \"brave\"\nresults = 0", "web.search.results", "at least 1"),
        ("[search]\nbackend = \"brave\"\nseconds = 0", "web.search.seconds", "from 1"),
        ("[search]\nbackend = \"brave\"\nmodel = \"m\"", "web.search.model", "leave it out"),
        ("[search]\nbackend = \"brave\"\nbase_url = 1", "web.search.base_url", "https://"),
        ("[search]\nbackend = \"brave\"\nbase_url = \"x\"", "web.search.base_url", "https URL"),
        (
            "[search]\nbackend = \"brave\"\nbase_url = \"https://u:p@a.example\"",
            "web.search.base_url",
            "without a user",
        ),
        ("[search]\nbackend = \"brave\"\nkey_env = \"a b\"", "web.search.key_env", "BRAVE_API_KEY"),
        ("[search]\nbackend = \"brave\"\nkey_env = \"NONE\"", "NONE is not set", "key_env"),
        ("[search]\nbackend = \"brave\"\nkey_env = \"ODD\"", "web.search.key_env", "no header"),
        ("[search]\nbackend = \"searxng\"", "web.search.base_url", "where the instance is"),
        (
            "[search]\nbackend = \"searxng\"\nbase_url = \"https://s.example\"\nkey_env = \"A\"",
            "web.search.key_env",
            "leave it out",
        ),
        ("[search]\nbackend = \"model\"", "web.search.model", "claude-"),
        ("[search]\nbackend = \"model\"\nmodel = 1", "web.search.model", "claude-"),
        ("[search]\nbackend = \"model\"\nmodel = \"x/y\"", "web.search.model", "nobody has it"),
        ("[search]\nbackend = \"model\"\nmodel = \"gemini/x\"", "web.search.model", "anthropic"),
        (
            "[search]\nbackend = \"model\"\nmodel = \"m\"\nkey_env = \"A\"",
            "web.search.key_env",
            "leave it out",
        ),
        ("[fetch]\nseconds = \"x\"", "web.fetch.seconds", "from 1"),
        ("[fetch]\npage_size = 0", "web.fetch.page_size", "more than 0"),
        ("[fetch]\npage_size = \"1GiB\"", "web.fetch.page_size", "100MiB"),
        ("[fetch]\npdf_size = \"1GiB\"", "web.fetch.pdf_size", "20MiB"),
        ("[fetch]\nrobots = 1", "web.fetch.robots", "true or false"),
        ("[fetch]\nuser_agent = \"\"", "web.fetch.user_agent", "our-reader"),
        ("[fetch]\nuser_agent = \"a\\nb\"", "web.fetch.user_agent", "our-reader"),
        ("[fetch]\ncolour = 1", "colour", "robots"),
        ("[search]\ncolour = 1", "colour", "backend"),
        ("colour = 1", "colour", "search"),
    ] {
        let error = read(text, &keys).map(drop).unwrap_err();
        assert!(error.contains(key) && error.contains(right), "{text}: {error}");
        assert!(!error.contains(KEY) && !error.contains("odd"), "{error}");
    }
}

#[test]
fn every_key_stands_in_the_document_with_its_default() {
    let document = include_str!("../../../../../docs/CONFIGURATION.md");
    let rows: BTreeMap<&str, &str> = document
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let key = cells.get(1)?.strip_prefix("`web.")?.strip_suffix('`')?;
            Some((key, cells.get(4)?.trim_matches('`')))
        })
        .collect();
    let mut keys = Vec::new();
    for table in ["search", "fetch"] {
        let refusal = read(&format!("[{table}]\nno_such = 1"), &[]).map(drop).unwrap_err();
        let names = refusal.split("expected").nth(1).unwrap().split('`').skip(1).step_by(2);
        keys.extend(names.map(|name| format!("{table}.{name}")));
    }
    assert_eq!(keys.len(), 11, "{keys:?}");
    assert_eq!(rows.len(), keys.len(), "the document has keys that are not read");
    let default = |key: &str| rows.get(key).copied().unwrap_or_else(|| panic!("{key} is missing"));
    for key in &keys {
        default(key);
    }
    let written = format!(
        "[fetch]\nseconds = {}\npage_size = \"{}\"\npdf_size = {}\nrobots = {}\n[search]\n\
         backend = \"brave\"\nresults = {}\nseconds = {}",
        default("fetch.seconds"),
        default("fetch.page_size"),
        default("fetch.pdf_size"),
        default("fetch.robots"),
        default("search.results"),
        default("search.seconds"),
    );
    let web = read(&written, &[("BRAVE_API_KEY", KEY)]).unwrap();
    assert_eq!(format!("{:?}", web.fetch), format!("{:?}", fetch::Settings::default()));
    let usual = search("backend = \"brave\"", &[("BRAVE_API_KEY", KEY)]).unwrap();
    assert_eq!(format!("{:?}", web.search), format!("{:?}", Some(usual)));
    assert!(web.fetch.user_agent.starts_with("posthouse-user/"));
    assert!(default("fetch.user_agent").starts_with("posthouse-user/"));
}
