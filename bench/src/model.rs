//! The instant model: a provider inside the bench that answers every request at once.
//!
//! It notes when a request's first bytes arrived by the clock that the clients use, which a
//! model in a process of its own can't. It speaks as much of the Messages stream as one block of
//! text and one call of a tool take, and checks nothing; the scripted model of the testkit is the one that checks.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use serde_json::{Value, json};

use crate::Outcome;

/// What the model does when it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It says something.
    Text = 0,
    /// It calls `bash` with `echo hi`.
    Call = 1,
    /// It says something, then does that.
    TextThenCall = 2,
    /// It calls what [`InstantModel::call`] has named.
    Named = 3,
}

/// What a message to a session ends with, as JSON.
const MESSAGE_MARK: &[u8] = b"on the road this morning?";
/// What a tool's result begins with, as JSON.
const RESULT_MARK: &[u8] = b"\"type\":\"tool_result\"";
/// Stands for a number that no other call has, in the answers that call. As long as the numbers.
const NUMBER: &str = "00000000";

/// A model that listens.
pub(crate) struct InstantModel {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    arrived: Mutex<Option<Instant>>,
    stopping: AtomicBool,
    manner: AtomicU8,
    calls: AtomicU32,
    /// The answer that calls what was named.
    named: Mutex<Arc<str>>,
    /// The body of the newest request that was answered.
    request: Mutex<Vec<u8>>,
}

/// All answers there are, made before anybody asks.
struct Answers {
    text: Vec<u8>,
    call: String,
    text_then_call: String,
}

impl InstantModel {
    /// Starts one; it listens when this returns. It answers with text until it is told otherwise.
    pub(crate) fn start() -> Outcome<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let answers = Arc::new(Answers {
            text: answer(true, None).into_bytes(),
            call: answer(false, Some(&echo_hi())),
            text_then_call: answer(true, Some(&echo_hi())),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared, &answers)
        });
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    /// Says what it does from now on when it is spoken to. What a tool has found it answers with
    /// text.
    pub(crate) fn behave(&self, manner: Manner) {
        self.shared.manner.store(manner as u8, Ordering::Relaxed);
    }

    /// From now on it calls that tool when it is spoken to, and answers what comes of it with text.
    pub(crate) fn call(&self, tool: &str, input: &Value) {
        let named = answer(false, Some(&(tool, input.clone())));
        *lock(&self.shared.named) = named.into();
        self.behave(Manner::Named);
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// When the newest request arrived. Of use only while there is one at a time.
    pub(crate) fn take_arrival(&self) -> Option<Instant> {
        lock(&self.shared.arrived).take()
    }

    /// The body of the newest request that was answered.
    pub(crate) fn take_request(&self) -> Vec<u8> {
        std::mem::take(&mut *lock(&self.shared.request))
    }
}

impl Drop for InstantModel {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Whoever accepts looks at the mark after the next connection, which is this one.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Gives each connection a thread, which ends with it.
fn accept(listener: &TcpListener, shared: &Arc<Shared>, answers: &Arc<Answers>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let (shared, answers) = (Arc::clone(shared), Arc::clone(answers));
        std::thread::spawn(move || {
            // A client that leaves in the middle is the client's business.
            let _ = serve(stream, &shared, &answers);
        });
    }
}

fn serve(stream: TcpStream, shared: &Shared, answers: &Answers) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let (mut line, mut body) = (String::with_capacity(256), Vec::new());
    loop {
        if reader.fill_buf()?.is_empty() {
            return Ok(());
        }
        *lock(&shared.arrived) = Some(Instant::now());
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else {
                // The request's first line has no colon, and the line behind the last header
                // has nothing.
                if line.trim_end().is_empty() {
                    break;
                }
                continue;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        let manner = shared.manner.load(Ordering::Relaxed);
        // Text needs no look at the request, however long that is.
        let named: Arc<str>;
        let calling = match manner {
            0 => None,
            _ if is_result(&body) => None,
            1 => Some(&*answers.call),
            2 => Some(&*answers.text_then_call),
            _ => {
                named = Arc::clone(&lock(&shared.named));
                Some(&*named)
            }
        };
        // Before the answer, so that it is there for whoever has seen that.
        std::mem::swap(&mut *lock(&shared.request), &mut body);
        match calling {
            None => reader.get_mut().write_all(&answers.text)?,
            Some(answer) => {
                let number = shared.calls.fetch_add(1, Ordering::Relaxed);
                let answer = answer.replace(NUMBER, &format!("{number:08}"));
                reader.get_mut().write_all(answer.as_bytes())?;
            }
        }
    }
}

/// Whether what was said last is what a tool has found.
fn is_result(body: &[u8]) -> bool {
    let last = |mark: &[u8]| body.windows(mark.len()).rposition(|window| window == mark);
    last(RESULT_MARK) > last(MESSAGE_MARK)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The call that writes a word in a sandbox.
fn echo_hi() -> (&'static str, Value) {
    ("bash", json!({ "command": "echo hi" }))
}

/// Head and body of an answer that has a text, a call, or both.
fn answer(text: bool, call: Option<&(&str, Value)>) -> String {
    let usage = json!({
        "input_tokens": 20, "output_tokens": 1,
        "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
    });
    let message = json!({
        "id": "msg_bench", "type": "message", "role": "assistant", "model": "bench",
        "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage,
    });
    let mut events = vec![json!({ "type": "message_start", "message": message })];
    let mut index = 0;
    let mut block = |block: Value, delta: Value| {
        events.extend([
            json!({ "type": "content_block_start", "index": index, "content_block": block }),
            json!({ "type": "content_block_delta", "index": index, "delta": delta }),
            json!({ "type": "content_block_stop", "index": index }),
        ]);
        index += 1;
    };
    if text {
        let text = "All is well, and nothing was computed.";
        let delta = json!({ "type": "text_delta", "text": text });
        block(json!({ "type": "text", "text": "" }), delta);
    }
    if let Some((name, input)) = call {
        let id = format!("toolu_bench{NUMBER}");
        let delta = json!({ "type": "input_json_delta", "partial_json": input.to_string() });
        block(json!({ "type": "tool_use", "id": id, "name": name, "input": {} }), delta);
    }
    let reason = if call.is_none() { "end_turn" } else { "tool_use" };
    let end = json!({ "stop_reason": reason, "stop_sequence": null });
    events.extend([
        json!({ "type": "message_delta", "delta": end, "usage": { "output_tokens": 12 } }),
        json!({ "type": "message_stop" }),
    ]);
    let body: String = events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("")))
        .collect();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    head + &body
}
