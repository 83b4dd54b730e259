//! Another client: that of the Python SDK, in a process of its own.
//!
//! Installs nothing; without the package it says so.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use posthouse_testkit::McpServer;

use crate::{Outcome, measure::Samples};

/// Calls, and prints how long each has taken, in seconds, as JSON.
const SCRIPT: &str = r#"
import asyncio, json, sys, time
from mcp import Client

async def main():
    times = []
    async with Client(sys.argv[1]) as client:
        for _ in range(int(sys.argv[2]) + 10):
            began = time.perf_counter()
            result = await client.call_tool("echo", {"text": "hi"})
            times.append(time.perf_counter() - began)
            assert result.content[0].text == "hi", result
    print(json.dumps(times[10:]))

asyncio.run(main())
"#;

/// The Python SDK's client.
pub(super) struct Peer;

impl Peer {
    /// The times of so many calls; or who is missing, and why.
    pub(super) fn call(python: &Path, server: &McpServer, count: usize) -> Result<Samples, String> {
        Self::try_call(python, server, count).map_err(|failure| {
            format!(
                "the Python SDK's client: {failure}; `--python` names a Python that has its package, \
                 `mcp` 2"
            )
        })
    }

    fn try_call(python: &Path, server: &McpServer, count: usize) -> Outcome<Samples> {
        let output = Command::new(python)
            .args(["-c", SCRIPT, &server.url(), &count.to_string()])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{} can't be started: {error}", python.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let last =
                said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it has failed");
            return Err(last.to_owned().into());
        }
        let times: Vec<f64> = serde_json::from_slice(&output.stdout)?;
        let mut samples = Samples::default();
        for time in times {
            samples.push(Duration::try_from_secs_f64(time)?);
        }
        Ok(samples)
    }
}
