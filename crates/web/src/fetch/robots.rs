//! What a robots.txt says to one crawler (RFC 9309). Pure: it fetches nothing and knows no time.

/// The most of a robots.txt that is read, in bytes (RFC 9309, 2.5).
pub(super) const BYTES: usize = 500 << 10;

/// The rules for one crawler.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Robots {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    allow: bool,
    /// In the form of [`normal`].
    pattern: String,
}

impl Robots {
    /// Nothing is allowed: the rules could not be read.
    pub(super) fn closed() -> Self {
        Self { rules: vec![Rule { allow: false, pattern: "/".to_owned() }] }
    }

    /// The rules for the crawler `token` in a robots.txt. Its own groups count together, those for
    /// all (`*`) when it has none.
    pub(super) fn read(bytes: &[u8], token: &str) -> Self {
        let bytes = bytes.get(..BYTES).unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
        let (mut own, mut all) = (None, None);
        // Whom the rules that come are for, and whether names still come.
        let (mut for_own, mut for_all, mut naming) = (false, false, false);
        for line in text.split(['\n', '\r']) {
            let line = line.split('#').next().unwrap_or_default();
            let Some((key, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            let allow = match key.trim().to_ascii_lowercase().as_str() {
                "user-agent" => {
                    if !naming {
                        (for_own, for_all, naming) = (false, false, true);
                    }
                    for_own |= product(value).eq_ignore_ascii_case(token);
                    for_all |= value == "*";
                    // A group counts also when it has no rules.
                    if for_own {
                        own.get_or_insert_with(Vec::new);
                    }
                    continue;
                }
                "allow" => true,
                "disallow" => false,
                // Others stand between the lines of a group without ending it.
                _ => continue,
            };
            naming = false;
            if value.is_empty() {
                continue;
            }
            let rule = || Rule { allow, pattern: normal(value) };
            if for_own {
                own.get_or_insert_with(Vec::new).push(rule());
            }
            if for_all {
                all.get_or_insert_with(Vec::new).push(rule());
            }
        }
        Self { rules: own.or(all).unwrap_or_default() }
    }

    /// Whether a path with its query may be fetched: the longest rule that matches decides, and of
    /// two as long the one that allows.
    pub(super) fn allow(&self, path: &str) -> bool {
        let path = normal(path);
        let matching = self.rules.iter().filter(|rule| matches(&rule.pattern, &path));
        matching.map(|rule| (rule.pattern.len(), rule.allow)).max().is_none_or(|(_, allow)| allow)
            || path == "/robots.txt"
    }

    /// About what it takes to remember it, in bytes.
    pub(super) fn weight(&self) -> usize {
        let each = size_of::<Rule>();
        self.rules.iter().map(|rule| rule.pattern.len() + each).sum::<usize>() + size_of::<Self>()
    }
}

/// The product token at the beginning of a name (RFC 9309, 2.2.1).
pub(super) fn product(name: &str) -> &str {
    let end =
        name.find(|letter: char| !letter.is_ascii_alphabetic() && !matches!(letter, '-' | '_'));
    name.get(..end.unwrap_or(name.len())).unwrap_or_default()
}

/// Percent-encoding in one form: what is beyond ASCII is encoded, what is unreserved is not, and
/// digits are in upper case (RFC 9309, 2.2.2; RFC 3986, 6.2.2).
fn normal(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    let mut bytes = path.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        let rest = bytes.as_slice();
        let encoded = (byte == b'%').then(|| two_digits(rest)).flatten();
        match encoded {
            Some(inner) => {
                bytes.nth(1);
                if inner.is_ascii_alphanumeric() || matches!(inner, b'-' | b'.' | b'_' | b'~') {
                    normal.push(char::from(inner));
                } else {
                    normal.push_str(&format!("%{inner:02X}"));
                }
            }
            None if byte.is_ascii_graphic() => normal.push(char::from(byte)),
            None => normal.push_str(&format!("%{byte:02X}")),
        }
    }
    normal
}

fn two_digits(bytes: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(bytes.get(..2)?).ok()?;
    // `from_str_radix` reads a sign, too.
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
    u8::from_str_radix(digits, 16).ok()
}

/// Whether a pattern with `*` for anything, and `$` for the end, matches the beginning of a path.
/// Each piece is taken as early as it is found, so nothing is tried twice.
fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, to_the_end) =
        pattern.strip_suffix('$').map_or((pattern, false), |pattern| (pattern, true));
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = path.strip_prefix(first) else { return false };
    let mut last = None;
    for piece in pieces {
        // The one before was not the last.
        if let Some(before) = last.replace(piece) {
            match find_behind(rest, before) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
    }
    match last {
        None => !to_the_end || rest.is_empty(),
        Some(piece) if to_the_end => rest.ends_with(piece),
        Some(piece) => rest.contains(piece),
    }
}

fn find_behind<'a>(text: &'a str, piece: &str) -> Option<&'a str> {
    text.find(piece).and_then(|at| text.get(at + piece.len()..))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(robots: &str, path: &str) -> bool {
        Robots::read(robots.as_bytes(), "posthouse-user").allow(path)
    }

    #[test]
    fn own_groups_count_before_those_for_all() {
        for (robots, expected) in [
            ("", true),
            ("User-agent: *\nDisallow: /", false),
            ("User-agent: *\nDisallow:", true),
            ("\u{feff}User-agent: *\nDisallow: /", false),
            ("User-agent: *\r\nDisallow: /\r\n", false),
            ("user-AGENT : *\rDISALLOW : / # all", false),
            ("User-agent: posthouse-user\nDisallow: /", false),
            ("User-agent: Posthouse-User/1.0\nDisallow: /", false),
            ("User-agent: posthouse\nDisallow: /", true),
            ("User-agent: posthouse-user-two\nDisallow: /", true),
            ("User-agent: other\nDisallow: /", true),
            ("User-agent: other\nUser-agent: posthouse-user\nDisallow: /", false),
            (
                "User-agent: other\nSitemap: https://a\n\nUser-agent: posthouse-user\nDisallow: /",
                false,
            ),
            ("User-agent: *\nDisallow: /\n\nUser-agent: posthouse-user\nDisallow:", true),
            ("User-agent: posthouse-user\n\nUser-agent: *\nDisallow: /", false),
            ("User-agent: posthouse-user\nDisallow:\nUser-agent: *\nDisallow: /", true),
            ("User-agent: posthouse-user\nAllow: /x\nUser-agent: *\nDisallow: /", true),
            (
                "User-agent: posthouse-user\nDisallow: /a\nUser-agent: b\nDisallow: /c\n\
                 User-agent: posthouse-user\nDisallow: /page",
                false,
            ),
            ("Disallow: /", true),
            ("<html>User-agent: *\nDisallow: /", true),
        ] {
            assert_eq!(allows(robots, "/page"), expected, "{robots:?}");
        }
    }

    #[test]
    fn the_longest_rule_decides_and_of_two_the_one_that_allows() {
        for (rules, path, expected) in [
            ("Disallow: /a\nAllow: /a/b", "/a/b/c", true),
            ("Allow: /a/b\nDisallow: /a", "/a/c", false),
            ("Disallow: /a\nAllow: /a", "/a", true),
            ("Disallow: /*.php$", "/x/index.php", false),
            ("Disallow: /*.php$", "/index.php?a", true),
            ("Disallow: /*.php", "/index.php?a", false),
            ("Disallow: /a*b*c", "/a-b-c-d", false),
            ("Disallow: /a*b*c", "/a-c-b", true),
            ("Disallow: /a*c$", "/abcbc", false),
            ("Disallow: /ab*ab$", "/ab", true),
            ("Disallow: /*", "/", false),
            ("Disallow: /$", "/", false),
            ("Disallow: /$", "/a", true),
            ("Disallow: /a?b", "/a?b=c", false),
            ("Disallow: /ü", "/%C3%BC/x", false),
            ("Disallow: /%c3%bc", "/%C3%BC", false),
            ("Disallow: /%61", "/a", false),
            ("Disallow: /a", "/%61", false),
            ("Disallow: /a%2fb", "/a/b", true),
            ("Disallow: /a%2fb", "/a%2Fb", false),
            ("Disallow: /%+1", "/%+1", false),
            ("Disallow: /", "/robots.txt", true),
            ("Disallow: /A", "/a", true),
        ] {
            let robots = format!("User-agent: *\n{rules}");
            assert_eq!(allows(&robots, path), expected, "{rules:?} {path}");
        }
        assert!(!Robots::closed().allow("/"));
    }

    #[test]
    fn what_is_hostile_is_bounded() {
        let stars = format!("User-agent: *\nDisallow: /{}x$", "*a".repeat(200_000));
        assert!(allows(&stars, &format!("/{}", "a".repeat(2000))));
        let late = format!("User-agent: *\n{}\nDisallow: /", "#".repeat(BYTES));
        assert!(allows(&late, "/"), "what is behind the limit is not read");
        for end in 0..40 {
            let _ =
                Robots::read(&b"User-agent: *\xff\xfe%\nAllow: /%e\xc3\nDisallow:%"[..end], "a");
        }
    }
}
