//! Messages as lines: the input and output of a process.
//!
//! A line that is no message is passed over, as programs do print what they should not; one that is
//! too long ends the connection. So does a program that reads nothing any more: it is given the time to
//! say why.

use std::{io, sync::Arc, time::Duration};

use rmcp::{
    RoleClient,
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::Transport,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf},
    sync::{Mutex, watch},
    time::sleep,
};

use super::{News, Pipe, message};

/// How long a program that does not read any more has to say why.
const LAST_WORDS: Duration = Duration::from_secs(4);

/// The input of the process; none once it has ended.
type Writing = Option<WriteHalf<Box<dyn Pipe>>>;

/// A connection over both directions of a pipe.
pub(super) struct Lines {
    read: BufReader<ReadHalf<Box<dyn Pipe>>>,
    /// What there is of the line. It outlives a read that was dropped.
    line: Vec<u8>,
    limit: usize,
    write: Arc<Mutex<Writing>>,
    /// Whether something could not be written.
    deaf: watch::Sender<bool>,
    news: Arc<News>,
}

impl Lines {
    pub(super) fn new(pipe: Box<dyn Pipe>, limit: usize, news: Arc<News>) -> Self {
        let (read, write) = tokio::io::split(pipe);
        let write = Arc::new(Mutex::new(Some(write)));
        let deaf = watch::Sender::new(false);
        Self { read: BufReader::new(read), line: Vec::new(), limit, write, deaf, news }
    }

    /// Reads to the end of the line; false at the end of everything.
    async fn line(&mut self) -> bool {
        let mut deaf = self.deaf.subscribe();
        let given_up = async {
            let _ = deaf.wait_for(|deaf| *deaf).await;
            sleep(LAST_WORDS).await;
        };
        tokio::pin!(given_up);
        loop {
            let chunk = tokio::select! {
                biased;
                chunk = self.read.fill_buf() => chunk,
                () = &mut given_up => {
                    self.news.complain("it does not read its input".to_owned());
                    return false;
                }
            };
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.news.complain(message::ends(&error.to_string()));
                    return false;
                }
            };
            if chunk.is_empty() {
                return false;
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(chunk.len(), |end| end + 1);
            if self.line.len() + taken > self.limit {
                self.news.complain(format!("it has sent a line longer than {} bytes", self.limit));
                return false;
            }
            self.line.extend_from_slice(chunk.get(..taken).unwrap_or_default());
            self.read.consume(taken);
            if end.is_some() {
                return true;
            }
        }
    }
}

impl Transport<RoleClient> for Lines {
    type Error = io::Error;

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let (write, deaf) = (Arc::clone(&self.write), self.deaf.clone());
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut write = write.lock().await;
            let write = write.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            let written = async {
                write.write_all(&line).await?;
                write.flush().await
            };
            if written.await.is_err() {
                // It has ended, or is about to: how is said where its output is read.
                deaf.send_replace(true);
            }
            Ok(())
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        while self.line().await {
            let line = std::mem::take(&mut self.line);
            match message::read(&line) {
                Some(message) => return Some(message::without_newer(message)),
                None => tracing::debug!("an MCP program has printed a line that is no message"),
            }
        }
        None
    }

    async fn close(&mut self) -> io::Result<()> {
        // Whoever reads the other end sees that there is nothing more to do.
        if let Some(mut write) = self.write.lock().await.take() {
            write.shutdown().await?;
        }
        Ok(())
    }
}
