//! What a request looks like on the wire.

use std::{path::PathBuf, sync::Arc};

use serde_json::{Value, json as value};

use super::{answer, body, call, json};
use crate::{
    Effort, Item, ModelSpec, Request, WireKind,
    golden::{self, raw, request, result, tool, user},
};

const PICTURE: &str =
    r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}"#;
const PAPER: &str = r#"{"type":"document","title":"Plan.pdf","source":{"type":"base64","media_type":"application/pdf","data":"BB=="}}"#;

fn content(blocks: &[&str]) -> Item {
    Item::User(Arc::from(raw(&format!("[{}]", blocks.join(",")))))
}

/// A model that nobody has described, with an end to its answers.
fn described() -> ModelSpec {
    ModelSpec { max_output: Some(4_096), ..ModelSpec::unknown(WireKind::OpenaiChat) }
}

/// Everything at once: a picture and a paper, an own turn with thinking and two calls of which
/// one fails and one shows a picture, an operator's word, and a turn of another provider.
fn whole() -> Request {
    let mut failed = result("call_22", r#"[{"type":"text","text":"no such file"}]"#);
    failed.is_error = true;
    let foreign = golden::answer(
        WireKind::Anthropic,
        &[
            r#"{"type":"thinking","thinking":"hm","signature":"x"}"#,
            r#"{"type":"text","text":"Elsewhere."}"#,
            r#"{"type":"tool_use","id":"toolu_01ABC","name":"lookup","input":{"q":1.10}}"#,
            r#"{"type":"tool_use","id":"toolu_02ABC","name":"lookup","input":{}}"#,
        ],
    );
    let mut request = request(
        "anthropic/some-model",
        vec![
            content(&[r#"{"type":"text","text":"See \"this\"."}"#, PICTURE, PAPER]),
            answer(&[
                r#"{"reasoning":"So "}"#,
                r#"{"reasoning_content":"I look."}"#,
                r#"{"reasoning_details":[{"type":"reasoning.text","text":"So","n":1.50}]}"#,
                r#"{"content":"Looking."}"#,
                &call("call_11"),
                &call("call_22"),
            ]),
            Item::ToolResults(vec![
                result("call_11", &format!(r#"[{{"type":"text","text":"done"}},{PICTURE}]"#)),
                failed,
            ]),
            user("go on"),
            Item::System("Be brief.".to_owned()),
            foreign,
            Item::ToolResults(vec![result("toolu_01ABC", "[]"), result("toolu_02ABC", "[]")]),
            answer(&[r#"{"content":"Done."}"#]),
            user("bye"),
        ],
    );
    request.spec = Arc::new(described());
    request.system = "Be good.".to_owned();
    request.tools = vec![tool("lookup"), tool(&"long".repeat(20))].into();
    request.effort = Some(Effort::Max);
    request
}

#[test]
fn whole_requests_to_the_byte() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests_data/openai_chat");
    for server in crate::openai_chat::servers() {
        let path = folder.join(format!("{server}.request.json"));
        let body = body(server, &whole());
        if std::env::var_os(golden::BLESS).is_some() {
            std::fs::write(&path, &body).unwrap();
        }
        assert_eq!(body, std::fs::read_to_string(&path).unwrap(), "{server}");
    }
}

#[test]
fn a_body_begins_with_the_one_of_the_turn_before() {
    for server in crate::openai_chat::servers() {
        let mut base = whole();
        // Where the operator's words stand in the system prompt, they change the prefix.
        base.items.retain(|item| !matches!(item, Item::System(_)));
        let mut longer: Option<String> = None;
        while !base.items.is_empty() {
            let body = body(server, &base);
            if let Some(longer) = &longer {
                let stem = body.strip_suffix("]}").unwrap();
                assert!(longer.starts_with(stem), "{server}\n{stem}\n{longer}");
            }
            longer = Some(body);
            // One turn back: the user's words and the results before them.
            while !matches!(base.items.pop(), Some(Item::Assistant { .. }) | None) {}
        }
    }
}

#[test]
fn the_operators_words_stand_inside_where_that_is_allowed() {
    let items = vec![
        user("one"),
        Item::System("First.".into()),
        user("two"),
        answer(&[r#"{"content":"a"}"#]),
        Item::System("Second.".into()),
        Item::System(String::new()),
    ];
    let mut request = request("some-model", items);
    request.system = "Be good.".to_owned();
    let roles = |body: &Value| -> Vec<String> {
        let messages = body["messages"].as_array().unwrap().iter();
        messages.map(|message| message["role"].as_str().unwrap().to_owned()).collect()
    };
    let inside = json("openai", &request);
    assert_eq!(
        roles(&inside),
        ["developer", "user", "developer", "user", "assistant", "developer"]
    );
    assert_eq!(inside["messages"][0]["content"], "Be good.");
    assert_eq!(inside["messages"][5]["content"], "Second.");
    let outside = json("unknown", &request);
    // Nothing of what stands behind the answer is left there, and some want a user's words.
    assert_eq!(roles(&outside), ["system", "user", "assistant", "user"]);
    assert_eq!(outside["messages"][3]["content"], "Go on.");
    assert_eq!(outside["messages"][0]["content"], "Be good.\n\nFirst.\n\nSecond.");
    assert_eq!(outside["messages"][1]["content"], "one\n\ntwo");
    // What is known of the model counts, too.
    request.spec = Arc::new(ModelSpec { mid_conversation_system: true, ..(*request.spec).clone() });
    assert_eq!(roles(&json("unknown", &request))[2], "system");
}

#[test]
fn what_cannot_be_shown_is_said() {
    let far = r#"{"type":"image","source":{"type":"url","url":"https://example.com/a.png"}}"#;
    let mut request = request("some-model", vec![content(&[far, PAPER])]);
    let parts =
        |server: &str, request: &Request| json(server, request)["messages"][0]["content"].clone();
    assert_eq!(
        parts("openai", &request)[0],
        value!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})
    );
    assert_eq!(
        parts("openai", &request)[1]["file"],
        value!({"filename": "Plan.pdf", "file_data": "data:application/pdf;base64,BB=="})
    );
    assert_eq!(
        parts("mistral", &request)[1],
        value!({"type": "document_url", "document_url": "data:application/pdf;base64,BB==", "document_name": "Plan.pdf"})
    );
    assert_eq!(
        parts("lmstudio", &request),
        "[Here stood an image (https://example.com/a.png), which you can't see.]\n\n\
         [Here stood the document \"Plan.pdf\", which you can't read.]"
    );
    request.spec = Arc::new(ModelSpec { images: false, documents: false, ..described() });
    request.items = vec![content(&[PICTURE, PAPER])];
    assert_eq!(
        parts("openai", &request),
        "[Here stood an image, which you can't see.]\n\n\
         [Here stood the document \"Plan.pdf\", which you can't read.]"
    );
}

#[test]
fn pictures_of_results_are_shown_by_the_user_in_the_order_of_the_calls() {
    let results = vec![
        result("call_1", &format!("[{PICTURE}]")),
        result("call_2", r#"[{"type":"text","text":"b"}]"#),
        result("call_3", &format!("[{PICTURE},{PICTURE}]")),
    ];
    let calls = ["call_1", "call_2", "call_3"].map(call);
    let items = vec![
        user("go"),
        answer(&calls.each_ref().map(String::as_str)),
        Item::ToolResults(results),
        user("and?"),
    ];
    let body = json("openai", &request("some-model", items));
    let messages = body["messages"].as_array().unwrap();
    let roles: Vec<&str> =
        messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "tool", "tool", "user"]);
    assert_eq!(messages[3]["content"], "b");
    let parts = messages[5]["content"].as_array().unwrap();
    let shown: Vec<&str> = parts
        .iter()
        .map(|part| part["text"].as_str().unwrap_or_else(|| part["type"].as_str().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [
            "[Of the result of the call call_1 (lookup):]",
            "image_url",
            "[Of the result of the call call_3 (lookup):]",
            "image_url",
            "image_url",
            "and?"
        ]
    );
}

#[test]
fn effort_speed_and_length_follow_model_and_server() {
    let mut request = request("some-model", vec![user("go")]);
    let plain = json("unknown", &request);
    assert_eq!(plain.get("reasoning_effort"), None);
    assert_eq!(plain.get("max_tokens"), None);
    assert_eq!(plain.get("service_tier"), None);
    assert_eq!(plain.get("tools"), None);
    request.effort = Some(Effort::Xhigh);
    request.fast = true;
    assert_eq!(json("unknown", &request)["reasoning_effort"], "high");
    assert_eq!(json("unknown", &request)["service_tier"], "priority");
    assert_eq!(json("openai", &request)["reasoning_effort"], "xhigh");
    assert_eq!(json("openrouter", &request)["reasoning"], value!({"effort": "xhigh"}));
    assert_eq!(
        json("llama.cpp", &request)["chat_template_kwargs"],
        value!({"reasoning_effort": "high"})
    );
    request.spec = Arc::new(ModelSpec { efforts: vec![Effort::Low], ..described() });
    assert_eq!(json("openai", &request)["reasoning_effort"], "low");
    assert_eq!(json("openai", &request)["max_completion_tokens"], 4_096);
    assert_eq!(json("ollama", &request)["max_tokens"], 4_096);
    request.spec = Arc::new(ModelSpec { efforts: Vec::new(), ..described() });
    assert_eq!(json("openai", &request).get("reasoning_effort"), None);
}

#[test]
fn prompts_are_cached_as_the_server_wants_it() {
    let mut request = request("anthropic/claude", vec![user("go")]);
    assert_eq!(json("openai", &request)["prompt_cache_key"], "sthr_1");
    assert_eq!(json("groq", &request).get("prompt_cache_key"), None);
    assert_eq!(json("openrouter", &request)["cache_control"], value!({"type": "ephemeral"}));
    request.model = "openai/gpt".to_owned();
    assert_eq!(json("openrouter", &request).get("cache_control"), None);
    request.conversation = "".into();
    assert_eq!(json("openai", &request).get("prompt_cache_key"), None);
}

#[test]
fn schemas_pass_as_they_are_and_long_names_are_cut() {
    let mut request = request("some-model", vec![user("go")]);
    let mut one = tool(&"x".repeat(100));
    one.description.clear();
    one.input_schema = raw(r#"{"type": "object", "maximum": 123456789012345678901234}"#);
    request.tools = vec![one].into();
    let sent = body("llama.cpp", &request);
    assert!(
        sent.contains(r#""parameters":{"type": "object", "maximum": 123456789012345678901234}"#)
    );
    assert!(sent.contains(r#""parallel_tool_calls":true"#));
    let sent: Value = serde_json::from_str(&sent).unwrap();
    let function = &sent["tools"][0]["function"];
    assert_eq!(function["name"].as_str().unwrap().len(), 64);
    assert_eq!(function.get("description"), None);
    let wire = WireKind::OpenaiChat.wire();
    let renamed = wire.render("mine", &request).renamed;
    assert_eq!(renamed, [(function["name"].as_str().unwrap().to_owned(), "x".repeat(100))]);
}
