//! What a session's keeper hands out, and when it notices a change.

use std::{sync::Arc, time::Duration};

use posthouse_sandbox::door::{Keeper, Secret, Use};
use posthouse_store::tables::Connection;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::bench::{Bench, Known, WORKSPACE, keeper_of, token, value, variable};
use crate::vault::{Unreachable, Vaults};

async fn values(keeper: &Arc<dyn Keeper>) -> Vec<(String, String)> {
    let secrets = keeper.secrets().await.unwrap();
    let pair = |one: &Secret| (one.name.to_string(), one.value.expose_secret().to_owned());
    secrets.iter().map(pair).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Waits until a keeper hands out these; a change that nobody has told it of takes a moment.
async fn come_to(keeper: &Arc<dyn Keeper>, expected: Vec<(String, String)>) {
    let coming = async {
        while keeper.secrets().await.is_err() || values(keeper).await != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), coming).await.unwrap();
}

/// What the API does to rows, as far as it matters here.
fn archive(connection: &Connection, id: &str) -> Result<(), posthouse_store::Error> {
    for table in ["credentials", "vaults"] {
        connection
            .execute_batch(&format!("UPDATE {table} SET archived_at = 5 WHERE id = '{id}'"))?;
    }
    Ok(())
}

#[tokio::test]
async fn the_first_vault_wins_and_others_workspaces_yield_nothing() {
    let bench = Bench::open(None);
    for vault in ["vlt_1", "vlt_2", "vlt_3"] {
        bench.vault(vault).await;
    }
    bench.vault_of("wrkspc_2", "vlt_4").await;
    let hosts: &[&str] = &["API.Example.com", "*.example.org"];
    bench.credential("vlt_1", "vcrd_1", variable("ONE", Some(hosts)), value("1 of 1")).await;
    bench.credential("vlt_2", "vcrd_2", variable("ONE", None), value("1 of 2")).await;
    bench.credential("vlt_2", "vcrd_3", variable("TWO", None), value("2 of 2")).await;
    bench.credential("vlt_3", "vcrd_4", variable("THREE", None), value("3 of 3")).await;
    bench.credential_of("wrkspc_2", "vlt_4", "vcrd_5", variable("FOUR", None), value("4")).await;
    let server = json!({ "type": "static_bearer", "mcp_server_url": "https://a.example" });
    bench.credential("vlt_1", "vcrd_6", server, token("t")).await;

    let keeper = bench.keeper("sesn_1", &["vlt_1", "vlt_2", "vlt_4", "vlt_gone"]);
    assert_eq!(values(&keeper).await, pairs(&[("ONE", "1 of 1"), ("TWO", "2 of 2")]));
    let secrets = keeper.secrets().await.unwrap();
    let one = &secrets[0];
    assert_eq!((&*one.credential, &*one.vault), ("vcrd_1", "vlt_1"));
    let hosts = one.hosts.as_deref().unwrap();
    assert_eq!(hosts, ["api.example.com", "*.example.org"]);
    assert!(one.header && !one.body && secrets[1].hosts.is_none());
    // The order is the session's.
    let other = bench.keeper("sesn_1", &["vlt_2", "vlt_1"]);
    assert_eq!(values(&other).await, pairs(&[("ONE", "1 of 2"), ("TWO", "2 of 2")]));
    assert_eq!(values(&bench.keeper("sesn_1", &[])).await, pairs(&[]));
}

#[tokio::test]
async fn a_placeholder_hangs_on_session_and_name_alone() {
    let bench = Bench::open(None);
    bench.vault("vlt_1").await;
    bench.vault("vlt_2").await;
    bench.credential("vlt_1", "vcrd_1", variable("ONE", None), value("a")).await;
    bench.credential("vlt_1", "vcrd_2", variable("TWO", None), value("a")).await;
    bench.credential("vlt_2", "vcrd_3", variable("ONE", None), value("b")).await;
    let placeholders = |session, vault| {
        let keeper = bench.keeper(session, &[vault]);
        async move {
            let secrets = keeper.secrets().await.unwrap();
            secrets.iter().map(|one| one.placeholder.to_string()).collect::<Vec<_>>()
        }
    };
    let first = placeholders("sesn_1", "vlt_1").await;
    for placeholder in &first {
        let tail = placeholder.strip_prefix("phs_").unwrap();
        assert!(tail.len() == 32 && tail.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
    assert_ne!(first[0], first[1]);
    assert_eq!(placeholders("sesn_1", "vlt_1").await, first);
    assert_eq!(placeholders("sesn_1", "vlt_2").await[0], first[0]);
    assert_ne!(placeholders("sesn_2", "vlt_1").await[0], first[0]);
}

#[tokio::test]
async fn a_change_is_in_force_at_once_and_one_from_elsewhere_soon() {
    let bench = Bench::open(None);
    bench.vault("vlt_1").await;
    bench.credential("vlt_1", "vcrd_1", variable("ONE", None), value("old")).await;
    let keeper = bench.keeper("sesn_1", &["vlt_1"]);
    let elsewhere = bench.another().keeper(keeper_of("sesn_1", &["vlt_1"]));
    assert_eq!(values(&keeper).await, pairs(&[("ONE", "old")]));
    assert_eq!(values(&elsewhere).await, pairs(&[("ONE", "old")]));

    bench.put("vlt_1", "vcrd_1", &value("new")).await;
    bench.vaults.changed("vlt_1");
    assert_eq!(values(&keeper).await, pairs(&[("ONE", "new")]));
    come_to(&elsewhere, pairs(&[("ONE", "new")])).await;

    bench.credential("vlt_1", "vcrd_2", variable("TWO", None), value("2")).await;
    assert_eq!(values(&keeper).await, pairs(&[("ONE", "new"), ("TWO", "2")]));
    bench.write(|connection| archive(connection, "vcrd_1")).await;
    bench.vaults.changed("vlt_1");
    assert_eq!(values(&keeper).await, pairs(&[("TWO", "2")]));
    come_to(&elsewhere, pairs(&[("TWO", "2")])).await;

    bench.write(|connection| archive(connection, "vlt_1")).await;
    bench.vaults.changed("vlt_1");
    assert_eq!(values(&keeper).await, pairs(&[]));
    come_to(&elsewhere, pairs(&[])).await;
}

#[tokio::test]
async fn what_has_not_changed_is_not_opened_again() {
    let bench = Bench::open(None);
    bench.vault("vlt_1").await;
    bench.credential("vlt_1", "vcrd_1", variable("ONE", None), value("v")).await;
    let keeper = bench.keeper("sesn_1", &["vlt_1"]);
    let first = keeper.secrets().await.unwrap();
    // Nothing opens any more.
    bench.keys.replace(Vec::new());
    assert!(Arc::ptr_eq(&first, &keeper.secrets().await.unwrap()));
    bench.vaults.changed("vlt_2");
    assert!(Arc::ptr_eq(&first, &keeper.secrets().await.unwrap()));
    // A change needs the key, and without it nothing old is handed out.
    bench.keys.replace(vec![Known::key("k_1", 1)]);
    bench.put("vlt_1", "vcrd_1", &value("w")).await;
    bench.vaults.changed("vlt_1");
    bench.keys.replace(Vec::new());
    bench.vaults.changed("vlt_1");
    for _ in 0..2 {
        let refused = keeper.secrets().await.unwrap_err();
        assert!(refused.to_string().contains("not available now"));
    }
    // It is asked again by itself.
    bench.keys.replace(vec![Known::key("k_1", 1)]);
    come_to(&keeper, pairs(&[("ONE", "w")])).await;
}

#[tokio::test]
async fn a_use_is_written_down_before_it_happens_or_does_not_happen() {
    let bench = Bench::open(None);
    bench.session("sesn_1").await;
    bench.vault("vlt_1").await;
    bench.credential("vlt_1", "vcrd_1", variable("ONE", None), value("canary")).await;
    let keeper = bench.keeper("sesn_1", &["vlt_1"]);
    let one = |method: &str| Use {
        credential: "vcrd_1".into(),
        vault: "vlt_1".into(),
        host: "api.example.com".into(),
        port: 443,
        method: method.into(),
        header: true,
        body: false,
    };
    keeper.used(vec![one("GET"), one("POST")]).await.unwrap();
    let (uses, records) = (bench.uses(), bench.records("sesn_1", &["injection"]));
    assert_eq!((uses.len(), records.len()), (2, 2));
    for one in &uses {
        assert_eq!(
            json!([one["type"], one["kind"], one["credential_id"], one["vault_id"]]),
            json!(["credential_use", "egress", "vcrd_1", "vlt_1"])
        );
        assert_eq!(
            json!([one["session_id"], one["event_ids"], one["host"], one["port"], one["location"]]),
            json!(["sesn_1", ["sevt_call"], "api.example.com", 443, { "header": true, "body": false }])
        );
    }
    for one in &records {
        let names: Vec<_> = one.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "type",
                "id",
                "session_id",
                "created_at",
                "kind",
                "vault_id",
                "credential_id",
                "host",
                "port",
                "method",
                "location",
                "event_ids"
            ]
        );
        assert_eq!(json!([one["type"], one["kind"]]), json!(["sandbox_record", "injection"]));
    }
    assert!(!format!("{uses:?}{records:?}").contains("canary"));

    bench.database.close();
    assert!(keeper.used(vec![one("GET")]).await.is_err());
    assert!(keeper.used(Vec::new()).await.is_err());
}

#[tokio::test]
async fn hosts_that_an_environment_does_not_let_through_are_named() {
    let bench = Bench::open(None);
    bench.vault("vlt_1").await;
    bench.vault("vlt_2").await;
    let hosts: &[&str] = &["a.example", "b.example", "*.c.example"];
    bench.credential("vlt_1", "vcrd_1", variable("ONE", Some(hosts)), value("v")).await;
    bench.credential("vlt_1", "vcrd_2", variable("TWO", None), value("v")).await;
    // The first vault's is used, so that this one reaches nothing anyway.
    bench.credential("vlt_2", "vcrd_3", variable("ONE", Some(&["x.example"])), value("v")).await;
    let vaults = ["vlt_1".to_owned(), "vlt_2".to_owned()];
    let named = |vaults: &Vaults, workspace, allowed: &str| {
        let found = vaults
            .unreachable(workspace, &["vlt_1".into(), "vlt_2".into()], |host| host == allowed);
        found.unwrap()
    };
    let one = |host: &str| Unreachable {
        credential: "vcrd_1".into(),
        vault: "vlt_1".into(),
        host: host.into(),
    };
    let found = named(&bench.vaults, WORKSPACE, "b.example");
    assert_eq!(found, [one("a.example"), one("*.c.example")]);
    assert_eq!(named(&bench.vaults, "wrkspc_2", "b.example"), []);
    assert_eq!(bench.vaults.unreachable(WORKSPACE, &vaults, |_| true).unwrap(), []);
}

#[tokio::test]
async fn nothing_prints_a_secret() {
    let bench = Bench::open(None);
    bench.vault("vlt_1").await;
    bench.credential("vlt_1", "vcrd_1", variable("ONE", None), value("canary")).await;
    let keeper = bench.keeper("sesn_1", &["vlt_1"]);
    let secrets = keeper.secrets().await.unwrap();
    let opened = bench.secrets("vlt_1", "vcrd_1").await;
    let row = bench.row("vlt_1", "vcrd_1");
    let text = format!("{keeper:?} {secrets:?} {opened:?} {row:?} {:?}", bench.vaults);
    assert!(text.contains("vlt_1") && !text.contains("canary"), "{text}");
}
