//! The log as clients see it: which records are events, and at which place each stands.
//!
//! A client's queued event stands where it was taken, not where it was sent. Lists and streams
//! share this file, so that they can't differ.

use std::collections::HashMap;

use posthouse_protocol::{
    Micros,
    event::{self, kind as wire},
};
use posthouse_store::{Record, Seq};

use crate::{
    own::{self, InputTaken},
    summary::parse,
};

/// The kinds of records that stand where an `input_taken` names them.
pub const QUEUED: [&str; 3] = [wire::USER_MESSAGE, wire::SYSTEM_MESSAGE, wire::USER_INTERRUPT];

/// The place of an event in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Shown by this record.
    At(Seq),
    /// Behind everything: held by this record, and not taken yet.
    Waiting(Seq),
}

/// An event, ready to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Where it stands.
    pub place: Place,
    /// Its type.
    pub kind: String,
    /// When it was processed; `None` while it waits.
    pub at: Option<Micros>,
    /// The event, JSON on one line.
    pub json: String,
}

/// What a client has asked to see.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Whether the log's own records are shown, as `posthouse.*` events.
    pub own: bool,
}

impl View {
    /// The event that a record shows, if it shows one. `queued` finds the record of a queued
    /// event.
    ///
    /// # Errors
    /// A sentence, when the log is not what this version writes.
    pub fn show(
        &self,
        record: &Record,
        queued: &mut dyn FnMut(Seq) -> Result<Record, String>,
    ) -> Result<Option<Shown>, String> {
        let (kind, json) = match &*record.kind {
            kind if QUEUED.contains(&kind) => return Ok(None),
            own::kind::INPUT_TAKEN => {
                let taken: InputTaken = parse(record)?;
                let sent = queued(taken.seq)?;
                let json = event::render(&sent.kind, &sent.payload, Some(record.at));
                (sent.kind.to_string(), json)
            }
            kind if kind.contains('.') => {
                (kind.to_owned(), event::render(kind, &record.payload, Some(record.at)))
            }
            _ if self.own => own_event(record),
            _ => return Ok(None),
        };
        let place = Place::At(record.seq);
        Ok(Some(Shown { place, kind, at: Some(record.at), json: one_line(json) }))
    }
}

/// A queued event that nobody has taken yet. Its place is behind everything.
#[must_use]
pub fn waiting(record: &Record) -> Shown {
    Shown {
        place: Place::Waiting(record.seq),
        kind: record.kind.to_string(),
        at: None,
        json: one_line(event::render(&record.kind, &record.payload, None)),
    }
}

/// Finds queued records among those at hand first, and asks `fetch` for the rest.
pub fn finder<'a>(
    at_hand: &'a HashMap<Seq, Record>,
    mut fetch: impl FnMut(Seq) -> Result<Option<Record>, String> + 'a,
) -> impl FnMut(Seq) -> Result<Record, String> + 'a {
    move |seq| match at_hand.get(&seq) {
        Some(record) => Ok(record.clone()),
        None => fetch(seq)?.ok_or_else(|| format!("record {seq} is missing")),
    }
}

/// One of the log's own records as an event for those who asked.
fn own_event(record: &Record) -> (String, String) {
    let kind = format!("posthouse.{}", record.kind);
    let payload = format!("{{\"id\":\"posthouse_{}\",\"data\":{}}}", record.seq, record.payload);
    let json = event::render(&kind, &payload, Some(record.at));
    (kind, json)
}

/// Line breaks between a JSON text's tokens become blanks: an event is one line of a stream.
/// Inside of its texts they are escaped anyway.
fn one_line(json: String) -> String {
    if json.contains(['\n', '\r']) { json.replace(['\n', '\r'], " ") } else { json }
}
