//! Starting, stopping, keys and the file that tells where the server is.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use posthouse::{Error, client::Client, local::LocalServer, start::start};
use tempfile::TempDir;

use crate::app::{Silent, TestApp, config};

#[tokio::test]
async fn an_open_address_needs_a_key() {
    let folder = TempDir::new().unwrap();
    let mut open = config(folder.path(), vec![]);
    open.listen = ([0, 0, 0, 0], 0).into();
    open.api_key = None;
    let error = start(open.clone()).await.err().unwrap();
    assert!(matches!(error, Error::OpenWithoutKey(_)), "{error}");
    open.api_key = Some("k".into());
    let running = start(open).await.unwrap();
    assert!(running.url.starts_with("http://127.0.0.1:"), "{}", running.url);
    running.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn the_first_key_is_made_once_and_never_stored() {
    let folder = TempDir::new().unwrap();
    let mut config = config(folder.path(), vec![Arc::new(Silent)]);
    config.api_key = None;
    let running = start(config.clone()).await.unwrap();
    let key = running.generated_key.clone().unwrap();
    assert!(key.starts_with("phk_") && key.len() == 44, "{key}");
    Client::new(running.url.clone(), &key).unwrap().get("/v1/agents").await.unwrap();
    running.stop(Duration::from_secs(1)).await;
    let mut folders = vec![folder.path().to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { &mut folders } else { &mut files }.push(path);
        }
    }
    assert!(!files.is_empty());
    for path in files {
        let bytes = std::fs::read(path).unwrap();
        assert!(!bytes.windows(key.len()).any(|window| window == key.as_bytes()));
    }
    let running = start(config.clone()).await.unwrap();
    assert_eq!(running.generated_key, None);
    Client::new(running.url.clone(), &key).unwrap().get("/v1/agents").await.unwrap();
    running.stop(Duration::from_secs(1)).await;

    // A key of the environment lives as long as it is there.
    config.api_key = Some("mine".into());
    let running = start(config.clone()).await.unwrap();
    Client::new(running.url.clone(), "mine").unwrap().get("/v1/agents").await.unwrap();
    running.stop(Duration::from_secs(1)).await;
    config.api_key = Some("other".into());
    let running = start(config).await.unwrap();
    let error = Client::new(running.url.clone(), "mine").unwrap().get("/v1/agents").await;
    assert!(matches!(error, Err(Error::Refused { status: 401, .. })));
    running.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn programs_on_this_machine_find_the_server() {
    let app = TestApp::new().await;
    let path = LocalServer::path(app.folder());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let client = Client::local(app.folder()).unwrap();
    assert_eq!(client.all("/v1/agents").await.unwrap().len(), 0);
    let second = start(config(app.folder(), vec![])).await.err().unwrap();
    assert!(matches!(second, Error::Store(posthouse_store::Error::Locked { .. })), "{second}");
    let folder = app.folder().to_owned();
    let TestApp { running, .. } = &app;
    let url = running.url.clone();
    let app = app.restart().await;
    assert_ne!(app.running.url, url);
    let error = Client::new(url, "k").unwrap().get("/v1/agents").await.unwrap_err();
    assert!(matches!(error, Error::NoServer { .. }), "{error}");
    app.running.stop(Duration::from_secs(1)).await;
    assert!(matches!(Client::local(&folder), Err(Error::NoServer { .. })));
}
