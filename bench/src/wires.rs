//! What each wire costs: reading a streamed token, and rendering a step of a conversation.
//!
//! Streams come from a stage on loopback, in a thread of its own. They are read on this thread
//! alone, so that its processor time is the reader's. The floor reads the same bytes with the
//! same client and cuts them into events, and nothing else.
//!
//! Times are those of 1,000 tokens, or of 1,000 steps: a millisecond of them is a microsecond of
//! one.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use posthouse_model::{
    Block, Body, Event, Item, ModelSpec, Provider as _, Remote, Request, Response, Settings,
    ToolResult, ToolSpec, View, WireKind,
};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json, value::RawValue};
use sse_stream::SseByteStream;
use tokio::runtime::Runtime;

use crate::{
    Outcome,
    measure::{Report, Samples},
    recordings::{Shape, answer},
    setup::Setup,
    stage::Stage,
};

/// The name of the provider that is measured.
const OWN: &str = "bench";
/// The name of another one, whose responses have to be translated.
const ANOTHER: &str = "another";

/// How many tokens the arguments of a call have when they are streamed.
const DELTAS: usize = 50;

/// How many steps [`conversation`] has before it begins anew.
const ROUND: usize = 10;

/// Runs it.
pub(crate) fn run(setup: &Setup) -> Outcome<Report> {
    let mut report = Report::new(
        "wires",
        "of streams: median to that of reading the same bytes and cutting them into events; of \
         rendering: median to that of `serde_json::to_vec` of an equal value",
    );
    report.note("times are those of 1,000 tokens or 1,000 steps: 1 ms of them is 1 us of one");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut takes = Vec::new();
    for wire in WireKind::ALL {
        setup.go_on()?;
        streams(setup, &runtime, wire, &mut report)?;
        takes.push(Takes::of(setup, &runtime, wire)?);
    }
    for (index, own) in takes.iter().enumerate() {
        // Of another wire, and so of another provider.
        let another = &takes[(index + 1) % takes.len()];
        renders(setup, own, another, &mut report)?;
    }
    Ok(report)
}

fn remote(wire: WireKind, stage: &Stage) -> Outcome<Remote> {
    let mut settings = Settings::new(OWN, wire, None);
    settings.base_url = stage.url();
    Ok(Remote::new(settings)?)
}

/// A request of an agent with a system prompt and eight tools.
fn request(wire: WireKind, items: Vec<Item>) -> Outcome<Request> {
    let schema = json!({
        "type": "object",
        "properties": {
            "command": { "type": "string", "description": "What is run, as bash reads it." },
            "timeout_ms": { "type": "integer", "minimum": 1, "maximum": 600_000 },
        },
        "required": ["command"],
    });
    let tool = |index: usize| {
        Outcome::Ok(ToolSpec {
            name: if index == 0 { "bash".to_owned() } else { format!("tool_{index}") },
            description: "Runs a command and returns what it has written. ".repeat(8),
            input_schema: RawValue::from_string(schema.to_string())?,
        })
    };
    Ok(Request {
        conversation: "sthr_bench".into(),
        model: "bench-model".to_owned(),
        spec: Arc::new(ModelSpec::unknown(wire)),
        effort: None,
        fast: false,
        inference_geo: None,
        system: "You deliver mail. You never lose a letter. ".repeat(40),
        tools: (0..8).map(tool).collect::<Outcome<Vec<_>>>()?.into(),
        items,
    })
}

fn user(text: &str) -> Outcome<Item> {
    let content = json!([{ "type": "text", "text": text }]);
    Ok(Item::User(RawValue::from_string(content.to_string())?.into()))
}

/// Wall clock and processor time of some work that is done on this thread.
fn timed<T>(runtime: &Runtime, work: impl Future<Output = T>) -> (T, [Duration; 2]) {
    let processor = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    let (began, before) = (Instant::now(), processor());
    let done = runtime.block_on(work);
    (done, [began.elapsed(), processor().saturating_sub(before)])
}

/// The time of a thousand, given that of some.
fn of_thousand(time: Duration, count: usize) -> Duration {
    time.mul_f64(1000.0 / count as f64)
}

/// Reads long answers over one wire.
fn streams(setup: &Setup, runtime: &Runtime, wire: WireKind, report: &mut Report) -> Outcome<()> {
    let text = setup.choose(20_000, 400);
    let calls = setup.choose(40, 4);
    let shapes = [
        Shape { number: 0, text, calls: 0, deltas: 0 },
        Shape { number: 0, text: 0, calls, deltas: DELTAS },
    ];
    let recordings = shapes.map(|shape| answer(wire, shape));
    let sizes = recordings.each_ref().map(String::len);
    let stage = Stage::start(recordings)?;
    let remote = remote(wire, &stage)?;
    let body = remote.render(&request(wire, vec![user("Go on.")?])?);
    let bare = reqwest::Client::builder().no_proxy().build()?;
    let rounds = setup.choose([100, 300], [4, 4]);
    for (index, shape) in shapes.into_iter().enumerate() {
        stage.play(index);
        let tokens = shape.text + shape.calls * shape.deltas;
        let (mut ours, mut floor): ([Samples; 2], [Samples; 2]) = Default::default();
        // The first ones make the connections and are not counted.
        for round in 0..rounds[index] + 3 {
            setup.go_on()?;
            let (cut, least) = timed(runtime, events_of(&bare, &stage, &body));
            let events = cut?;
            if events < shape.text + shape.calls {
                return Err(format!("a stream of {tokens} tokens has {events} events").into());
            }
            let (read, times) = timed(runtime, read(&remote, body.clone()));
            check(shape, &read?)?;
            if round >= 3 {
                for clock in 0..2 {
                    floor[clock].push(of_thousand(least[clock], tokens));
                    ours[clock].push(of_thousand(times[clock], tokens));
                }
            }
        }
        let what = match shape.calls {
            0 => format!("{text} tokens of text"),
            calls => format!("{calls} calls of {DELTAS} tokens"),
        };
        let clocks = ["", ", processor"];
        for ((floor, ours), clock) in floor.into_iter().zip(ours).zip(clocks) {
            let floor = floor.row(format!("floor: bytes of {}, {what}{clock}", wire.as_str()));
            let row = ours.row(format!("{}, {what}{clock}", wire.as_str())).longer_than(&floor);
            report.add([floor, row]);
        }
        let each = sizes[index] as f64 / tokens as f64;
        report.fact(format!("{}, {what}: sent a token", wire.as_str()), each, "bytes", "");
    }
    Ok(())
}

/// Reads the answer as bytes, cuts it into events and counts them.
async fn events_of(client: &reqwest::Client, stage: &Stage, body: &Body) -> Outcome<usize> {
    let request = client.post(stage.url()).body(body.bytes.clone());
    let answer = request.send().await?.error_for_status()?;
    let mut events = SseByteStream::new(answer.bytes_stream());
    let mut count = 0;
    while let Some(event) = events.next().await {
        let event = event.map_err(|error| format!("a stream can't be cut: {error}"))?;
        count += usize::from(event.data.is_some());
    }
    Ok(count)
}

/// What was heard of an answer.
struct Heard {
    deltas: usize,
    response: Response,
}

/// Reads an answer until it has ended.
async fn read(remote: &Remote, body: Body) -> Outcome<Heard> {
    let mut stream = remote.stream(body);
    let mut deltas = 0;
    while let Some(event) = stream.next().await {
        match event {
            Event::Text { .. } => deltas += 1,
            Event::Ended(response) => return Ok(Heard { deltas, response }),
            Event::Failed(failure) => return Err(failure.message.into()),
            Event::Started { .. } | Event::Usage(_) => {}
        }
    }
    Err("a stream has no end".into())
}

/// Whether all of an answer was heard.
fn check(shape: Shape, heard: &Heard) -> Outcome<()> {
    let whole = |block: &&Block| matches!(&block.view, View::ToolUse { input: Some(_), .. });
    let calls = heard.response.blocks.iter().filter(whole).count();
    if heard.deltas != shape.text || calls != shape.calls {
        return Err(format!("{shape:?} gave {} deltas and {calls} calls", heard.deltas).into());
    }
    Ok(())
}

/// Responses over one wire, as they come out of it.
struct Takes {
    wire: WireKind,
    /// Text and two calls each.
    calls: Vec<Response>,
    text: Response,
}

impl Takes {
    /// Streams them.
    fn of(setup: &Setup, runtime: &Runtime, wire: WireKind) -> Outcome<Self> {
        // Four for each round of the longest conversation.
        let count = setup.choose(400, 40);
        let shape = |number| Shape { number, text: 30, calls: 2, deltas: 12 };
        let mut shapes: Vec<_> = (1..=count).map(shape).collect();
        shapes.push(Shape { calls: 0, ..shape(0) });
        let stage = Stage::start(shapes.iter().map(|shape| answer(wire, *shape)))?;
        let remote = remote(wire, &stage)?;
        let body = remote.render(&request(wire, vec![user("Go on.")?])?);
        let mut calls = Vec::with_capacity(shapes.len());
        for (index, shape) in shapes.into_iter().enumerate() {
            stage.play(index);
            let heard = runtime.block_on(read(&remote, body.clone()))?;
            check(shape, &heard)?;
            calls.push(heard.response);
        }
        let text = calls.pop().ok_or("nothing was streamed")?;
        Ok(Self { wire, calls, text })
    }

    fn item(&self, provider: &str, response: &Response) -> Item {
        Item::Assistant {
            provider: provider.into(),
            wire: self.wire,
            blocks: response.blocks.iter().map(|block| block.native.clone()).collect(),
        }
    }
}

/// The results of a response's calls; one in eight has failed.
fn results(response: &Response, number: usize) -> Outcome<Item> {
    let calls = response.blocks.iter().filter_map(|block| match &block.view {
        View::ToolUse { call_id, name, .. } => Some((call_id, name)),
        _ => None,
    });
    let result = |(index, (call_id, name)): (usize, (&String, &String))| {
        let text = format!("{number}: a letter for \"the miller\"\n").repeat(12);
        let content = json!([{ "type": "text", "text": text }]);
        Outcome::Ok(ToolResult {
            call_id: call_id.clone(),
            name: name.as_str().into(),
            content: RawValue::from_string(content.to_string())?.into(),
            is_error: (2 * number + index).is_multiple_of(8),
        })
    };
    Ok(Item::ToolResults(calls.enumerate().map(result).collect::<Outcome<_>>()?))
}

/// A conversation of so many steps, in rounds of ten: a message, four responses that call and
/// their results, the second of them another provider's, and a response that is text.
fn conversation(own: &Takes, another: &Takes, steps: usize) -> Outcome<Vec<Item>> {
    let mut items = Vec::with_capacity(steps);
    for round in 0..steps / ROUND {
        items.push(user("How are things on the road this morning? \u{1f40e}")?);
        for turn in 0..4 {
            let number = round * 4 + turn;
            let (takes, provider) = if turn == 1 { (another, ANOTHER) } else { (own, OWN) };
            let response = takes.calls.get(number).ok_or("there are too few responses")?;
            items.extend([takes.item(provider, response), results(response, number)?]);
        }
        items.push(own.item(OWN, &own.text));
    }
    Ok(items)
}

/// Renders conversations for one wire.
fn renders(setup: &Setup, own: &Takes, another: &Takes, report: &mut Report) -> Outcome<()> {
    let name = own.wire.as_str();
    let remote = Remote::new(Settings::new(OWN, own.wire, None))?;
    let mut medians = Vec::new();
    for (steps, count) in
        setup.choose([(10, 2000), (100, 1000), (1000, 300)], [(10, 10), (50, 10), (100, 10)])
    {
        setup.go_on()?;
        let request = request(own.wire, conversation(own, another, steps)?)?;
        let body = remote.render(&request).bytes;
        let value: Value = serde_json::from_slice(&body)?;
        let [mut copied, mut written, mut rendered] = <[Samples; 3]>::default();
        for _ in 0..count {
            let took = |samples: &mut Samples, work: &mut dyn FnMut() -> Outcome<usize>| {
                let began = Instant::now();
                let length = work()?;
                samples.push(of_thousand(began.elapsed(), steps));
                if length == 0 { Err("nothing was rendered".into()) } else { Outcome::Ok(()) }
            };
            took(&mut copied, &mut || Ok(std::hint::black_box(body.to_vec()).len()))?;
            took(&mut written, &mut || Ok(serde_json::to_vec(&value)?.len()))?;
            took(&mut rendered, &mut || Ok(remote.render(&request).bytes.len()))?;
        }
        let written = written.row(format!("floor: to_vec for {name}, {steps} steps"));
        let copied = copied.row(format!("floor: a copy for {name}, {steps} steps"));
        let rendered = rendered.row(format!("{name}: render of {steps} steps"));
        medians.push((steps as f64, rendered.median() * steps as f64));
        report.add([copied.longer_than(&written), written.clone(), rendered.longer_than(&written)]);
        let size = body.len() as f64 / steps as f64;
        report.fact(format!("{name}: bytes a step, {steps} steps"), size, "bytes", "");
    }
    // What is the same in every request (system prompt, tools) must not count here.
    if let [(few, short), (some, middle), (many, long)] = medians[..] {
        let ratio = ((long - middle) / (many - some)) / ((middle - short) / (some - few));
        let name = format!("{name}: a step behind the first {some} beside one behind {few}");
        report.fact(name, ratio, "times", "1");
    }
    Ok(())
}
