//! A room of vaults with rows in it, and a root key that is a plain value.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use posthouse_net::{Guard, Rules};
use posthouse_protocol::Micros;
use posthouse_sandbox::door::Keeper;
use posthouse_store::{
    Database, Durability, Error, Faults, Log, Options,
    log::{Folded, NewSession},
    tables::{
        Connection,
        credentials::{self, CredentialRow},
        sandbox_records::{self, SandboxRecordRow},
        uses::{self, UseFilter},
        vaults::{self, VaultRow},
    },
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    clock::{Chance, Clock},
    vault::{
        Binding, KeeperOf, RootKey, RootKeyError, RootKeys, SealedKey, Secrets, VaultParts, Vaults,
        root::Work,
    },
};

pub(crate) const WORKSPACE: &str = "wrkspc_1";

/// A root key that is known.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) key: [u8; 32],
}

impl Known {
    pub(crate) fn key(name: &'static str, byte: u8) -> Arc<dyn RootKey> {
        Arc::new(Self { name, key: [byte; 32] })
    }

    fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &self.key).unwrap())
    }
}

impl RootKey for Known {
    fn name(&self) -> &str {
        self.name
    }

    fn wrap<'a>(
        &'a self,
        data_key: &'a [u8; 32],
        context: &'a str,
    ) -> Work<'a, Result<Vec<u8>, RootKeyError>> {
        Box::pin(async move {
            let mut nonce = [0; 12];
            getrandom::fill(&mut nonce).unwrap();
            let mut sealed = data_key.to_vec();
            let unique = Nonce::assume_unique_for_key(nonce);
            let context = Aad::from(context.as_bytes());
            self.cipher().seal_in_place_append_tag(unique, context, &mut sealed).unwrap();
            Ok([&nonce[..], &sealed].concat())
        })
    }

    fn unwrap<'a>(
        &'a self,
        wrapped: &'a [u8],
        context: &'a str,
    ) -> Work<'a, Result<Zeroizing<[u8; 32]>, RootKeyError>> {
        Box::pin(async move {
            // As a key that is elsewhere: others get a turn meanwhile.
            tokio::task::yield_now().await;
            let (nonce, sealed) = wrapped.split_at(12);
            let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
            let mut sealed = sealed.to_vec();
            let opened =
                self.cipher().open_in_place(nonce, Aad::from(context.as_bytes()), &mut sealed);
            let opened = opened.map_err(|_| RootKeyError::Refused(self.name.into()))?;
            Ok(Zeroizing::new((&*opened).try_into().unwrap()))
        })
    }
}

pub(crate) struct Bench {
    _folder: tempfile::TempDir,
    pub(crate) database: Database,
    pub(crate) keys: RootKeys,
    pub(crate) guard: Guard,
    pub(crate) vaults: Vaults,
}

impl Bench {
    /// A room whose way out leads to `http://server.test` and nowhere else.
    pub(crate) fn open(server: Option<SocketAddr>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(Options {
            folder: folder.path().to_owned(),
            durability: Durability::None,
            faults: Faults::default(),
        })
        .unwrap();
        let keys = RootKeys::new(vec![Known::key("k_1", 1)]);
        let resolve: BTreeMap<_, _> =
            server.into_iter().map(|at| ("server.test".to_owned(), at)).collect();
        let guard = Guard::new(Rules { resolve, ..Rules::default() }, Vec::new());
        let vaults = Vaults::new(VaultParts {
            database: database.clone(),
            keys: keys.clone(),
            guard: guard.clone(),
            clock: Clock::System,
            chance: Chance::system(),
        });
        Self { _folder: folder, database, keys, guard, vaults }
    }

    /// The same rows as another process sees them: nobody tells it of changes.
    pub(crate) fn another(&self) -> Vaults {
        Vaults::new(VaultParts {
            database: self.database.clone(),
            keys: self.keys.clone(),
            guard: self.guard.clone(),
            clock: Clock::System,
            chance: Chance::system(),
        })
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> T {
        self.database.write(work).await.unwrap()
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Connection) -> Result<T, Error>) -> T {
        self.database.read(look).unwrap()
    }

    pub(crate) async fn vault(&self, id: &str) -> SealedKey {
        self.vault_of(WORKSPACE, id).await
    }

    pub(crate) async fn vault_of(&self, workspace: &str, id: &str) -> SealedKey {
        let key = self.vaults.make_key(workspace, id).await.unwrap();
        let row = VaultRow {
            id: id.to_owned(),
            workspace: workspace.to_owned(),
            body: "{}".to_owned(),
            root_key: Some(key.root_key.clone()),
            data_key: Some(key.data_key.clone()),
            created_at: 1,
            archived_at: None,
        };
        self.write(move |connection| vaults::insert(connection, &row)).await;
        key
    }

    /// A credential in a vault that is there, with what [`body`] makes of `auth`.
    pub(crate) async fn credential(&self, vault: &str, id: &str, auth: Value, secrets: Secrets) {
        self.credential_of(WORKSPACE, vault, id, auth, secrets).await;
    }

    pub(crate) async fn credential_of(
        &self,
        workspace: &str,
        vault: &str,
        id: &str,
        auth: Value,
        secrets: Secrets,
    ) {
        let at = Binding { workspace, vault, credential: id };
        let sealed = self.vaults.seal(&self.key_of(workspace, vault), at, &secrets).await.unwrap();
        let target = auth["secret_name"].as_str().or(auth["mcp_server_url"].as_str()).unwrap();
        let row = CredentialRow {
            id: id.to_owned(),
            vault: vault.to_owned(),
            workspace: workspace.to_owned(),
            target: target.to_owned(),
            body: body(vault, id, auth),
            sealed: Some(sealed),
            version: 1,
            created_at: 1,
            archived_at: None,
        };
        self.write(move |connection| credentials::insert(connection, &row)).await;
        self.vaults.changed(vault);
    }

    pub(crate) fn key_of(&self, workspace: &str, vault: &str) -> SealedKey {
        let row = self.read(|connection| vaults::find(connection, workspace, vault)).unwrap();
        SealedKey { root_key: row.root_key.unwrap(), data_key: row.data_key.unwrap() }
    }

    pub(crate) fn row(&self, vault: &str, id: &str) -> CredentialRow {
        self.read(|connection| credentials::find(connection, WORKSPACE, vault, id)).unwrap()
    }

    pub(crate) async fn secrets(&self, vault: &str, id: &str) -> Secrets {
        let at = Binding { workspace: WORKSPACE, vault, credential: id };
        let sealed = self.row(vault, id).sealed.unwrap();
        self.vaults.open(&self.key_of(WORKSPACE, vault), at, &sealed).await.unwrap()
    }

    /// Puts other secrets in place, as an update does; nobody is told.
    pub(crate) async fn put(&self, vault: &str, id: &str, secrets: &Secrets) {
        let at = Binding { workspace: WORKSPACE, vault, credential: id };
        let row = self.row(vault, id);
        let key = self.key_of(WORKSPACE, vault);
        let sealed = self.vaults.seal(&key, at, secrets).await.unwrap();
        let exchange = self.write(move |connection| {
            credentials::exchange_secrets(connection, &row.id, row.version, &row.body, &sealed)
        });
        assert!(exchange.await);
    }

    pub(crate) async fn session(&self, id: &str) -> Log {
        let fold = |_: Option<&str>, _: &[_], _: &dyn Fn() -> Result<String, Error>| {
            let (fold, document) = (String::new(), Some(String::new()));
            Ok(Folded { status: "idle", fold, document, ends_turn: false, archived_at: None })
        };
        let log = Log::new(self.database.clone(), Arc::new(fold));
        let new = NewSession {
            id: id.to_owned(),
            workspace: WORKSPACE.to_owned(),
            agent: ("agent_1".to_owned(), 1),
            environment: "env_1".to_owned(),
            at: Micros(1),
        };
        log.create(new, Vec::new(), None, None, |_, _| Ok(String::new())).await.unwrap();
        log
    }

    pub(crate) fn keeper(&self, session: &str, vaults: &[&str]) -> Arc<dyn Keeper> {
        self.vaults.keeper(keeper_of(session, vaults))
    }

    pub(crate) fn records(&self, session: &str, kinds: &[&str]) -> Vec<Value> {
        let kinds: Vec<_> = kinds.iter().map(ToString::to_string).collect();
        let list = self
            .read(|connection| sandbox_records::list(connection, session, &kinds, None, 10_000));
        list.iter().map(body_of).collect()
    }

    /// The bodies of all uses, the newest first.
    pub(crate) fn uses(&self) -> Vec<Value> {
        let filter = UseFilter { workspace: WORKSPACE.into(), limit: 1000, ..UseFilter::default() };
        let list = self.read(|connection| uses::list(connection, &filter));
        list.iter().map(|row| serde_json::from_str(&row.body).unwrap()).collect()
    }
}

fn body_of(row: &SandboxRecordRow) -> Value {
    let body: Value = serde_json::from_str(&row.body).unwrap();
    assert_eq!((&body["id"], &body["kind"]), (&json!(row.id), &json!(row.kind)));
    body
}

pub(crate) fn keeper_of(session: &str, vaults: &[&str]) -> KeeperOf {
    KeeperOf {
        session: session.into(),
        workspace: WORKSPACE.into(),
        vaults: vaults.iter().map(ToString::to_string).collect(),
        calls: Arc::new(|| vec!["sevt_call".into()]),
    }
}

/// A credential as the wire shows it.
pub(crate) fn body(vault: &str, id: &str, auth: Value) -> String {
    json!({
        "type": "vault_credential",
        "id": id,
        "vault_id": vault,
        "display_name": null,
        "metadata": {},
        "auth": auth,
        "created_at": "2026-11-20T00:00:00Z",
        "updated_at": "2026-11-20T00:00:00Z",
        "archived_at": null,
    })
    .to_string()
}

pub(crate) fn variable(name: &str, hosts: Option<&[&str]>) -> Value {
    let networking = match hosts {
        Some(hosts) => json!({ "type": "limited", "allowed_hosts": hosts }),
        None => json!({ "type": "unrestricted" }),
    };
    json!({
        "type": "environment_variable",
        "secret_name": name,
        "networking": networking,
        "injection_location": { "header": true, "body": false },
    })
}

pub(crate) fn value(text: &str) -> Secrets {
    Secrets { secret_value: Some(text.into()), ..Secrets::default() }
}

pub(crate) fn token(text: &str) -> Secrets {
    Secrets { token: Some(text.into()), ..Secrets::default() }
}
