//! Which hosts may be read and found: the agent's lists, and the environment's.

/// Rules for hosts. An entry of a list stands for itself and all names below it, and may have a path
/// where searches take one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domains {
    /// These alone, when given.
    pub allowed: Option<Vec<String>>,
    /// None of these.
    pub blocked: Vec<String>,
    /// The environment's hosts (`api.example.com`, `*.example.com`), when it is limited: these alone.
    pub environment: Option<Vec<String>>,
}
