//! Messages as lines: the input and output of a process.
//!
//! A line that is no message is passed over, as programs do print what they should not; one that is
//! too long ends the connection.

use std::{io, sync::Arc};

use rmcp::{
    RoleClient,
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::Transport,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf},
    sync::Mutex,
};

use super::{News, Pipe, message};

/// The input of the process; none once it has ended.
type Writing = Option<WriteHalf<Box<dyn Pipe>>>;

/// A connection over both directions of a pipe.
pub(super) struct Lines {
    read: BufReader<ReadHalf<Box<dyn Pipe>>>,
    /// What there is of the line. It outlives a read that was dropped.
    line: Vec<u8>,
    limit: usize,
    write: Arc<Mutex<Writing>>,
    news: Arc<News>,
}

impl Lines {
    pub(super) fn new(pipe: Box<dyn Pipe>, limit: usize, news: Arc<News>) -> Self {
        let (read, write) = tokio::io::split(pipe);
        let write = Arc::new(Mutex::new(Some(write)));
        Self { read: BufReader::new(read), line: Vec::new(), limit, write, news }
    }

    /// Reads to the end of the line; false at the end of everything.
    async fn line(&mut self) -> bool {
        loop {
            let Ok(chunk) = self.read.fill_buf().await else { return false };
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
        let write = Arc::clone(&self.write);
        async move {
            let mut line = serde_json::to_vec(&message)?;
            line.push(b'\n');
            let mut write = write.lock().await;
            let write = write.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            write.write_all(&line).await?;
            write.flush().await
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        while self.line().await {
            let line = std::mem::take(&mut self.line);
            match message::read(&line) {
                Some(message) => return Some(message),
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
