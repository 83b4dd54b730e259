//! What recent POSTs have answered, so that a client's own retry does nothing twice.
//!
//! An answer is kept in the transaction of the write that it tells of. It is given again to a
//! request with the same `Idempotency-Key` for 24 hours; to one without, only when the client
//! says that it retries, within 30 s, and when nobody can have received the answer. Anything
//! else is a new request.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use posthouse_protocol::Micros;
use rusqlite::{Connection, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};

use crate::{Error, record::hex};

/// How long an `Idempotency-Key` is honoured, in microseconds.
const KEY_LIFE: i64 = 24 * 3600 * 1_000_000;

/// How long after a POST its retry may come, in microseconds.
const RETRY_LIFE: i64 = 30 * 1_000_000;

/// From how many entries on the answers that nobody has fetched are swept.
const SWEEP: usize = 1024;

/// One POST, as far as repeating it goes.
#[derive(Debug, Clone)]
pub struct Post {
    /// [`fingerprint`] of the request.
    pub fingerprint: String,
    /// The `Idempotency-Key`, as [`scoped_key`] makes it.
    pub idempotency_key: Option<String>,
    /// Which retry the client says this is; 0 for the first attempt.
    pub retry: u32,
    /// The life of this process.
    pub boot: String,
    /// When the request came.
    pub at: Micros,
    /// Which answers of this process nobody has received whole.
    pub unwritten: Unwritten,
}

/// What was answered before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The answer's id, for [`Unwritten`].
    pub id: String,
    /// The body.
    pub answer: String,
}

/// The answers of this process that were not handed out whole yet.
#[derive(Debug, Clone, Default)]
pub struct Unwritten(Arc<Mutex<HashMap<String, Micros>>>);

impl Unwritten {
    /// Whether that answer is still to be handed out, or was cut.
    #[must_use]
    pub fn holds(&self, id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    /// The answer has been handed out to its end.
    pub fn written(&self, id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    fn expect(&self, id: &str, at: Micros) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= SWEEP {
            answers.retain(|_, kept_at| kept_at.0 >= at.0 - RETRY_LIFE);
        }
        answers.insert(id.to_owned(), at);
    }
}

/// An `Idempotency-Key` as [`Post`] has it: those of one API key never meet another's.
#[must_use]
pub fn scoped_key(key_id: &str, idempotency_key: &str) -> String {
    format!("{key_id} {idempotency_key}")
}

/// SHA-256 of who sends what where, 64 hexadecimal digits.
#[must_use]
pub fn fingerprint(key_id: &str, path: &str, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [key_id.as_bytes(), path.as_bytes()] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(body);
    hex(&hash.finalize())
}

/// Looks for an answer that a POST has had before; like [`find_kept`], without its id.
///
/// # Errors
/// As [`find_kept`].
pub fn find(connection: &Connection, post: &Post) -> Result<Option<String>, Error> {
    Ok(find_kept(connection, post)?.map(|kept| kept.answer))
}

/// Looks for an answer that a POST has had before; `None` means that it is a new request, which
/// is to be done and its answer kept. Call it in the transaction that would do the work.
///
/// # Errors
/// [`Error::IdempotencyClash`] when the `Idempotency-Key` was used for another request,
/// [`Error::Database`].
pub fn find_kept(connection: &Connection, post: &Post) -> Result<Option<Kept>, Error> {
    if let Some(key) = &post.idempotency_key {
        return find_by_key(connection, post, key);
    }
    if post.retry == 0 {
        return Ok(None);
    }
    // A retry takes the append that was matched least and longest ago, so that two equal
    // messages, both cut and both retried, stay two. The n-th retry may follow n - 1 others.
    let candidates: Vec<(String, String, String)> = connection
        .prepare_cached(
            "SELECT id, boot, answer FROM answers \
             WHERE fingerprint = $1 AND at >= $2 AND matched < $3 AND idempotency_key IS NULL \
             ORDER BY matched, at, id",
        )?
        .query_map(
            params![post.fingerprint, post.at.0 - RETRY_LIFE, i64::from(post.retry)],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?
        .collect::<Result<_, _>>()?;
    let lost =
        |(id, boot, _): &(String, String, String)| *boot != post.boot || post.unwritten.holds(id);
    let Some((id, _, answer)) = candidates.into_iter().find(lost) else { return Ok(None) };
    // From here on it is this process that has to hand it out.
    connection
        .prepare_cached("UPDATE answers SET matched = matched + 1, boot = $1 WHERE id = $2")?
        .execute(params![post.boot, id])?;
    post.unwritten.expect(&id, post.at);
    Ok(Some(Kept { id, answer }))
}

fn find_by_key(connection: &Connection, post: &Post, key: &str) -> Result<Option<Kept>, Error> {
    let kept: Option<(String, String, String)> = connection
        .prepare_cached(
            "SELECT id, fingerprint, answer FROM answers \
             WHERE idempotency_key = $1 AND at >= $2 ORDER BY at DESC LIMIT 1",
        )?
        .query_row(params![key, post.at.0 - KEY_LIFE], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    match kept {
        None => Ok(None),
        Some((_, fingerprint, _)) if fingerprint != post.fingerprint => {
            Err(Error::IdempotencyClash)
        }
        Some((id, _, answer)) => Ok(Some(Kept { id, answer })),
    }
}

/// Keeps the answer of a POST, in the transaction of its work; returns the answer's id.
///
/// # Errors
/// [`Error::Database`].
pub fn keep(connection: &Connection, post: &Post, answer: &str) -> Result<String, Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|error| Error::Damaged(format!("no random numbers: {error}")))?;
    let id = format!("{}{}", id_at(post.at.0), hex(&random[..8]));
    connection
        .prepare_cached(
            "INSERT INTO answers (id, fingerprint, idempotency_key, at, boot, matched, answer) \
             VALUES ($1, $2, $3, $4, $5, 0, $6)",
        )?
        .execute(params![
            id,
            post.fingerprint,
            post.idempotency_key,
            post.at.0,
            post.boot,
            answer
        ])?;
    post.unwritten.expect(&id, post.at);
    Ok(id)
}

/// Deletes the answers that can't be given again.
///
/// # Errors
/// [`Error::Database`].
pub fn prune(connection: &Connection, now: Micros) -> Result<usize, Error> {
    let rows = connection
        .prepare_cached(
            "DELETE FROM answers WHERE id < $1 OR (id < $2 AND idempotency_key IS NULL)",
        )?
        .execute(params![id_at(now.0 - KEY_LIFE), id_at(now.0 - RETRY_LIFE)])?;
    Ok(rows)
}

/// How the ids of answers of that time begin; sorts as time does.
fn id_at(at: i64) -> String {
    format!("{:016x}", at.max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(include_str!("../../../migrations/0001_spine.sql")).unwrap();
        connection
    }

    struct Client {
        boot: &'static str,
        unwritten: Unwritten,
    }

    impl Client {
        fn new(boot: &'static str) -> Self {
            Self { boot, unwritten: Unwritten::default() }
        }

        fn post(&self, body: &str, retry: u32, at: i64) -> Post {
            Post {
                fingerprint: fingerprint("key_1", "/v1/x", body.as_bytes()),
                idempotency_key: None,
                retry,
                boot: self.boot.into(),
                at: Micros(at * SECOND),
                unwritten: self.unwritten.clone(),
            }
        }

        fn keyed(&self, key: &str, path: &str, at: i64) -> Post {
            let mut post = self.post("{}", 0, at);
            post.fingerprint = fingerprint("key_1", path, b"{}");
            post.idempotency_key = Some(scoped_key("key_1", key));
            post
        }
    }

    #[test]
    fn a_retry_gets_the_answer_that_nobody_received() {
        let (store, client) = (database(), Client::new("boot_1"));
        assert_eq!(find(&store, &client.post("yes", 0, 0)).unwrap(), None);
        keep(&store, &client.post("yes", 0, 0), "one").unwrap();
        assert_eq!(find(&store, &client.post("yes", 0, 1)).unwrap(), None);
        assert_eq!(find(&store, &client.post("no", 1, 1)).unwrap(), None);
        assert_eq!(find(&store, &client.post("yes", 1, 31)).unwrap(), None);
        assert_eq!(find(&store, &client.post("yes", 1, 1)).unwrap().as_deref(), Some("one"));
        assert_eq!(find(&store, &client.post("yes", 1, 1)).unwrap(), None);
    }

    #[test]
    fn an_answer_that_was_received_is_not_given_again() {
        let (store, client) = (database(), Client::new("boot_1"));
        let id = keep(&store, &client.post("yes", 0, 0), "one").unwrap();
        assert!(client.unwritten.holds(&id));
        client.unwritten.written(&id);
        assert_eq!(find(&store, &client.post("yes", 1, 1)).unwrap(), None);
    }

    #[test]
    fn answers_of_a_process_that_died_count_as_lost() {
        let (store, before) = (database(), Client::new("boot_1"));
        let id = keep(&store, &before.post("yes", 0, 0), "one").unwrap();
        before.unwritten.written(&id);
        let after = Client::new("boot_2");
        assert_eq!(find(&store, &after.post("yes", 1, 2)).unwrap().as_deref(), Some("one"));
        // Once it has been handed out by the new process, it is done with.
        after.unwritten.written(&id);
        assert_eq!(find(&store, &after.post("yes", 2, 3)).unwrap(), None);
    }

    #[test]
    fn two_equal_messages_stay_two() {
        let (store, client) = (database(), Client::new("boot_1"));
        keep(&store, &client.post("yes", 0, 0), "one").unwrap();
        keep(&store, &client.post("yes", 0, 1), "two").unwrap();
        assert_eq!(find(&store, &client.post("yes", 1, 2)).unwrap().as_deref(), Some("one"));
        assert_eq!(find(&store, &client.post("yes", 1, 2)).unwrap().as_deref(), Some("two"));
        assert_eq!(find(&store, &client.post("yes", 1, 2)).unwrap(), None);
        // A second retry follows a first one whose answer was cut as well.
        assert_eq!(find(&store, &client.post("yes", 2, 2)).unwrap().as_deref(), Some("one"));
    }

    #[test]
    fn an_idempotency_key_is_honoured_for_a_day() {
        let (store, client) = (database(), Client::new("boot_1"));
        assert_eq!(find(&store, &client.keyed("k", "/v1/x", 0)).unwrap(), None);
        let id = keep(&store, &client.keyed("k", "/v1/x", 0), "one").unwrap();
        client.unwritten.written(&id);
        for at in [1, 3600, 24 * 3600] {
            assert_eq!(
                find(&store, &client.keyed("k", "/v1/x", at)).unwrap().as_deref(),
                Some("one")
            );
        }
        let clash = find(&store, &client.keyed("k", "/v1/y", 1));
        assert!(matches!(clash, Err(Error::IdempotencyClash)));
        let later = 24 * 3600 + 1;
        assert_eq!(find(&store, &client.keyed("k", "/v1/x", later)).unwrap(), None);
        let mut other = client.keyed("k", "/v1/x", 1);
        other.idempotency_key = Some(scoped_key("key_2", "k"));
        assert_eq!(find(&store, &other).unwrap(), None);
    }

    #[test]
    fn old_answers_are_pruned() {
        let (store, client) = (database(), Client::new("boot_1"));
        keep(&store, &client.post("yes", 0, 0), "one").unwrap();
        keep(&store, &client.keyed("k", "/v1/x", 0), "two").unwrap();
        assert_eq!(prune(&store, Micros(30 * SECOND)).unwrap(), 0);
        assert_eq!(prune(&store, Micros(31 * SECOND)).unwrap(), 1);
        assert_eq!(prune(&store, Micros((24 * 3600 + 1) * SECOND)).unwrap(), 1);
    }
}
