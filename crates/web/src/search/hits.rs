//! What back ends have found, made fit for a model: bounded, in plain characters, and allowed.

use std::collections::HashSet;

use url::Url;

use super::Hit;

/// The most characters of a title, of an address and of a text.
const TITLE: usize = 300;
const ADDRESS: usize = 2048;
const TEXT: usize = 2000;
/// The most texts of one hit.
const TEXTS: usize = 5;
/// The longest tag, in bytes. What is longer is none.
const TAG: usize = 1000;

/// The hits that are allowed, each address once, in the back end's order.
pub(super) fn tidy(found: Vec<Hit>, allows: impl Fn(&Url) -> bool, most: usize) -> Vec<Hit> {
    let mut seen = HashSet::new();
    let fit = |hit: Hit| {
        let url = Url::parse(hit.url.trim()).ok()?;
        let web = matches!(url.scheme(), "http" | "https") && url.has_host();
        let anonymous = url.username().is_empty() && url.password().is_none();
        let short = url.as_str().len() <= ADDRESS;
        if !(web && anonymous && short && allows(&url) && seen.insert(url.to_string())) {
            return None;
        }
        let title = plain(&hit.title).split_whitespace().collect::<Vec<_>>().join(" ");
        let title = cut(&title, TITLE);
        let mut texts = Vec::new();
        for text in &hit.texts {
            let text = cut(plain(text).trim(), TEXT);
            if !text.is_empty() && !texts.contains(&text) && texts.len() < TEXTS {
                texts.push(text);
            }
        }
        let host = || url.host_str().unwrap_or_default().to_owned();
        let title = if title.is_empty() { host() } else { title };
        Some(Hit { url: url.into(), title, texts })
    };
    found.into_iter().filter_map(fit).take(most).collect()
}

/// The text without what people don't see: controls but for line ends and tabs, marks that turn the
/// direction of writing, and the invisible letters in which instructions are hidden.
fn plain(text: &str) -> String {
    let seen = |letter: &char| match letter {
        '\n' | '\t' => true,
        '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}' => false,
        '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{e0000}'..='\u{e0fff}' => false,
        letter => !letter.is_control(),
    };
    text.chars().filter(seen).collect()
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// The text of a piece of HTML that has no structure: without tags, with its entities read. One that
/// is not known stays as it is.
pub(super) fn from_html(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        let read = if from.starts_with('<') { tag(from) } else { entity(from) };
        rest = match read {
            Some((letter, length)) => {
                text.extend(letter);
                &from[length..]
            }
            None => {
                text.push_str(&from[..1]);
                &from[1..]
            }
        };
    }
    text.push_str(rest);
    text
}

/// A tag at the start of a text: nothing, and its length.
fn tag(from: &str) -> Option<(Option<char>, usize)> {
    let name = from.get(1..)?;
    let name = name.strip_prefix('/').unwrap_or(name);
    name.starts_with(|letter: char| letter.is_ascii_alphabetic()).then_some(())?;
    let end = (0..=TAG.min(from.len())).rev().find(|end| from.is_char_boundary(*end))?;
    let length = from.get(..end)?.find('>')? + 1;
    Some((None, length))
}

/// An entity at the start of a text, and its length.
fn entity(from: &str) -> Option<(Option<char>, usize)> {
    // None that is known is longer.
    let end = from.bytes().take(10).position(|byte| byte == b';')?;
    let name = from.get(1..end)?;
    let letter = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?
        }
    };
    Some((Some(letter), end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(url: &str, title: &str, texts: &[&str]) -> Hit {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        Hit { url: url.to_owned(), title: title.to_owned(), texts }
    }

    #[test]
    fn only_addresses_of_the_web_are_left_and_each_once() {
        let found = [
            "https://a.example/x",
            " https://A.example/x ",
            "javascript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "//a.example",
            "/x",
            "",
            "https://user:word@a.example/",
            "http://b.example/\u{1b}[2J",
        ];
        let long = format!("https://a.example/{}", "x".repeat(2048));
        let found = found.into_iter().chain([long.as_str()]).map(|url| hit(url, "t", &[]));
        let left: Vec<String> =
            tidy(found.collect(), |_| true, 10).into_iter().map(|hit| hit.url).collect();
        assert_eq!(left, ["https://a.example/x", "http://b.example/%1B[2J"]);
    }

    #[test]
    fn everything_is_bounded_and_nothing_is_hidden() {
        let texts: Vec<String> = (0..9).map(|at| format!("{at}{}", "ü".repeat(3000))).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let many =
            (0..30).map(|at| hit(&format!("https://a.example/{at}"), &"t".repeat(400), &texts));
        let left = tidy(many.collect(), |_| true, 10);
        assert_eq!(left.len(), 10);
        for hit in &left {
            assert_eq!((hit.title.chars().count(), hit.texts.len()), (300, 5));
            assert!(hit.texts.iter().all(|text| text.chars().count() == 2000));
        }
        let odd = hit(
            "https://a.example",
            "a\u{0}\n b\u{202e}c\u{e0041}",
            &["", " \u{200b}", "one\ntwo\u{1b}[2J", "one\ntwo[2J"],
        );
        let left = tidy(vec![odd, hit("https://b.example/", "\u{7}", &[])], |_| true, 10);
        assert_eq!(left[0], hit("https://a.example/", "a bc", &["one\ntwo[2J"]));
        assert_eq!(left[1].title, "b.example", "something has to be shown");
    }

    #[test]
    fn html_becomes_text() {
        for (html, text) in [
            ("a <strong>b</strong> &amp; c&#x27;s &#39;d&#39;", "a b & c's 'd'"),
            ("1 < 2 && 3 > 2", "1 < 2 && 3 > 2"),
            ("&unknown; &#xffffffff; &amp", "&unknown; &#xffffffff; &amp"),
            ("<b", "<b"),
            ("&amp;lt;", "&lt;"),
            ("ü&ü;ü<ü>", "ü&ü;ü<ü>"),
            ("a<br/>b</p>c<//p>", "abc<//p>"),
        ] {
            assert_eq!(from_html(html), text);
        }
        // What never ends is not looked through again and again.
        for endless in ["<a", "</", "<"] {
            let html = endless.repeat(100_000);
            assert_eq!(from_html(&html), html);
        }
    }
}
