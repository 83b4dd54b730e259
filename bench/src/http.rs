//! A client of HTTP/1.1 that costs next to nothing: one stream, one thread, no pool.
//!
//! It understands what the server sends, bodies with a length and chunked streams, and nothing
//! else. What is not understood is a failure.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::Outcome;

/// How long an answer may take before the bench fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How much of a body is read at once that nobody keeps.
const PIECE: usize = 64 << 10;

/// A request as it goes over the wire, made before its time is taken.
#[derive(Debug, Clone)]
pub(crate) struct Wire(Vec<u8>);

impl Wire {
    /// One that is whole as it is.
    pub(crate) fn whole(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }

    /// A `GET`, with a key unless it is empty.
    pub(crate) fn get(path: &str, key: &str) -> Self {
        Self(head("GET", path, key, "").into_bytes())
    }

    /// A `POST` of JSON, with a key unless it is empty.
    pub(crate) fn post(path: &str, key: &str, body: &str) -> Self {
        let about = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        Self((head("POST", path, key, &about) + body).into_bytes())
    }

    /// A `POST` of a form with one small file in it.
    pub(crate) fn upload(path: &str, key: &str, name: &str, content: &str) -> Self {
        let body = format!(
            "--cut\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             content-type: text/plain\r\n\r\n{content}\r\n--cut--\r\n"
        );
        let about = format!(
            "content-type: multipart/form-data; boundary=cut\r\ncontent-length: {}\r\n",
            body.len()
        );
        Self((head("POST", path, key, &about) + &body).into_bytes())
    }
}

fn head(method: &str, path: &str, key: &str, more: &str) -> String {
    let key = match key {
        "" => String::new(),
        key => format!("x-api-key: {key}\r\n"),
    };
    format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{key}{more}\r\n")
}

/// A connection that is kept.
pub(crate) struct Connection<S = TcpStream> {
    reader: BufReader<S>,
    body: Vec<u8>,
}

/// The head of an answer.
struct Head {
    status: u16,
    length: Option<usize>,
    chunked: bool,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::over(stream))
    }

    /// Asks for a stream of events; returns once its head is there.
    pub(crate) fn into_events(mut self, request: &Wire) -> Outcome<Events> {
        let head = self.ask(request)?;
        if head.status != 200 || !head.chunked {
            return Err(format!("a stream was answered with {}", head.status).into());
        }
        let chunks = Chunks { reader: self.reader, left: 0, begun: false };
        Ok(Events {
            lines: BufReader::new(chunks),
            line: String::new(),
            kind: String::new(),
            data: String::new(),
        })
    }
}

impl<S: Read + Write> Connection<S> {
    /// One over a stream that is there.
    pub(crate) fn over(stream: S) -> Self {
        Self { reader: BufReader::with_capacity(16 * 1024, stream), body: Vec::new() }
    }

    /// Sends a request and reads the whole answer, which must have that status.
    pub(crate) fn exchange(&mut self, request: &Wire, status: u16) -> Outcome<&[u8]> {
        let head = self.ask(request)?;
        self.read_body(&head)?;
        self.check(&head, status)?;
        Ok(&self.body)
    }

    /// Sends a request and reads the whole answer, which must have status 200 and a length, and
    /// keeps nothing of it; returns how long its body was.
    pub(crate) fn skim(&mut self, request: &Wire) -> Outcome<u64> {
        let head = self.ask(request)?;
        let (200, Some(length)) = (head.status, head.length) else {
            self.read_body(&head)?;
            self.check(&head, 200)?;
            return Err("an answer has no length".into());
        };
        self.body.resize(length.min(PIECE), 0);
        let mut left = length;
        while left > 0 {
            let most = left.min(PIECE);
            match self.reader.read(&mut self.body[..most])? {
                0 => return Err(format!("an answer has ended {left} bytes early").into()),
                read => left -= read,
            }
        }
        Ok(length as u64)
    }

    /// Sends a request; returns the head of its answer.
    fn ask(&mut self, request: &Wire) -> Outcome<Head> {
        let stream = self.reader.get_mut();
        stream.write_all(&request.0)?;
        stream.flush()?;
        self.read_head()
    }

    fn read_body(&mut self, head: &Head) -> Outcome<()> {
        match head.length {
            Some(length) => {
                self.body.resize(length, 0);
                self.reader.read_exact(&mut self.body)?;
            }
            None if head.chunked => {
                self.body.clear();
                let mut chunks = Chunks { reader: &mut self.reader, left: 0, begun: false };
                chunks.read_to_end(&mut self.body)?;
                // The empty line behind the last chunk.
                self.reader.read_line(&mut String::new())?;
            }
            None => return Err("an answer has neither length nor chunks".into()),
        }
        Ok(())
    }

    /// Whether the answer that was read has that status.
    fn check(&self, head: &Head, status: u16) -> Outcome<()> {
        if head.status != status {
            let text = String::from_utf8_lossy(&self.body);
            return Err(format!("answered {} instead of {status}: {text}", head.status).into());
        }
        Ok(())
    }

    fn read_head(&mut self) -> Outcome<Head> {
        let mut line = String::with_capacity(128);
        self.reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| format!("{line:?} is no answer"))?;
        let mut head = Head { status, length: None, chunked: false };
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                head.length = value.trim().parse().ok();
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                head.chunked = value.trim().eq_ignore_ascii_case("chunked");
            }
        }
        Ok(head)
    }
}

/// A body in chunks, without their frames.
struct Chunks<R> {
    reader: R,
    /// What is left of the chunk at hand.
    left: usize,
    /// Whether there was a chunk before, whose line end has to be read.
    begun: bool,
}

impl<R: BufRead> Read for Chunks<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            let mut line = String::new();
            if std::mem::replace(&mut self.begun, true) {
                self.reader.read_line(&mut line)?;
                line.clear();
            }
            self.reader.read_line(&mut line)?;
            self.left = usize::from_str_radix(line.trim(), 16)
                .map_err(|_| std::io::Error::other("a chunk has no length"))?;
            if self.left == 0 {
                return Ok(0);
            }
        }
        let most = self.left.min(into.len());
        let read = self.reader.read(&mut into[..most])?;
        self.left -= read;
        Ok(read)
    }
}

/// A stream of server-sent events.
pub(crate) struct Events {
    lines: BufReader<Chunks<BufReader<TcpStream>>>,
    line: String,
    kind: String,
    data: String,
}

impl Events {
    /// Waits until an event of that kind has come whole; returns how many came before it.
    pub(crate) fn wait_for(&mut self, kind: &str) -> Outcome<usize> {
        self.wait_for_any(&[kind])
    }

    /// Waits until an event of one of those kinds has come whole.
    pub(crate) fn wait_for_any(&mut self, kinds: &[&str]) -> Outcome<usize> {
        let deadline = Instant::now() + PATIENCE;
        for before in 0.. {
            let next = self.next(deadline).map_err(|failure| format!("{kinds:?}: {failure}"))?;
            match next {
                next if kinds.contains(&next) => return Ok(before),
                "session.error" | "session.status_terminated" | "error" => {
                    return Err(format!("the session has failed: {}", self.data).into());
                }
                _ => {}
            }
        }
        Err("a stream without an end".into())
    }

    /// What the last event says.
    pub(crate) fn data(&self) -> &str {
        &self.data
    }

    /// The kind of the next event, once it has come whole.
    fn next(&mut self, deadline: Instant) -> Outcome<&str> {
        self.kind.clear();
        loop {
            // A stream on which nothing happens still shows that it is alive.
            if Instant::now() > deadline {
                return Err("what was waited for has not come on a stream".into());
            }
            self.line.clear();
            if self.lines.read_line(&mut self.line)? == 0 {
                return Err("a stream has ended".into());
            }
            if let Some(kind) = self.line.strip_prefix("event: ") {
                kind.trim_end().clone_into(&mut self.kind);
            } else if let Some(data) = self.line.strip_prefix("data: ") {
                data.trim_end().clone_into(&mut self.data);
            } else if self.line == "\n" && !self.kind.is_empty() {
                return Ok(&self.kind);
            }
        }
    }
}
