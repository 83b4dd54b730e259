//! Root keys of a server: made, missing, refused, and changed while it runs or when none does.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use posthouse::{
    api::App,
    config::{Config, Vault},
    start::start,
};
use posthouse_engine::vault::{RootKeys, root::file::KeyFile};
use posthouse_store::{
    Error,
    tables::{
        root_keys,
        vaults::{self, VaultRow},
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
    time::timeout,
};

use crate::{
    app::{TestApp, config, send},
    command_line::{posthouse, run},
};

const ROTATE: &str = "/posthouse/v1/root_key/rotate";
const WORKSPACE: &str = "wrkspc_default";
const VAULT: &str = "vlt_01ABCDEFGHJKMNPQRSTVWXYZ";

/// Makes a vault with a key of its own.
async fn make_vault(app: &App, id: &str) -> VaultRow {
    let key = app.vaults.make_key(WORKSPACE, id).await.unwrap();
    let row = VaultRow {
        id: id.to_owned(),
        workspace: WORKSPACE.to_owned(),
        body: "{}".to_owned(),
        root_key: Some(key.root_key),
        data_key: Some(key.data_key),
        created_at: 1,
        archived_at: None,
    };
    let stored = row.clone();
    let insert = move |connection: &_| vaults::insert(connection, &stored).map(drop);
    app.database.write::<_, Error>(insert).await.unwrap();
    row
}

/// Opens the sealed key of a vault.
async fn open(keys: &RootKeys, name: &str, sealed: &str) -> Option<[u8; 32]> {
    let sealed = BASE64.decode(sealed).unwrap();
    let context = format!("{WORKSPACE}/{VAULT}");
    keys.named(name).ok()?.unwrap(&sealed, &context).await.ok().map(|key| *key)
}

/// The root key and the sealed key of the vault, as they lie in the database.
fn stored(app: &App) -> (String, String) {
    let row = app
        .database
        .read(|connection| vaults::find(connection, WORKSPACE, VAULT))
        .unwrap()
        .unwrap();
    (row.root_key.unwrap(), row.data_key.unwrap())
}

fn names(path: &Path) -> Vec<String> {
    KeyFile::at(path).read().unwrap().iter().map(|key| key.name().to_owned()).collect()
}

/// `posthouse vaults rotate-key …` on a data folder: exit code, what it has printed, its complaint.
async fn rotate_key(data: &Path, arguments: &[&str]) -> (i32, String, String) {
    let home = TempDir::new().unwrap();
    let mut command = posthouse(&home);
    command.args(["vaults", "rotate-key", "--data", data.to_str().unwrap()]).args(arguments);
    run(&mut command).await
}

#[tokio::test]
async fn the_first_start_makes_a_key_that_is_its_owners_alone() {
    let app = TestApp::new().await;
    let path = app.folder().join("vault.key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let made = fs::read_to_string(&path).unwrap();
    let app = app.restart().await;
    assert_eq!(fs::read_to_string(&path).unwrap(), made);
    let folder = app.folder().to_owned();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    app.running.stop(Duration::from_secs(1)).await;
    let error = start(config(&folder, vec![])).await.err().unwrap().with_causes();
    assert!(error.contains("is open to others (mode 0640)"), "{error}");
    assert!(!error.contains(made.trim()), "{error}");
}

#[tokio::test]
async fn the_root_key_is_changed_while_the_server_runs() {
    let app = TestApp::new().await;
    let path = app.folder().join("vault.key");
    let row = make_vault(&app.running.app, VAULT).await;
    let (old, sealed) = (row.root_key.unwrap(), row.data_key.unwrap());
    let keys = app.running.app.keyring.keys();
    let data_key = open(&keys, &old, &sealed).await.unwrap();

    let (code, out, error) = rotate_key(app.folder(), &["--keep"]).await;
    assert_eq!(code, 0, "{error}");
    let of_file = names(&path);
    assert_eq!(of_file[1..], [old.as_str()]);
    assert_eq!(out, format!("root key   {}\nsealed     1 vaults anew\n", of_file[0]));
    let (new, sealed_anew) = stored(&app.running.app);
    assert_eq!(new, of_file[0]);
    assert_ne!(sealed_anew, sealed);
    assert_eq!(open(&keys, &new, &sealed_anew).await, Some(data_key));

    let (code, out, error) = rotate_key(app.folder(), &["--finish", "--json"]).await;
    assert_eq!(code, 0, "{error}");
    let expected = json!({ "root_key": new, "rewrapped": 0, "pending": 0, "removed": [old] });
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), expected);
    assert_eq!(names(&path), [new.as_str()]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let (code, _, error) = rotate_key(app.folder(), &[]).await;
    assert_eq!(code, 0, "{error}");
    let app = app.restart().await;
    let (newest, sealed_anew) = stored(&app.running.app);
    assert_eq!(names(&path), [newest.as_str()]);
    assert!(newest != new && newest != old);
    let keys = app.running.app.keyring.keys();
    assert_eq!(open(&keys, &newest, &sealed_anew).await, Some(data_key));
}

#[tokio::test]
async fn the_root_key_is_changed_when_no_server_runs() {
    let app = TestApp::new().await;
    let folder = app.folder().to_owned();
    make_vault(&app.running.app, VAULT).await;
    let (old, sealed) = stored(&app.running.app);
    let data_key = open(&app.running.app.keyring.keys(), &old, &sealed).await.unwrap();
    app.running.stop(Duration::from_secs(1)).await;
    let (code, out, error) = rotate_key(&folder, &[]).await;
    assert_eq!(code, 0, "{error}");
    assert!(out.ends_with(&format!("sealed     1 vaults anew\nremoved    {old}\n")), "{out}");
    let running = start(config(&folder, vec![])).await.unwrap();
    let (new, sealed) = stored(&running.app);
    assert_eq!(names(&folder.join("vault.key")), [new.as_str()]);
    assert_eq!(open(&running.app.keyring.keys(), &new, &sealed).await, Some(data_key));
    running.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn no_key_is_removed_that_somebody_may_need() {
    let folder = TempDir::new().unwrap();
    let other = folder.path().join("other.key");
    KeyFile::at(&other).read_or_make().unwrap();
    let data = folder.path().join("data");
    let vault = Vault::File(other.clone());
    let running = start(Config { vault, ..config(&data, vec![]) }).await.unwrap();
    make_vault(&running.app, VAULT).await;
    let before = names(&other);
    // The command takes the usual file for the server's, and there is one.
    KeyFile::at(data.join("vault.key")).read_or_make().unwrap();
    let (code, _, error) = rotate_key(&data, &[]).await;
    assert_eq!(code, 1);
    assert!(error.contains("was it started with another configuration?"), "{error}");
    assert!(error.contains("rotate-key --finish"), "{error}");
    assert_eq!(names(&data.join("vault.key")).len(), 2);
    assert_eq!(names(&other), before);

    // A vault whose key is lost: nothing is removed, and the name of what is missing is said.
    KeyFile::at(&other).change().unwrap().add().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, format!("[vault]\nkey_file = {:?}\n", other.to_str().unwrap())).unwrap();
    let file = fs::read_to_string(&other).unwrap();
    fs::write(&other, file.lines().next().unwrap()).unwrap();
    let (code, _, error) = rotate_key(&data, &["--config", path.to_str().unwrap()]).await;
    assert_eq!(code, 1);
    assert!(error.contains(&format!("the root key {} is not configured", before[0])), "{error}");
    assert_eq!(names(&other).len(), 2, "the new one and the one of before");
    running.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn administrators_alone_rotate_and_what_cannot_be_read_changes_nothing() {
    let app = TestApp::new().await;
    let body = json!({ "name": "k", "scopes": ["*:*"] });
    let key = app.post("/posthouse/v1/keys", body).await.ok()["secret"].clone();
    let request = app.bare(reqwest::Method::POST, ROTATE).bearer_auth(key.as_str().unwrap());
    let refused = send(request).await.refused(403);
    assert_eq!(refused, "Only an administrator's key may rotate the root key.");
    app.post(ROTATE, json!({ "colour": 1 })).await.refused(400);
    app.post(&format!("{ROTATE}?colour=1"), Value::Null).await.refused(400);
    let path = app.folder().join("vault.key");
    let name = names(&path).remove(0);
    let expected =
        json!({ "type": "root_key_rotated", "root_key": name, "rewrapped": 0, "pending": 0 });
    assert_eq!(app.post(ROTATE, Value::Null).await.ok(), expected);
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, "hunter2").unwrap();
    let refused = app.post(ROTATE, json!({})).await.refused(409);
    assert!(refused.contains("key 1 is no key") && !refused.contains("hunter2"), "{refused}");
    assert_eq!(app.running.app.keyring.keys().current().unwrap().name(), name);
    fs::write(&path, good).unwrap();
    assert_eq!(app.post(ROTATE, json!({})).await.ok(), expected);
}

#[tokio::test]
async fn a_rotation_gives_up_no_key_that_a_vault_needs() {
    let app = TestApp::new().await;
    let path = app.folder().join("vault.key");
    make_vault(&app.running.app, VAULT).await;
    let (root_key, sealed) = stored(&app.running.app);
    let good = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    app.post(ROTATE, json!({})).await.refused(409);
    assert!(!path.exists(), "a rotation makes no key");
    KeyFile::at(&path).read_or_make().unwrap();
    let refused = app.post(ROTATE, json!({})).await.refused(409);
    assert!(refused.contains(&format!("the root key {root_key} is not configured")), "{refused}");
    // The server still has it.
    let keys = app.running.app.keyring.keys();
    assert_eq!(keys.current().unwrap().name(), root_key);
    assert!(open(&keys, &root_key, &sealed).await.is_some());
    let both = format!("{}{good}", fs::read_to_string(&path).unwrap());
    fs::write(&path, both).unwrap();
    assert_eq!(app.post(ROTATE, json!({})).await.ok()["rewrapped"], 1);
    fs::write(&path, fs::read_to_string(&path).unwrap().lines().next().unwrap()).unwrap();
    assert_eq!(app.post(ROTATE, json!({})).await.ok()["rewrapped"], 0);
    let request = app.request(reqwest::Method::POST, ROTATE).header("idempotency-key", "k");
    let refused = send(request.body("{}")).await.refused(400);
    assert!(refused.starts_with("Idempotency-Key: can't be honoured"), "{refused}");
}

#[tokio::test]
async fn keys_in_a_variable_are_for_the_operator_to_change() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, "[vault]\nkey_env = \"KEYS\"\n").unwrap();
    let key = BASE64.encode([7; 32]);
    let rotate = |arguments: &[&str], value: Option<&str>| {
        let mut command = posthouse(&folder);
        command.args(["vaults", "rotate-key", "--config", path.to_str().unwrap()]).args(arguments);
        command.envs(value.map(|value| ("KEYS", value)));
        command
    };
    let (code, out, error) = run(&mut rotate(&[], Some(&key))).await;
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("sealed     0 vaults anew\nto rotate: put a new key in front"), "{out}");
    assert!(!out.contains(&key));
    let (code, _, error) = run(&mut rotate(&[], None)).await;
    assert_eq!(code, 1);
    assert!(error.contains("vault.key_env: KEYS is not set; set it to base64"), "{error}");
    let (code, _, error) = run(&mut rotate(&["--finish"], Some(&key))).await;
    assert_eq!(code, 2, "{error}");
    assert!(!folder.path().join(".local/share/posthouse/vault.key").exists());
}

#[tokio::test]
async fn a_server_without_a_vaults_key_starts_and_says_so() {
    let app = TestApp::new().await;
    let folder = app.folder().to_owned();
    make_vault(&app.running.app, VAULT).await;
    let (lost, _) = stored(&app.running.app);
    app.running.stop(Duration::from_secs(1)).await;
    fs::remove_file(folder.join("vault.key")).unwrap();
    let home = TempDir::new().unwrap();
    let mut command = posthouse(&home);
    let data = folder.to_str().unwrap();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data", data]);
    let mut server: Child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(server.stderr.take().unwrap()).lines();
    let heard = async {
        while let Some(line) = said.next_line().await.unwrap() {
            if line.contains("their root key is not among those that are configured") {
                return line;
            }
        }
        panic!("it has ended");
    };
    let line = timeout(Duration::from_secs(10), heard).await.unwrap();
    assert!(line.contains(&lost), "{line}");
    server.kill().await.unwrap();
    assert_eq!(root_keys::look(&folder).unwrap().unwrap()[&lost], 1);
    let (_, out, _) = run(posthouse(&home).args(["doctor", "--data", data])).await;
    let expected = format!("1 need {lost}, which is not configured");
    assert!(out.contains(&expected), "{out}");
}
