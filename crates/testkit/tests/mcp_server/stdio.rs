//! The fake MCP server over an input and an output.

use posthouse_testkit::{Hostility, Switches, serve_stdio};
use serde_json::{Value, json};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, ReadHalf,
        WriteHalf,
    },
    task::JoinHandle,
};

struct Talk {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    says: WriteHalf<DuplexStream>,
    served: JoinHandle<std::io::Result<i32>>,
}

impl Talk {
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    fn start(switches: Switches) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (input, output) = tokio::io::split(theirs);
        let served = tokio::spawn(serve_stdio(switches, input, output));
        let (lines, says) = tokio::io::split(ours);
        Self { lines: BufReader::new(lines).lines(), says, served }
    }

    async fn say(&mut self, message: Value) {
        self.says.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        self.lines.next_line().await.unwrap().unwrap()
    }

    async fn heard(&mut self) -> Value {
        serde_json::from_str(&self.line().await).unwrap()
    }

    async fn ask(&mut self, id: u32, method: &str, params: Value) {
        self.say(json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await;
    }
}

fn call(name: &str, arguments: Value) -> Value {
    json!({"name": name, "arguments": arguments, "_meta": {"progressToken": 5}})
}

#[tokio::test]
async fn it_speaks_in_lines_and_ends_with_its_input() {
    let mut talk = Talk::start(Switches::default());
    talk.ask(1, "initialize", json!({"protocolVersion": "2025-11-25"})).await;
    assert_eq!(talk.heard().await["result"]["protocolVersion"], "2025-11-25");
    talk.say(json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
    talk.ask(2, "tools/call", call("slow", json!({"ms": 2}))).await;
    assert_eq!(
        talk.heard().await["params"],
        json!({"progressToken": 5, "progress": 1, "total": 2})
    );
    talk.heard().await;
    assert_eq!(talk.heard().await["id"], 2);
    // A slow one does not keep a fast one waiting, and is silent when it was cancelled.
    talk.ask(3, "tools/call", json!({"name": "slow", "arguments": {"ms": 300_000}})).await;
    talk.ask(4, "tools/call", call("echo", json!({"text": "fast"}))).await;
    assert_eq!(talk.heard().await["id"], 4);
    talk.say(
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 3}}),
    )
    .await;
    talk.ask(5, "tools/call", call("change", json!({}))).await;
    assert_eq!(talk.heard().await["method"], "notifications/tools/list_changed");
    assert_eq!(talk.heard().await["id"], 5);
    talk.says.shutdown().await.unwrap();
    assert_eq!(talk.served.await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn it_dies_and_misbehaves_as_told() {
    let mut talk = Talk::start(Switches::default());
    talk.ask(1, "tools/call", call("die", json!({"code": 3}))).await;
    assert_eq!(talk.served.await.unwrap().unwrap(), 3);
    let hostile = |hostile| Switches { hostile: vec![hostile], ..Switches::default() };
    let mut talk = Talk::start(hostile(Hostility::NotJson));
    talk.ask(1, "ping", json!({})).await;
    assert!(serde_json::from_str::<Value>(&talk.line().await).is_err());
    assert_eq!(talk.heard().await["id"], 1);
    let mut talk = Talk::start(hostile(Hostility::WrongIds));
    talk.ask(1, "ping", json!({})).await;
    assert_eq!(talk.heard().await["id"], "somebody-else");
}
