//! Results that are too long for a conversation.

use std::sync::Mutex;

use serde_json::{Value, json, value::to_raw_value};

use super::bounded;
use crate::tools::{Hands, ToolCall, ToolFuture, ToolOutcome, Work};

/// Hands that keep one text, or have no sandbox to keep it in.
struct Keeper {
    has_sandbox: bool,
    kept: Mutex<Option<String>>,
}

impl Hands for Keeper {
    fn call(&self, _: ToolCall) -> ToolFuture {
        unreachable!("nothing is called")
    }

    fn recover(&self, _: ToolCall) -> ToolFuture {
        unreachable!("nothing is recovered")
    }

    fn keep_text(&self, _: &ToolCall, text: String) -> Work<Option<String>> {
        *self.kept.lock().unwrap() = Some(text);
        let path = self.has_sandbox.then(|| "/kept/result.txt".to_owned());
        Box::pin(std::future::ready(path))
    }
}

async fn shown(content: Value, has_sandbox: bool) -> (Value, Option<String>) {
    let keeper = Keeper { has_sandbox, kept: Mutex::default() };
    let call = ToolCall {
        session: "sesn_1".into(),
        thread: "sthr_1".into(),
        call: "sevt_1".into(),
        name: "tool".into(),
        input: to_raw_value(&json!({})).unwrap().into(),
    };
    let outcome = ToolOutcome { content, is_error: true, searches: 2, ..ToolOutcome::default() };
    let bounded = bounded(Some(&keeper), &call, outcome).await;
    assert!(bounded.is_error && bounded.searches == 2, "the rest of an outcome stays");
    (bounded.content, keeper.kept.into_inner().unwrap())
}

#[tokio::test]
async fn a_result_that_fits_stays_as_it_is() {
    let content = json!([
        { "type": "text", "text": "é".repeat(100_000) },
        { "type": "image", "source": { "type": "base64", "data": "x".repeat(200_000) } },
    ]);
    assert_eq!(shown(content.clone(), true).await, (content, None));
}

#[tokio::test]
async fn a_longer_one_goes_into_a_file() {
    let hit = json!({
        "type": "search_result", "source": "https://a.test/", "title": "A",
        "content": [{ "type": "text", "text": "é".repeat(60_000) }],
    });
    let page = json!({
        "type": "document", "title": null,
        "source": { "type": "text", "media_type": "text/plain", "data": "p".repeat(60_000) },
    });
    let image = json!({ "type": "image", "source": { "type": "base64", "data": "x" } });
    let content = json!([hit, image, page]);
    for (has_sandbox, told) in [
        (true, "The whole text is in the sandbox's file /kept/result.txt.]"),
        (false, "There is no sandbox to keep the rest. Ask for less.]"),
    ] {
        let (shown, kept) = shown(content.clone(), has_sandbox).await;
        let kept = kept.unwrap();
        assert!(kept.starts_with("A\nhttps://a.test/\né") && kept.ends_with("pp"));
        assert_eq!(shown.as_array().unwrap().len(), 2);
        assert_eq!(shown[1], image);
        let text = shown[0]["text"].as_str().unwrap();
        assert!(text.starts_with("A\nhttps://a.test/\né"));
        assert!(text.contains("[This result has 120018 characters; the first 10000 are shown."));
        assert!(text.ends_with(told), "{text}");
    }
}

#[tokio::test]
async fn without_hands_the_rest_is_lost() {
    let call = ToolCall {
        session: "sesn_1".into(),
        thread: "sthr_1".into(),
        call: "sevt_1".into(),
        name: "tool".into(),
        input: to_raw_value(&json!({})).unwrap().into(),
    };
    let outcome = bounded(None, &call, ToolOutcome::text("x".repeat(100_001))).await;
    let text = outcome.content[0]["text"].as_str().unwrap();
    assert!(text.len() < 11_000 && text.ends_with("Ask for less.]"), "{text}");
}
