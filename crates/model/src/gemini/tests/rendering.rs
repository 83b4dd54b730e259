//! What a request looks like on the wire.

use std::sync::Arc;

use serde_json::{Value, value::RawValue};

use super::{GOLDEN, answer};
use crate::{
    Effort, Event, Item, Request, WireKind,
    gemini::request::render,
    golden::{natives, raw, request, result, tool, user},
    portable::Portable,
};

/// The body, which has to be JSON, and the same each time.
pub(super) fn text(request: &Request) -> String {
    let body = render("gemini", request).bytes;
    assert_eq!(body, render("gemini", request).bytes, "pure");
    serde_json::from_slice::<&RawValue>(&body).expect("valid JSON");
    String::from_utf8(body.to_vec()).unwrap()
}

pub(super) fn json(request: &Request) -> Value {
    serde_json::from_str(&text(request)).unwrap()
}

/// Compares a body with the one that is kept; `POSTHOUSE_BLESS` writes it anew.
pub(super) fn golden(name: &str, request: &Request) {
    let path = format!("{}/tests_data/gemini/{name}.request.json", env!("CARGO_MANIFEST_DIR"));
    let body = text(request) + "\n";
    if std::env::var_os("POSTHOUSE_BLESS").is_some() {
        std::fs::write(&path, &body).unwrap();
    }
    assert_eq!(body, std::fs::read_to_string(&path).unwrap(), "{name}");
}

/// A turn of Claude: thinking, text, two calls side by side; an image and a failure come back.
pub(super) fn claude() -> Vec<Item> {
    let mut failed = result("toolu_2", r#"[{"type":"text","text":"no such file"}]"#);
    failed.name = "2nd".into();
    failed.is_error = true;
    vec![
        user("look"),
        crate::golden::answer(
            WireKind::Anthropic,
            &[
                r#"{"type":"thinking","thinking":"hm","signature":"x"}"#,
                r#"{"type":"text","text":"caf\u00e9"}"#,
                r#"{"type":"tool_use","id":"toolu_1","name":"lookup","input":{"n":12345678901234567890123}}"#,
                r#"{"type":"tool_use","id":"toolu_2","name":"2nd","input":{}}"#,
            ],
        ),
        Item::ToolResults(vec![
            result(
                "toolu_1",
                r#"[{"type":"text","text":"seen"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}]"#,
            ),
            failed,
        ]),
    ]
}

fn full() -> Request {
    let mut request = request(
        "gemini-3.8-flash",
        vec![
            user("one"),
            answer(&[
                r#"{"text":"Looking.","partMetadata":{"k":1.10}}"#,
                r#"{"functionCall":{"name":"lookup","args":{"q": 12345678901234567890123456},"id":"fc-1"},"thoughtSignature":"Eq+/"}"#,
                r#"{"functionCall":{"name":"list"}}"#,
            ]),
            Item::ToolResults(vec![
                result("fc-1", r#"[{"type":"text","text":"done"},{"type":"text","text":"twice"}]"#),
                result("r_2", "[]"),
            ]),
            user("two"),
        ],
    );
    request.system = "Be \"good\".".to_owned();
    request.effort = Some(Effort::Max);
    request.tools = [tool("lookup"), tool("list")].into();
    request
}

#[test]
fn a_whole_request_to_the_byte() {
    golden("conversation", &full());
    assert!(render("gemini", &full()).renamed.is_empty());
}

#[test]
fn a_conversation_of_another_wire_goes_on_here() {
    let request = request("gemini-3.8-flash", claude());
    golden("foreign", &request);
    let body = json(&request);
    let parts = &body["contents"][1]["parts"];
    assert_eq!(parts.as_array().unwrap().len(), 3);
    // Of calls side by side, the first alone bears what stands for a signature.
    assert_eq!(parts[1]["thoughtSignature"], "skip_thought_signature_validator");
    assert_eq!(parts[2].get("thoughtSignature"), None);
    let responses = &body["contents"][2]["parts"];
    for (call, response) in [(&parts[1], &responses[0]), (&parts[2], &responses[1])] {
        for member in ["id", "name"] {
            assert_eq!(call["functionCall"][member], response["functionResponse"][member]);
        }
    }
}

#[test]
fn a_conversation_of_this_wire_goes_on_elsewhere() {
    let blocks = [
        r#"{"text":"hm","thought":true}"#,
        r#"{"text":"caf\u00e9","thoughtSignature":"cw=="}"#,
        r#"{"text":"","thoughtSignature":"cw=="}"#,
        r#"{"functionCall":{"name":"lookup","args":{"n":1.10},"id":"fc-1"},"thoughtSignature":"cw=="}"#,
        r#"{"functionCall":{"name":"list"}}"#,
        r#"{"functionCall":{"name":"list","args":[1]}}"#,
        r#"{"executableCode":{"language":"PYTHON","code":"1"}}"#,
        r#"{"inlineData":{"mimeType":"image/png","data":"AA=="}}"#,
        r#"{"new":1}"#,
    ];
    let told: Vec<String> = blocks
        .iter()
        .filter_map(|block| {
            let block = raw(block);
            let told = WireKind::Gemini.portable(&block)?;
            Some(match told {
                Portable::Text(text) => text.into_owned(),
                Portable::ToolUse { call_id, name, input } => {
                    format!("{call_id} {name} {}", input.get())
                }
            })
        })
        .collect();
    assert_eq!(told, ["caf\u{e9}", r#"fc-1 lookup {"n":1.10}"#, " list {}", " list {}"]);

    let mut results = vec![result("fc-1", "[]"), result("r_4", "[]"), result("r_5", "[]")];
    results[1].is_error = true;
    let items = vec![user("go"), answer(&blocks), Item::ToolResults(results)];
    let body = crate::anthropic::render("anthropic", &request("claude-opus-5", items)).bytes;
    let body: Value = serde_json::from_slice(&body).unwrap();
    let calls = &body["messages"][1]["content"].as_array().unwrap()[1..];
    let results = body["messages"][2]["content"].as_array().unwrap();
    assert_eq!((calls.len(), results.len()), (3, 3));
    let mut ids: Vec<&str> = Vec::new();
    for (call, result) in calls.iter().zip(results) {
        assert_eq!(call["id"], result["tool_use_id"]);
        ids.push(call["id"].as_str().unwrap());
    }
    assert_eq!(ids[0], "fc-1");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[test]
fn each_request_begins_with_the_one_before() {
    let mut items = vec![user("one"), user("more")];
    items.extend(claude());
    items.extend([
        answer(&[r#"{"text":"a","thoughtSignature":"cw=="}"#]),
        answer(&[r#"{"text":"b"}"#]),
        user("two"),
        answer(&[r#"{"functionCall":{"name":"list"}}"#]),
        Item::ToolResults(vec![result(
            "r_0",
            r#"[{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}}]"#,
        )]),
        user("three"),
    ]);
    for model in ["gemini-3.8-flash", "gemini-2.5-pro"] {
        let mut base = full();
        base.model = model.to_owned();
        let mut longer: Option<String> = None;
        for count in (1..=items.len()).rev() {
            base.items = items[..count].to_vec();
            // What is asked for ends in something said to the model.
            if matches!(base.items.last(), Some(Item::Assistant { .. })) {
                continue;
            }
            let body = text(&base);
            let stem = body.strip_suffix("]}]}").unwrap();
            if let Some(longer) = &longer {
                assert!(longer.starts_with(stem), "{stem}\n{longer}");
            }
            longer = Some(body);
        }
    }
}

#[tokio::test]
async fn answers_are_replayed_to_the_letter() {
    for name in GOLDEN.names {
        let mut events = GOLDEN.decode(vec![GOLDEN.bytes(name)]).await;
        let Some(Event::Ended(response)) = events.pop() else { continue };
        let natives = natives(&response);
        let items = vec![user("go"), answer(&natives), user("on")];
        let body = text(&request("gemini-2.5-pro", items.clone()));
        let content = format!(r#"{{"role":"model","parts":[{}]}}"#, natives.join(","));
        assert_eq!(body.contains(&content), !natives.is_empty(), "{name}: {content}\n{body}");
        let modern = text(&request("gemini-3.8-flash", items));
        let signs = natives.iter().any(|part| part.contains("thoughtSignature"));
        if signs || !natives.iter().any(|part| part.contains("functionCall")) {
            assert!(modern.contains(&content) || natives.is_empty(), "{name}");
        }
    }
}

#[test]
fn calls_without_signatures_are_marked_for_models_that_want_one() {
    let unsigned = r#"{"functionCall":{"name":"a","args":{}}}"#;
    let other = r#"{"functionCall":{"name":"b","args":{}}}"#;
    let marked = r#"{"functionCall":{"name":"a","args":{}},"thoughtSignature":"skip_thought_signature_validator"}"#;
    let signed = r#"{"text":"","thoughtSignature":"cw=="}"#;
    let body = |model: &str, blocks: &[&str]| {
        text(&request(model, vec![user("go"), answer(blocks), user("on")]))
    };
    for model in ["gemini-2.5-pro", "models/gemini-2.5-flash", "gemma-4-31b-it"] {
        assert!(body(model, &[unsigned, other]).contains(&format!("[{unsigned},{other}]")));
        assert!(!text(&request(model, claude())).contains("thoughtSignature"), "{model}");
    }
    for model in [
        "gemini-3-flash-preview",
        "models/gemini-3.8-flash",
        "gemini-flash-latest",
        "gemini-10-pro",
    ] {
        assert!(
            body(model, &[unsigned, other]).contains(&format!("[{marked},{other}]")),
            "{model}"
        );
        assert!(body(model, &[signed, unsigned]).contains(&format!("[{signed},{unsigned}]")));
    }
}

#[test]
fn no_answer_stands_first_last_or_behind_another() {
    let a = answer(&[r#"{"text":"a"}"#]);
    let empty = answer(&[]);
    let roles = |items: Vec<Item>| -> Vec<String> {
        let body = json(&request("gemini-3.8-flash", items));
        let contents = body["contents"].as_array().unwrap();
        contents.iter().map(|content| content["role"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(roles(Vec::new()), ["user"]);
    assert_eq!(roles(vec![a.clone()]), ["user", "model", "user"]);
    assert_eq!(
        roles(vec![user("one"), a.clone(), Item::System("Now.".into()), a.clone(), user("two")]),
        ["user", "model", "user", "model", "user"]
    );
    assert_eq!(roles(vec![user("one"), empty, user("two")]), ["user", "user"]);
}

#[test]
fn the_operators_texts_stand_in_the_system_instruction() {
    let items = vec![
        Item::System("First.".into()),
        user("one"),
        answer(&[r#"{"text":"a"}"#]),
        Item::System("Second.".into()),
        Item::System(String::new()),
        user("two"),
    ];
    let mut request = request("gemini-3.8-flash", items);
    let texts = |request: &Request| -> Vec<String> {
        let body = json(request);
        let parts = body["systemInstruction"]["parts"].as_array().unwrap().clone();
        parts.iter().map(|part| part["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts(&request), ["First.", "Second."]);
    request.system = "Be good.".to_owned();
    assert_eq!(texts(&request), ["Be good.", "First.", "Second."]);
    assert_eq!(json(&request)["contents"].as_array().unwrap().len(), 3);
}

#[test]
fn tools_get_names_that_the_api_takes() {
    let long = "x".repeat(100);
    let mut request = request("gemini-3.8-flash", vec![user("go")]);
    request.tools = [tool("read"), tool("_a-1"), tool("2nd"), tool("-x"), tool(&long)].into();
    let schema = r#"{"$schema":"s","type":"object","maximum":123456789012345678901234,"x": 1.10}"#;
    let mut odd = tool("odd");
    odd.input_schema = raw(schema);
    odd.description = String::new();
    request.tools = request.tools.iter().cloned().chain([odd]).collect();
    assert!(text(&request).contains(schema));
    let body = json(&request);
    let declared = body["tools"][0]["functionDeclarations"].as_array().unwrap();
    let names: Vec<&str> = declared.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!((names[0], names[1], names[5]), ("read", "_a-1", "odd"));
    for name in &names {
        assert!(name.len() <= 64 && !name.starts_with(|c: char| c.is_ascii_digit() || c == '-'));
        assert!(
            name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'),
            "{name}"
        );
    }
    let own = |name: &str, own: &str| (name.to_owned(), own.to_owned());
    assert_eq!(
        render("gemini", &request).renamed,
        [own(names[2], "2nd"), own(names[3], "-x"), own(names[4], &long)]
    );
}

#[test]
fn thinking_follows_the_model() {
    let config = |model: &str, effort| {
        let mut request = request(model, vec![user("go")]);
        request.effort = effort;
        json(&request)["generationConfig"].clone()
    };
    let level = |model: &str, effort| {
        config(model, Some(effort))["thinkingConfig"]["thinkingLevel"].clone()
    };
    assert_eq!(level("gemini-3.8-flash", Effort::Low), "LOW");
    assert_eq!(level("gemini-3.8-flash", Effort::Medium), "MEDIUM");
    assert_eq!(level("gemini-3.8-flash", Effort::Max), "HIGH");
    assert_eq!(level("gemini-99-pro", Effort::Max), "XHIGH");
    assert_eq!(config("gemini-3.8-flash", None), serde_json::json!({"maxOutputTokens": 65_536}));
    assert_eq!(config("gemini-99-pro", None), Value::Null);
    let budget = config("gemini-2.5-pro", Some(Effort::High))["thinkingConfig"].clone();
    assert_eq!(budget, serde_json::json!({"thinkingBudget": 16_384}));
    assert_eq!(config("gemini-2.5-pro", None).get("thinkingConfig"), None);
}

#[test]
fn a_users_pieces_become_parts() {
    let blocks = r#"[
        {"type":"text","text":"say \"it\""},
        {"type":"text","text":""},
        {"type":"image","source":{"type":"base64","media_type":"image/JPG","data":"AA=="}},
        {"type":"image","source":{"type":"base64","media_type":"image/gif","data":"GA=="}},
        {"type":"image","source":{"type":"url","url":"https://example.com/a.PNG?x=1.b"}},
        {"type":"image","source":{"type":"url","url":"https://example.com/a"}},
        {"type":"document","title":"Plan","source":{"type":"base64","media_type":"application/pdf","data":"BA=="}},
        {"type":"document","source":{"type":"url","url":"https://example.com/b.pdf"}},
        {"type":"document","source":{"type":"text","media_type":"text/plain","data":"plain"}}
    ]"#;
    let mut request =
        request("gemini-3.8-flash", vec![Item::User(Arc::from(raw(blocks))), user("more")]);
    golden("media", &request);
    let mut blind = (*request.spec).clone();
    (blind.images, blind.documents) = (false, false);
    request.spec = Arc::new(blind);
    let body = text(&request);
    assert!(!body.contains("inlineData") && !body.contains("fileData"), "{body}");
    assert_eq!(body.matches("An image stood here").count(), 4);
    assert_eq!(body.matches("A document stood here").count(), 2);
}
