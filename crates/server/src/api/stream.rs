//! `…/events/stream`: follows a session's log as server-sent events.
//!
//! A stream reads the log from its starting place, then follows its end. Each event carries its
//! place as `id:`, so that a stream which was cut goes on exactly there. Previews pass beside
//! the log and carry none.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use posthouse_engine::{
    sessions,
    summary::Status,
    view::{self, View},
};
use posthouse_protocol::{ApiError, event::kind as wire, id::IdKind, query::Query, schema::lists};
use posthouse_store::{Log, Preview, Record, Seq, SessionRow, Tail, Tick, log::Range};
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use super::{
    Call, Refusal,
    call::now,
    events::{fetch, queued_among, view_of},
    sessions as session_routes,
};
use crate::keys::mint;

/// How often a silent stream says that it lives.
const PING_EVERY: Duration = Duration::from_secs(15);
/// How many records are read at a time.
const CHUNK: usize = 500;

/// `GET /v1/sessions/{session}/events/stream`.
///
/// # Errors
/// 404, 400 that names the parameter or header.
pub async fn session(call: Call) -> Result<Response, Refusal> {
    let row = session_routes::find_row(&call)?;
    open(call, row).await
}

/// `GET /v1/sessions/{session}/threads/{thread}/stream`: the thread's own log. That of the
/// primary thread is the session's.
///
/// # Errors
/// 404, 400 that names the parameter or header.
pub async fn thread(call: Call) -> Result<Response, Refusal> {
    let row = session_routes::find_row(&call)?;
    super::threads::check(&call, &row)?;
    open(call, row).await
}

async fn open(call: Call, row: SessionRow) -> Result<Response, Refusal> {
    let mut query = call.query()?;
    let view = view_of(&call, &mut query)?;
    let deltas = deltas(&mut query)?;
    let place = wanted_place(&call, &mut query)?;
    query.finish(&lists::STREAM)?;
    let log = call.app.engine.log().clone();
    // Watching comes first: what is appended from here on is heard, what was before is read.
    let tail = log.watch(&row.id);
    let row = log.row(&row.id)?.ok_or_else(|| ApiError::not_found("Session not found."))?;
    let start = match place {
        Some(place) => place,
        None => first_place(&call, &row)?,
    };
    session_routes::show_end(&call, &row).await?;
    // A session that is over has nothing more to say than what its log holds.
    let over = row.status == Status::Terminated.as_str() && start >= row.head;
    let mut follower = Follower {
        log,
        thread: session_routes::primary_thread(&row)?,
        row,
        tail,
        view,
        deltas,
        read_to: start,
        previewed: HashSet::new(),
        finished: HashSet::new(),
        frames: VecDeque::new(),
        ping_at: Instant::now() + PING_EVERY,
        stopping: call.app.stopping.clone(),
        state: if over { FollowerState::Over } else { FollowerState::Behind },
    };
    // The first bytes tell the client that the stream is up before anything happens.
    follower.frames.push_back(Bytes::from_static(b": stream open\n\n"));
    let frames = stream::unfold(follower, |mut follower| async move {
        let frame = follower.next().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), follower))
    });
    let mut response = Body::from_stream(frames).into_response();
    let headers = response.headers_mut();
    headers
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Which previews the client wants.
fn deltas(query: &mut Query) -> Result<HashSet<String>, Refusal> {
    Ok(query.choices(&lists::DELTAS, |_| false)?.into_iter().collect())
}

/// Where the client wants to go on: behind the last event that it has seen.
fn wanted_place(call: &Call, query: &mut Query) -> Result<Option<Seq>, Refusal> {
    let parse = |name: &str, text: &str| {
        text.parse::<Seq>().ok().filter(|seq| *seq >= 0).ok_or_else(|| {
            ApiError::invalid(format!(
                "{name}: {text:?} is no place in a log; send the id of the last event that came"
            ))
        })
    };
    let after = query.one(&lists::STREAM_AFTER)?.map(|text| parse("after", &text)).transpose()?;
    let header = call.header("last-event-id").filter(|text| !text.is_empty());
    let last = header.map(|text| parse("Last-Event-ID", text)).transpose()?;
    // A client that reconnects by itself keeps the address it began with.
    Ok(last.or(after))
}

/// Where a stream begins that names no place: with what happens next. A turn that is under way,
/// or that has just ended without anybody seeing its end, is shown from its beginning, for
/// clients that send first and open their stream afterwards.
fn first_place(call: &Call, row: &SessionRow) -> Result<Seq, Refusal> {
    let summary = sessions::read_summary(&row.fold)?;
    let unseen = summary.turn_end > 0
        && row.shown < summary.turn_end
        && summary.turn_ended_at.0 >= call.at.0 - session_routes::REPLAY_WINDOW;
    let replays = summary.status.is_working() || (summary.status == Status::Idle && unseen);
    Ok(if replays { summary.turn_start - 1 } else { row.head })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FollowerState {
    /// The log has to be read.
    Behind,
    /// Everything in the log has been sent.
    Level,
    /// Nothing more will come.
    Over,
}

/// What has ended a wait.
enum Woken {
    Tick(Result<Tick, posthouse_store::Behind>),
    Silence,
    Stop,
}

/// One stream.
struct Follower {
    log: Log,
    row: SessionRow,
    thread: std::sync::Arc<str>,
    tail: Tail,
    view: View,
    deltas: HashSet<String>,
    /// The last record that was looked at.
    read_to: Seq,
    /// Events whose preview this stream has begun.
    previewed: HashSet<String>,
    /// Events of this turn that were sent already: a late preview of one is dropped.
    finished: HashSet<String>,
    frames: VecDeque<Bytes>,
    ping_at: Instant,
    stopping: watch::Receiver<bool>,
    state: FollowerState,
}

impl Follower {
    /// The next bytes, or nothing when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frames) = self.ready() {
                self.ping_at = Instant::now() + PING_EVERY;
                return Some(frames);
            }
            match self.state {
                FollowerState::Over => return None,
                FollowerState::Behind => {
                    if let Err(reason) = self.read().await {
                        tracing::error!(session = self.row.id, reason, "a stream has ended");
                        self.end_with_error();
                    }
                }
                FollowerState::Level => {
                    let woken = tokio::select! {
                        tick = self.tail.next() => Woken::Tick(tick),
                        () = tokio::time::sleep_until(self.ping_at) => Woken::Silence,
                        _ = self.stopping.wait_for(|stopping| *stopping) => Woken::Stop,
                    };
                    match woken {
                        Woken::Tick(tick) => self.hear(tick),
                        Woken::Silence => self.frames.push_back(Bytes::from_static(
                            b"event: ping\ndata: {\"type\":\"ping\"}\n\n",
                        )),
                        Woken::Stop => self.state = FollowerState::Over,
                    }
                }
            }
        }
    }

    /// All frames that are ready, as one piece: each piece is a write to the socket.
    fn ready(&mut self) -> Option<Bytes> {
        if self.frames.len() <= 1 {
            return self.frames.pop_front();
        }
        let mut joined = BytesMut::with_capacity(self.frames.iter().map(Bytes::len).sum());
        for frame in self.frames.drain(..) {
            joined.extend_from_slice(&frame);
        }
        Some(joined.freeze())
    }

    /// Reads the next part of the log.
    async fn read(&mut self) -> Result<(), String> {
        let range = Range { limit: CHUNK, ..Range::after(self.read_to) };
        let read = self.log.read_many(self.row.number, range).await;
        let records = read.map_err(|error| error.to_string())?;
        if records.len() < CHUNK && self.state == FollowerState::Behind {
            self.state = FollowerState::Level;
        }
        self.show(&records)
    }

    fn hear(&mut self, tick: Result<Tick, posthouse_store::Behind>) {
        match tick {
            Ok(Tick::Records(records)) => {
                let fresh = records.partition_point(|record| record.seq <= self.read_to);
                let fresh = &records[fresh..];
                if fresh.first().is_some_and(|first| first.seq > self.read_to + 1) {
                    self.state = FollowerState::Behind;
                } else if let Err(reason) = self.show(fresh) {
                    tracing::error!(session = self.row.id, reason, "a stream has ended");
                    self.end_with_error();
                }
            }
            Ok(Tick::Preview(preview)) => self.preview(&preview),
            Ok(Tick::Deleted) => {
                let id = mint(IdKind::Event, now()).unwrap_or_default();
                let event = json!({
                    "id": id,
                    "type": wire::SESSION_DELETED,
                    "processed_at": now().to_rfc3339(),
                });
                self.frames.push_back(frame(None, wire::SESSION_DELETED, &event.to_string()));
                self.state = FollowerState::Over;
            }
            Err(posthouse_store::Behind) => {
                // Pieces of open previews are lost: what is left would be no beginning of the
                // text any more.
                self.finished.extend(self.previewed.drain());
                self.state = FollowerState::Behind;
            }
        }
    }

    fn show(&mut self, records: &[Record]) -> Result<(), String> {
        let at_hand = queued_among(records);
        let (log, number) = (self.log.clone(), self.row.number);
        let mut find = view::finder(&at_hand, |seq| fetch(&log, number, seq));
        for record in records {
            if let Some(event) = self.view.show(record, &mut find)? {
                let place = record.seq.to_string();
                self.frames.push_back(frame(Some(&place), &event.kind, &event.json));
            }
            self.read_to = record.seq;
            match &*record.kind {
                wire::AGENT_MESSAGE | wire::AGENT_THINKING if !self.deltas.is_empty() => {
                    if let Some(id) = event_id(&record.payload) {
                        self.previewed.remove(id);
                        self.finished.insert(id.to_owned());
                    }
                }
                wire::STATUS_IDLE => self.finished.clear(),
                wire::STATUS_TERMINATED => self.state = FollowerState::Over,
                _ => {}
            }
        }
        Ok(())
    }

    fn preview(&mut self, preview: &Preview) {
        if preview.thread != self.thread || !self.deltas.contains(preview.kind) {
            return;
        }
        let id = &*preview.event;
        let kind = if preview.opens {
            if self.finished.contains(id) || !self.previewed.insert(id.to_owned()) {
                return;
            }
            "event_start"
        } else {
            if !self.previewed.contains(id) {
                return;
            }
            "event_delta"
        };
        self.frames.push_back(frame(None, kind, &preview.body));
    }

    fn end_with_error(&mut self) {
        let error = json!({
            "type": "error",
            "error": { "type": "api_error", "message": "Internal server error" },
        });
        self.frames.push_back(frame(None, "error", &error.to_string()));
        self.state = FollowerState::Over;
    }
}

/// The id with which an event's payload begins.
fn event_id(payload: &str) -> Option<&str> {
    payload.strip_prefix("{\"id\":\"")?.split('"').next()
}

/// One server-sent event. `data` is one line.
fn frame(place: Option<&str>, kind: &str, data: &str) -> Bytes {
    let mut frame = String::with_capacity(kind.len() + data.len() + 48);
    if let Some(place) = place {
        frame.push_str("id: ");
        frame.push_str(place);
        frame.push('\n');
    }
    frame.push_str("event: ");
    frame.push_str(kind);
    frame.push_str("\ndata: ");
    frame.push_str(data);
    frame.push_str("\n\n");
    frame.into()
}
