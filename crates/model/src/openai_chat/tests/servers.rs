//! Which server is which, and what it lists.

use reqwest::{Url, header::AUTHORIZATION};

use crate::{
    Credential, Remote, Settings, SetupError, WireKind,
    openai_chat::{self, servers},
};

fn at(url: &str) -> &'static str {
    servers::at(&Url::parse(url).unwrap()).0.name
}

#[test]
fn servers_are_known_by_their_address() {
    assert_eq!(at("https://api.openai.com/v1"), "openai");
    assert_eq!(at("https://eu.api.openai.com/v1"), "openai");
    assert_eq!(at("https://openrouter.ai/api/v1"), "openrouter");
    assert_eq!(at("https://me.openai.azure.com/openai/v1"), "azure");
    assert_eq!(at("https://us-central1-aiplatform.googleapis.com/v1"), "gemini");
    assert_eq!(at("http://127.0.0.1:11434/v1"), "ollama");
    assert_eq!(at("http://[::1]:8080/v1"), "llama.cpp");
    // A port says nothing on the internet, and a name that only ends alike is another's.
    assert_eq!(at("https://example.com:11434/v1"), "unknown");
    assert_eq!(at("https://notapi.openai.com.example/v1"), "unknown");
    assert_eq!(at("https://fake-openrouter.ai/v1"), "unknown");
    assert_eq!(at("http://127.0.0.1:4000/v1"), "unknown");
}

#[test]
fn every_server_can_be_named_and_no_other() {
    let names: Vec<&str> = openai_chat::servers().collect();
    let url = Url::parse("https://api.openai.com/v1").unwrap();
    for name in &names {
        assert_eq!(names.iter().filter(|other| other == &name).count(), 1, "{name}");
        assert_eq!(servers::named(name).unwrap().0.name, *name);
        assert!(WireKind::OpenaiChat.wire_at(&url, Some(name)).is_some());
    }
    assert_eq!(names.last(), Some(&"unknown"));
    assert!(WireKind::OpenaiChat.wire_at(&url, Some("nobody")).is_none());
    assert!(WireKind::Anthropic.wire_at(&url, Some("openai")).is_none());
    assert!(WireKind::Anthropic.wire_at(&url, None).is_some());

    let mut settings = Settings::new("mine", WireKind::OpenaiChat, None);
    settings.server = Some("nobody".to_owned());
    let error = Remote::new(settings.clone()).unwrap_err();
    assert!(matches!(error, SetupError::Server { .. }));
    assert!(error.to_string().contains("knows openai, openrouter, groq"), "{error}");
    settings.wire = WireKind::Anthropic;
    let error = Remote::new(settings).unwrap_err();
    assert!(error.to_string().ends_with("its kind knows none"), "{error}");
}

#[test]
fn keys_are_sent_as_the_server_wants_them() {
    let sent = |url: &str, credential: &Credential| {
        let url = Url::parse(url).unwrap();
        let wire = WireKind::OpenaiChat.wire_at(&url, None).unwrap();
        let (name, value) = wire.credential(credential);
        (name.to_string(), value)
    };
    let (key, token) = (Credential::ApiKey("k".into()), Credential::Token("t".into()));
    let bearer = |secret: &str| (AUTHORIZATION.to_string(), format!("Bearer {secret}"));
    assert_eq!(sent("https://api.openai.com/v1", &key), bearer("k"));
    let azure = "https://me.openai.azure.com/openai/v1";
    assert_eq!(sent(azure, &key), ("api-key".to_owned(), "k".to_owned()));
    assert_eq!(sent(azure, &token), bearer("t"));
}

#[test]
fn lists_of_many_shapes_are_read() {
    let listed = |json: &str| {
        let models = openai_chat::listed(json.as_bytes()).unwrap().models.into_iter();
        models
            .map(|model| {
                (model.id, model.display_name, model.created, model.window, model.max_output)
            })
            .collect::<Vec<_>>()
    };
    let plain = |id: &str| (id.to_owned(), None, None, None, None);
    assert_eq!(
        listed(
            r#"{"object":"list","data":[{"id":"gpt-4.1","object":"model","created":1744316542,"owned_by":"system"},{"id":"x","created":null},{"no":"id"}]}"#
        ),
        [("gpt-4.1".to_owned(), None, Some(1_744_316_542), None, None), plain("x")]
    );
    // OpenRouter, Groq, Mistral, vLLM, llama.cpp, Gemini.
    assert_eq!(
        listed(
            r#"{"data":[
            {"id":"a/b","name":"A: B","created":1.5,"context_length":1000,"top_provider":{"context_length":900,"max_completion_tokens":100}},
            {"id":"g","context_window":131072,"max_completion_tokens":65536,"active":true},
            {"id":"old","active":false},
            {"id":"m","max_context_length":262144,"capabilities":{"completion_chat":true},"name":null},
            {"id":"m-embed","capabilities":{"completion_chat":false}},
            {"id":"v","max_model_len":4096},
            {"id":"l","meta":{"n_ctx_train":32768}},
            {"id":"models/gemini-3-flash"}]}"#
        ),
        [
            ("a/b".to_owned(), Some("A: B".to_owned()), Some(1), Some(1_000), Some(100)),
            ("g".to_owned(), None, None, Some(131_072), Some(65_536)),
            ("m".to_owned(), None, None, Some(262_144), None),
            ("v".to_owned(), None, None, Some(4_096), None),
            ("l".to_owned(), None, None, Some(32_768), None),
            plain("gemini-3-flash"),
        ]
    );
    // Together: no page around it, and models that don't chat.
    assert_eq!(
        listed(
            r#"[{"id":"t","type":"chat","display_name":"T","context_length":0},{"id":"flux","type":"image"}]"#
        ),
        [("t".to_owned(), Some("T".to_owned()), None, None, None)]
    );
    assert!(openai_chat::listed(b"{}").is_none());
    assert!(openai_chat::listed(b"<html>").is_none());
}
