//! What a request needs: the resource that it is about, and what it does to it. Never knows who
//! asks.

/// What a route is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the API's own")]
pub enum Resource {
    Agents,
    Environments,
    Sessions,
    Events,
    Files,
    Models,
    Sandboxes,
    Keys,
    Workspaces,
}

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Shows, lists or streams, and changes nothing.
    Read,
    /// Makes a new one.
    Create,
    /// Changes one.
    Update,
    /// Puts one away for good, or ends what it does.
    Archive,
    /// Deletes one.
    Delete,
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Need {
    /// What it is about.
    pub resource: Resource,
    /// What it does.
    pub verb: Verb,
}
