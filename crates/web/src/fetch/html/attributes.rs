//! Attributes of an element, so far as they say something about text. The rest is passed over.

/// The longest value of an attribute that is looked at, in bytes.
const VALUE: usize = 8 << 10;

/// Attributes that mean something here.
const ATTRIBUTES: [&str; 14] = [
    "href",
    "src",
    "alt",
    "name",
    "property",
    "content",
    "rel",
    "hidden",
    "style",
    "aria-hidden",
    "role",
    "class",
    "start",
    "open",
];

/// Attributes of one element.
#[derive(Default)]
pub(super) struct Attributes(Vec<(&'static str, String)>);

impl Attributes {
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Takes an attribute if it means something and is the first of its name, which counts. Tells
    /// whether its value is wanted.
    pub(super) fn name(&mut self, name: &[u8]) -> bool {
        let known = ATTRIBUTES.into_iter().find(|one| one.as_bytes() == name);
        let new = known.filter(|one| self.get(one).is_none());
        new.inspect(|one| self.0.push((one, String::new()))).is_some()
    }

    /// The value of the attribute that was taken last.
    pub(super) fn value(&mut self, value: &[u8]) {
        if value.len() <= VALUE
            && let Some((_, held)) = self.0.last_mut()
        {
            held.push_str(&String::from_utf8_lossy(value));
        }
    }

    /// The value of an attribute. Empty if it has none, or a longer one than is looked at.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(one, _)| *one == name).map(|(_, value)| value.as_str())
    }

    /// Whether a browser would not show the element.
    pub(super) fn hide(&self) -> bool {
        let style = || self.get("style").unwrap_or_default().to_ascii_lowercase().replace(' ', "");
        self.get("hidden").is_some_and(|value| value != "until-found")
            || self.get("aria-hidden") == Some("true")
            || ["display:none", "visibility:hidden"].iter().any(|one| style().contains(one))
    }

    /// The language of code, as highlighters have it in a class.
    pub(super) fn language(&self) -> &str {
        let classes = self.get("class").unwrap_or_default().split_whitespace();
        let mut languages = classes.filter_map(|class| {
            class.strip_prefix("language-").or_else(|| class.strip_prefix("lang-"))
        });
        let word = |one: &&str| {
            one.len() <= 32
                && one.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-#_.".contains(&byte))
        };
        languages.find(word).unwrap_or_default()
    }
}
