//! What elements are, as far as a reader of text cares. Names are in lower case.

use super::super::text::Gap;

/// Whether an element has no end.
pub(super) fn is_void(name: &str) -> bool {
    matches!(
        name,
        "area"
            | "base"
            | "br"
            | "col"
            | "embed"
            | "hr"
            | "img"
            | "input"
            | "link"
            | "meta"
            | "param"
            | "source"
            | "track"
            | "wbr"
    )
}

/// Whether an element is no text to read.
pub(super) fn is_unread(name: &str) -> bool {
    matches!(
        name,
        "script"
            | "style"
            | "template"
            | "noscript"
            | "svg"
            | "iframe"
            | "object"
            | "canvas"
            | "audio"
            | "video"
            | "map"
            | "noframes"
            | "noembed"
            | "button"
            | "select"
            | "textarea"
            | "datalist"
            | "progress"
            | "meter"
            | "frameset"
    )
}

/// Whether an element ends a paragraph that is still open (HTML, 13.2.6.4.7), and stands on lines of its
/// own.
pub(super) fn is_block(name: &str) -> bool {
    matches!(
        name,
        "address"
            | "article"
            | "aside"
            | "blockquote"
            | "center"
            | "dd"
            | "details"
            | "dialog"
            | "dir"
            | "div"
            | "dl"
            | "dt"
            | "fieldset"
            | "figcaption"
            | "figure"
            | "footer"
            | "form"
            | "h1"
            | "h2"
            | "h3"
            | "h4"
            | "h5"
            | "h6"
            | "header"
            | "hgroup"
            | "hr"
            | "li"
            | "main"
            | "menu"
            | "nav"
            | "ol"
            | "p"
            | "pre"
            | "search"
            | "section"
            | "summary"
            | "table"
            | "ul"
    )
}

/// Whether an element has an empty line before and behind it.
fn is_paragraph(name: &str) -> bool {
    matches!(
        name,
        "p" | "ul"
            | "ol"
            | "dl"
            | "blockquote"
            | "figure"
            | "table"
            | "details"
            | "article"
            | "section"
            | "header"
            | "footer"
            | "main"
            | "address"
    )
}

/// Whether an element is a heading.
pub(super) fn is_heading(name: &str) -> bool {
    matches!(name, "h1" | "h2" | "h3" | "h4" | "h5" | "h6")
}

/// Whether an element holds words of a program.
pub(super) fn is_code(name: &str) -> bool {
    matches!(name, "code" | "kbd" | "samp" | "tt")
}

/// Whether an element is one of a table.
pub(super) fn is_of_tables(name: &str) -> bool {
    matches!(name, "table" | "tr" | "td" | "th" | "thead" | "tbody" | "tfoot")
}

/// Whether the end of an element does not end blocks within it, as with most that mark words.
pub(super) fn is_in_line(name: &str) -> bool {
    matches!(
        name,
        "span"
            | "b"
            | "i"
            | "em"
            | "strong"
            | "u"
            | "s"
            | "small"
            | "big"
            | "font"
            | "code"
            | "kbd"
            | "samp"
            | "tt"
            | "sub"
            | "sup"
            | "label"
            | "abbr"
            | "cite"
            | "q"
            | "mark"
            | "var"
    )
}

/// The gap before and behind an element.
pub(super) fn gap_of(name: &str) -> Gap {
    if is_paragraph(name) {
        Gap::Paragraph
    } else if is_block(name) || matches!(name, "caption" | "legend" | "body" | "optgroup") {
        Gap::Line
    } else {
        Gap::None
    }
}

/// The level of a heading, by its name.
pub(super) fn level(heading: &str) -> usize {
    heading.bytes().next_back().map_or(1, |digit| usize::from(digit.saturating_sub(b'0')))
}
