//! What is sealed opens in its place and nowhere else, and keys are exchanged under load.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use posthouse_store::tables::credentials;
use secrecy::ExposeSecret as _;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::bench::{Bench, Known, WORKSPACE, body, token, value, variable};
use crate::vault::{Binding, RootKeyError, SealedKey, Secrets, VaultError, envelope};

const AT: Binding<'_> = Binding { workspace: WORKSPACE, vault: "vlt_1", credential: "vcrd_1" };

fn all() -> Secrets {
    Secrets {
        access_token: Some("the access token".into()),
        refresh_token: Some("the \"refresh\"\\token\n\u{1}".into()),
        client_secret: Some("das Geheimnis, größer".into()),
        token: Some("".into()),
        secret_value: Some("\0".repeat(5000).into()),
    }
}

fn texts(secrets: &Secrets) -> Vec<Option<String>> {
    [
        &secrets.access_token,
        &secrets.refresh_token,
        &secrets.client_secret,
        &secrets.token,
        &secrets.secret_value,
    ]
    .map(|secret| secret.as_ref().map(|one| one.expose_secret().to_owned()))
    .to_vec()
}

fn is_sealed<T>(result: Result<T, VaultError>) -> bool {
    matches!(result, Err(VaultError::Sealed | VaultError::Root(RootKeyError::Refused(_))))
}

#[tokio::test]
async fn what_is_sealed_opens_in_its_place_and_nowhere_else() {
    let bench = Bench::open(None);
    let vaults = &bench.vaults;
    let key = bench.vault("vlt_1").await;
    for secrets in [all(), value("v"), token("t"), Secrets::default()] {
        let sealed = vaults.seal(&key, AT, &secrets).await.unwrap();
        let again = vaults.seal(&key, AT, &secrets).await.unwrap();
        assert_ne!(sealed, again);
        for sealed in [sealed, again] {
            let opened = vaults.open(&key, AT, &sealed).await.unwrap();
            assert_eq!(texts(&opened), texts(&secrets));
        }
    }
    let sealed = vaults.seal(&key, AT, &all()).await.unwrap();
    for elsewhere in [
        Binding { workspace: "wrkspc_2", ..AT },
        Binding { vault: "vlt_2", ..AT },
        Binding { credential: "vcrd_2", ..AT },
        Binding { vault: "vlt_1v", credential: "crd_1", ..AT },
        Binding { credential: "", ..AT },
    ] {
        // With the key that was made for the right place, opened or not, and with one of its own.
        assert!(is_sealed(vaults.open(&key, elsewhere, &sealed).await), "{elsewhere:?}");
        let own = vaults.make_key(elsewhere.workspace, elsewhere.vault).await.unwrap();
        assert!(is_sealed(vaults.open(&own, elsewhere, &sealed).await), "{elsewhere:?}");
        assert!(is_sealed(bench.another().open(&key, elsewhere, &sealed).await), "{elsewhere:?}");
    }
    // The right place and key still do.
    assert!(vaults.open(&key, AT, &sealed).await.is_ok());
}

/// Also where somebody has given two vaults the same key.
#[test]
fn a_place_is_more_than_its_key() {
    let key = Zeroizing::new([3; 32]);
    let sealed = envelope::seal(&key, AT, &value("a value")).unwrap();
    assert!(envelope::open(&key, AT, &sealed).is_ok());
    for elsewhere in [
        Binding { workspace: "wrkspc_2", ..AT },
        Binding { vault: "vlt_2", ..AT },
        Binding { credential: "vcrd_2", ..AT },
        Binding { vault: "vlt_1v", credential: "crd_1", ..AT },
        Binding { workspace: "", vault: "wrkspc_1vlt_1", ..AT },
    ] {
        assert!(is_sealed(envelope::open(&key, elsewhere, &sealed)), "{elsewhere:?}");
    }
    assert!(is_sealed(envelope::open(&Zeroizing::new([4; 32]), AT, &sealed)));
}

#[tokio::test]
async fn what_was_touched_does_not_open() {
    let bench = Bench::open(None);
    let key = bench.vault("vlt_1").await;
    let sealed = bench.vaults.seal(&key, AT, &value("a value")).await.unwrap();
    let bytes = STANDARD.decode(&sealed).unwrap();
    for index in 0..bytes.len() {
        let mut touched = bytes.clone();
        touched[index] ^= 1;
        let touched = STANDARD.encode(touched);
        assert!(is_sealed(bench.vaults.open(&key, AT, &touched).await), "byte {index}");
        let cut = STANDARD.encode(&bytes[..index]);
        assert!(is_sealed(bench.vaults.open(&key, AT, &cut).await), "cut at {index}");
    }
    for text in ["", "AQ==", "no base64!"] {
        assert!(is_sealed(bench.vaults.open(&key, AT, text).await), "{text}");
    }
    let damaged = SealedKey { data_key: "no base64!".into(), ..key };
    assert!(is_sealed(bench.vaults.open(&damaged, AT, &sealed).await));
}

#[tokio::test]
async fn another_root_key_opens_nothing() {
    let bench = Bench::open(None);
    let key = bench.vault("vlt_1").await;
    let sealed = bench.vaults.seal(&key, AT, &value("a value")).await.unwrap();
    bench.keys.replace(vec![Known::key("k_1", 9)]);
    let wrong = bench.another().open(&key, AT, &sealed).await;
    assert!(matches!(wrong, Err(VaultError::Root(RootKeyError::Refused(_)))), "{wrong:?}");
    bench.keys.replace(vec![Known::key("k_2", 1)]);
    let unknown = bench.another().open(&key, AT, &sealed).await;
    assert!(matches!(unknown, Err(VaultError::Root(RootKeyError::Unknown(_)))), "{unknown:?}");
    bench.keys.replace(Vec::new());
    assert!(bench.vaults.make_key(WORKSPACE, "vlt_2").await.is_err());
    assert!(bench.vaults.rewrap().await.is_err());
    bench.keys.replace(vec![Known::key("k_2", 2), Known::key("k_1", 1)]);
    assert!(bench.another().open(&key, AT, &sealed).await.is_ok());
}

#[tokio::test]
async fn an_opened_key_is_forgotten_when_its_vault_changes_and_after_a_while() {
    let bench = Bench::open(None);
    let key = bench.vault("vlt_1").await;
    let sealed = bench.vaults.seal(&key, AT, &value("a value")).await.unwrap();
    bench.keys.replace(Vec::new());
    // It is still there.
    assert!(bench.vaults.open(&key, AT, &sealed).await.is_ok());
    bench.vaults.changed("vlt_2");
    assert!(bench.vaults.open(&key, AT, &sealed).await.is_ok());
    bench.vaults.changed("vlt_1");
    assert!(bench.vaults.open(&key, AT, &sealed).await.is_err());
    bench.keys.replace(vec![Known::key("k_1", 1)]);
    assert!(bench.vaults.open(&key, AT, &sealed).await.is_ok());
    bench.keys.replace(Vec::new());
    let keys = &bench.vaults.room.data_keys;
    let later = |seconds| tokio::time::Instant::now() + std::time::Duration::from_secs(seconds);
    assert!(keys.find(WORKSPACE, "vlt_1", &key, later(0)).is_some());
    assert!(keys.find(WORKSPACE, "vlt_1", &key, later(300)).is_none());
}

#[tokio::test]
async fn a_row_that_was_moved_yields_nothing_and_ends_the_session_s_secrets() {
    let bench = Bench::open(None);
    bench.vault("vlt_1").await;
    bench.vault("vlt_2").await;
    bench.vault_of("wrkspc_2", "vlt_3").await;
    bench.credential("vlt_1", "vcrd_1", variable("ONE", None), value("first")).await;
    bench.credential("vlt_1", "vcrd_2", variable("TWO", None), value("second")).await;
    bench.credential("vlt_2", "vcrd_3", variable("THREE", None), value("third")).await;
    let theirs = variable("FOUR", None);
    bench.credential_of("wrkspc_2", "vlt_3", "vcrd_4", theirs, value("fourth")).await;
    let sealed = |id: &'static str, workspace: &'static str, vault: &'static str| {
        let find = move |connection: &_| credentials::find(connection, workspace, vault, id);
        bench.read(find).unwrap().sealed.unwrap()
    };
    let own = sealed("vcrd_1", WORKSPACE, "vlt_1");
    let keeper = bench.keeper("sesn_1", &["vlt_1"]);
    for from in [
        sealed("vcrd_2", WORKSPACE, "vlt_1"),
        sealed("vcrd_3", WORKSPACE, "vlt_2"),
        sealed("vcrd_4", "wrkspc_2", "vlt_3"),
    ] {
        for (text, opens) in [(from, false), (own.clone(), true)] {
            let version = bench.row("vlt_1", "vcrd_1").version;
            let shown = body("vlt_1", "vcrd_1", variable("ONE", None));
            let exchange = bench.write(move |connection| {
                credentials::exchange_secrets(connection, "vcrd_1", version, &shown, &text)
            });
            assert!(exchange.await);
            bench.vaults.changed("vlt_1");
            assert_eq!(keeper.secrets().await.is_ok(), opens);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_exchanged_while_others_read_and_write() {
    let bench = Arc::new(Bench::open(None));
    let mut sealed = Vec::new();
    for index in 0..230 {
        let id = format!("vlt_{index:03}");
        bench.vault(&id).await;
        bench.credential(&id, &format!("vcrd_{index}"), variable("A", None), value(&id)).await;
        sealed.push(id);
    }
    bench.keys.replace(vec![Known::key("k_2", 2), Known::key("k_1", 1)]);
    assert_eq!(bench.vaults.pending().await.unwrap(), 230);
    let mut rewrapping = JoinSet::new();
    for vaults in [bench.vaults.clone(), bench.another()] {
        rewrapping.spawn(async move { vaults.rewrap().await.unwrap() });
    }
    let mut at_work = JoinSet::new();
    for worker in 0..4 {
        let (bench, sealed) = (Arc::clone(&bench), sealed.clone());
        at_work.spawn(async move {
            for (index, id) in sealed.iter().enumerate() {
                let credential = format!("vcrd_{index}");
                if index % 4 == worker {
                    bench.put(id, &credential, &value(&format!("new {id}"))).await;
                    bench.vaults.changed(id);
                }
                let secrets = bench.secrets(id, &credential).await;
                assert!(secrets.secret_value.unwrap().expose_secret().ends_with(id.as_str()));
            }
        });
    }
    at_work.join_all().await;
    let done: usize = rewrapping.join_all().await.into_iter().sum();
    assert_eq!(done, 230);
    assert_eq!(bench.vaults.pending().await.unwrap(), 0);
    assert_eq!(bench.vaults.rewrap().await.unwrap(), 0);
    // The former key is not needed any more.
    bench.keys.replace(vec![Known::key("k_2", 2)]);
    let fresh = bench.another();
    for (index, id) in sealed.iter().enumerate() {
        let credential = format!("vcrd_{index}");
        let at = Binding { workspace: WORKSPACE, vault: id, credential: &credential };
        let text = bench.row(id, &credential).sealed.unwrap();
        let opened = fresh.open(&bench.key_of(WORKSPACE, id), at, &text).await.unwrap();
        assert_eq!(opened.secret_value.unwrap().expose_secret(), format!("new {id}"));
    }
}

#[tokio::test]
async fn a_key_that_can_t_be_opened_keeps_no_other_from_being_exchanged() {
    let bench = Bench::open(None);
    bench.vault("vlt_2").await;
    bench.keys.replace(vec![Known::key("k_lost", 7)]);
    bench.vault("vlt_1").await;
    bench.keys.replace(vec![Known::key("k_2", 2), Known::key("k_1", 1)]);
    let failed = bench.vaults.rewrap().await;
    assert!(
        matches!(&failed, Err(VaultError::Root(RootKeyError::Unknown(name))) if name == "k_lost")
    );
    assert_eq!(bench.vaults.pending().await.unwrap(), 1);
    assert_eq!(bench.key_of(WORKSPACE, "vlt_2").root_key, "k_2");
    assert_eq!(bench.key_of(WORKSPACE, "vlt_1").root_key, "k_lost");
}
