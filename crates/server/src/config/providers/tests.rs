//! Tests of which providers there are, where they are and which keys they get.

use std::{collections::BTreeMap, net::SocketAddr};

use posthouse_model::{Catalog, Credential, WireKind};

use super::{Planned, ProviderEntry, ollama_address, plan, read, refuse_itself};

fn entries(text: &str) -> BTreeMap<String, ProviderEntry> {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn planned(text: &str, variables: &[(&str, &str)]) -> Vec<Planned> {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    plan(&entries(text), &|name: &str| variables.get(name).map(|value| (*value).to_owned()))
}

/// One as a line: name, kind, address, and the key that goes there.
fn line(planned: &Planned) -> String {
    let key = match &planned.settings.credential {
        None => "-",
        Some(Credential::ApiKey(key) | Credential::Token(key)) => key,
    };
    let settings = &planned.settings;
    format!("{} {} {} {key}", settings.name, settings.wire.as_str(), settings.base_url)
}

fn lines(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    planned(text, variables).iter().map(line).collect()
}

fn refusal(text: &str, variables: &[(&str, &str)], discover: bool) -> String {
    built(text, variables, discover).unwrap_err()
}

fn built(text: &str, variables: &[(&str, &str)], discover: bool) -> Result<Vec<String>, String> {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    let listen = SocketAddr::from(([127, 0, 0, 1], 8787));
    let read = read(&entries(text), discover, Catalog::built_in(), listen, &|name: &str| {
        variables.get(name).map(|value| (*value).to_owned())
    });
    let providers = read.map_err(|error| error.with_causes())?;
    Ok(providers.names().into_iter().map(str::to_owned).collect())
}

#[test]
fn every_services_variables_make_a_provider_at_its_own_address() {
    for (variable, expected) in [
        ("ANTHROPIC_API_KEY", "anthropic anthropic https://api.anthropic.com"),
        ("ANTHROPIC_AUTH_TOKEN", "anthropic anthropic https://api.anthropic.com"),
        ("OPENAI_API_KEY", "openai openai_responses https://api.openai.com/v1"),
        ("GEMINI_API_KEY", "gemini gemini https://generativelanguage.googleapis.com"),
        ("GOOGLE_API_KEY", "gemini gemini https://generativelanguage.googleapis.com"),
        ("OPENROUTER_API_KEY", "openrouter openai_chat https://openrouter.ai/api/v1"),
        ("GROQ_API_KEY", "groq openai_chat https://api.groq.com/openai/v1"),
        ("MISTRAL_API_KEY", "mistral openai_chat https://api.mistral.ai/v1"),
        ("DEEPSEEK_API_KEY", "deepseek openai_chat https://api.deepseek.com"),
        ("XAI_API_KEY", "xai openai_chat https://api.x.ai/v1"),
    ] {
        assert_eq!(lines("", &[(variable, " k ")]), [format!("{expected} k")]);
        assert!(lines("", &[(variable, "  ")]).is_empty());
    }
    for (variable, address, name) in [
        ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "anthropic anthropic"),
        ("OPENAI_API_KEY", "OPENAI_BASE_URL", "openai openai_responses"),
        ("GEMINI_API_KEY", "GEMINI_BASE_URL", "gemini gemini"),
        ("GEMINI_API_KEY", "GOOGLE_GEMINI_BASE_URL", "gemini gemini"),
    ] {
        let elsewhere = [(variable, "k"), (address, "http://10.0.0.1/x")];
        assert_eq!(lines("", &elsewhere), [format!("{name} http://10.0.0.1/x k")]);
        assert!(lines("", &elsewhere[1..]).is_empty(), "an address without a key is nothing");
        let empty = lines("", &[(variable, "k"), (address, " ")]);
        assert_eq!(empty, lines("", &[(variable, "k")]), "an empty address is none");
    }
}

#[test]
fn of_two_keys_the_one_wins_that_the_services_sdk_takes() {
    let both = [("ANTHROPIC_API_KEY", "k"), ("ANTHROPIC_AUTH_TOKEN", "t")];
    let anthropic = planned("", &both).remove(0);
    assert_eq!(anthropic.settings.credential, Some(Credential::ApiKey("k".into())));
    let token = planned("", &both[1..]).remove(0);
    assert_eq!(token.settings.credential, Some(Credential::Token("t".into())));
    let gemini = planned("", &[("GEMINI_API_KEY", "a"), ("GOOGLE_API_KEY", "b")]).remove(0);
    assert_eq!(gemini.variable.as_deref(), Some("GOOGLE_API_KEY"));
}

#[test]
fn an_entry_replaces_the_provider_of_its_name() {
    let keys = [("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "http://10.0.0.1/v1")];
    assert_eq!(
        lines("[openai]\nkind = \"openai_chat\"", &keys),
        ["openai openai_chat http://10.0.0.1/v1 k"]
    );
    assert_eq!(
        lines("[groq]\nkind = \"openai_responses\"", &[("GROQ_API_KEY", "k")]),
        ["groq openai_responses https://api.groq.com/openai/v1 k"]
    );
    let text = "[openai]\nkind = \"openai_responses\"\nbase_url = \"http://10.0.0.2/v1\"";
    let planned = lines(text, &[("OPENAI_API_KEY", "k"), ("ANTHROPIC_API_KEY", "a")]);
    let anthropic = "anthropic anthropic https://api.anthropic.com a";
    assert_eq!(planned, ["openai openai_responses http://10.0.0.2/v1 -", anthropic]);
}

#[test]
fn a_key_goes_nowhere_but_to_its_service_unless_it_is_named() {
    let keys = [("ANTHROPIC_API_KEY", "a"), ("OPENAI_API_KEY", "o"), ("MINE", "m")];
    let at = |text: &str| lines(text, &keys).remove(0);
    let elsewhere = "[mine]\nkind = \"anthropic\"\nbase_url = \"https://elsewhere.test\"\n";
    assert_eq!(at(elsewhere), "mine anthropic https://elsewhere.test -");
    let named = format!("{elsewhere}api_key_env = \"MINE\"");
    assert_eq!(at(&named), "mine anthropic https://elsewhere.test m");
    let unset = format!("{elsewhere}api_key_env = \"UNSET\"");
    assert_eq!(at(&unset), "mine anthropic https://elsewhere.test -");
    assert_eq!(at("[mine]\nkind = \"anthropic\""), "mine anthropic https://api.anthropic.com a");
    let chat = "[mine]\nkind = \"openai_chat\"\nbase_url = \"https://api.openai.com/v1\"";
    assert_eq!(at(chat), "mine openai_chat https://api.openai.com/v1 o");
    // What merely looks like a service's address is none.
    for near in [
        "https://api.openai.com.test/v1",
        "http://api.openai.com/v1",
        "https://api.openai.com:8443/v1",
        "https://api.openai.com@elsewhere.test/v1",
    ] {
        let text = format!("[mine]\nkind = \"openai_chat\"\nbase_url = \"{near}\"");
        assert_eq!(at(&text), format!("mine openai_chat {near} -"));
    }
}

#[test]
fn what_goes_beside_a_key_goes_with_it_alone() {
    let keys = [("OPENAI_API_KEY", "k"), ("OPENAI_ORG_ID", "org"), ("OPENAI_PROJECT_ID", "p")];
    let openai = planned("", &keys).remove(0);
    assert_eq!(openai.settings.headers["openai-organization"], "org");
    assert_eq!(openai.settings.headers["openai-project"], "p");
    assert!(!format!("{:?}", openai.settings).contains("org\""), "{:?}", openai.settings);
    let text = "[openai]\nkind = \"openai_chat\"\nbase_url = \"http://10.0.0.1/v1\"";
    assert!(planned(text, &keys)[0].settings.headers.is_empty());
    let empty = planned("", &[keys[0], ("OPENAI_ORG_ID", " ")]);
    assert!(empty[0].settings.headers.is_empty(), "an empty variable is none");
}

#[test]
fn a_service_without_its_key_is_refused_at_start() {
    for (text, variable) in [
        ("[a]\nkind = \"anthropic\"", "ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN"),
        ("[a]\nkind = \"openai_responses\"", "OPENAI_API_KEY"),
        ("[a]\nkind = \"gemini\"", "GOOGLE_API_KEY or GEMINI_API_KEY"),
        ("[groq]\nkind = \"openai_chat\"", "GROQ_API_KEY"),
        ("[a]\nkind = \"gemini\"\napi_key_env = \"MINE\"", "MINE"),
    ] {
        let refusal = refusal(text, &[], false);
        assert!(refusal.contains(&format!("the variable {variable} is not set")), "{refusal}");
    }
    let near = "[near]\nkind = \"openai_chat\"\nbase_url = \"http://127.0.0.1:1/v1\"\n\
                api_key_env = \"LOCAL_KEY\"";
    assert_eq!(built(near, &[], false).unwrap(), ["near"]);
}

#[test]
fn what_can_not_be_meant_is_refused() {
    let key = [("ANTHROPIC_API_KEY", "k")];
    for (text, word) in [
        ("[\"a/b\"]\nkind = \"anthropic\"", "without a slash"),
        ("[a]\nkind = \"anthropic\"\nserver = \"vllm\"", "providers.a.server"),
        ("[a]\nkind = \"openai_chat\"\nbase_url = \"http://a.test\"\nserver = \"vlm\"", "vllm"),
        ("[a]\nkind = \"anthropic\"\nbase_url = \"ftp://x\"", "providers.a.base_url"),
        ("[a]\nkind = \"openai_chat\"\nbase_url = \"http://127.0.0.1:8787/v1\"", "itself"),
    ] {
        let refusal = refusal(text, &key, false);
        assert!(refusal.contains(word), "{text}: {refusal}");
    }
    let unsendable = refusal("", &[("OPENAI_API_KEY", "a\u{1}b")], false);
    assert!(unsendable.contains("OPENAI_API_KEY: ") && !unsendable.contains("a\u{1}b"));
    let itself = [key[0], ("ANTHROPIC_BASE_URL", "http://127.0.0.1:8787/")];
    let refusal = refusal("", &itself, false);
    assert!(refusal.contains("ANTHROPIC_BASE_URL") && refusal.contains("itself"), "{refusal}");
    // Whoever listens on all addresses is at those of loopback, too.
    for (listen, base_url, is_itself) in [
        ("0.0.0.0:8787", "http://127.0.0.1:8787/v1", true),
        ("[::]:8787", "http://[::1]:8787", true),
        ("0.0.0.0:8787", "http://127.0.0.1:8788", false),
        ("10.0.0.1:8787", "http://127.0.0.1:8787", false),
    ] {
        let refused = refuse_itself(base_url, listen.parse().unwrap(), "x").is_err();
        assert_eq!(refused, is_itself, "{listen} {base_url}");
    }
}

#[test]
fn an_ollama_is_looked_for_where_its_variable_says() {
    for (text, expected) in [
        ("", "http://127.0.0.1:11434/v1"),
        ("127.0.0.1", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080/v1"),
        (":8080", "http://127.0.0.1:8080/v1"),
        ("[::]:8080", "http://[::1]:8080/v1"),
        ("::1", "http://[::1]:11434/v1"),
        ("[::1]", "http://[::1]:11434/v1"),
        (" \"big.test:99\" ", "http://big.test:99/v1"),
        ("big.test", "http://big.test:11434/v1"),
        ("http://big.test/", "http://big.test/v1"),
        ("https://big.test", "https://big.test/v1"),
        ("https://big.test:8443", "https://big.test:8443/v1"),
    ] {
        assert_eq!(ollama_address(text).unwrap(), expected, "{text}");
    }
    for text in ["big.test:port", "ftp://big.test", "a b"] {
        let refusal = ollama_address(text).unwrap_err().to_string();
        assert!(refusal.contains("OLLAMA_HOST") && refusal.contains("discover_ollama"), "{text}");
        let variables = [("OLLAMA_HOST", text)];
        assert!(built("", &variables, false).is_ok(), "nobody looks");
        let own = "[ollama]\nkind = \"openai_chat\"\nbase_url = \"http://127.0.0.1:1/v1\"";
        assert_eq!(built(own, &variables, true).unwrap(), ["ollama"]);
    }
    assert!(built("", &[], true).unwrap().is_empty(), "nobody has looked yet");
}

#[test]
fn what_is_configured_is_listed_without_its_key() {
    let text = "[a]\nkind = \"gemini\"\n[b]\nkind = \"openai_chat\"\nbase_url = \"http://b.test\"";
    let variables = [("GROQ_API_KEY", "k")];
    let listed: Vec<_> = planned(text, &variables).iter().map(Planned::listed).collect();
    let shown: Vec<_> = listed
        .iter()
        .map(|one| (one.name.as_str(), one.variable.as_deref(), one.has_key, one.needs_key))
        .collect();
    let expected = [
        ("a", Some("GOOGLE_API_KEY or GEMINI_API_KEY"), false, true),
        ("b", None, false, false),
        ("groq", Some("GROQ_API_KEY"), true, true),
    ];
    assert_eq!(shown, expected);
    assert_eq!(listed[0].wire, WireKind::Gemini);
}
