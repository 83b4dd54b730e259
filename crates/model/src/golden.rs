//! What the tests of all wires share: golden streams, and small conversations.
//!
//! A golden stream is a recording in `tests_data/<wire>/<name>.sse`; beside it stands what it
//! means.

use std::{collections::VecDeque, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::value::RawValue;
use sse_stream::SseByteStream;

use crate::{
    Block, Catalog, Event, FailureKind, Item, ModelSpec, Request, Response, ToolResult, ToolSpec,
    View, WireKind,
};

/// Set this variable to write the expectations anew, then read the difference.
pub(crate) const BLESS: &str = "POSTHOUSE_BLESS";

/// The golden streams of one wire.
pub(crate) struct Golden {
    pub(crate) wire: WireKind,
    pub(crate) names: &'static [&'static str],
}

impl Golden {
    fn path(&self, file: &str) -> PathBuf {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests_data");
        folder.join(self.wire.as_str()).join(file)
    }

    /// The bytes of a recording.
    pub(crate) fn bytes(&self, name: &str) -> Bytes {
        std::fs::read(self.path(&format!("{name}.sse"))).unwrap().into()
    }

    /// Decodes chunks as they would come from a connection that then ends.
    pub(crate) async fn decode(&self, chunks: Vec<Bytes>) -> Vec<Event> {
        let chunks = chunks.into_iter().map(Ok::<_, std::io::Error>);
        let mut sse = SseByteStream::new(stream::iter(chunks));
        let mut decoder = self.wire.wire().decoder();
        let mut events = VecDeque::new();
        while let Some(event) = sse.next().await {
            if let Some(data) = event.unwrap().data {
                decoder.decode(&data, &mut events);
            }
        }
        events.extend(decoder.end());
        events.into()
    }

    /// Each recording means what is written beside it, and no recording is forgotten.
    pub(crate) async fn mean_what_is_written(&self) {
        let listed = std::fs::read_dir(self.path("")).unwrap().map(|file| file.unwrap().path());
        let recordings = listed.filter(|path| path.extension().is_some_and(|kind| kind == "sse"));
        assert_eq!(recordings.count(), self.names.len());
        for name in self.names {
            let events = self.decode(vec![self.bytes(name)]).await;
            let path = self.path(&format!("{name}.expected"));
            if std::env::var_os(BLESS).is_some() {
                std::fs::write(&path, lines(&events)).unwrap();
            }
            assert_eq!(lines(&events), std::fs::read_to_string(&path).unwrap(), "{name}");
        }
    }

    /// Bytes may come one at a time.
    pub(crate) async fn survive_any_chunks(&self) {
        for name in self.names {
            let whole = self.bytes(name);
            let single = whole.iter().map(|byte| Bytes::copy_from_slice(&[*byte])).collect();
            let whole = self.decode(vec![whole]).await;
            assert_eq!(lines(&self.decode(single).await), lines(&whole), "{name}");
        }
    }

    /// A stream that is cut at any byte gives the events before the cut, and a failure.
    pub(crate) async fn survive_any_cut(&self) {
        for name in self.names {
            let whole = self.bytes(name);
            let uncut = self.decode(vec![whole.clone()]).await;
            let mut last = 0;
            for at in 0..whole.len() {
                let mut events = self.decode(vec![whole.slice(..at)]).await;
                if matches!(events.last(), Some(Event::Ended(_))) || lines(&events) == lines(&uncut)
                {
                    // The rest is what follows the response's end.
                    assert_eq!(lines(&events), lines(&uncut), "{name} at {at}");
                    continue;
                }
                let Some(Event::Failed(failure)) = events.pop() else { panic!("{name} at {at}") };
                assert_eq!(failure.kind, FailureKind::Transient);
                assert!(failure.message.contains("cut"), "{}", failure.message);
                let known = events.iter().rev().find_map(|event| match event {
                    Event::Usage(usage) => Some(*usage),
                    _ => None,
                });
                assert_eq!(failure.usage, known.unwrap_or_default(), "{name} at {at}");
                assert!(events.len() >= last, "{name} at {at}");
                last = events.len();
                assert!(lines(&uncut).starts_with(&lines(&events)), "{name} at {at}");
            }
            assert!(last + 2 >= uncut.len(), "{name}: {last} of {}", uncut.len());
        }
    }
}

/// One line per event and per block.
pub(crate) fn lines(events: &[Event]) -> String {
    let mut lines = String::new();
    let mut line = |text: String| {
        lines.push_str(&text);
        lines.push('\n');
    };
    for event in events {
        match event {
            Event::Ended(response) => {
                line(format!("ended {:?} {:?}", response.stop, response.served));
                line(format!("  {:?}", response.usage));
                for block in &response.blocks {
                    line(format!("  native {}", block.native.get()));
                    line(format!("    view {}", view(&block.view)));
                }
            }
            event => line(format!("{event:?}")),
        }
    }
    lines
}

fn view(view: &View) -> String {
    match view {
        View::ToolUse { call_id, name, input } => format!(
            "tool_use {call_id} {name} {}",
            input.as_ref().map_or("unfinished", |input| input.get())
        ),
        other => format!("{other:?}"),
    }
}

pub(crate) fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

pub(crate) fn user(text: &str) -> Item {
    Item::User(Arc::from(raw(&format!(r#"[{{"type":"text","text":"{text}"}}]"#))))
}

/// A response that came over a wire; the provider bears the wire's name.
pub(crate) fn answer(wire: WireKind, blocks: &[&str]) -> Item {
    Item::Assistant {
        provider: wire.as_str().into(),
        wire,
        blocks: blocks.iter().map(|block| raw(block)).collect(),
    }
}

pub(crate) fn result(call_id: &str, content: &str) -> ToolResult {
    ToolResult {
        call_id: call_id.to_owned(),
        name: "lookup".into(),
        content: Arc::from(raw(content)),
        is_error: false,
    }
}

pub(crate) fn request(model: &str, items: Vec<Item>) -> Request {
    Request {
        conversation: "sthr_1".into(),
        model: model.to_owned(),
        spec: Catalog::built_in().spec(model).unwrap_or_else(|| {
            let wire = crate::providers::family(model).map(|(_, wire)| wire);
            Arc::new(ModelSpec::unknown(wire.unwrap_or_default()))
        }),
        effort: None,
        fast: false,
        inference_geo: None,
        system: String::new(),
        tools: Vec::new().into(),
        items,
    }
}

pub(crate) fn tool(name: &str) -> ToolSpec {
    ToolSpec {
        name: name.to_owned(),
        description: format!("What {name} does."),
        input_schema: raw(r#"{"type":"object","properties":{"q":{"type":"string"}}}"#),
    }
}

pub(crate) fn natives(response: &Response) -> Vec<&str> {
    response.blocks.iter().map(|Block { native, .. }| native.get()).collect()
}
