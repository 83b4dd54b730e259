//! A model that begins every answer and never goes on, so that who asks it stays at work.
//!
//! It shows that it is alive, as providers do, because silence would count as a failure.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::Outcome;

/// How often it looks whether anybody is new.
const GLANCE: Duration = Duration::from_millis(20);

/// How often it shows that it is alive.
const ALIVE: Duration = Duration::from_secs(10);

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

/// A model that listens. It hangs up when this is dropped.
pub(crate) struct PatientModel {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl PatientModel {
    /// Starts one; it listens when this returns.
    pub(crate) fn start() -> Outcome<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let stopping = Arc::new(AtomicBool::new(false));
        let serving = std::thread::spawn({
            let stopping = Arc::clone(&stopping);
            move || {
                if let Err(failure) = serve(&listener, &stopping) {
                    eprintln!("posthouse-bench: the model has failed: {failure}");
                }
            }
        });
        Ok(Self { address, stopping, serving: Some(serving) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for PatientModel {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

/// Ends when it is told to stop.
fn serve(listener: &TcpListener, stopping: &AtomicBool) -> Outcome<()> {
    let (mut callers, mut shown): (Vec<TcpStream>, _) = (Vec::new(), Instant::now());
    while !stopping.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => callers.extend(begin(stream)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(GLANCE),
            Err(error) => return Err(error.into()),
        }
        if shown.elapsed() > ALIVE {
            callers.retain_mut(|caller| caller.write_all(b": alive\n\n").is_ok());
            shown = Instant::now();
        }
    }
    Ok(())
}

/// Begins an answer once a request is there; `None` when none comes.
fn begin(mut stream: TcpStream) -> Option<TcpStream> {
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    let read = stream.read(&mut [0; 64 * 1024]).ok()?;
    (read > 0 && stream.write_all(HEAD).is_ok()).then_some(stream)
}
