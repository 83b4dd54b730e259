//! Bodies of the fake MCP server that are written while they are sent: events, and what never ends.
//!
//! Never decides what is said.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};

use super::{
    Shared,
    switches::Hostility,
    talk::{Beat, changed},
};

/// The pause between two bytes of who drips.
pub(super) const DRIP: Duration = Duration::from_millis(20);

/// A body that somebody else writes.
pub(super) struct Written(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Written {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context).map(|part| part.map(|part| part.map(Frame::data)))
    }
}

/// The writing end of a body.
pub(super) struct Pen {
    to: mpsc::Sender<io::Result<Bytes>>,
    drips: bool,
}

/// Nobody reads any more.
pub(super) struct Gone;

impl Pen {
    async fn write(&self, text: String) -> Result<(), Gone> {
        if !self.drips {
            return self.to.send(Ok(text.into())).await.map_err(|_| Gone);
        }
        for byte in text.into_bytes() {
            self.to.send(Ok(Bytes::from(vec![byte]))).await.map_err(|_| Gone)?;
            self.wait(DRIP).await?;
        }
        Ok(())
    }

    /// Waits, unless the reader leaves.
    async fn wait(&self, time: Duration) -> Result<(), Gone> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            () = self.to.closed() => Err(Gone),
        }
    }

    async fn break_off(&self) {
        let _ = self.to.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
    }
}

/// A body that `write` writes, in a task of its own.
#[expect(clippy::disallowed_methods, reason = "ends with its body, or with the server's runtime")]
pub(super) fn written<W: Future<Output = ()> + Send + 'static>(
    drips: bool,
    write: impl FnOnce(Pen) -> W,
) -> Written {
    let (to, body) = mpsc::channel(1);
    tokio::spawn(write(Pen { to, drips }));
    Written(body)
}

/// Which stream is written, when it can be asked for again.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    pub(super) stream: usize,
    /// Events after which it ends.
    pub(super) cut: usize,
    pub(super) hard: bool,
    pub(super) retry: Option<u64>,
}

/// Writes beats as events. `id` is that of the request.
pub(super) async fn events(
    pen: Pen,
    shared: Shared,
    id: Value,
    beats: Vec<Beat>,
    kept: Option<Kept>,
) {
    if play(&pen, &shared, beats, kept).await.is_err() {
        shared.stage().abandoned.push(id);
    }
}

async fn play(
    pen: &Pen,
    shared: &Shared,
    beats: Vec<Beat>,
    kept: Option<Kept>,
) -> Result<(), Gone> {
    if let Some(kept) = kept {
        let retry = kept.retry.map(|time| format!("retry: {time}\n")).unwrap_or_default();
        pen.write(format!("id: {}-0\n{retry}data:\n\n", kept.stream)).await?;
    }
    let mut sent = 0;
    for Beat { after, message } in beats {
        let over = kept.is_some_and(|kept| sent >= kept.cut);
        if !over {
            pen.wait(after).await?;
        }
        if message.is_null() {
            continue;
        }
        let Some(Kept { stream, .. }) = kept else {
            pen.write(format!("data: {message}\n\n")).await?;
            continue;
        };
        let number = {
            let mut stage = shared.stage();
            stage.streams[stream].push(message.clone());
            stage.streams[stream].len()
        };
        if !over {
            sent += 1;
            pen.write(format!("id: {stream}-{number}\ndata: {message}\n\n")).await?;
        }
    }
    if kept.is_some_and(|kept| kept.hard) {
        pen.break_off().await;
    }
    Ok(())
}

/// Writes what is left of a stream behind an event.
pub(super) async fn rest(pen: Pen, shared: Shared, stream: usize, after: usize) {
    let left: Vec<_> = shared.stage().streams[stream]
        .iter()
        .enumerate()
        .skip(after)
        .map(|(at, one)| format!("id: {stream}-{}\ndata: {one}\n\n", at + 1))
        .collect();
    for event in left {
        if pen.write(event).await.is_err() {
            return;
        }
    }
}

/// Writes when the tools change, for as long as somebody reads. `of` is the subscription.
pub(super) async fn changes(pen: Pen, mut news: broadcast::Receiver<()>, of: Option<Value>) {
    let meta = json!({"io.modelcontextprotocol/subscriptionId": of});
    if of.is_some() {
        let message = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
            "params": {"notifications": {"toolsListChanged": true}, "_meta": meta}});
        if pen.write(format!("data: {message}\n\n")).await.is_err() {
            return;
        }
    } else if pen.write(": listening\n\n".to_owned()).await.is_err() {
        return;
    }
    loop {
        let told = tokio::select! {
            told = news.recv() => told,
            () = pen.to.closed() => return,
        };
        if matches!(told, Err(broadcast::error::RecvError::Closed)) {
            return;
        }
        let mut message = changed();
        if of.is_some() {
            message["params"] = json!({"_meta": meta});
        }
        if pen.write(format!("data: {message}\n\n")).await.is_err() {
            return;
        }
    }
}

/// Writes one message as JSON, or what is none.
pub(super) async fn json(pen: Pen, text: String) {
    let _ = pen.write(text).await;
}

/// Writes what never ends.
pub(super) async fn endless(pen: Pen, what: Hostility, id: Value) {
    let begin = match what {
        Hostility::EndlessEvents => String::new(),
        _ => {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":""#)
        }
    };
    let part = match what {
        Hostility::EndlessEvents => format!(
            "data: {}\n\n",
            json!({"jsonrpc": "2.0",
            "method": "notifications/message", "params": {"level": "info", "data": "still here"}})
        ),
        _ => "x".repeat(64 << 10),
    };
    if pen.write(begin).await.is_err() {
        return;
    }
    while pen.write(part.clone()).await.is_ok() {}
}

/// Ends the connection without an answer.
pub(super) async fn broken(pen: Pen) {
    pen.break_off().await;
}
