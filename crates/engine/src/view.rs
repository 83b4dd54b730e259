//! The log as clients see it: which records are events, and at which place each stands.
//!
//! A client's queued event stands where it was taken, not where it was sent. Lists and streams
//! share this file, so that they can't differ.

use std::{collections::HashMap, fmt, str::FromStr};

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

/// The place of an event: the record that shows it, and which of its events it is. An
/// `input_taken` can show several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The record.
    pub seq: Seq,
    /// How many of the record's events come before and are not the last one; `None` stands for
    /// the last event, and so for "all of this record".
    pub part: Part,
}

/// A part of a record's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Part {
    /// The event with this number, counted from 0, which is not the last.
    Some(u32),
    /// The last event, and with it the whole record.
    #[default]
    All,
}

impl Place {
    /// Behind all events of a record.
    #[must_use]
    pub fn behind(seq: Seq) -> Self {
        Self { seq, part: Part::All }
    }

    /// The last record that is wholly before this place's successor.
    #[must_use]
    pub fn whole(self) -> Seq {
        match self.part {
            Part::All => self.seq,
            Part::Some(_) => self.seq - 1,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::All => write!(f, "{}", self.seq),
            Part::Some(part) => write!(f, "{}.{part}", self.seq),
        }
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (seq, part) = match text.split_once('.') {
            Some((seq, part)) => (seq, Part::Some(part.parse().map_err(|_| ())?)),
            None => (text, Part::All),
        };
        let seq = seq.parse().map_err(|_| ())?;
        if seq < 0 { Err(()) } else { Ok(Self { seq, part }) }
    }
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
    /// The events that a record shows, in order. `queued` finds the record of a queued event.
    ///
    /// # Errors
    /// A sentence, when the log is not what this version writes.
    pub fn show(
        &self,
        record: &Record,
        queued: &mut dyn FnMut(Seq) -> Result<Record, String>,
    ) -> Result<Vec<Shown>, String> {
        let kind = &*record.kind;
        if QUEUED.contains(&kind) {
            return Ok(Vec::new());
        }
        let mut shown = Vec::new();
        if kind == own::kind::INPUT_TAKEN {
            let InputTaken { taken } = parse(record)?;
            for one in taken {
                let sent = queued(one.seq)?;
                shown.push((
                    sent.kind.to_string(),
                    event::render(&sent.kind, &sent.payload, Some(record.at)),
                ));
            }
        }
        if kind.contains('.') {
            shown.push((kind.to_owned(), event::render(kind, &record.payload, Some(record.at))));
        } else if self.own {
            shown.push(own_event(record));
        }
        let last = shown.len().saturating_sub(1);
        let place = |index: usize| {
            let part = match u32::try_from(index) {
                Ok(index_32) if index < last => Part::Some(index_32),
                _ => Part::All,
            };
            Place { seq: record.seq, part }
        };
        let finish = |(index, (kind, json)): (usize, (String, String))| Shown {
            place: place(index),
            kind,
            at: Some(record.at),
            json: one_line(json),
        };
        Ok(shown.into_iter().enumerate().map(finish).collect())
    }
}

/// A queued event that nobody has taken yet. Its place is behind everything.
#[must_use]
pub fn waiting(record: &Record) -> Shown {
    Shown {
        place: Place { seq: Seq::MAX, part: Part::Some(u32::try_from(record.seq).unwrap_or(0)) },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_order_and_survive_their_text() {
        let places = [
            Place::behind(3),
            Place { seq: 4, part: Part::Some(0) },
            Place { seq: 4, part: Part::Some(1) },
            Place::behind(4),
        ];
        assert!(places.is_sorted());
        for place in places {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        for text in ["", "-1", "a", "1.x", "1.2.3"] {
            assert_eq!(text.parse::<Place>(), Err(()), "{text:?}");
        }
    }
}
