//! What a request needs, and what a key opens. Never knows who asks.
//!
//! A scope is a text, `agents:read`: a resource (or `*`) and a verb (or `write`, which stands for
//! all that change something, or `*`). Whatever no scope names is closed.

use std::fmt;

use posthouse_protocol::{ApiError, ErrorKind, fields::wrong};
use serde_json::Value;

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
    Vaults,
    Keys,
    Workspaces,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Agents,
        Self::Environments,
        Self::Sessions,
        Self::Events,
        Self::Files,
        Self::Models,
        Self::Sandboxes,
        Self::Vaults,
        Self::Keys,
        Self::Workspaces,
    ];

    /// Its name in a scope.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::Environments => "environments",
            Self::Sessions => "sessions",
            Self::Events => "events",
            Self::Files => "files",
            Self::Models => "models",
            Self::Sandboxes => "sandboxes",
            Self::Vaults => "vaults",
            Self::Keys => "keys",
            Self::Workspaces => "workspaces",
        }
    }
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

impl Verb {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Read, Self::Create, Self::Update, Self::Archive, Self::Delete];

    /// Its name in a scope.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Create => "create",
            Self::Update => "update",
            Self::Archive => "archive",
            Self::Delete => "delete",
        }
    }
}

/// What a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Need {
    /// What it is about.
    pub resource: Resource,
    /// What it does.
    pub verb: Verb,
}

impl Need {
    /// Its place in a set of needs.
    fn bit(self) -> u64 {
        1 << (self.resource as usize * Verb::ALL.len() + self.verb as usize)
    }

    /// The 403 for whoever lacks it.
    #[must_use]
    pub fn refusal(self) -> ApiError {
        let (verb, resource) = (self.verb.name(), self.resource.name());
        let message = format!("This key may not {verb} {resource}; it needs the scope {self}.");
        ApiError::new(ErrorKind::Permission, message)
    }
}

impl fmt::Display for Need {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.resource.name(), self.verb.name())
    }
}

/// The scopes of a key, and the needs that they meet. The default opens nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes {
    texts: Vec<String>,
    /// One bit for each need, and behind them one for each verb on what later versions add.
    opened: u64,
}

impl Scopes {
    /// What opens everything, also what later versions add.
    #[must_use]
    pub fn everything() -> Self {
        let text = "*:*".to_owned();
        let opened = needs(&text).unwrap_or_default();
        Self { texts: vec![text], opened }
    }

    /// Reads the scopes of a request's body. One that is sent twice counts once.
    ///
    /// # Errors
    /// 400 that names the entry which is no scope.
    pub fn parse(values: Vec<Value>) -> Result<Self, ApiError> {
        let mut scopes = Self::default();
        for (index, value) in values.into_iter().enumerate() {
            let path = format!("scopes[{index}]");
            let Value::String(text) = value else {
                return Err(wrong(&path, &format!("is {value}"), FORM));
            };
            scopes.add(text).map_err(|(what, right)| wrong(&path, &what, &right))?;
        }
        Ok(scopes)
    }

    /// Reads the scopes of a stored key. What is no scope of this version opens nothing.
    #[must_use]
    pub fn stored(json: &str) -> Self {
        let mut scopes = Self::default();
        for text in serde_json::from_str::<Vec<String>>(json).unwrap_or_default() {
            if let Err((what, _)) = scopes.add(text) {
                tracing::warn!(what, "a scope of a stored key opens nothing");
            }
        }
        scopes
    }

    /// The same as a JSON list, for [`Scopes::stored`].
    #[must_use]
    pub fn to_json(&self) -> String {
        Value::from(self.texts.clone()).to_string()
    }

    /// The scopes as they were sent.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Whether they meet a need.
    #[must_use]
    pub fn open(&self, need: Need) -> bool {
        self.opened & need.bit() != 0
    }

    /// The place of the first of some scopes that opens more than these do.
    #[must_use]
    pub fn exceeded_by(&self, others: &Self) -> Option<usize> {
        let is_more = |text: &String| needs(text).unwrap_or_default() & !self.opened != 0;
        others.texts.iter().position(is_more)
    }

    fn add(&mut self, text: String) -> Result<(), (String, String)> {
        self.opened |= needs(&text)?;
        if !self.texts.contains(&text) {
            self.texts.push(text);
        }
        Ok(())
    }
}

/// The first bit that stands for resources of later versions.
const LATER: usize = Resource::ALL.len() * Verb::ALL.len();
const _: () = assert!(LATER + Verb::ALL.len() <= 64, "a set of needs has a bit for each");

const FORM: &str = "send a resource and a verb, such as \"agents:read\"";

/// The needs that one scope meets; else what is wrong with it, and what would be right.
fn needs(text: &str) -> Result<u64, (String, String)> {
    let Some((resource, verb)) = text.split_once(':') else {
        return Err((format!("{text:?} is no scope"), FORM.to_owned()));
    };
    let resources: Vec<Resource> =
        Resource::ALL.into_iter().filter(|one| resource == "*" || resource == one.name()).collect();
    if resources.is_empty() {
        let names = Resource::ALL.map(Resource::name).join(", ");
        return Err((format!("{resource:?} is no resource"), format!("send one of {names}, *")));
    }
    let verbs: Vec<Verb> = Verb::ALL
        .into_iter()
        .filter(|one| match verb {
            "*" => true,
            "write" => *one != Verb::Read,
            name => name == one.name(),
        })
        .collect();
    if verbs.is_empty() {
        let names = Verb::ALL.map(Verb::name).join(", ");
        return Err((format!("{verb:?} is no verb"), format!("send one of {names}, write, *")));
    }
    let pairs =
        resources.iter().flat_map(|&resource| verbs.iter().map(move |&verb| (resource, verb)));
    let opened = pairs.fold(0, |bits, (resource, verb)| bits | Need { resource, verb }.bit());
    // A star is more than all resources by name: it opens those to come.
    let to_come = |bits, verb: &Verb| bits | 1 << (LATER + *verb as usize);
    Ok(if resource == "*" { verbs.iter().fold(opened, to_come) } else { opened })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scopes(texts: &[&str]) -> Scopes {
        Scopes::parse(texts.iter().map(|text| json!(text)).collect()).unwrap()
    }

    fn all_needs() -> impl Iterator<Item = Need> {
        let of = |resource| Verb::ALL.into_iter().map(move |verb| Need { resource, verb });
        Resource::ALL.into_iter().flat_map(of)
    }

    #[test]
    fn a_scope_opens_what_it_names_and_nothing_else() {
        for need in all_needs() {
            let one = scopes(&[&need.to_string()]);
            for other in all_needs() {
                assert_eq!(one.open(other), other == need, "{need} and {other}");
            }
        }
    }

    #[test]
    fn stars_and_write_stand_for_several() {
        let opened = |text: &str| -> Vec<String> {
            let scopes = scopes(&[text]);
            all_needs().filter(|need| scopes.open(*need)).map(|need| need.to_string()).collect()
        };
        assert_eq!(opened("*:*").len(), 50);
        assert_eq!(Scopes::everything(), scopes(&["*:*"]));
        assert_eq!(opened("*:read").len(), 10);
        assert_eq!(opened("files:*").len(), 5);
        assert_eq!(
            opened("files:write"),
            ["files:create", "files:update", "files:archive", "files:delete"]
        );
    }

    #[test]
    fn without_a_scope_nothing_is_open() {
        for none in [Scopes::default(), Scopes::stored("[]"), Scopes::stored("nonsense")] {
            assert!(all_needs().all(|need| !none.open(need)));
        }
        let of_later = Scopes::stored(r#"["moons:read", "agents:read"]"#);
        assert_eq!(of_later, scopes(&["agents:read"]));
    }

    #[test]
    fn what_is_no_scope_is_refused_by_its_place() {
        for (sent, message) in [
            (json!("agents"), "scopes[1]: \"agents\" is no scope; send a resource and a verb"),
            (json!(""), "scopes[1]: \"\" is no scope; send a resource and a verb"),
            (json!(7), "scopes[1]: is 7; send a resource and a verb"),
            (json!("agent:read"), "scopes[1]: \"agent\" is no resource; send one of agents, env"),
            (json!("Agents:read"), "scopes[1]: \"Agents\" is no resource; send one of agents"),
            (json!("agents:"), "scopes[1]: \"\" is no verb; send one of read, create, update"),
            (json!("agents:read:x"), "scopes[1]: \"read:x\" is no verb; send one of read"),
            (json!(" agents:read"), "scopes[1]: \" agents\" is no resource; send one of"),
        ] {
            let error = Scopes::parse(vec![json!("files:read"), sent]).unwrap_err();
            assert!(error.message.starts_with(message), "{}", error.message);
        }
    }

    #[test]
    fn scopes_are_kept_as_they_were_sent() {
        let kept = scopes(&["files:write", "agents:read", "files:write"]);
        assert_eq!(kept.texts(), ["files:write", "agents:read"]);
        assert_eq!(Scopes::stored(&kept.to_json()), kept);
    }

    #[test]
    fn what_opens_more_is_found() {
        let own = scopes(&["files:*", "agents:read"]);
        for (others, place) in [
            (&["files:*"][..], None),
            (&["files:write", "files:read", "agents:read"], None),
            (&["agents:read", "agents:write"], Some(1)),
            (&["*:read"], Some(0)),
            (&["*:*"], Some(0)),
            (&[], None),
        ] {
            assert_eq!(own.exceeded_by(&scopes(others)), place, "{others:?}");
        }
        assert_eq!(Scopes::everything().exceeded_by(&scopes(&["*:*"])), None);
        // All resources by name are not those that come later.
        let named = Resource::ALL.map(|resource| format!("{}:*", resource.name()));
        let named = scopes(&named.each_ref().map(String::as_str));
        assert_eq!(named.exceeded_by(&scopes(&["*:read"])), Some(0));
        assert_eq!(scopes(&["*:read"]).exceeded_by(&scopes(&["*:read", "*:write"])), Some(1));
        assert_eq!(Scopes::default().exceeded_by(&scopes(&["files:read"])), Some(0));
    }

    #[test]
    fn a_refusal_names_the_scope() {
        let need = Need { resource: Resource::Agents, verb: Verb::Create };
        let expected = "This key may not create agents; it needs the scope agents:create.";
        assert_eq!(need.refusal().message, expected);
    }
}
