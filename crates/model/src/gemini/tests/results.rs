//! What comes back of calls.

use serde_json::{Value, json};

use super::{
    answer,
    rendering::{golden, json as body_of, text},
};
use crate::{
    Item, Request, ToolResult,
    golden::{request, result, user},
};

const IMAGE: &str =
    r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}"#;
const HEIC: &str =
    r#"{"type":"image","source":{"type":"base64","media_type":"image/heic","data":"HA=="}}"#;
const ADDRESS: &str =
    r#"{"type":"image","source":{"type":"url","url":"https://example.com/a.webp"}}"#;
const PDF: &str = r#"{"type":"document","title":"Plan","source":{"type":"base64","media_type":"application/pdf","data":"BA=="}}"#;

fn with(model: &str, results: Vec<ToolResult>) -> Request {
    let calls: Vec<String> = (0..results.len())
        .map(|index| {
            format!(r#"{{"functionCall":{{"name":"lookup","args":{{}},"id":"fc-{index}"}},"thoughtSignature":"cw=="}}"#)
        })
        .collect();
    let calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    let items = vec![user("go"), answer(&calls), Item::ToolResults(results), user("and?")];
    request(model, items)
}

fn contents(request: &Request) -> Vec<Value> {
    body_of(request)["contents"].as_array().unwrap().clone()
}

#[test]
fn new_models_get_images_inside_of_responses() {
    let rich = format!(r#"[{{"type":"text","text":"seen"}},{IMAGE},{PDF}]"#);
    let outside = format!("[{HEIC},{ADDRESS}]");
    let request = with("gemini-3.8-flash", vec![result("fc-0", &rich), result("fc-1", &outside)]);
    golden("rich_results", &request);
    let contents = contents(&request);
    assert_eq!(contents.len(), 4);
    let first = &contents[2]["parts"][0]["functionResponse"];
    assert_eq!(first["response"], json!({"output": "seen\n\nPlan"}));
    assert_eq!(first["parts"].as_array().unwrap().len(), 2);
    assert_eq!(first["parts"][0]["inlineData"]["mimeType"], "image/png");
    // One part for each call, and nothing else beside them.
    assert_eq!(contents[2]["parts"].as_array().unwrap().len(), 2);
    let next = contents[3]["parts"].as_array().unwrap();
    assert_eq!(next[0]["text"], "[From the result of call 2 (lookup):]");
    assert_eq!(next[1]["inlineData"]["mimeType"], "image/heic");
    assert_eq!(next[2]["fileData"]["fileUri"], "https://example.com/a.webp");
    assert_eq!(next[3]["text"], "and?");
}

#[test]
fn old_models_get_them_in_the_next_message() {
    let results = vec![
        result("fc-0", &format!("[{IMAGE}]")),
        result("fc-1", r#"[{"type":"text","text":"x"}]"#),
        result("fc-2", &format!("[{PDF}]")),
    ];
    let request = with("gemini-2.5-flash", results);
    golden("old_model", &request);
    let contents = contents(&request);
    let responses = contents[2]["parts"].as_array().unwrap();
    assert_eq!(responses.len(), 3);
    for response in responses {
        assert_eq!(response["functionResponse"].get("parts"), None);
    }
    let next = contents[3]["parts"].as_array().unwrap();
    assert_eq!(next.len(), 5);
    assert_eq!(next[0]["text"], "[From the result of call 1 (lookup):]");
    assert_eq!(next[2]["text"], "[From the result of call 3 (lookup):]");
    assert_eq!(next[4]["text"], "and?");
}

#[test]
fn errors_and_empty_results_are_told_apart() {
    let mut failed = result("fc-0", r#"[{"type":"text","text":"no"}]"#);
    failed.is_error = true;
    let gif =
        r#"[{"type":"image","source":{"type":"base64","media_type":"image/gif","data":"GA=="}}]"#;
    let request = with("gemini-3.8-flash", vec![failed, result("fc-1", "[]"), result("fc-2", gif)]);
    let contents = contents(&request);
    let response =
        |index: usize| contents[2]["parts"][index]["functionResponse"]["response"].clone();
    assert_eq!(response(0), json!({"error": "no"}));
    assert_eq!(response(1), json!({"output": ""}));
    assert_eq!(
        response(2),
        json!({"output": "[An image of the type image/gif stood here. No model here reads it.]"})
    );
}

#[test]
fn responses_bear_the_names_and_ids_of_their_calls() {
    let blocks = [
        r#"{"functionCall":{"name":"sent_1","id":"fc-1"},"thoughtSignature":"cw=="}"#,
        r#"{"functionCall":{"name":"sent_2"}}"#,
        r#"{"functionCall":{"name":"sent_3","id":""}}"#,
    ];
    let results = vec![result("fc-1", "[]"), result("r_1", "[]"), result("r_2", "[]")];
    let items = vec![user("go"), answer(&blocks), Item::ToolResults(results.clone())];
    let whole = contents(&request("gemini-3.8-flash", items));
    let heads = |contents: &[Value]| -> Vec<(Value, Value)> {
        let parts = contents[2]["parts"].as_array().unwrap();
        let response = |part: &Value| part["functionResponse"].clone();
        parts.iter().map(response).map(|head| (head["name"].clone(), head["id"].clone())).collect()
    };
    assert_eq!(
        heads(&whole),
        [
            (json!("sent_1"), json!("fc-1")),
            (json!("sent_2"), Value::Null),
            (json!("sent_3"), Value::Null)
        ]
    );
    // Where some are missing, an id finds its call, and a name has to do for the rest.
    let items = vec![user("go"), answer(&blocks), Item::ToolResults(results[..2].to_vec())];
    let some = contents(&request("gemini-3.8-flash", items));
    assert_eq!(heads(&some), [(json!("sent_1"), json!("fc-1")), (json!("lookup"), Value::Null)]);
}

#[test]
fn results_come_first_whatever_the_order() {
    let blocks = [r#"{"functionCall":{"name":"lookup","id":"fc-1"},"thoughtSignature":"cw=="}"#];
    let items = vec![
        user("go"),
        answer(&blocks),
        user("early"),
        Item::ToolResults(vec![result("fc-1", "[]")]),
        user("late"),
    ];
    let body = text(&request("gemini-3.8-flash", items));
    let (responses, said) = body.split_once("functionResponse").unwrap();
    assert!(!responses.contains("early"));
    assert!(
        said.ends_with(r#"{"role":"user","parts":[{"text":"early"},{"text":"late"}]}]}"#),
        "{body}"
    );
}
