//! The instant model: a provider inside the bench that answers every request at once.
//!
//! It notes when a request's first bytes arrived by the clock that the clients use, which a
//! model in a process of its own can't. It speaks as much of the Messages stream as one text
//! block takes, and checks nothing; the scripted model of the testkit is the one that checks.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Instant,
};

use serde_json::json;

use crate::Outcome;

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
}

impl InstantModel {
    /// Starts one; it listens when this returns.
    pub(crate) fn start() -> Outcome<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let answer: Arc<[u8]> = answer().into();
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared, &answer)
        });
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// When the newest request arrived. Of use only while there is one at a time.
    pub(crate) fn take_arrival(&self) -> Option<Instant> {
        self.shared.arrived.lock().unwrap_or_else(PoisonError::into_inner).take()
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
fn accept(listener: &TcpListener, shared: &Arc<Shared>, answer: &Arc<[u8]>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let (shared, answer) = (Arc::clone(shared), Arc::clone(answer));
        std::thread::spawn(move || {
            // A client that leaves in the middle is the client's business.
            let _ = serve(stream, &shared, &answer);
        });
    }
}

fn serve(stream: TcpStream, shared: &Shared, answer: &[u8]) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    let (mut line, mut body) = (String::with_capacity(256), Vec::new());
    loop {
        if reader.fill_buf()?.is_empty() {
            return Ok(());
        }
        *shared.arrived.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
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
        reader.get_mut().write_all(answer)?;
    }
}

/// Head and body of the one answer there is.
fn answer() -> Vec<u8> {
    let usage = json!({
        "input_tokens": 20, "output_tokens": 1,
        "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
    });
    let message = json!({
        "id": "msg_bench", "type": "message", "role": "assistant", "model": "bench",
        "content": [], "stop_reason": null, "stop_sequence": null, "usage": usage,
    });
    let delta = json!({ "type": "text_delta", "text": "All is well, and nothing was computed." });
    let end = json!({ "stop_reason": "end_turn", "stop_sequence": null });
    let events = [
        json!({ "type": "message_start", "message": message }),
        json!({
            "type": "content_block_start", "index": 0,
            "content_block": { "type": "text", "text": "" },
        }),
        json!({ "type": "content_block_delta", "index": 0, "delta": delta }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta", "delta": end, "usage": { "output_tokens": 12 } }),
        json!({ "type": "message_stop" }),
    ];
    let body: String = events
        .iter()
        .map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("")))
        .collect();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}
