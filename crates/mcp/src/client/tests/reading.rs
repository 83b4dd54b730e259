//! What of a server's words becomes tools, blocks, answers and scopes.

use super::*;
use crate::client::{blocks, challenge, forms, tools::List};

fn listed(tools: Value) -> Tools {
    let mut list = List::new(10);
    assert!(list.take(&json!({ "tools": tools })));
    list.end()
}

#[test]
fn tools_that_nobody_could_be_offered_are_left_out() {
    let schema = json!({ "type": "object" });
    let tools = listed(json!([
        { "name": "good", "description": "é".repeat(8 << 10), "inputSchema": schema,
          "annotations": { "idempotentHint": true } },
        { "name": "good", "inputSchema": schema },
        { "name": "", "inputSchema": schema },
        { "name": "a\u{7}b", "inputSchema": schema },
        { "name": "n".repeat(129), "inputSchema": schema },
        { "name": 7, "inputSchema": schema },
        { "name": "no_schema" },
        { "name": "listed", "inputSchema": [] },
        { "name": "texty", "inputSchema": { "type": "string" } },
        { "name": "large", "inputSchema": { "type": "object", "x": "y".repeat(64 << 10) } },
        "a string",
        { "name": "untyped", "inputSchema": { "properties": {} },
          "annotations": { "idempotentHint": "yes" } },
    ]));
    let names: Vec<&str> = tools.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["good", "untyped"]);
    assert_eq!(tools.left_out.len(), 10, "{:?}", tools.left_out);
    assert!(tools.left_out.iter().all(|sentence| !sentence.contains('\u{7}')));
    let [good, untyped] = &tools.tools[..] else { panic!() };
    assert_eq!((good.description.len(), good.idempotent), (8 << 10, true));
    assert!(!untyped.idempotent);
    let schema: Value = serde_json::from_str(untyped.input_schema.get()).unwrap();
    assert_eq!(schema, json!({ "properties": {}, "type": "object" }));
}

#[test]
fn too_many_tools_are_counted() {
    let tools: Vec<Value> = (0..50).map(|number| peer::tool(&format!("t{number}"))).collect();
    let tools = listed(json!(tools));
    assert_eq!((tools.tools.len(), tools.left_out.len()), (10, 21));
    assert_eq!(tools.left_out[20], "20 more were left out");
}

#[test]
fn all_tools_together_have_a_size() {
    let mut list = List::new(1000);
    let large = |number: u32| {
        json!({ "name": format!("t{number}"), "inputSchema": {
            "type": "object", "description": "x".repeat(60 << 10) } })
    };
    let page: Vec<Value> = (0..300).map(large).collect();
    assert!(list.take(&json!({ "tools": page })));
    assert!(!list.has_room(), "no further page is asked for");
    assert!(list.take(&json!({ "tools": [peer::tool("small")] })));
    let tools = list.end();
    let size = tools.tools.iter().map(|tool| tool.input_schema.get().len()).sum::<usize>();
    assert!(size > 15 << 20 && size < 16 << 20, "{size}");
    assert!(tools.left_out[0].contains("all tools take more than"), "{:?}", tools.left_out);
    assert!(tools.tools.iter().all(|tool| tool.name != "small"));
}

#[test]
fn a_schema_keeps_its_words_and_their_order() {
    let text = r#"{"type":"object","$schema":"x","properties":{"b":{"$ref":"https://e.example/s"},"a":{}},"additionalProperties":false}"#;
    let schema: Value = serde_json::from_str(text).unwrap();
    let tools = listed(json!([{ "name": "a", "inputSchema": schema }]));
    assert_eq!(tools.tools[0].input_schema.get(), text);
}

/// The beginnings of files, in base64.
const PNG: &str = "iVBORw0KGgoAAAAN";
const GIF: &str = "R0lGODlhAQABAAAA";
const PDF: &str = "JVBERi0xLjQK";

fn read(result: Value) -> Called {
    blocks::read(&result).unwrap()
}

#[test]
fn every_kind_of_block_becomes_one_of_the_api() {
    let called = read(json!({ "isError": true, "content": [
        { "type": "text", "text": "words" },
        { "type": "text", "text": "" }, { "type": "text", "text": " \n" },
        { "type": "image", "data": PNG, "mimeType": "image/PNG" },
        { "type": "image", "data": PNG, "mimeType": "image/jpeg" },
        { "type": "image", "data": "aGk=", "mimeType": "image/png" },
        { "type": "image", "data": "aGk=", "mimeType": "image/bmp" },
        { "type": "image", "data": "no_base64!", "mimeType": "image/png" },
        { "type": "audio", "data": "aGVsbG8=", "mimeType": "audio/wav" },
        { "type": "resource", "resource": { "uri": "file:///a", "text": "inside" } },
        { "type": "resource", "resource":
            { "uri": "file:///b", "blob": PDF, "mimeType": "application/pdf" } },
        { "type": "resource", "resource":
            { "uri": "file:///c", "blob": GIF, "mimeType": "image/gif" } },
        { "type": "resource", "resource": { "uri": "file:///d", "blob": "aGk=" } },
        { "type": "resource_link", "uri": "file:///e", "name": "n", "title": "t", "description": "d" },
        { "type": "hologram", "x": 1 },
    ] }));
    let text = |text: &str| json!({ "type": "text", "text": text });
    let base64 = |kind: &str, media: &str, data: &str| {
        json!({ "type": kind,
            "source": { "type": "base64", "media_type": media, "data": data } })
    };
    assert!(called.is_error);
    assert_eq!(
        called.content,
        [
            text("words"),
            base64("image", "image/png", PNG),
            // What it is counts, not what it says: a provider would refuse the other.
            base64("image", "image/png", PNG),
            text("[an image of type image/png, 2 bytes; its data is something else]"),
            text("[an image of type image/bmp, 2 bytes; its type can't be shown]"),
            text("[an image of type image/png, 7 bytes; its data is no base64]"),
            text("[audio of type audio/wav, 5 bytes; it can't be shown]"),
            text("file:///a\n\ninside"),
            base64("document", "application/pdf", PDF),
            base64("image", "image/gif", GIF),
            text("[the resource file:///d of type unknown, 2 bytes; its type can't be shown]"),
            text("t\nfile:///e\nd"),
            text(r#"{"type":"hologram","x":1}"#),
        ]
    );
}

#[test]
fn structured_content_stands_in_for_none() {
    let called = read(json!({ "structuredContent": { "a": [1] } }));
    assert_eq!((words(&called), called.is_error), (r#"{"a":[1]}"#, false));
    let both = json!({ "content": [{ "type": "text", "text": "t" }], "structuredContent": 1 });
    assert_eq!(read(both).content.len(), 1);
    assert!(read(json!({ "content": [] })).content.is_empty());
    for odd in [json!({}), json!([]), json!({ "content": "x" }), json!({ "tools": [] })] {
        assert_eq!(blocks::read(&odd), None, "{odd}");
    }
}

#[test]
fn there_is_an_end_to_base64() {
    let kinds = |content: Value| -> Vec<String> {
        let called = read(json!({ "content": content }));
        let kind = |block: &Value| block["type"].as_str().unwrap().to_owned();
        called.content.iter().map(kind).collect()
    };
    let pdf = format!("JVBERi0x{}", "AAAA".repeat((12 << 20) / 4));
    let pdf = json!({ "type": "resource",
        "resource": { "uri": "a", "blob": pdf, "mimeType": "application/pdf" } });
    assert_eq!(kinds(json!([pdf, pdf])), ["document", "text"]);
    let image = |data: String| json!({ "type": "image", "data": data, "mimeType": "image/png" });
    let long = image(format!("iVBORw0KGgoA{}", "AAAA".repeat((5 << 20) / 3)));
    assert_eq!(kinds(json!([long, image(PNG.to_owned())])), ["text", "image"]);
    let shown = kinds(json!(vec![image(PNG.to_owned()); 50]));
    assert_eq!(shown.iter().filter(|kind| *kind == "image").count(), 20);
}

#[test]
fn what_an_image_is_its_first_bytes_tell() {
    for (data, kind) in [
        ("/9j/4AAQSkZJRgAB", "image/jpeg"),
        ("R0lGODdhAQABAAAA", "image/gif"),
        ("UklGRiQAAABXRUJQ", "image/webp"),
    ] {
        let called = read(json!({ "content": [
            { "type": "image", "data": data, "mimeType": "image/png" },
        ] }));
        assert_eq!(called.content[0]["source"]["media_type"], kind);
    }
}

#[tokio::test]
async fn an_odd_block_does_not_cost_the_others() {
    let peer = Peer::start(stateless, |asked| {
        (asked.call() == "tools/call").then(|| {
            Reply::Json(asked.result(json!({ "resultType": "complete", "content": [
                { "type": "hologram" }, { "type": "text", "text": "words" }, { "type": "image" },
            ] })))
        })
    })
    .await;
    let connection = peer.connect().await.unwrap();
    let called = call(&connection).await.unwrap();
    assert_eq!(called.content.len(), 3);
    assert_eq!(called.content[1]["text"], "words");
}

#[test]
fn a_form_is_accepted_only_when_it_fills_itself() {
    let answer =
        |schema: Value| forms::answer(&json!({ "message": "m", "requestedSchema": schema }), true);
    let accepted = |content: Value| json!({ "action": "accept", "content": content });
    let declined = json!({ "action": "decline" });
    let all = json!({ "type": "object", "properties": {
        "s": { "type": "string", "default": "x" },
        "n": { "type": "number", "default": 1.5 },
        "i": { "type": "integer", "default": 2 },
        "b": { "type": "boolean", "default": false },
        "e": { "type": "string", "enum": ["p", "q"], "default": "q" },
        "o": { "type": "string", "oneOf": [{ "const": "k", "title": "K" }], "default": "k" },
        "m": { "type": "array", "items": { "enum": ["u", "v"] }, "default": ["u"] },
        "free": { "type": "string" },
    }, "required": ["s", "e"] });
    let filled = json!({ "s": "x", "n": 1.5, "i": 2, "b": false, "e": "q", "o": "k", "m": ["u"] });
    assert_eq!(answer(all), accepted(filled));
    assert_eq!(answer(json!({ "type": "object", "properties": {} })), accepted(json!({})));
    for lacking in [
        json!({ "properties": { "s": { "type": "string" } }, "required": ["s"] }),
        json!({ "properties": { "s": { "type": "string", "default": 1 } }, "required": ["s"] }),
        json!({ "properties": { "s": { "type": "string", "enum": ["a"], "default": "b" } },
            "required": ["s"] }),
        json!({ "properties": {}, "required": ["s"] }),
        json!({ "properties": {}, "required": "s" }),
        json!("no schema"),
    ] {
        assert_eq!(answer(lacking.clone()), declined, "{lacking}");
    }
    let url = json!({ "mode": "url", "url": "https://x.example/" });
    assert_eq!(forms::answer(&url, true), json!({ "action": "cancel" }));
}

#[test]
fn scopes_are_taken_from_a_challenge_and_nothing_else() {
    let read = |texts: &[&'static str]| {
        let mut headers = ::http::HeaderMap::new();
        for text in texts {
            headers.append("www-authenticate", text.parse().unwrap());
        }
        let challenge = challenge::read(&headers);
        (challenge.scope, challenge.insufficient_scope)
    };
    let scope = |text: &str| Some(text.to_owned());
    assert_eq!(read(&[]), (None, false));
    assert_eq!(read(&["Bearer"]), (None, false));
    assert_eq!(read(&["Bearer scope=one, error=insufficient_scope"]), (scope("one"), true));
    assert_eq!(
        read(&[
            "Basic realm=\"scope=no\"",
            "Bearer error_description=\"a \\\"b\\\"\", SCOPE=\"c d\""
        ]),
        (scope("c d"), false)
    );
    assert_eq!(read(&["Bearer scope=\"a\\\"b\""]), (None, false));
    assert_eq!(read(&["Bearer scope=\"never closed"]), (scope("never closed"), false));
}
