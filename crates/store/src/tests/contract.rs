//! The log's contract, as a suite over a real database in a temporary folder.

use std::sync::{Arc, Barrier};

use posthouse_protocol::Micros;

use crate::{
    Crash, Database, Draft, Durability, Error, Faults, InputError, Log, Options, Record,
    SessionRow, Tick, WorkError,
    answers::{Post, Unwritten, fingerprint},
    log::{Folded, Input, NewSession, Range, SessionFilter, Work},
};

struct Bench {
    folder: tempfile::TempDir,
    log: Log,
}

impl Bench {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), Faults::default()).unwrap();
        Self { folder, log }
    }

    /// Ends this life without a word and begins the next one.
    fn reopen(self) -> Self {
        self.log.database().close();
        drop(self.log);
        let log = open(self.folder.path(), Faults::default()).unwrap();
        Self { folder: self.folder, log }
    }

    async fn session(&self, id: &str) -> SessionRow {
        let new = new_session(id);
        let drafts = vec![draft("session_opened", "{}")];
        self.log.create(new, drafts, None, None, |_, _| Ok(String::new())).await.unwrap();
        self.row(id)
    }

    fn row(&self, id: &str) -> SessionRow {
        self.log.row(id).unwrap().unwrap()
    }

    fn records(&self, id: &str) -> Vec<Record> {
        self.log.read(self.row(id).number, &Range::after(0)).unwrap()
    }

    async fn say(&self, id: &str, text: &'static str) -> Result<(), InputError<&'static str>> {
        let accept = move |_: &crate::log::Glance<'_>| {
            Ok(Input { drafts: vec![draft("said", text)], answer: String::new(), claim: None })
        };
        self.log.append_input(id, Micros(1_000), None, accept).await.map(drop)
    }

    async fn work(&self, id: &str, fence: i64, work: Work) -> Result<Vec<Record>, WorkError> {
        let appended = self.log.append_work(id, fence, Micros(1_000), work).await?;
        Ok(appended.records.to_vec())
    }
}

fn open(folder: &std::path::Path, faults: Faults) -> Result<Log, Error> {
    let folder = folder.to_owned();
    let database = Database::open(Options { folder, durability: Durability::None, faults })?;
    Ok(Log::new(database, Arc::new(count)))
}

/// A fold that counts records and joins their payloads: enough to see that each was folded
/// once and in order.
fn count(
    fold: Option<&str>,
    records: &[Record],
    document: &dyn Fn() -> Result<String, Error>,
) -> Result<Folded, Error> {
    let mut folded = fold.unwrap_or_default().to_owned();
    let mut changed = None;
    for record in records {
        folded.push_str(&format!("{}:{} ", record.seq, record.kind));
        if &*record.kind == "renamed" {
            changed = Some(format!("{}+", document()?));
        }
    }
    let last = records.last().map(|record| &*record.kind);
    Ok(Folded {
        status: if last == Some("rested") { "idle" } else { "running" },
        fold: folded,
        document: if fold.is_none() { Some("doc".to_owned()) } else { changed },
        ends_turn: last == Some("rested"),
        archived_at: None,
    })
}

fn new_session(id: &str) -> NewSession {
    NewSession {
        id: id.to_owned(),
        workspace: "w".to_owned(),
        agent: ("agent_1".to_owned(), 1),
        environment: "env_1".to_owned(),
        at: Micros(1_000),
    }
}

fn draft(kind: &'static str, payload: &'static str) -> Draft {
    Draft::new(kind, "t".into(), payload)
}

fn work(drafts: Vec<Draft>) -> Work {
    Work { drafts, ..Work::default() }
}

#[tokio::test]
async fn the_log_is_the_truth() {
    let bench = Bench::open();
    let row = bench.session("s").await;
    bench.say("s", "{\"n\":1}").await.unwrap();
    bench.work("s", row.fence, work(vec![draft("a", "{}"), draft("b", "{}")])).await.unwrap();

    let bench = bench.reopen();
    let records = bench.records("s");
    let seqs: Vec<_> = records.iter().map(|record| record.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
    let row = bench.row("s");
    assert_eq!((row.head, row.input_head), (4, 2));
    assert_eq!(row.fold, "1:session_opened 2:said 3:a 4:b ", "the row is a fold over the log");
    assert_eq!(row.last_at, records[3].at);
    assert_eq!(bench.log.verify(row.number).await.unwrap(), None);
}

#[tokio::test]
async fn times_order_a_log_even_when_the_clock_goes_back() {
    let bench = Bench::open();
    let row = bench.session("s").await;
    for now in [5_000, 4_000, 4_000, 9_000] {
        let drafts = vec![draft("a", "{}"), draft("b", "{}")];
        bench.log.append_work("s", row.fence, Micros(now), work(drafts)).await.unwrap();
    }
    let times: Vec<_> = bench.records("s").iter().map(|record| record.at.0).collect();
    assert_eq!(times, [1_000, 5_000, 5_001, 5_002, 5_003, 5_004, 5_005, 9_000, 9_001]);
}

#[tokio::test]
async fn a_changed_record_breaks_the_chain() {
    let bench = Bench::open();
    let row = bench.session("s").await;
    bench.say("s", "{\"n\":1}").await.unwrap();
    bench.say("s", "{\"n\":2}").await.unwrap();
    for damage in [
        "UPDATE records SET payload = '{\"n\":3}' WHERE seq = 2",
        "UPDATE records SET kind = 'other' WHERE seq = 2",
        "DELETE FROM records WHERE seq = 2",
    ] {
        let sql = damage.to_owned();
        let undone = bench.log.database().write(move |connection| {
            connection.execute(&sql, []).map_err(Error::from)?;
            Err::<(), _>(Error::Damaged(format!("{:?}", verify(connection))))
        });
        let seen = undone.await.unwrap_err().to_string();
        assert!(seen.contains("Some(2)"), "{damage}: {seen}");
    }
    assert_eq!(bench.log.verify(row.number).await.unwrap(), None, "nothing of that was kept");
}

/// The first place that does not hold, seen from inside a transaction.
fn verify(connection: &rusqlite::Connection) -> Option<i64> {
    crate::log::first_damage(connection, 1).unwrap()
}

#[tokio::test]
async fn one_writer() {
    let bench = Bench::open();
    bench.session("s").await;
    let first = bench.log.claim("s", "boot_a").await.unwrap().unwrap();
    assert!(bench.log.claim("s", "boot_b").await.unwrap().is_none(), "held by another life");
    let again = bench.log.claim("s", "boot_a").await.unwrap().unwrap();
    assert_eq!(again.fence, first.fence, "a lease that is held is not raised");

    bench.log.take_over().await.unwrap();
    let stale = bench.work("s", first.fence, work(vec![draft("a", "{}")])).await;
    assert!(matches!(stale, Err(WorkError::Stale)), "{stale:?}");
    let second = bench.log.claim("s", "boot_b").await.unwrap().unwrap();
    assert!(second.fence > first.fence);
    bench.work("s", second.fence, work(vec![draft("a", "{}")])).await.unwrap();
    assert_eq!(bench.records("s").len(), 2);
}

#[tokio::test]
async fn what_rests_on_silence_is_refused_when_somebody_spoke() {
    let bench = Bench::open();
    let row = bench.session("s").await;
    bench.say("s", "{}").await.unwrap();
    let rest = |seen| Work {
        drafts: vec![draft("rested", "{}")],
        seen_input: Some(seen),
        release: true,
        ..Work::default()
    };
    let overtaken = bench.work("s", row.fence, rest(1)).await;
    assert!(matches!(overtaken, Err(WorkError::Overtaken)), "{overtaken:?}");
    bench.work("s", row.fence, work(vec![draft("a", "{}")])).await.unwrap();
    bench.work("s", row.fence, rest(2)).await.unwrap();
    assert_eq!(bench.row("s").status, "idle", "the status flips with the record that says so");
}

#[tokio::test]
async fn a_waking_input_takes_the_lease() {
    let bench = Bench::open();
    let before = bench.session("s").await;
    let accept = |_: &crate::log::Glance<'_>| {
        let drafts = vec![draft("said", "{}")];
        Ok::<_, ()>(Input { drafts, answer: String::new(), claim: Some("boot_a".to_owned()) })
    };
    bench.log.append_input("s", Micros(1), None, accept).await.unwrap();
    let row = bench.log.claim("s", "boot_a").await.unwrap().unwrap();
    assert_eq!(row.fence, before.fence + 1);
    let stale = bench.work("s", before.fence, work(vec![draft("a", "{}")])).await;
    assert!(matches!(stale, Err(WorkError::Stale)));
}

#[tokio::test]
async fn a_refused_input_leaves_nothing() {
    let bench = Bench::open();
    let before = bench.session("s").await;
    let refuse = |_: &crate::log::Glance<'_>| Err::<Input, _>("no");
    let refused = bench.log.append_input("s", Micros(1), None, refuse).await;
    assert!(matches!(refused, Err(InputError::Refused("no"))));
    assert_eq!(bench.row("s"), before);
    let missing = bench.say("t", "{}").await;
    assert!(matches!(missing, Err(InputError::Missing)));
}

#[tokio::test]
async fn a_failed_write_takes_no_other_with_it() {
    let bench = Bench::open();
    bench.session("s").await;
    // Both wait in the queue behind a write that holds the committer, so they share a group.
    let barrier = Arc::new(Barrier::new(2));
    let hold = Arc::clone(&barrier);
    let database = bench.log.database().clone();
    let holding = database.write::<_, Error>(move |_| {
        hold.wait();
        Ok(())
    });
    let failing = database.write::<(), Error>(|connection| {
        connection.execute("UPDATE sessions SET status = 'broken'", [])?;
        connection.execute("INSERT INTO nowhere VALUES (1)", [])?;
        Ok(())
    });
    let release = async {
        tokio::task::yield_now().await;
        tokio::task::spawn_blocking(move || barrier.wait()).await.unwrap();
    };
    let (held, failed, said, ()) = tokio::join!(holding, failing, bench.say("s", "{}"), release);
    held.unwrap();
    assert!(failed.is_err());
    said.unwrap();
    assert_eq!(bench.records("s").len(), 2);
    assert_ne!(bench.row("s").status, "broken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_give_gapless_logs_in_the_order_of_their_watchers() {
    let bench = Arc::new(Bench::open());
    let mut writers = tokio::task::JoinSet::new();
    let mut tails = Vec::new();
    for session in ["a", "b", "c"] {
        bench.session(session).await;
        tails.push(bench.log.watch(session));
        for _ in 0..16 {
            let bench = Arc::clone(&bench);
            writers.spawn(async move {
                for _ in 0..20 {
                    bench.say(session, "{}").await.unwrap();
                }
            });
        }
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    for (session, mut tail) in ["a", "b", "c"].into_iter().zip(tails) {
        let seqs: Vec<_> = bench.records(session).iter().map(|record| record.seq).collect();
        assert_eq!(seqs, (1..=321).collect::<Vec<_>>());
        let mut heard = Vec::new();
        while heard.len() < 320 {
            match tail.next().await.unwrap() {
                Tick::Records(records) => heard.extend(records.iter().map(|record| record.seq)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(heard, (2..=321).collect::<Vec<_>>());
        assert_eq!(bench.log.verify(bench.row(session).number).await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_a_watcher_hears_can_be_read() {
    let bench = Bench::open();
    bench.session("s").await;
    let mut tail = bench.log.watch("s");
    bench.say("s", "{}").await.unwrap();
    let Tick::Records(records) = tail.next().await.unwrap() else { panic!("no records") };
    assert_eq!(bench.records("s")[1..], records[..]);
    drop(tail);
    assert!(!bench.log.is_watched("s"), "nobody watches, nothing is kept");
}

#[tokio::test]
async fn the_end_of_a_turn_counts_as_shown_when_somebody_watched() {
    let bench = Bench::open();
    let row = bench.session("s").await;
    let rest = || work(vec![draft("rested", "{}")]);
    bench.work("s", row.fence, rest()).await.unwrap();
    assert_eq!(bench.row("s").shown, 0);
    bench.log.mark_shown("s", 2).await.unwrap();
    assert_eq!(bench.row("s").shown, 2);
    let _tail = bench.log.watch("s");
    bench.work("s", row.fence, rest()).await.unwrap();
    assert_eq!(bench.row("s").shown, 3);
}

#[tokio::test]
async fn a_document_changes_with_the_record_that_says_so() {
    let bench = Bench::open();
    let row = bench.session("s").await;
    assert_eq!(bench.log.document(row.number).unwrap(), "doc");
    bench.work("s", row.fence, work(vec![draft("a", "{}")])).await.unwrap();
    bench.work("s", row.fence, work(vec![draft("renamed", "{}")])).await.unwrap();
    assert_eq!(bench.log.document(row.number).unwrap(), "doc+");
}

#[tokio::test]
async fn a_deleted_session_is_gone_whole() {
    let bench = Bench::open();
    let row = bench.session("s").await;
    let mut kept = work(vec![draft("a", "{}")]);
    kept.blobs = vec![("hash".to_owned(), "text".into())];
    bench.work("s", row.fence, kept).await.unwrap();
    for (hash, text) in [("hash", Some("text")), ("other", None)] {
        assert_eq!(bench.log.blob(row.number, hash.into()).await.unwrap().as_deref(), text);
    }
    let mut tail = bench.log.watch("s");
    let refused = bench.log.delete("s", |_| Err("no")).await;
    assert!(matches!(refused, Err(InputError::Refused("no"))));
    bench.log.delete::<()>("s", |_| Ok(())).await.unwrap();
    assert!(matches!(tail.next().await, Ok(Tick::Deleted)));
    assert!(bench.log.row("s").unwrap().is_none());
    let stale = bench.work("s", row.fence, work(vec![draft("a", "{}")])).await;
    assert!(matches!(stale, Err(WorkError::Stale)));
    let left = bench.log.database().read(|connection| {
        let mut left = 0;
        for table in ["records", "session_documents", "session_blobs", "sessions"] {
            let sql = format!("SELECT count(*) FROM {table}");
            left += connection.query_row(&sql, [], |row| row.get::<_, i64>(0))?;
        }
        Ok::<_, Error>(left)
    });
    assert_eq!(left.unwrap(), 0);
}

#[tokio::test]
async fn a_retry_is_answered_and_not_done_again() {
    let bench = Bench::open();
    bench.session("s").await;
    let unwritten = Unwritten::default();
    let post = |retry| Post {
        fingerprint: fingerprint("key_1", "/path", b"body"),
        idempotency_key: None,
        retry,
        boot: "boot_a".to_owned(),
        at: Micros(1_000),
        unwritten: unwritten.clone(),
    };
    let say = |retry| {
        let accept = |glance: &crate::log::Glance<'_>| {
            let answer = format!("head was {}", glance.row.head);
            let drafts = vec![draft("said", "{}")];
            Ok::<_, ()>(Input { drafts, answer, claim: None })
        };
        bench.log.append_input("s", Micros(1), Some(post(retry)), accept)
    };
    let first = say(0).await.unwrap();
    assert_eq!(say(1).await.unwrap().answer, first.answer, "nobody has received it");
    assert_eq!(bench.row("s").head, 2);
    let second = say(0).await.unwrap();
    assert_ne!(second.answer, first.answer, "an equal message that is no retry is a message");
    unwritten.written(&second.id.unwrap());
    say(1).await.unwrap();
    assert_eq!(bench.row("s").head, 4, "an answer that was received is not given again");
}

#[tokio::test]
async fn lists_go_both_ways_without_gaps() {
    let bench = Bench::open();
    for number in 0..5 {
        let new =
            NewSession { at: Micros(1_000 + number / 2), ..new_session(&format!("s{number}")) };
        let drafts = vec![draft("session_opened", "{}")];
        bench.log.create(new, drafts, None, None, |_, _| Ok(String::new())).await.unwrap();
    }
    for oldest_first in [true, false] {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let filter = SessionFilter {
                workspace: "w".to_owned(),
                oldest_first,
                after: after.clone(),
                limit: 2,
                ..SessionFilter::default()
            };
            let rows = bench.log.list(filter).await.unwrap();
            let Some((last, _)) = rows.last() else { break };
            after = Some((last.created_at, last.id.clone()));
            seen.extend(rows.into_iter().map(|(row, _)| row.id));
        }
        let mut expected = vec!["s0", "s1", "s2", "s3", "s4"];
        if !oldest_first {
            expected.reverse();
        }
        assert_eq!(seen, expected);
    }
    let filter =
        SessionFilter { workspace: "other".to_owned(), limit: 9, ..SessionFilter::default() };
    assert!(bench.log.list(filter).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_filter_leaves_out_what_it_says_and_nothing_else() {
    let bench = Bench::open();
    let statuses = ["idle", "running", "rescheduling", "terminated"];
    for number in 0..16 {
        let mut new = new_session(&format!("s{number:02}"));
        new.at = Micros(1_000 + number);
        new.agent = (format!("a{}", number % 2), 1 + number / 8);
        let drafts = vec![draft("session_opened", "{}")];
        bench.log.create(new, drafts, None, None, |_, _| Ok(String::new())).await.unwrap();
    }
    bench
        .log
        .database()
        .write(move |connection| {
            for number in 0..16_usize {
                let archived = (number % 8 == 7).then_some(5_i64);
                connection.execute(
                    "UPDATE sessions SET status = $1, archived_at = $2 WHERE id = $3",
                    rusqlite::params![statuses[number / 2 % 4], archived, format!("s{number:02}")],
                )?;
            }
            Ok::<_, Error>(())
        })
        .await
        .unwrap();
    let list = async |change: fn(&mut SessionFilter)| {
        let mut filter =
            SessionFilter { workspace: "w".to_owned(), limit: 100, ..SessionFilter::default() };
        change(&mut filter);
        let rows = bench.log.list(filter).await.unwrap();
        rows.into_iter().map(|(row, _)| row.id[1..].parse::<usize>().unwrap()).collect::<Vec<_>>()
    };
    let live: Vec<usize> = (0..16).rev().filter(|number| number % 8 != 7).collect();
    assert_eq!(list(|_| {}).await, live);
    assert_eq!(list(|filter| filter.archived = true).await, (0..16).rev().collect::<Vec<_>>());
    let idle = list(|filter| filter.statuses = vec!["idle".to_owned()]).await;
    assert_eq!(idle, [9, 8, 1, 0]);
    let ended = list(|filter| {
        filter.statuses = vec!["terminated".to_owned(), "running".to_owned()];
        filter.oldest_first = true;
    });
    assert_eq!(ended.await, [2, 3, 6, 10, 11, 14]);
    let all_ended = list(|filter| {
        filter.statuses = vec!["terminated".to_owned()];
        filter.archived = true;
    });
    assert_eq!(all_ended.await, [15, 14, 7, 6]);
    let of_agent = list(|filter| {
        filter.agent = Some("a1".to_owned());
        filter.agent_version = Some(2);
        filter.times = (Some(Micros(1_010)), Some(Micros(1_013)));
    });
    assert_eq!(of_agent.await, [13, 11]);
    let after = list(|filter| {
        filter.after = Some((Micros(1_008), "s08".to_owned()));
        filter.limit = 3;
    });
    assert_eq!(after.await, [6, 5, 4]);
}

#[test]
fn the_files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made");
    let log = open(&path, Faults::default()).unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let files: Vec<_> = std::fs::read_dir(&path).unwrap().map(|one| one.unwrap().path()).collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in &files {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
    log.database().close();
    assert!(!path.join("posthouse.db-wal").exists(), "a stopped server is one file");
}

#[test]
fn a_folder_has_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), Faults::default()).unwrap();
    let second = open(folder.path(), Faults::default()).err();
    assert!(matches!(second, Some(Error::Locked { .. })), "{second:?}");
    drop(first);
    open(folder.path(), Faults::default()).unwrap();
}

#[test]
fn a_database_of_the_future_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), Faults::default()).unwrap());
    let file = folder.path().join("posthouse.db");
    rusqlite::Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let refused = open(folder.path(), Faults::default()).err();
    assert!(matches!(refused, Some(Error::Newer { found: 99, .. })), "{refused:?}");
}

#[tokio::test]
async fn a_crash_before_the_commit_keeps_nothing_and_one_after_it_keeps_all() {
    for (point, kept) in [("append.before_commit", 1), ("append.after_commit", 2)] {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path(), Faults::default()).unwrap();
        let drafts = vec![draft("session_opened", "{}")];
        log.create(new_session("s"), drafts, None, None, |_, _| Ok(String::new())).await.unwrap();
        drop(log);
        let faults =
            Faults::new(move |name| if name == point { Err(Crash(point)) } else { Ok(()) });
        let log = open(folder.path(), faults).unwrap();
        let accept = |_: &crate::log::Glance<'_>| {
            let drafts = vec![draft("said", "{}")];
            Ok::<_, ()>(Input { drafts, answer: String::new(), claim: None })
        };
        assert!(log.append_input("s", Micros(1), None, accept).await.is_err());
        drop(log);
        let log = open(folder.path(), Faults::default()).unwrap();
        assert_eq!(log.row("s").unwrap().unwrap().head, kept, "{point}");
    }
}
