//! What doors decide is written a little later, counted, and bounded.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::FutureExt as _;
use posthouse_sandbox::{
    Allowed, Isolation, Limits, Rule,
    cages::Isolated,
    cgroups::ResourceLevel,
    door::{Decision, Keeper, Started},
};
use posthouse_store::tables::sandbox_records;
use serde_json::{Value, json};

use super::bench::Bench;

fn decision(host: &str, allowed: bool) -> Decision {
    let rule = if allowed { Rule::AllowedHosts } else { Rule::NotListed };
    Decision { host: host.into(), port: Some(443), allowed, rule }
}

fn total(records: &[Value]) -> u64 {
    records.iter().map(|one| one["count"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn decisions_that_are_alike_are_counted_together() {
    let bench = Bench::open(None);
    bench.session("sesn_1").await;
    bench.session("sesn_2").await;
    let keeper = bench.keeper("sesn_1", &[]);
    for _ in 0..3 {
        keeper.decided(decision("a.example", true));
    }
    keeper.decided(Decision { port: None, ..decision("b.example", false) });
    bench.keeper("sesn_2", &[]).decided(decision("a.example", true));
    bench.vaults.flush_records().await;
    let records = bench.records("sesn_1", &[]);
    assert_eq!(records.len(), 2);
    let by_kind: BTreeMap<_, _> =
        records.iter().map(|one| (one["kind"].as_str().unwrap(), one)).collect();
    let shown = |one: &Value| json!([one["host"], one["port"], one["rule"], one["count"]]);
    assert_eq!(shown(by_kind["allow"]), json!(["a.example", 443, "allowed_hosts", 3]));
    assert_eq!(shown(by_kind["deny"]), json!(["b.example", null, "not_listed", 1]));
    for one in &records {
        assert_eq!(one["event_ids"], json!(["sevt_call"]));
        assert!(one["last_at"].as_str() >= one["created_at"].as_str());
    }
    assert_eq!(bench.records("sesn_1", &["deny"]).len(), 1);
    assert_eq!(bench.records("sesn_1", &["sandbox", "injection"]).len(), 0);
    assert_eq!(bench.records("sesn_2", &[]).len(), 1);
    // What is written is not written twice.
    bench.vaults.flush_records().await;
    assert_eq!(bench.records("sesn_1", &[]).len(), 2);
}

#[tokio::test]
async fn they_are_written_though_nobody_asks() {
    let bench = Bench::open(None);
    bench.session("sesn_1").await;
    let keeper = bench.keeper("sesn_1", &[]);
    for round in 1..=3 {
        keeper.decided(decision("a.example", true));
        let written = async {
            while total(&bench.records("sesn_1", &[])) < round {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), written).await.unwrap();
    }
}

#[tokio::test]
async fn who_flushes_waits_for_what_another_has_begun_and_left() {
    let bench = Bench::open(None);
    bench.session("sesn_1").await;
    bench.keeper("sesn_1", &[]).decided(decision("a.example", true));
    let (go_on, held_up) = std::sync::mpsc::channel::<()>();
    let database = bench.database.clone();
    let mut slow = Box::pin(database.write(move |_| {
        let _ = held_up.recv();
        Ok::<_, posthouse_store::Error>(())
    }));
    assert!((&mut slow).now_or_never().is_none());
    assert!(bench.vaults.flush_records().now_or_never().is_none());
    let mut flush = Box::pin(bench.vaults.flush_records());
    assert!((&mut flush).now_or_never().is_none());
    go_on.send(()).unwrap();
    flush.await;
    assert_eq!(bench.records("sesn_1", &[]).len(), 1);
}

#[tokio::test]
async fn a_list_is_cut_at_a_place_and_goes_on_there() {
    let bench = Bench::open(None);
    bench.session("sesn_1").await;
    let keeper = bench.keeper("sesn_1", &[]);
    for index in 0..25 {
        keeper.decided(decision(&format!("{index}.example"), index % 5 == 0));
    }
    bench.vaults.flush_records().await;
    let kinds = ["deny".to_owned(), "sandbox".to_owned()];
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let after_it = after.as_ref().map(|(at, id): &(i64, String)| (*at, id.as_str()));
        let page = bench
            .read(|connection| sandbox_records::list(connection, "sesn_1", &kinds, after_it, 7));
        let Some(last) = page.last() else { break };
        after = Some((last.at, last.id.clone()));
        ids.extend(page.into_iter().map(|row| (row.at, row.id)));
    }
    assert_eq!(ids.len(), 20);
    assert!(ids.is_sorted_by(|one, other| one > other));
}

#[tokio::test]
async fn what_is_too_much_is_counted_and_said_so() {
    let bench = Bench::open(None);
    bench.session("sesn_1").await;
    let keeper = bench.keeper("sesn_1", &[]);
    for index in 0..1000 {
        keeper.decided(decision(&format!("{index}.example"), index % 4 == 0));
        // Those that are known are counted all the same.
        keeper.decided(decision("0.example", true));
    }
    keeper.decided(decision(&"é".repeat(5000), false));
    bench.vaults.flush_records().await;
    let records = bench.records("sesn_1", &[]);
    assert_eq!(records.len(), 202);
    assert_eq!(total(&records), 2001);
    let first = records.iter().find(|one| one["host"] == "0.example").unwrap();
    assert_eq!(first["count"], 1001);
    let left_out: Vec<_> = records.iter().filter(|one| one["host"].is_null()).collect();
    let mut shown: Vec<_> =
        left_out.iter().map(|one| (one["kind"].as_str(), &one["count"])).collect();
    shown.sort_by_key(|(kind, _)| *kind);
    assert_eq!(shown, [(Some("allow"), &json!(200)), (Some("deny"), &json!(601))]);
    for one in left_out {
        assert_eq!(json!([one["port"], one["rule"], one["event_ids"]]), json!([null, null, []]));
    }
}

#[tokio::test]
async fn a_session_that_tries_hosts_all_day_fills_no_disk() {
    let bench = Bench::open(None);
    bench.session("sesn_1").await;
    let keeper = bench.keeper("sesn_1", &[]);
    for round in 0..20 {
        for index in 0..200 {
            keeper.decided(decision(&format!("{round}-{index}.example"), false));
        }
        bench.vaults.flush_records().await;
    }
    let records = bench.records("sesn_1", &[]);
    assert_eq!(total(&records), 4000);
    assert!(records.len() < 4000, "{} rows", records.len());
    assert!(records.iter().any(|one| one["host"].is_null()));
}

#[tokio::test]
async fn a_name_that_is_too_long_is_cut() {
    let bench = Bench::open(None);
    bench.session("sesn_1").await;
    bench.keeper("sesn_1", &[]).decided(decision(&"é".repeat(5000), false));
    bench.vaults.flush_records().await;
    assert_eq!(bench.records("sesn_1", &[])[0]["host"], "é".repeat(127));
}

#[tokio::test]
async fn records_go_with_their_session_and_none_come_after() {
    let bench = Bench::open(None);
    let log = bench.session("sesn_1").await;
    bench.session("sesn_2").await;
    let (one, other) = (bench.keeper("sesn_1", &[]), bench.keeper("sesn_2", &[]));
    one.decided(decision("a.example", true));
    other.decided(decision("a.example", true));
    bench.vaults.flush_records().await;
    assert_eq!(bench.records("sesn_1", &[]).len(), 1);
    log.delete("sesn_1", |_| Ok::<_, posthouse_store::Error>(())).await.unwrap();
    one.decided(decision("a.example", true));
    bench.vaults.flush_records().await;
    assert_eq!(bench.records("sesn_1", &[]).len(), 0);
    assert_eq!(bench.records("sesn_2", &[]).len(), 1);
}

#[tokio::test]
async fn a_sandbox_says_what_it_is() {
    let bench = Bench::open(None);
    bench.session("sesn_1").await;
    let keeper: Arc<dyn Keeper> = bench.keeper("sesn_1", &[]);
    let started = |allowlist| Started {
        isolation: Isolated {
            technology: Isolation::Namespaces,
            own_ids: true,
            landlock: Some(6),
            seccomp: true,
            limits: ResourceLevel::CgroupV2,
            disk: "watch",
            door: "all_ports",
            lowered: Vec::new(),
        },
        version: "1.2.3",
        kernel: "6.12".into(),
        limits: Limits::default(),
        allowlist,
        passthrough: vec!["pinned.example".into()],
    };
    let list = vec![Allowed { host: "a.example".into(), rule: Rule::PackageManagers }];
    keeper.started(started(Some(list)));
    bench.vaults.flush_records().await;
    let records = bench.records("sesn_1", &["sandbox"]);
    let one = &records[0];
    assert_eq!(
        json!([one["version"], one["kernel"], one["isolation"]["technology"], one["passthrough"]]),
        json!(["1.2.3", "6.12", "namespaces", ["pinned.example"]])
    );
    assert_eq!(one["allowlist"], json!([{ "host": "a.example", "rule": "package_managers" }]));
    assert_eq!(one["limits"]["memory"], 2u64 << 30);
    keeper.started(started(None));
    bench.vaults.flush_records().await;
    let records = bench.records("sesn_1", &["sandbox"]);
    assert!(records.iter().any(|one| one.get("allowlist") == Some(&Value::Null)));
}
