//! The wire as it is carried to a server on this machine.

use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{GOLDEN, WIRE};
use crate::{
    Credential, Event, Provider, Remote, Settings, View,
    golden::{natives, request, tool, user},
    portable::tool_name,
};

/// Answers one request with these bytes; gives what was asked.
async fn answering(answer: Vec<u8>) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "ends with the one request that it answers")]
    let asked = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"]}") {
            assert!(socket.read_buf(&mut seen).await.unwrap() > 0);
        }
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&answer).await.unwrap();
        String::from_utf8(seen).unwrap()
    });
    (url, asked)
}

#[tokio::test]
async fn a_call_goes_to_the_responses_and_its_tools_keep_their_names() {
    let own = "read ".repeat(20);
    let recording = String::from_utf8(GOLDEN.bytes("parallel_calls").to_vec()).unwrap();
    let recording =
        recording.replace(r#""name":"read""#, &format!(r#""name":"{}""#, tool_name(&own, 64)));
    let (url, asked) = answering(recording.into_bytes()).await;
    let key = Credential::ApiKey("very-secret".to_owned());
    let mut settings = Settings::new("openai", WIRE, Some(key));
    assert_eq!(settings.base_url, "https://api.openai.com/v1");
    settings.base_url = url;
    let remote = Remote::new(settings).unwrap();
    assert!(remote.claims("gpt-6.1-sol") && !remote.claims("claude-opus-5"));

    let mut request = request("gpt-6.1-sol", vec![user("go")]);
    request.tools = vec![tool(&own)].into();
    let events: Vec<Event> = remote.stream(remote.render(&request)).collect().await;
    let Some(Event::Ended(response)) = events.last() else { panic!("{events:?}") };
    let View::ToolUse { name, .. } = &response.blocks[1].view else { panic!("{response:?}") };
    assert_eq!(*name, own);
    assert!(natives(response)[1].contains(&*tool_name(&own, 64)), "sent back as it came");

    let asked = asked.await.unwrap();
    assert!(asked.starts_with("POST /v1/responses HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("authorization: Bearer very-secret\r\n"), "{asked}");
}
