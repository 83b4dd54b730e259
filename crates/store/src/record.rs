//! What a log holds: records, and the drafts of which the store makes them.

use std::sync::Arc;

use posthouse_protocol::Micros;
use sha2::{Digest as _, Sha256};

/// A place in a log. The first record has 1; 0 is before everything.
pub type Seq = i64;

/// A record that is to be appended. The store gives it its place and its time.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What kind of record, one word of the log's vocabulary.
    pub kind: &'static str,
    /// The thread that it belongs to.
    pub thread: Arc<str>,
    /// A JSON object.
    pub payload: Arc<str>,
    pub(crate) salt: String,
    pub(crate) payload_hash: String,
}

impl Draft {
    /// A draft, with the salted hash of its payload, made here so that the committer need not.
    #[must_use]
    pub fn new(kind: &'static str, thread: Arc<str>, payload: impl Into<Arc<str>>) -> Self {
        let payload = payload.into();
        let mut salt = [0; 16];
        // Without randomness a redacted payload could be guessed, but the chain still holds.
        let _ = getrandom::fill(&mut salt);
        let salt = hex(&salt);
        let payload_hash = hash_payload(&salt, &payload);
        Self { kind, thread, payload, salt, payload_hash }
    }
}

/// One entry of a session's log. Never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place, without gaps within the session.
    pub seq: Seq,
    /// When it was appended; never earlier than the record before it.
    pub at: Micros,
    /// The fencing number under which it was appended.
    pub fence: i64,
    /// What kind of record.
    pub kind: Arc<str>,
    /// The thread that it belongs to.
    pub thread: Arc<str>,
    /// A JSON object.
    pub payload: Arc<str>,
}

/// `H(salt, payload)`, in hex. Salted, so that the hash of a redacted payload tells nothing.
#[must_use]
pub fn hash_payload(salt: &str, payload: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update(payload);
    hex(&hash.finalize())
}

/// `H(previous, seq, kind, payload_hash)`, in hex: the link from one record to the next.
#[must_use]
pub fn hash_link(previous: &str, seq: Seq, kind: &str, payload_hash: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(previous);
    hash.update(seq.to_be_bytes());
    // A length in front, so that no two different records spell the same bytes.
    hash.update((kind.len() as u64).to_be_bytes());
    hash.update(kind);
    hash.update(payload_hash);
    hex(&hash.finalize())
}

/// Bytes as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}
