//! `/posthouse/v1/sandboxes`: the sandboxes that live, how one is ended, and what those of a session
//! have done.
//!
//! What a sandbox is and how it ends is known to the engine's hands; this file looks whose it
//! is.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use posthouse_engine::{
    input::{self, Known},
    line::Scribe,
    sessions,
};
use posthouse_protocol::{
    event::ClientEvent,
    page::{Cursor, Order, Page, Position},
    schema::{lists, own as schema},
};
use posthouse_store::{
    log::Input,
    tables::sandbox_records::{self, SandboxRecordRow},
};
use serde_json::{Value, json};

use super::{Answer, Call, Refusal, sessions as session_routes};

const RECORDS: &str = "sandbox_records";

/// `GET /posthouse/v1/sandboxes`: those of the caller's sessions.
///
/// # Errors
/// 400 when a query is sent.
pub async fn list(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let engine = &call.app.engine;
    let mut data: Vec<Value> = Vec::new();
    for (session, sandbox) in engine.hands().live() {
        let row = engine.log().row(&session)?;
        if row.is_some_and(|row| *row.workspace == *call.principal.workspace) {
            data.push(sandbox);
        }
    }
    Ok(Answer::new(json!({ "data": data }).to_string()))
}

/// `GET /posthouse/v1/sandboxes/{session}/records`: what the session's sandboxes were made with, what
/// their doors have let through and refused, and where a secret was put in; the newest first.
///
/// # Errors
/// 400 about the query, 404.
pub async fn records(call: Call) -> Result<Answer, Refusal> {
    let mut query = call.query()?;
    let limit = query.limit(&lists::LIMIT_MANY)?;
    let cursor = query.page(&lists::PAGE, RECORDS, Order::Desc)?;
    let kinds = query.choices(&schema::RECORD_TYPES, |_| false)?;
    query.finish(&schema::RECORDS)?;
    let session = session_routes::find_row(&call)?.id;
    // What was decided a moment ago is on its way into the database.
    call.app.vaults.flush_records().await;
    let look = move |connection: &_| {
        let after = cursor.as_ref().map(|at| (at.position.number, at.position.id.as_str()));
        sandbox_records::list(connection, &session, &kinds, after, limit + 1)
    };
    let rows = call.app.database.read_many(look).await?;
    let cursor = |row: &SandboxRecordRow| {
        let position = Position { number: row.at, id: row.id.clone() };
        Cursor::after(RECORDS, Order::Desc, position)
    };
    Ok(Answer::new(Page::cut(rows, limit, cursor, |row| row.body).to_json()))
}

/// `POST /posthouse/v1/sandboxes/{session}/kill`: interrupts the session if it is at work, then
/// ends its sandbox with all that runs in it.
///
/// # Errors
/// 400 for an `Idempotency-Key`, 404.
pub async fn kill(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    call.no_idempotency_key("the answer says what was there at the time, and is not kept")?;
    call.no_fields()?;
    let session = session_routes::find_row(&call)?.id;
    interrupt(&call, &session).await?;
    let was_live = call.app.engine.hands().kill(&session).await;
    let answer = json!({ "type": "sandbox_killed", "session_id": session, "was_live": was_live });
    Ok(Answer::new(answer.to_string()))
}

/// Appends a `user.interrupt`, as if the client had sent one, when the session is at work.
async fn interrupt(call: &Call, session: &str) -> Result<(), Refusal> {
    let engine = &call.app.engine;
    let (at, chance, boot) = (call.at, engine.chance().clone(), engine.boot().to_string());
    let events = vec![ClientEvent::Interrupt { thread: None }];
    let events = input::write(events, &mut Scribe { now: at, random: &mut || chance.bytes() });
    let woken = Arc::new(AtomicBool::new(false));
    let wakes = Arc::clone(&woken);
    let appended = engine.log().append_input(session, at, None, move |glance| {
        let summary = sessions::read_summary(&glance.row.fold)?;
        if !summary.status.is_working() {
            return Ok(Input { drafts: Vec::new(), answer: String::new(), claim: None });
        }
        let mut random = || chance.bytes();
        let scribe = Scribe { now: at, random: &mut random };
        let accepted = input::accept(summary, events, &Known::new(), glance.stamp, scribe)?;
        wakes.store(accepted.wakes, Ordering::Relaxed);
        Ok(Input {
            drafts: accepted.drafts,
            answer: String::new(),
            claim: accepted.wakes.then_some(boot),
        })
    });
    let mut answered = appended.await.map_err(session_routes::refused)?;
    if woken.load(Ordering::Relaxed) {
        engine.wake_with(session, answered.appended.take());
    }
    Ok(())
}
