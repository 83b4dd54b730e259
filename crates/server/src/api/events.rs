//! `/v1/sessions/{session}/events`: takes and lists events.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use posthouse_engine::{
    input::{self, Known},
    line::Scribe,
    own, sessions,
    summary::Summary,
    view::{self, Place, QUEUED, Shown, View},
};
use posthouse_protocol::{
    ApiError, ErrorKind,
    event::{self, ClientEvent, kind as wire},
    id::IdKind,
    page::{Cursor, Order, Page, Position},
    query::{Query, TimeRange},
    schema::lists,
};
use posthouse_store::{
    Log, Record, SessionRow,
    answers::Post,
    log::{Answered, Input, Range},
};
use serde::Deserialize;

use super::{Answer, Call, Refusal, sessions as session_routes};

const LIST: &str = "events";
const THREAD_LIST: &str = "thread_events";

/// `POST /v1/sessions/{session}/events`: all events or none, durable before the answer.
///
/// # Errors
/// 404, 400 that names the event.
pub async fn send(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let events = ClientEvent::parse_batch(call.body())?;
    let session = call.id(0, IdKind::Session)?.to_owned();
    let answered = take(&call, &session, events, Some(call.post()?)).await?;
    Ok(call.answer(answered))
}

/// Gives events to a session of the caller's workspace, all or none. They are durable when this
/// returns. `post` is there when a retry is to be answered as before.
///
/// # Errors
/// 404, 400 that names the event.
pub(super) async fn take(
    call: &Call,
    session: &str,
    events: Vec<ClientEvent>,
    post: Option<Post>,
) -> Result<Answered, Refusal> {
    // Messages and interrupts, by far the most, need no look at the session in advance.
    let plain = |event: &ClientEvent| {
        matches!(event, ClientEvent::Message { .. } | ClientEvent::Interrupt { .. })
    };
    let known = if events.iter().all(plain) {
        Known::new()
    } else {
        let row = session_routes::row(call, session)?;
        if events.iter().any(|event| matches!(event, ClientEvent::System { .. })) {
            check_system_messages(call, &row)?;
        }
        known_answers(call, &row, &events).await?
    };
    let workspace = Arc::clone(&call.principal.workspace);
    let engine = call.app.engine.clone();
    let (at, chance, boot) = (call.at, engine.chance().clone(), engine.boot().to_string());
    // Messages can be large: all that takes time is done before the transaction.
    let events = input::write(events, &mut Scribe { now: at, random: &mut || chance.bytes() });
    let woken = Arc::new(AtomicBool::new(false));
    let wakes = Arc::clone(&woken);
    let appended = engine.log().append_input(session, at, post, move |glance| {
        if *glance.row.workspace != *workspace {
            return Err(session_routes::missing().into());
        }
        let summary = sessions::read_summary(&glance.row.fold)?;
        let mut random = || chance.bytes();
        let scribe = Scribe { now: at, random: &mut random };
        let accepted = input::accept(summary, events, &known, glance.stamp, scribe)?;
        wakes.store(accepted.wakes, Ordering::Relaxed);
        Ok(Input {
            drafts: accepted.drafts,
            answer: format!("{{\"data\":[{}]}}", accepted.echo.join(",")),
            claim: accepted.wakes.then_some(boot),
        })
    });
    let mut answered = appended.await.map_err(session_routes::refused)?;
    if woken.load(Ordering::Relaxed) {
        engine.wake_with(session, answered.appended.take());
    }
    Ok(answered)
}

/// A message for the model's operator in the middle of a conversation is not every model's.
fn check_system_messages(call: &Call, row: &SessionRow) -> Result<(), Refusal> {
    let document = sessions::read_document(&call.app.engine.log().document(row.number)?)?;
    let model = &document.agent.model.id;
    let resolved = call.app.engine.providers().resolve(model);
    if resolved.is_ok_and(|resolved| resolved.spec.mid_conversation_system) {
        return Ok(());
    }
    Err(ApiError::invalid(format!(
        "events: the model {model} takes no system.message in the middle of a conversation; send \
         it as a user.message or use another model"
    ))
    .with_code("model_does_not_support_mid_conversation_system")
    .into())
}

/// What is known of the calls that a batch answers and that are not open: a call is looked for
/// in the log only then, because it is seldom and takes a walk.
async fn known_answers(
    call: &Call,
    row: &SessionRow,
    events: &[ClientEvent],
) -> Result<Known, Refusal> {
    let answers: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            ClientEvent::Confirmation { call, .. } | ClientEvent::CustomToolResult { call, .. } => {
                Some(call.as_str())
            }
            _ => None,
        })
        .collect();
    let mut known = Known::new();
    if answers.is_empty() {
        return Ok(known);
    }
    let summary: Summary = sessions::read_summary(&row.fold)?;
    let open = |call: &str| summary.unanswered().any(|open| &*open.id == call);
    if answers.iter().all(|call| open(call)) {
        // Whoever answers the same call at the same moment finds it answered then.
        known.extend(answers.iter().map(|call| ((*call).to_owned(), None)));
        return Ok(known);
    }
    let kinds = [
        wire::AGENT_TOOL_USE,
        wire::AGENT_MCP_TOOL_USE,
        wire::AGENT_CUSTOM_TOOL_USE,
        wire::USER_TOOL_CONFIRMATION,
        wire::USER_CUSTOM_TOOL_RESULT,
    ];
    let range = Range { kinds: kinds.map(str::to_owned).to_vec(), ..Range::after(0) };
    for record in call.app.engine.log().read_many(row.number, range).await? {
        let Ok(named) = serde_json::from_str::<Named>(&record.payload) else { continue };
        match named.answered {
            Some(answered) => {
                let earlier = event::render(&record.kind, &record.payload, Some(record.at));
                known.insert(answered, Some(earlier));
            }
            None if asks(&record) => {
                known.entry(named.id).or_insert(None);
            }
            None => {}
        }
    }
    Ok(known)
}

/// Whether a call was ever one for the client to answer.
fn asks(record: &Record) -> bool {
    &*record.kind == wire::AGENT_CUSTOM_TOOL_USE
        || record.payload.contains("\"evaluated_permission\":\"ask\"")
}

#[derive(Deserialize)]
struct Named {
    id: String,
    #[serde(alias = "tool_use_id", alias = "custom_tool_use_id")]
    answered: Option<String>,
}

/// `GET /v1/sessions/{session}/events`.
///
/// # Errors
/// 404, 400 that names the parameter.
pub async fn list(call: Call) -> Result<Answer, Refusal> {
    let row = session_routes::find_row(&call)?;
    let mut query = call.query()?;
    let order = query.order(&lists::OLDEST_FIRST)?;
    let times = query.times(&lists::CREATED)?;
    let view = view_of(&call, &mut query)?;
    let own = |kind: &str| view.own && kind.starts_with("posthouse.");
    let types = query.choices(&lists::EVENT_TYPES, own)?;
    let selection = Selection {
        order,
        times,
        types,
        limit: query.limit(&lists::LIMIT_ALL)?,
        after: query.integer(&lists::AFTER)?.unwrap_or(lists::AFTER.default_integer()),
        before: query.integer(&lists::BEFORE)?.unwrap_or(i64::MAX),
        cursor: query.page(&lists::PAGE, LIST, order)?,
        view,
    };
    query.finish(&lists::EVENTS)?;
    admit(call.app.engine.log(), &row, &selection)?;

    page(&call, row, selection, LIST).await
}

/// `GET /v1/sessions/{session}/threads/{thread}/events`: the thread's own log. That of the
/// primary thread is the session's.
///
/// # Errors
/// 404, 400 that names the parameter.
pub async fn list_thread(call: Call) -> Result<Answer, Refusal> {
    let row = session_routes::find_row(&call)?;
    super::threads::check(&call, &row)?;
    let mut query = call.query()?;
    let view = view_of(&call, &mut query)?;
    let selection = Selection {
        order: Order::Asc,
        times: TimeRange::default(),
        types: Vec::new(),
        limit: query.limit(&lists::LIMIT_ALL)?,
        after: 0,
        before: i64::MAX,
        cursor: query.page(&lists::PAGE, THREAD_LIST, Order::Asc)?,
        view,
    };
    query.finish(&lists::THREAD_EVENTS)?;
    page(&call, row, selection, THREAD_LIST).await
}

/// Whether the caller wants the log's own records. What was sent to a provider and came back
/// is for administrators.
pub(super) fn view_of(call: &Call, query: &mut Query) -> Result<View, Refusal> {
    let own = query.flag(&lists::OWN)?;
    if own && !call.principal.admin {
        return Err(ApiError::new(
            ErrorKind::Permission,
            "posthouse_events: needs an administrator's key; leave it out",
        )
        .into());
    }
    Ok(View { own })
}

/// Refuses bounds that leave out the event at which a cursor stands.
///
/// # Errors
/// 400 that names the bounds.
fn admit(log: &Log, row: &SessionRow, selection: &Selection) -> Result<(), Refusal> {
    let Some(cursor) = selection.cursor.as_ref().filter(|_| !selection.times.is_open()) else {
        return Ok(());
    };
    let Place::At(seq) = place_of(cursor)? else { return Ok(()) };
    match fetch(log, row.number, seq).map_err(damaged)? {
        Some(record) if !selection.times.contains(record.at) => {
            Err(TimeRange::out_of_bounds(lists::CREATED.name).into())
        }
        _ => Ok(()),
    }
}

struct Selection {
    order: Order,
    times: TimeRange,
    types: Vec<String>,
    limit: usize,
    after: i64,
    before: i64,
    cursor: Option<Cursor>,
    view: View,
}

impl Selection {
    fn wants(&self, shown: &Shown) -> bool {
        let in_time = match shown.at {
            Some(at) => self.times.contains(at),
            None => self.times.is_open(),
        };
        in_time && (self.types.is_empty() || self.types.contains(&shown.kind))
    }

    /// The kinds of records that can show an event that is wanted.
    fn kinds(&self) -> Vec<String> {
        if self.types.is_empty() {
            return Vec::new();
        }
        let mut kinds: Vec<String> = self
            .types
            .iter()
            .map(|kind| kind.strip_prefix("posthouse.").unwrap_or(kind).to_owned())
            .collect();
        if self.types.iter().any(|kind| QUEUED.contains(&kind.as_str())) {
            kinds.push(own::kind::INPUT_TAKEN.to_owned());
        }
        kinds
    }

    /// Whether an event lies behind the cursor, in the list's order.
    fn is_behind(&self, place: Place, cursor: Option<Place>) -> bool {
        match (cursor, self.order) {
            (None, _) => true,
            (Some(cursor), Order::Asc) => place > cursor,
            (Some(cursor), Order::Desc) => place < cursor,
        }
    }
}

async fn page(
    call: &Call,
    row: SessionRow,
    selection: Selection,
    kind: &'static str,
) -> Result<Answer, Refusal> {
    let log = call.app.engine.log();
    let summary = sessions::read_summary(&row.fold)?;
    let cursor = selection.cursor.as_ref().map(place_of).transpose()?;
    let mut shown = Vec::new();
    let waiting = || waiting(log, &row, &summary, &selection, cursor);
    if selection.order == Order::Desc {
        shown.extend(waiting()?);
    }
    let done = collect(log, &row, &selection, cursor, &mut shown).await?;
    if selection.order == Order::Asc && done {
        shown.extend(waiting()?);
    }
    let more = shown.len() > selection.limit;
    shown.truncate(selection.limit);
    if shown.iter().any(|event| event.place == Place::At(summary.turn_end)) {
        session_routes::show_end(call, &row).await?;
    }
    let next = shown.last().filter(|_| more).map(|last| {
        let position = match last.place {
            Place::At(seq) => Position { number: seq, id: String::new() },
            Place::Waiting(seq) => Position { number: i64::MAX, id: seq.to_string() },
        };
        Cursor::after(kind, selection.order, position).encode()
    });
    let data: Vec<String> = shown.into_iter().map(|event| event.json).collect();
    Ok(Answer::new(Page::forward(data, next).to_json()))
}

/// Collects events of the log until there is one more than the page shows. True when the log
/// has no more.
async fn collect(
    log: &Log,
    row: &SessionRow,
    selection: &Selection,
    cursor: Option<Place>,
    shown: &mut Vec<Shown>,
) -> Result<bool, Refusal> {
    let mut range = Range {
        after: selection.after,
        before: selection.before.min(row.head + 1),
        limit: selection.limit + 1,
        newest_first: selection.order == Order::Desc,
        kinds: selection.kinds(),
        times: (selection.times.first(), selection.times.last()),
    };
    match (cursor, selection.order) {
        (None, _) => {}
        (Some(Place::At(seq)), Order::Asc) => range.after = range.after.max(seq),
        (Some(Place::At(seq)), Order::Desc) => range.before = range.before.min(seq),
        // What waits stands behind the whole log.
        (Some(Place::Waiting(_)), Order::Asc) => return Ok(true),
        (Some(Place::Waiting(_)), Order::Desc) => {}
    }
    while shown.len() <= selection.limit {
        let records = log.read_many(row.number, range.clone()).await?;
        let last = records.last().map(|record| record.seq);
        let full = records.len() == range.limit;
        let at_hand = queued_among(&records);
        let mut find = view::finder(&at_hand, |seq| fetch(log, row.number, seq));
        for record in &records {
            let event = selection.view.show(record, &mut find).map_err(damaged)?;
            shown.extend(event.filter(|event| selection.wants(event)));
        }
        match last {
            Some(last) if full && selection.order == Order::Asc => range.after = last,
            Some(last) if full => range.before = last,
            _ => return Ok(true),
        }
    }
    Ok(false)
}

/// The events that nobody has taken yet, in the list's order.
fn waiting(
    log: &Log,
    row: &SessionRow,
    summary: &Summary,
    selection: &Selection,
    cursor: Option<Place>,
) -> Result<Vec<Shown>, Refusal> {
    let mut events = Vec::new();
    for seq in &summary.waiting {
        if let Some(record) = fetch(log, row.number, *seq).map_err(damaged)? {
            events.push(view::waiting(&record));
        }
    }
    if selection.order == Order::Desc {
        events.reverse();
    }
    events.retain(|event| selection.is_behind(event.place, cursor) && selection.wants(event));
    Ok(events)
}

/// Those of some records that hold queued events.
pub(super) fn queued_among(records: &[Record]) -> HashMap<i64, Record> {
    let queued = records.iter().filter(|record| QUEUED.contains(&&*record.kind));
    queued.map(|record| (record.seq, record.clone())).collect()
}

/// One record by its place.
pub(super) fn fetch(log: &Log, number: i64, seq: i64) -> Result<Option<Record>, String> {
    let range = Range { before: seq + 1, ..Range::after(seq - 1) };
    let records = log.read(number, &range).map_err(|error| error.to_string())?;
    Ok(records.into_iter().next())
}

/// A log that can't be shown is the server's fault.
pub(super) fn damaged(reason: String) -> Refusal {
    Refusal::Fault(reason.into())
}

fn place_of(cursor: &Cursor) -> Result<Place, ApiError> {
    let position = &cursor.position;
    if position.id.is_empty() {
        return Ok(Place::At(position.number));
    }
    let seq = position.id.parse().map_err(|_| ApiError::invalid("invalid page cursor"))?;
    Ok(Place::Waiting(seq))
}
