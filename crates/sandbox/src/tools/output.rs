//! What a shell prints: the end of it, kept in bounded memory, and made readable.
//!
//! Nothing here reads a descriptor.

/// Bytes of a command's output that a model gets: the last of them.
pub(crate) const SHOWN: usize = 100 << 10;

/// Bytes that are kept: more than are shown, because escapes are taken out later.
const KEPT: usize = 256 << 10;

/// The longest escape sequence that carries a text, such as a window's title.
const LONGEST_ESCAPE: usize = 4096;

/// The end of a stream.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
    cut: bool,
}

impl Tail {
    /// Adds what was printed.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        // Only now and then, so that the bytes are moved once and not with each push.
        if self.bytes.len() > 2 * KEPT {
            let old = self.bytes.len() - KEPT;
            self.bytes.drain(..old);
            self.cut = true;
        }
    }

    /// What was printed, readable, and an empty tail instead.
    pub(crate) fn take(&mut self) -> String {
        let tail = std::mem::take(self);
        let mut text = readable(&tail.bytes);
        let mut cut = tail.cut;
        if text.len() > SHOWN {
            let mut from = text.len() - SHOWN;
            while !text.is_char_boundary(from) {
                from += 1;
            }
            text.drain(..from);
            cut = true;
        }
        if cut {
            text.insert_str(0, "[output truncated]\n");
        }
        text
    }
}

/// Takes out the escape sequences of terminals and makes UTF-8 of the rest. NULs are shown as
/// the replacement character.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        match first {
            0x1b => rest = after.get(escape_length(after)..).unwrap_or_default(),
            0x07 => rest = after,
            0 => {
                plain.extend_from_slice("\u{fffd}".as_bytes());
                rest = after;
            }
            _ => {
                plain.push(first);
                rest = after;
            }
        }
    }
    match String::from_utf8(plain) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    }
}

/// How many bytes after an ESC belong to its sequence (ECMA-48, 5.3 to 5.6).
fn escape_length(after: &[u8]) -> usize {
    let Some(&kind) = after.first() else { return 0 };
    match kind {
        b'[' => {
            let parameters =
                after[1..].iter().take_while(|byte| (0x20..=0x3f).contains(*byte)).count();
            let end = 1 + parameters;
            match after.get(end) {
                Some(0x40..=0x7e) => end + 1,
                _ => end,
            }
        }
        b']' | b'P' | b'X' | b'^' | b'_' => {
            let window = &after[..after.len().min(LONGEST_ESCAPE)];
            for (at, byte) in window.iter().enumerate().skip(1) {
                if *byte == 0x07 {
                    return at + 1;
                }
                if *byte == 0x1b && window.get(at + 1) == Some(&b'\\') {
                    return at + 2;
                }
            }
            // Without an end it is no sequence: only its beginning goes.
            1
        }
        0x20..=0x2f => {
            let between = after.iter().take_while(|byte| (0x20..=0x2f).contains(*byte)).count();
            match after.get(between) {
                Some(0x30..=0x7e) => between + 1,
                _ => between,
            }
        }
        0x30..=0x7e => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_go_and_text_stays() {
        for (bytes, text) in [
            (&b"\x1b[1;31mred\x1b[0m plain"[..], "red plain"),
            (b"\x1b]0;title\x07after", "after"),
            (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            (b"\x1b(Bset\x1b=keys\x1b7", "setkeys"),
            (b"\x1b[", ""),
            (b"a\0b\xffc", "a\u{fffd}b\u{fffd}c"),
            (b"\x1b]never ends", "never ends"),
            ("gr\u{fc}n \u{1f600}".as_bytes(), "gr\u{fc}n \u{1f600}"),
        ] {
            assert_eq!(readable(bytes), text, "{bytes:?}");
        }
    }

    #[test]
    fn only_the_end_is_kept() {
        let mut tail = Tail::default();
        for number in 0..200_000 {
            tail.push(format!("line {number} \u{e9}\n").as_bytes());
            assert!(tail.bytes.len() <= 2 * KEPT + 64);
        }
        let text = tail.take();
        assert!(text.starts_with("[output truncated]\n"));
        assert!(text.ends_with("line 199999 \u{e9}\n"));
        assert!(text.len() <= SHOWN + 32);
        assert_eq!(tail.take(), "");
    }
}
