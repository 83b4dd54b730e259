//! Floors: what the machine itself takes for the least that a turn needs, in the same run.
//!
//! The least is one durable append of 1 KiB and one exchange with the model. Alone, the append
//! is a write and an `fdatasync`; with many at once they share an `fdatasync`, as in the store.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
};

use serde_json::json;

use crate::{Outcome, http::Wire};

/// How much is appended at a time.
pub(crate) const PIECE: [u8; 1024] = [b'.'; 1024];

/// A model request of the size that a turn's has.
pub(crate) fn model_request() -> Wire {
    let message = |role: &str| json!({ "role": role, "content": ".".repeat(100) });
    let messages: Vec<_> = (0..11).map(|n| message(["user", "assistant"][n % 2])).collect();
    let body = json!({
        "model": "claude-haiku-4-5", "max_tokens": 100, "stream": true, "messages": messages,
    });
    Wire::post("/v1/messages", "no-key", &body.to_string())
}

/// A file that grows durably.
#[derive(Debug)]
pub(crate) struct DurableFile(File);

impl DurableFile {
    /// Makes one.
    pub(crate) fn make(folder: &Path) -> Outcome<Self> {
        Ok(Self(File::create(folder.join("floor"))?))
    }

    /// Appends pieces; they are on disk when this returns.
    pub(crate) fn append(&mut self, pieces: &[u8]) -> Outcome<()> {
        self.0.write_all(pieces)?;
        self.0.sync_data()?;
        Ok(())
    }
}

/// A file that grows durably for many at once.
pub(crate) struct SharedFile {
    queue: Option<Sender<Sender<()>>>,
    writer: Option<JoinHandle<()>>,
}

impl SharedFile {
    /// Makes one.
    pub(crate) fn make(folder: &Path) -> Outcome<Self> {
        let file = DurableFile::make(folder)?;
        let (queue, jobs) = channel();
        let writer = std::thread::spawn(move || write_forever(file, &jobs));
        Ok(Self { queue: Some(queue), writer: Some(writer) })
    }

    /// A way to append.
    pub(crate) fn handle(&self) -> Outcome<SharedHandle> {
        let (reply, done) = channel();
        let queue = self.queue.clone().ok_or("the file is closed")?;
        Ok(SharedHandle { queue, reply, done })
    }
}

impl Drop for SharedFile {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// One user's way to a shared file.
pub(crate) struct SharedHandle {
    queue: Sender<Sender<()>>,
    reply: Sender<()>,
    done: Receiver<()>,
}

impl SharedHandle {
    /// Appends a piece; it is on disk when this returns.
    pub(crate) fn append(&self) -> Outcome<()> {
        self.queue.send(self.reply.clone()).map_err(|_| "the disk has failed")?;
        Ok(self.done.recv()?)
    }
}

/// Ends when the last handle is gone.
fn write_forever(mut file: DurableFile, jobs: &Receiver<Sender<()>>) {
    while let Ok(first) = jobs.recv() {
        let mut waiting = vec![first];
        waiting.extend(jobs.try_iter().take(255));
        if file.append(&PIECE.repeat(waiting.len())).is_err() {
            return;
        }
        for one in waiting {
            // Who has gone does not wait.
            let _ = one.send(());
        }
    }
}
