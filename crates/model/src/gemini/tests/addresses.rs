//! Where requests go, what opens the door, and what a list of models says.

use bytes::Bytes;

use crate::{
    Body, Catalog, Credential, ListedModel, Thinking, gemini::GenerateContent, wire::Wire as _,
};

fn path(model: &str) -> String {
    let body = Body { model: model.to_owned(), ..Body::default() };
    GenerateContent.target(&body).path.into_owned()
}

#[test]
fn a_models_name_stands_escaped_in_the_path() {
    let plain = "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse";
    assert_eq!(path("gemini-3.8-flash"), plain);
    assert_eq!(path("models/gemini-3.8-flash"), plain);
    assert_eq!(
        path("../a b?c#d:e\u{e9}"),
        "/v1beta/models/..%2Fa%20b%3Fc%23d%3Ae%C3%A9:streamGenerateContent?alt=sse"
    );
}

#[test]
fn keys_and_tokens_have_their_headers() {
    let key = GenerateContent.credential(&Credential::ApiKey("k".into()));
    assert_eq!((key.0.as_str(), key.1.as_str()), ("x-goog-api-key", "k"));
    let token = GenerateContent.credential(&Credential::Token("t".into()));
    assert_eq!((token.0.as_str(), token.1.as_str()), ("authorization", "Bearer t"));
}

#[test]
fn a_list_of_models_has_pages() {
    assert_eq!(GenerateContent.listing().path, "/v1beta/models?pageSize=1000");
    let listed = |json: &'static str| GenerateContent.listed(&Bytes::from_static(json.as_bytes()));
    let page = listed(
        r#"{"models":[
            {"name":"models/gemini-3.8-flash","version":"3.8","displayName":"Gemini 3.8 Flash","description":"d","inputTokenLimit":1048576,"outputTokenLimit":65536,"supportedGenerationMethods":["generateContent","countTokens"],"thinking":true},
            {"name":"models/gemini-embedding-2","supportedGenerationMethods":["embedContent"]},
            {"name":"models/bare"}
        ],"nextPageToken":"a+b/="}"#,
    )
    .unwrap();
    let flash = ListedModel {
        id: "gemini-3.8-flash".into(),
        display_name: Some("Gemini 3.8 Flash".into()),
        created: None,
        window: Some(1_048_576),
        max_output: Some(65_536),
    };
    let bare = ListedModel { id: "bare".into(), ..ListedModel::default() };
    assert_eq!(page.models, [flash, bare]);
    assert_eq!(page.next.as_deref(), Some("/v1beta/models?pageSize=1000&pageToken=a%2Bb%2F%3D"));
    assert_eq!(listed(r#"{"models":[],"nextPageToken":""}"#).unwrap().next, None);
    assert_eq!(listed("{}").unwrap().models, []);
    assert!(listed("<html>").is_none());
}

#[test]
fn the_table_describes_the_models() {
    let catalog = Catalog::built_in();
    let ours: Vec<&str> = catalog.names().filter(|name| name.starts_with("gemini-")).collect();
    assert!(ours.contains(&"gemini-3.8-flash") && ours.len() >= 6, "{ours:?}");
    for name in ours {
        let spec = catalog.spec(name).unwrap();
        assert!(spec.max_output.unwrap() < spec.window, "{name}");
        assert!(spec.prices.is_some() && !spec.fast, "{name}");
        assert!(spec.efforts.is_sorted(), "{name}");
        assert!(spec.default_effort.is_none_or(|effort| spec.efforts.contains(&effort)), "{name}");
        let old = name.starts_with("gemini-2");
        assert_eq!(
            spec.thinking,
            if old { Thinking::Budget } else { Thinking::Adaptive },
            "{name}"
        );
        assert_eq!(spec.efforts.is_empty(), old, "{name}");
    }
}
