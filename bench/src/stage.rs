//! A stage: a server on loopback that plays recordings of providers, whatever it is asked.
//!
//! It writes in large pieces and computes nothing meanwhile, so that what is measured is the
//! reader. One request at a time, because what is played next is set from outside.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use crate::Outcome;

/// How much is written at once.
const PIECE: usize = 64 * 1024;

/// A server that plays recordings. It ends when this is dropped.
pub(crate) struct Stage {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    /// Whole answers, heads included.
    answers: Vec<Vec<u8>>,
    next: AtomicUsize,
    stopping: AtomicBool,
}

impl Stage {
    /// Takes recordings, event streams all; it listens when this returns.
    pub(crate) fn start(recordings: impl IntoIterator<Item = String>) -> Outcome<Self> {
        let answer = |body: String| {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length:";
            format!("{head} {}\r\n\r\n{body}", body.len()).into_bytes()
        };
        let shared = Arc::new(Shared {
            answers: recordings.into_iter().map(answer).collect(),
            next: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    /// Sets what the next requests are answered with.
    pub(crate) fn play(&self, recording: usize) {
        self.shared.next.store(recording, Ordering::Relaxed);
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Stage {
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
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopping.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            // A client that leaves in the middle is the client's business.
            let _ = serve(stream, &shared);
        });
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(PIECE, stream);
    let (mut line, mut body) = (String::with_capacity(256), Vec::new());
    loop {
        let mut length = 0;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
        let answer = shared.answers.get(shared.next.load(Ordering::Relaxed));
        for piece in answer.ok_or("there is no such recording")?.chunks(PIECE) {
            reader.get_mut().write_all(piece)?;
        }
    }
}
