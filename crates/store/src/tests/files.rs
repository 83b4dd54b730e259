//! Files, their contents and what is mounted, over a real database in a temporary folder.

use std::sync::Arc;

use posthouse_protocol::Micros;

use crate::{
    Blobs, Database, Durability, Error, Faults, Log, NewBlob, Options,
    log::{Folded, NewSession},
    tables::{
        Connection,
        files::{self, FileRow, Insertion, NewFile},
        resources::{self, ResourceRow},
    },
};

const AT: Micros = Micros(1_000_000);
const QUOTA: u64 = 100;

struct Bench {
    _folder: tempfile::TempDir,
    blobs: Blobs,
    log: Log,
}

impl Bench {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(Options {
            folder: folder.path().to_owned(),
            durability: Durability::None,
            faults: Faults::default(),
        })
        .unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let fold = |_: Option<&str>, _: &[_], _: &dyn Fn() -> Result<String, Error>| {
            let (fold, document) = (String::new(), Some(String::new()));
            Ok(Folded { status: "idle", fold, document, ends_turn: false, archived_at: None })
        };
        Self { _folder: folder, blobs, log: Log::new(database, Arc::new(fold)) }
    }

    fn content(&self, bytes: &[u8]) -> NewBlob {
        let mut incoming = self.blobs.begin(1_000).unwrap();
        incoming.write(bytes).unwrap();
        incoming.finish().unwrap()
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> T {
        self.log.database().write(work).await.unwrap()
    }

    fn read<T>(&self, look: impl FnOnce(&Connection) -> Result<T, Error>) -> T {
        self.log.database().read(look).unwrap()
    }

    async fn file(&self, id: &str, bytes: &[u8], expires_at: Option<Micros>) -> FileRow {
        let (mut content, new) = (self.content(bytes), new_file(id, expires_at));
        let insert =
            self.write(move |connection| files::insert(connection, "w", new, &mut content, QUOTA));
        match insert.await {
            Insertion::Stored(row) => row,
            other => panic!("{other:?}"),
        }
    }

    /// A session with copies of those files.
    async fn session(&self, id: &str, sources: Vec<FileRow>) -> Result<(), Error> {
        let (new, session) = (new_session(id), id.to_owned());
        let created = self.log.create_with(new, Vec::new(), None, None, move |connection, _, _| {
            for (index, source) in sources.iter().enumerate() {
                mount(connection, source, &session, index)?;
            }
            Ok::<_, Error>(String::new())
        });
        created.await.map(drop)
    }

    fn contents(&self) -> usize {
        std::fs::read_dir(self.blobs.path("x").parent().unwrap()).unwrap().count()
    }

    async fn bury(&self) -> usize {
        self.blobs.bury(self.log.database()).await.unwrap()
    }
}

fn new_session(id: &str) -> NewSession {
    NewSession {
        id: id.to_owned(),
        workspace: "w".to_owned(),
        agent: ("agent_1".to_owned(), 1),
        environment: "env_1".to_owned(),
        at: AT,
    }
}

fn new_file(id: &str, expires_at: Option<Micros>) -> NewFile {
    NewFile {
        id: id.to_owned(),
        filename: "a.txt".to_owned(),
        mime_type: "text/plain".to_owned(),
        at: AT,
        expires_at,
    }
}

fn mount(
    connection: &Connection,
    source: &FileRow,
    session: &str,
    index: usize,
) -> Result<(), Error> {
    let id = format!("file_{session}{index}");
    let copy = files::copy(connection, "w", source, session, id, AT)?;
    let row = ResourceRow {
        id: format!("sesrsc_{session}{index}"),
        file_id: copy.id,
        mount_path: format!("/mnt/session/uploads/{index}"),
        literal_path: None,
        created_at: AT.0,
        updated_at: AT.0,
        blob: copy.blob,
        size: copy.size,
        expires_at: copy.expires_at,
    };
    resources::insert(connection, session, &row)
}

#[tokio::test]
async fn a_content_goes_with_the_last_file_that_shows_it() {
    let bench = Bench::open();
    let source = bench.file("file_1", b"hello", None).await;
    bench.session("s1", vec![source.clone(), source.clone()]).await.unwrap();
    bench.session("s2", vec![source.clone()]).await.unwrap();
    let total = || bench.read(files::total);
    // Copies take no place.
    assert_eq!((bench.contents(), total()), (1, 5));
    let mounted = bench.read(|connection| resources::of_session(connection, "s1"));
    assert_eq!(mounted.len(), 2);
    assert_eq!((&mounted[0].blob, mounted[0].size), (&source.blob, 5));

    bench.write(|connection| files::delete(connection, "w", "file_1")).await.unwrap();
    assert_eq!((bench.bury().await, bench.contents(), total()), (0, 1, 5));
    bench.log.delete("s1", |_| Ok::<_, Error>(())).await.unwrap();
    assert_eq!((bench.bury().await, bench.contents(), total()), (0, 1, 5));
    assert!(bench.read(|connection| resources::of_session(connection, "s1")).is_empty());
    assert!(bench.read(|connection| files::find(connection, "w", "file_s10")).is_none());
    let gone = |connection: &Connection| resources::delete(connection, "w", "s2", "sesrsc_s20");
    assert!(bench.write(gone).await);
    // Until it is off the disk it counts.
    assert_eq!((bench.contents(), total()), (1, 5));
    assert_eq!((bench.bury().await, bench.contents(), total()), (1, 0, 0));
    assert_eq!(bench.bury().await, 0);
}

#[tokio::test]
async fn a_session_that_is_refused_leaves_no_copy() {
    let bench = Bench::open();
    let source = bench.file("file_1", b"hello", None).await;
    let new = new_session("s1");
    let refused = bench.log.create_with(new, Vec::new(), None, None, move |connection, _, _| {
        mount(connection, &source, "s1", 0)?;
        assert!(files::find(connection, "w", "file_s10")?.is_some());
        Err(Error::Closed)
    });
    assert!(matches!(refused.await, Err(Error::Closed)));
    assert_eq!(bench.log.row("s1").unwrap(), None);
    assert_eq!(bench.read(|connection| files::find(connection, "w", "file_s10")), None);
    assert!(bench.read(|connection| resources::of_session(connection, "s1")).is_empty());
}

#[tokio::test]
async fn the_quota_is_kept_whoever_brings_a_file() {
    let bench = Bench::open();
    bench.session("s1", Vec::new()).await.unwrap();
    bench.file("file_1", &[b'x'; 90], None).await;
    for (session, size, expected) in
        [("s1", 11, Insertion::QuotaExceeded), ("s9", 1, Insertion::SessionGone)]
    {
        let (mut content, new) = (bench.content(&vec![b'x'; size]), new_file("file_2", None));
        let insert = bench.write(move |connection| {
            files::insert_output(connection, "w", session, new, &mut content, QUOTA)
        });
        assert_eq!(insert.await, expected);
        assert_eq!(bench.contents(), 1);
    }
    let (mut content, new) = (bench.content(&[b'x'; 10]), new_file("file_2", None));
    let insert = bench.write(move |connection| {
        files::insert_output(connection, "w", "s1", new, &mut content, QUOTA)
    });
    let Insertion::Stored(row) = insert.await else { panic!("it is refused") };
    assert!(row.downloadable);
    assert_eq!(bench.read(files::total), 100);
}

#[tokio::test]
async fn copies_expire_with_what_they_were_made_of() {
    let bench = Bench::open();
    let source = bench.file("file_1", b"hello", Some(AT.plus(10))).await;
    assert!(!source.is_expired(AT.plus(9)) && source.is_expired(AT.plus(10)));
    bench.session("s1", vec![source]).await.unwrap();
    let expire = |at: Micros| bench.write(move |connection| files::expire(connection, at));
    assert!(expire(AT.plus(9)).await.is_empty());
    assert_eq!(expire(AT.plus(10)).await.into_iter().collect::<Vec<_>>(), ["s1"]);
    assert!(expire(AT.plus(11)).await.is_empty());
    assert_eq!((bench.bury().await, bench.contents()), (1, 0));
    let mounted = bench.read(|connection| resources::of_session(connection, "s1"));
    assert_eq!((mounted.len(), &mounted[0].blob), (1, &None));
    // After a month the file is forgotten; the session still says what it had.
    let month = 30 * 24 * 3600 * 1_000_000;
    expire(AT.plus(10 + month)).await;
    let find = |id: &'static str| bench.read(move |connection| files::find(connection, "w", id));
    assert_eq!(find("file_1"), None);
    assert!(find("file_s10").is_some_and(|row| row.is_expired(AT)));
}

#[tokio::test]
async fn files_of_another_workspace_are_not_there() {
    let bench = Bench::open();
    bench.file("file_1", b"x", None).await;
    assert_eq!(bench.read(|connection| files::find(connection, "other", "file_1")), None);
    assert_eq!(bench.write(|connection| files::delete(connection, "other", "file_1")).await, None);
    let ended = bench.read(|connection| resources::has_ended(connection, "other", "s1"));
    assert_eq!(ended, None);
}
