//! One call over a socket: the address, the key's header, and tools under their own names.

use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    Credential, Event, Provider as _, Remote, Settings, WireKind,
    golden::{lines, request, tool, user},
};

/// Answers one request with a stream, and gives back what was asked.
async fn answer_once(listener: TcpListener, stream: String) -> String {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.ends_with("]}]}") {
        let count = socket.read(&mut buffer).await.unwrap();
        assert_ne!(count, 0, "{seen}");
        seen.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    socket.write_all(format!("{head}{stream}").as_bytes()).await.unwrap();
    seen
}

#[tokio::test]
async fn a_call_goes_to_the_models_address_and_comes_back_under_the_tools_own_name() {
    for below in ["", "/", "/v1beta"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let key = Credential::ApiKey("secret-4711".to_owned());
        let mut settings = Settings::new("gemini", WireKind::Gemini, Some(key));
        settings.base_url = format!("http://{}{below}", listener.local_addr().unwrap());
        let remote = Remote::new(settings).unwrap();
        let mut request = request("gemini-3.8-flash", vec![user("go")]);
        request.tools = [tool("2nd")].into();
        let body = remote.render(&request);
        let (sent, _) = body.renamed[0].clone();
        let stream = format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"functionCall\":{{\"name\":\"{sent}\",\"args\":{{}},\"id\":\"fc-1\"}}}}]}},\"finishReason\":\"STOP\"}}]}}\r\n\r\n"
        );
        let (seen, events) = tokio::join!(
            answer_once(listener, stream),
            remote.stream(body).collect::<Vec<Event>>()
        );
        let path = "POST /v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse HTTP/1.1";
        assert!(seen.starts_with(path), "{seen}");
        assert!(seen.contains("x-goog-api-key: secret-4711\r\n"), "{seen}");
        let told = lines(&events);
        assert!(
            told.starts_with("Started { index: 0, kind: ToolUse { name: \"2nd\" } }"),
            "{told}"
        );
        assert!(told.contains("view tool_use fc-1 2nd {}"), "{told}");
        // The log keeps the name that was sent, so that it is sent again.
        assert!(
            told.contains(&format!("native {{\"functionCall\":{{\"name\":\"{sent}\"")),
            "{told}"
        );
    }
}
