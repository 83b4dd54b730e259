//! A conversation as far as matching a script needs it, for wires whose requests are read whole.
//!
//! Never checks anything, and leaves out what it doesn't know.

use super::wire::{Asked, Wishes};

#[derive(Default)]
pub(super) struct Transcript {
    model: String,
    stream: bool,
    system: String,
    wishes: Wishes,
    turns: Vec<Turn>,
    length: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaker {
    User,
    Model,
}

/// Neighbours of one speaker count as one.
pub(super) struct Turn {
    speaker: Speaker,
    texts: Vec<String>,
    /// Id and name.
    pub(super) calls: Vec<(String, String)>,
    pub(super) results: Vec<Outcome>,
}

pub(super) struct Outcome {
    pub(super) call: String,
    /// Where the wire says it.
    pub(super) tool: Option<String>,
    pub(super) text: String,
}

impl Transcript {
    pub(super) fn of(model: &str, stream: bool, wishes: Wishes) -> Self {
        Self { model: model.to_owned(), stream, wishes, ..Self::default() }
    }

    /// The turn to which a message or an item belongs.
    pub(super) fn turn(&mut self, speaker: Speaker) -> &mut Turn {
        self.length += 1;
        if self.turns.last().is_none_or(|turn| turn.speaker != speaker) {
            let turn = Turn { speaker, texts: vec![], calls: vec![], results: vec![] };
            self.turns.push(turn);
        }
        let last = self.turns.len() - 1;
        &mut self.turns[last]
    }

    pub(super) fn add_system(&mut self, text: &str) {
        self.length += 1;
        self.system.push_str(text);
        self.system.push('\n');
    }

    fn last_user(&self) -> Option<&Turn> {
        self.turns.iter().rev().find(|turn| turn.speaker == Speaker::User)
    }
}

impl Turn {
    pub(super) fn say(&mut self, text: &str) {
        if !text.is_empty() {
            self.texts.push(text.to_owned());
        }
    }
}

impl Asked for Transcript {
    fn model(&self) -> &str {
        &self.model
    }

    fn stream(&self) -> bool {
        self.stream
    }

    fn length(&self) -> usize {
        self.length
    }

    fn last_user_text(&self) -> String {
        let users = self.turns.iter().rev().filter(|turn| turn.speaker == Speaker::User);
        let texts = users.map(|turn| turn.texts.join("\n"));
        texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
    }

    fn last_user_contains(&self, wanted: &str) -> bool {
        self.last_user().is_some_and(|turn| {
            turn.texts.join("\n").contains(wanted)
                || turn.results.iter().any(|outcome| outcome.text.contains(wanted))
        })
    }

    fn system_contains(&self, wanted: &str) -> bool {
        self.system.contains(wanted)
    }

    fn has_tool_result_for(&self, tool: &str) -> bool {
        let named = |id: &str| {
            let mut calls = self.turns.iter().rev().flat_map(|turn| &turn.calls);
            calls.find(|(known, _)| known == id).map(|(_, name)| name.as_str())
        };
        let results = self.last_user().map(|turn| turn.results.as_slice()).unwrap_or_default();
        results
            .iter()
            .any(|outcome| outcome.tool.as_deref().or_else(|| named(&outcome.call)) == Some(tool))
    }

    fn wishes(&self) -> Wishes {
        self.wishes.clone()
    }
}
