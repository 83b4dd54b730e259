//! `openapi.json`: up to date, and about every route there is.

use std::{collections::BTreeSet, path::Path};

use posthouse::{api, openapi};
use serde_json::Value;

#[test]
fn the_committed_description_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == openapi::render(),
        "openapi.json is stale; run: cargo run -- openapi > openapi.json"
    );
}

#[test]
fn every_route_is_described() {
    assert_eq!(openapi::mismatches(), [""; 0]);
    let document = openapi::document();
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let routes = api::routes();
    let routes = routes.iter().map(|route| format!("{} {}", route.method, route.shown_path()));
    assert_eq!(described, routes.collect());
}

#[test]
fn an_idempotency_key_is_described_where_an_answer_is_kept_and_nowhere_else() {
    let document = openapi::document();
    let takes = |path: &str| {
        let parameters = document["paths"][path]["post"]["parameters"].as_array().unwrap();
        parameters.iter().any(|one| one["name"] == "Idempotency-Key")
    };
    for (path, expected) in [
        ("/v1/agents", true),
        ("/v1/files", true),
        ("/v1/sessions/{session}/events", true),
        ("/posthouse/v1/workspaces", true),
        ("/posthouse/v1/keys", false),
        ("/posthouse/v1/sandboxes/{session}/kill", false),
        ("/posthouse/v1/keys/{key}/revoke", false),
        ("/posthouse/v1/root_key/rotate", false),
    ] {
        assert_eq!(takes(path), expected, "{path}");
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(value: &Value, document: &Value, seen: &mut usize) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(place)) = members.get("$ref") {
                    let place = place.strip_prefix('#').unwrap();
                    assert!(document.pointer(place).is_some_and(Value::is_object), "{place}");
                    *seen += 1;
                }
                members.values().for_each(|member| walk(member, document, seen));
            }
            Value::Array(entries) => entries.iter().for_each(|entry| walk(entry, document, seen)),
            _ => {}
        }
    }
    let (document, mut seen) = (openapi::document(), 0);
    walk(&document, &document, &mut seen);
    assert!(seen > 100, "only {seen} references were found");
}
