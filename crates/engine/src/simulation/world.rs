//! What stands outside of the simulated server: a model, tools with a journal, and chance.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::stream;
use posthouse_model::{
    Block, BlockKind, Body, Event, Failure, FailureKind, Item, ModelStream, Provider, Request,
    Response, Stop, Usage, View,
};
use posthouse_protocol::{
    Fields, Micros,
    agent::{self, ModelRules},
};
use serde_json::{Value, json, value::to_raw_value};

use super::outside;
use crate::{Hands, ToolCall, ToolFuture, ToolOutcome, tools::UNKNOWN_OUTCOME};

/// What outlives every crash because it is outside: the model, the tools' own journal.
#[derive(Default)]
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) journal: Mutex<HashMap<Arc<str>, ToolOutcome>>,
    pub(super) executed: Mutex<HashMap<Arc<str>, u32>>,
    pub(super) answers: AtomicU64,
}

/// A model that answers by dice. It checks each conversation it is sent.
pub(super) struct Scripted(pub(super) Arc<World>);

impl Provider for Scripted {
    fn name(&self) -> &str {
        "sim"
    }

    fn claims(&self, _model: &str) -> bool {
        true
    }

    fn render(&self, request: &Request) -> Body {
        check_conversation(&request.items);
        Body { bytes: format!("{} items", request.items.len()).into(), ..Body::default() }
    }

    fn stream(&self, _body: Body) -> ModelStream {
        let answers = self.0.answers.fetch_add(1, Ordering::Relaxed);
        Box::pin(stream::iter(answer(&self.0.dice, answers)))
    }
}

/// Every call is answered right behind its response, and every result answers a call.
pub(super) fn check_conversation(items: &[Item]) {
    let mut open: Vec<String> = Vec::new();
    for item in items {
        match item {
            Item::Assistant { blocks, .. } => {
                assert!(open.is_empty(), "calls {open:?} have no result");
                for block in blocks.iter() {
                    let block: Value = serde_json::from_str(block.get()).unwrap();
                    if block["type"] == "tool_use" {
                        open.push(block["id"].as_str().unwrap().to_owned());
                    }
                }
            }
            Item::ToolResults(results) => {
                let answered: Vec<_> = results.iter().map(|one| one.call_id.clone()).collect();
                assert_eq!(answered, open, "results stand in call order, each call has one");
                open.clear();
            }
            Item::User(_) | Item::System(_) => {
                assert!(open.is_empty(), "input stands between calls {open:?} and their results");
            }
        }
    }
    assert!(open.is_empty(), "calls {open:?} have no result");
    assert!(!matches!(items.last(), Some(Item::Assistant { .. }) | None), "nothing to answer");
}

pub(super) fn answer(dice: &Dice, count: u64) -> Vec<Event> {
    // After a while a model that always answers lets every session come to its end.
    let kind = if count > 25 { 0 } else { dice.below(12) };
    let text = |text: &str| Block {
        native: to_raw_value(&json!({ "type": "text", "text": text })).unwrap(),
        view: View::Text(text.to_owned()),
    };
    let usage = Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() };
    let begun = || {
        vec![
            Event::Started { index: 0, kind: BlockKind::Text },
            Event::Text { index: 0, text: "so".to_owned() },
            Event::Usage(usage),
        ]
    };
    let ended = |blocks, stop| {
        let mut events = begun();
        events.push(Event::Ended(Response { blocks, stop, usage, served: None }));
        events
    };
    let failed = |kind| {
        let failure = Failure {
            kind,
            message: "The model is not well.".to_owned(),
            retry_after: Some(Duration::from_millis(1)),
            usage,
        };
        let mut events = begun();
        events.push(Event::Failed(failure));
        events
    };
    match kind {
        0..=2 => ended(vec![text("so be it")], Stop::EndTurn),
        3..=7 => {
            let mut blocks = vec![text("let me see")];
            for _ in 0..=dice.below(3) {
                let own = ["bash", "read", "write", "weather", "unknown"];
                let name = match dice.below(2) {
                    0 => own[dice.index(own.len())],
                    _ => outside::CALLED[dice.index(outside::CALLED.len())],
                };
                let input = json!({ "url": outside::PAGE, "query": "word" });
                let id = format!("toolu_{}", dice.next());
                blocks.push(Block {
                    native: to_raw_value(
                        &json!({ "type": "tool_use", "id": id, "name": name, "input": input }),
                    )
                    .unwrap(),
                    view: View::ToolUse {
                        call_id: id,
                        name: name.to_owned(),
                        input: Some(to_raw_value(&input).unwrap()),
                    },
                });
            }
            ended(blocks, Stop::ToolUse)
        }
        8 | 9 => failed(FailureKind::Transient),
        10 => failed(FailureKind::Hopeless),
        _ => {
            let stop = Stop::Refusal { category: None, explanation: None };
            ended(vec![text("no")], stop)
        }
    }
}

/// Tools with a journal that outlives the server.
pub(super) struct ScriptedHands(pub(super) Arc<World>);

impl Hands for ScriptedHands {
    fn call(&self, call: ToolCall) -> ToolFuture {
        let world = Arc::clone(&self.0);
        Box::pin(async move {
            *world.executed.lock().unwrap().entry(Arc::clone(&call.call)).or_default() += 1;
            for _ in 0..world.dice.below(4) {
                tokio::task::yield_now().await;
            }
            let outcome = ToolOutcome::text("done");
            if world.dice.below(2) == 0 {
                world.journal.lock().unwrap().insert(call.call, outcome.clone());
            }
            outcome
        })
    }

    fn recover(&self, call: ToolCall) -> ToolFuture {
        let known = self.0.journal.lock().unwrap().get(&call.call).cloned();
        Box::pin(async move { known.unwrap_or_else(|| ToolOutcome::error(UNKNOWN_OUTCOME)) })
    }
}

pub(super) fn agent() -> agent::Agent {
    struct Anything;
    impl ModelRules for Anything {
        fn exists(&self, _: &str) -> Result<(), String> {
            Ok(())
        }
        fn default_effort(&self, _: &str) -> Option<agent::Effort> {
            None
        }
        fn supports_effort(&self, _: &str, _: agent::Effort) -> bool {
            false
        }
        fn supports_fast(&self, _: &str) -> bool {
            false
        }
        fn supports_geo(&self, _: &str) -> bool {
            false
        }
    }
    let body = json!({
        "name": "Simulated",
        "model": "sim/any",
        "tools": [
            {
                "type": "agent_toolset_20260401",
                "configs": [{ "name": "write", "permission_policy": { "type": "always_ask" } }],
            },
            {
                "type": "custom",
                "name": "weather",
                "description": "Tells the weather.",
                "input_schema": { "type": "object" },
            },
        ],
    });
    let fields = Fields::open(body, "").unwrap();
    agent::parse_create(fields, "agent_1".to_owned(), Micros(0), &Anything).unwrap()
}

/// Seeded chance, shared by all that happens in one run.
#[derive(Clone, Default)]
pub(super) struct Dice(Arc<AtomicU64>);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))))
    }

    /// The next number of a splitmix64 sequence.
    pub(super) fn next(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn index(&self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap()
    }

    pub(super) fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes());
        bytes
    }
}
