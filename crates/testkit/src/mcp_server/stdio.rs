//! The fake MCP server over an input and an output: one message a line.

use std::{collections::HashMap, io};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{
    Shared,
    stream::DRIP,
    switches::{Hostility, Switches},
    talk::{Asked, Beat, Said, changed},
};

/// Serves until the input ends. Gives the code with which a process should end.
///
/// # Errors
/// Those of the input and the output.
pub async fn serve_stdio(
    switches: Switches,
    input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> io::Result<i32> {
    let drips = switches.does(Hostility::Drip);
    let shared = Shared::new(switches);
    let mut lines = BufReader::new(input).lines();
    let (says, mut said) = mpsc::channel::<String>(1);
    let mut answers = JoinSet::new();
    let mut running: HashMap<String, AbortHandle> = HashMap::new();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            Some(text) = said.recv() => {
                write(&mut output, text, drips).await?;
                continue;
            }
        };
        let Some(line) = line else { return Ok(0) };
        while answers.try_join_next().is_some() {}
        let message: Value = serde_json::from_str(&line).unwrap_or_default();
        let (heard, silent, has_changed, switches) = {
            let mut stage = shared.stage();
            let before = stage.edition;
            let heard = stage.hear(&message, &json!({}));
            let asked = Asked {
                method: "stdio".to_owned(),
                headers: [].into(),
                message: message.clone(),
                status: 0,
            };
            stage.asked.push(asked);
            let switches = stage.switches.clone();
            (heard, switches.does(Hostility::Silent), stage.edition != before, switches)
        };
        if message["method"] == "notifications/cancelled"
            && let Some(handle) = running.remove(&message["params"]["requestId"].to_string())
        {
            handle.abort();
        }
        let beats = match heard {
            Said::Dies(code) => return Ok(code),
            _ if silent => continue,
            Said::Accepted => continue,
            Said::Listens(of) => {
                let message = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                    "params": {"notifications": {"toolsListChanged": true},
                    "_meta": {"io.modelcontextprotocol/subscriptionId": of}}});
                vec![Beat { after: std::time::Duration::ZERO, message }]
            }
            Said::Beats(beats) => beats,
        };
        let says = says.clone();
        let is_call = message["method"] == "tools/call";
        let answer = answers.spawn(async move {
            if has_changed {
                let _ = says.send(format!("{}\n", changed())).await;
            }
            if switches.does(Hostility::NotJson) {
                let _ = says.send("warning: this is no message {\n".to_owned()).await;
            }
            if is_call && switches.does(Hostility::EndlessResult) {
                while says.send("x".repeat(64 << 10)).await.is_ok() {}
            }
            for Beat { after, message } in beats {
                tokio::time::sleep(after).await;
                if !message.is_null() && says.send(format!("{message}\n")).await.is_err() {
                    return;
                }
            }
        });
        running.insert(message["id"].to_string(), answer);
    }
}

async fn write(
    output: &mut (impl AsyncWrite + Unpin),
    text: String,
    drips: bool,
) -> io::Result<()> {
    if drips {
        for byte in text.into_bytes() {
            output.write_all(&[byte]).await?;
            output.flush().await?;
            tokio::time::sleep(DRIP).await;
        }
        return Ok(());
    }
    output.write_all(text.as_bytes()).await?;
    output.flush().await
}
