//! What goes out on a connection: bytes, pauses and ends, and the way from text to them.
//!
//! Never knows what an event means; that is each wire's.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

/// What is sent, in order.
#[derive(Debug)]
pub(super) enum Frame {
    Data(Bytes),
    Pause(Duration),
    Stall,
    Cut,
}

/// One server-sent event with a name, with the given JSON as its data.
pub(super) fn event(name: &str, data: &Value) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// One server-sent event without a name.
pub(super) fn data(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// What keeps a connection open on wires that have no ping of their own.
pub(super) const COMMENT: &str = ": ping\n\n";

/// Ends a body after exactly so many bytes, or after its last one if it is shorter.
pub(super) fn cut_after(frames: Vec<Frame>, bytes: Option<usize>) -> Vec<Frame> {
    let Some(mut left) = bytes else { return frames };
    let mut kept = Vec::with_capacity(frames.len() + 1);
    for frame in frames {
        match frame {
            Frame::Data(data) if data.len() >= left => {
                kept.push(Frame::Data(data.slice(..left)));
                break;
            }
            Frame::Data(data) => {
                left -= data.len();
                kept.push(Frame::Data(data));
            }
            other => kept.push(other),
        }
    }
    kept.push(Frame::Cut);
    kept
}

/// Joins what can go out in one write.
#[derive(Default)]
pub(super) struct Reel {
    frames: Vec<Frame>,
    open: String,
}

impl Reel {
    pub(super) fn push(&mut self, text: &str) {
        self.open.push_str(text);
    }

    pub(super) fn frame(&mut self, frame: Frame) {
        if !self.open.is_empty() {
            self.frames.push(Frame::Data(std::mem::take(&mut self.open).into()));
        }
        self.frames.push(frame);
    }

    /// A pause of so many milliseconds, if one is given.
    pub(super) fn pause(&mut self, milliseconds: Option<u64>) {
        if let Some(milliseconds) = milliseconds {
            self.frame(Frame::Pause(Duration::from_millis(milliseconds)));
        }
    }

    pub(super) fn finish(mut self) -> Vec<Frame> {
        if !self.open.is_empty() {
            self.frames.push(Frame::Data(self.open.into()));
        }
        self.frames
    }
}

/// The pieces of a text: one, or so many characters each. An empty text has none.
pub(super) fn chunks(text: &str, size: Option<usize>) -> Vec<String> {
    match size {
        None if text.is_empty() => Vec::new(),
        None => vec![text.to_owned()],
        Some(size) => {
            let characters: Vec<char> = text.chars().collect();
            characters.chunks(size).map(|part| part.iter().collect()).collect()
        }
    }
}
