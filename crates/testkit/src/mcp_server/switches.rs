//! How the fake MCP server behaves. Holds what can be switched, and decides nothing.

use serde::{Deserialize, Serialize};

/// How the server behaves. The default is a good server of revision 2025-11-25.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Switches {
    /// The newest revision that it speaks: 2025-06-18, 2025-11-25 or 2026-07-28.
    pub revision: String,
    /// The oldest that it speaks. 2026-07-28 makes a server without a handshake.
    pub oldest: String,
    /// How many tools it has besides its own: `tool_0001` and so on.
    pub tools: usize,
    /// How many tools a page of its list has; 0 puts all on one.
    pub page: usize,
    /// Whether answers are streams of events; JSON otherwise. Tools that report progress always
    /// answer with a stream.
    pub sse: bool,
    /// Ends the stream of each call after so many events; the rest is there for who asks again with
    /// the last event's id.
    pub cut: Option<usize>,
    /// Whether such an end breaks the connection.
    pub cut_hard: bool,
    /// The time that it asks to wait before asking again, in milliseconds.
    pub retry_ms: Option<u64>,
    /// Whether a handshake gives a session, without which nothing else is answered.
    pub sessions: bool,
    /// The token without which everything answers 401.
    pub token: Option<String>,
    /// How many more requests the token is good for.
    pub token_uses: Option<u64>,
    /// The scope that a call lacks: it answers 403 until this is switched off.
    pub lacks_scope: Option<String>,
    /// What the challenge of a 401 and a 403 names as `resource_metadata`.
    pub resource_metadata: Option<String>,
    /// How long lists hold, in milliseconds. Said from revision 2026-07-28 on.
    pub ttl_ms: Option<u64>,
    /// Whether it says when its tools change.
    pub list_changed: bool,
    /// Answers everything with this status and nothing else.
    pub status: Option<u16>,
    /// What it does to who connects.
    pub hostile: Vec<Hostility>,
    /// Where it sends who connects, for [`Hostility::Redirect`].
    pub redirect: String,
}

/// What a hostile server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hostility {
    /// Its list has a next page for ever.
    EndlessPages,
    /// Its list names the same next page for ever.
    RepeatedCursor,
    /// Two tools have one name, and more of them look the same.
    DuplicatedNames,
    /// Names and descriptions hold control characters, and words for the model.
    ControlCharacters,
    /// Members have types that they can't have.
    WrongTypes,
    /// Descriptions of a mebibyte.
    HugeDescriptions,
    /// The result of a call never ends.
    EndlessResult,
    /// Answers have the id of another request.
    WrongIds,
    /// Answers to requests that nobody has made come before the right one.
    ForNobody,
    /// Everything is elsewhere.
    Redirect,
    /// Answers come byte by byte.
    Drip,
    /// Answers are no JSON.
    NotJson,
    /// No request is ever answered.
    Silent,
    /// Events without end, none of which is an answer.
    EndlessEvents,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            revision: "2025-11-25".to_owned(),
            oldest: "2025-06-18".to_owned(),
            tools: 0,
            page: 0,
            sse: false,
            cut: None,
            cut_hard: false,
            retry_ms: None,
            sessions: true,
            token: None,
            token_uses: None,
            lacks_scope: None,
            resource_metadata: None,
            ttl_ms: None,
            list_changed: true,
            status: None,
            hostile: Vec::new(),
            redirect: String::new(),
        }
    }
}

impl Switches {
    /// Whether it does this.
    #[must_use]
    pub fn does(&self, what: Hostility) -> bool {
        self.hostile.contains(&what)
    }

    /// Whether it speaks a revision.
    #[must_use]
    pub fn speaks(&self, revision: &str) -> bool {
        KNOWN.contains(&revision) && *self.oldest <= *revision && *revision <= *self.revision
    }

    /// All revisions that it speaks.
    #[must_use]
    pub fn revisions(&self) -> Vec<&'static str> {
        KNOWN.into_iter().filter(|revision| self.speaks(revision)).collect()
    }
}

/// From here on there is no handshake.
pub(super) const STATELESS: &str = "2026-07-28";
const KNOWN: [&str; 3] = ["2025-06-18", "2025-11-25", STATELESS];
