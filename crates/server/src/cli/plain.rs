//! Text from elsewhere, made harmless and cut to a width before a terminal or a log gets it.
//!
//! Everything that a model, a tool or a server has said is data. Nothing here knows events.

use unicode_width::UnicodeWidthChar as _;

/// The text without anything that commands a terminal or reorders what is read: each such
/// letter becomes U+FFFD. Letter by letter, so that it may be cut anywhere before.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|letter| if is_harmful(letter) { '\u{fffd}' } else { letter }).collect()
}

/// JSON that means the same and holds nothing that commands a terminal: what JSON itself lets
/// pass is written as an escape.
pub(super) fn harmless_json(value: &serde_json::Value) -> String {
    let json = value.to_string();
    if !json.chars().any(is_harmful) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len());
    for letter in json.chars() {
        if is_harmful(letter) {
            // Outside of its texts JSON has none of these.
            for unit in letter.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(letter);
        }
    }
    escaped
}

/// [`harmless`] for a text that is whole: line ends of other systems are line ends.
pub(super) fn harmless_lines(text: &str) -> String {
    harmless(&text.replace("\r\n", "\n"))
}

/// [`harmless`] on one line: line ends and tabs become visible or blank.
pub(super) fn one_line(text: &str) -> String {
    let text = harmless_lines(text.trim());
    let mut line = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => line.push_str(" ⏎ "),
            '\t' => line.push(' '),
            letter => line.push(letter),
        }
    }
    line
}

/// The start of a line, at most so many columns wide, with a sign that there was more.
pub(super) fn cut(line: &str, columns: usize) -> String {
    let width = |letter: char| letter.width().unwrap_or(0);
    if line.chars().map(width).sum::<usize>() <= columns {
        return line.to_owned();
    }
    let mut left = columns.saturating_sub(1);
    let mut start = String::new();
    for letter in line.chars() {
        let Some(rest) = left.checked_sub(width(letter)) else { break };
        left = rest;
        start.push(letter);
    }
    start.push('…');
    start
}

/// What must not reach a terminal: control characters (ESC and the C1 controls among them),
/// what turns the direction of writing around, other separators of lines, and tags that
/// nobody sees.
fn is_harmful(letter: char) -> bool {
    match letter {
        '\n' | '\t' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        '\u{2028}' | '\u{2029}' | '\u{e0000}'..='\u{e007f}' => true,
        letter => letter.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_commands_the_terminal() {
        for (hostile, left) in [
            ("\u{1b}]52;c;ZXZpbA==\u{7}", "\u{fffd}]52;c;ZXZpbA==\u{fffd}"),
            ("\u{1b}[2J\u{1b}[1;1H", "\u{fffd}[2J\u{fffd}[1;1H"),
            ("\u{1b}]0;title\u{1b}\\", "\u{fffd}]0;title\u{fffd}\\"),
            ("\u{9b}31m\u{9d}0;t\u{9c}", "\u{fffd}31m\u{fffd}0;t\u{fffd}"),
            ("a\u{202e}b\u{2066}c\u{2069}", "a\u{fffd}b\u{fffd}c\u{fffd}"),
            ("\0\u{8}\u{7f}\u{c}\u{e}", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            ("safe\rhidden", "safe\u{fffd}hidden"),
            ("a\u{2028}b\u{e0041}", "a\u{fffd}b\u{fffd}"),
            ("Grüße, 世界\n\t👋", "Grüße, 世界\n\t👋"),
        ] {
            assert_eq!(harmless(hostile), left, "{hostile:?}");
        }
        assert_eq!(harmless_lines("a\r\nb\rc"), "a\nb\u{fffd}c");
        assert_eq!(one_line(" a\n\tb\u{1b}c \n"), "a ⏎  b\u{fffd}c");
    }

    #[test]
    fn json_stays_the_same_and_commands_nothing() {
        let hostile = "\u{1b}[2J\u{9b}2J\u{202e}\u{e0041}\u{7f}\"\\ Grüße";
        let value = serde_json::json!({ hostile: [hostile] });
        let json = harmless_json(&value);
        assert_eq!(json.chars().find(|letter| is_harmful(*letter)), None, "{json}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
        assert!(json.contains("Grüße"), "{json}");
    }

    #[test]
    fn lines_are_cut_by_the_columns_that_they_take() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde…");
        assert_eq!(cut("世界世界", 8), "世界世界");
        assert_eq!(cut("世界世界", 6), "世界…");
        assert_eq!(cut("", 0), "");
        assert_eq!(cut("abc", 0), "…");
    }
}
