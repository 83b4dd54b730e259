//! HTML as readable text, in one pass over its tokens.
//!
//! No tree is built and nothing recurses, so that neither depth nor tag soup costs more than its
//! length: a browser's rules for misnested elements copy and search without bound. What a reader does
//! not see is left out. Nothing is run and nothing is fetched.

mod attributes;
mod elements;

use std::{borrow::Cow, collections::BTreeMap};

use html5gum::{
    Span, Tokenizer,
    emitters::callback::{CallbackEmitter, CallbackEvent},
};
use url::Url;

use self::{
    attributes::Attributes,
    elements::{
        gap_of, is_block, is_code, is_heading, is_in_line, is_of_tables, is_unread, is_void, level,
    },
};
use super::text::{Gap, Writer};

/// The most elements within each other that are told apart.
const DEPTH: usize = 128;
/// The most links whose addresses are worked out.
const LINKS: usize = 20_000;
/// The longest address of a link, in bytes. No longer one is ever fetched.
const LINK: usize = super::LONGEST_URL;
/// What is taken of a title or a description, in characters.
const PROPERTY: usize = 1000;
/// The most lines of the front matter.
const PROPERTIES: usize = 64;
/// A page with fewer characters is read again with its navigation.
const LITTLE: usize = 200;

/// A page as text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Readable {
    pub(super) title: Option<String>,
    /// Title, description and such, one a line between lines of `---`, and what the page says.
    pub(super) text: String,
    /// Whether the page has more than `most` characters of text.
    pub(super) cut: bool,
}

/// Makes a page readable: at most `most` characters of it.
pub(super) fn readable(html: &str, url: &Url, most: usize) -> Readable {
    let mut walk = Walk::over(html, url, most, false);
    if walk.cluttered && walk.writer.left() + LITTLE > most {
        // What looked like clutter may be all that there is.
        walk = Walk::over(html, url, most, true);
    }
    let Walk { writer, mut properties, title, cut, .. } = walk;
    let title = title.map(|title| one_line(&title)).filter(|title| !title.is_empty());
    if let Some(title) = &title {
        properties.insert("title".to_owned(), title.clone());
    }
    let body = writer.finish();
    let mut text = String::new();
    if !properties.is_empty() {
        text.push_str("---\n");
        for (key, value) in properties {
            text.push_str(&format!("{key}: {value}\n"));
        }
        text.push_str("---\n\n");
    }
    text.push_str(&body);
    Readable { title, text, cut }
}

/// What a tokenizer finds.
enum Piece {
    Start { name: String, attributes: Attributes },
    End(String),
    Words(String),
}

/// An element that is open.
struct Open {
    name: String,
    /// Whether nothing of it is read.
    hidden: bool,
    /// Where a link leads.
    link: Option<String>,
    /// The next number of an ordered list.
    number: Option<u64>,
}

#[derive(Default)]
struct Table {
    /// Whether it only arranges: it has another table in a cell, or says so.
    arranges: bool,
    rows: usize,
    /// Cells of this row that are written.
    cells: usize,
    /// Cells of this row without words, since the last with some.
    empty: usize,
    cell: Cell,
}

#[derive(Default, PartialEq, Eq)]
enum Cell {
    #[default]
    Outside,
    /// It has no words yet.
    Waiting,
    Open,
}

struct Walk {
    writer: Writer,
    base: Url,
    has_base: bool,
    properties: BTreeMap<String, String>,
    title: Option<String>,
    /// The title that is being read.
    reading_title: bool,
    open: Vec<Open>,
    /// Elements that are open beyond those told apart.
    deeper: usize,
    paragraphs: usize,
    tables: Vec<Table>,
    links: usize,
    cut: bool,
    with_clutter: bool,
    /// Whether clutter was left out.
    cluttered: bool,
}

impl Walk {
    fn over(html: &str, url: &Url, most: usize, with_clutter: bool) -> Self {
        let mut walk = Self {
            writer: Writer::new(most),
            base: url.clone(),
            has_base: false,
            properties: BTreeMap::new(),
            title: None,
            reading_title: false,
            open: Vec::new(),
            deeper: 0,
            paragraphs: 0,
            tables: Vec::new(),
            links: 0,
            cut: false,
            with_clutter,
            cluttered: false,
        };
        let mut attributes = Attributes::default();
        let mut name = String::new();
        let mut wanted = false;
        let mut emitter =
            CallbackEmitter::new(|event: CallbackEvent<'_>, _: Span<()>| match event {
                CallbackEvent::OpenStartTag { name: given } => {
                    name = text(given).into_owned();
                    attributes.clear();
                    None
                }
                CallbackEvent::AttributeName { name } => {
                    wanted = attributes.name(name);
                    None
                }
                CallbackEvent::AttributeValue { value } => {
                    if wanted {
                        attributes.value(value);
                    }
                    None
                }
                CallbackEvent::CloseStartTag { .. } => {
                    let attributes = std::mem::take(&mut attributes);
                    Some(Piece::Start { name: std::mem::take(&mut name), attributes })
                }
                CallbackEvent::EndTag { name } => Some(Piece::End(text(name).into_owned())),
                CallbackEvent::String { value } => Some(Piece::Words(text(value).into_owned())),
                _ => None,
            });
        emitter.naively_switch_states(true);
        for piece in Tokenizer::new_with_emitter(html, emitter) {
            let Ok(piece) = piece;
            match piece {
                Piece::Start { name, attributes } => walk.start(name, &attributes),
                Piece::End(name) => walk.end(&name),
                Piece::Words(words) => walk.words(&words),
            }
            if walk.writer.is_full() {
                walk.cut = true;
                break;
            }
        }
        while walk.pop() {}
        walk
    }

    fn words(&mut self, words: &str) {
        if self.reading_title {
            self.title.get_or_insert_default().push_str(words);
            return;
        }
        if self.is_hidden() {
            return;
        }
        if !words.trim().is_empty() {
            self.open_cell();
        }
        self.writer.words(words);
    }

    fn is_hidden(&self) -> bool {
        self.open.last().is_some_and(|open| open.hidden)
    }

    fn start(&mut self, name: String, attributes: &Attributes) {
        match name.as_str() {
            "meta" | "link" | "base" => return self.property(&name, attributes),
            "title" if !self.open.iter().any(|open| open.name == "svg") => {
                self.reading_title = self.title.is_none();
            }
            _ => {}
        }
        self.close_implied(&name);
        let clutter = name == "nav" || attributes.get("role") == Some("navigation");
        let closed_dialog = name == "dialog" && attributes.get("open").is_none();
        let hidden = self.is_hidden()
            || is_unread(&name)
            || name == "title"
            || closed_dialog
            || attributes.hide()
            || (clutter && !self.with_clutter);
        self.cluttered |= clutter && !self.is_hidden();
        if is_void(&name) {
            if !hidden {
                self.show_void(&name, attributes);
            }
            return;
        }
        if self.open.len() >= DEPTH {
            self.deeper += 1;
            return;
        }
        let mut open = Open { name, hidden, link: None, number: None };
        if !hidden {
            self.begin(&mut open, attributes);
        }
        self.paragraphs += usize::from(open.name == "p");
        self.open.push(open);
    }

    /// A property of the page.
    fn property(&mut self, name: &str, attributes: &Attributes) {
        let (key, value) = match name {
            "base" => {
                let href = attributes.get("href").filter(|href| href.len() <= LINK);
                if !self.has_base
                    && let Some(base) = href.and_then(|href| self.base.join(href).ok())
                    && is_web(&base)
                {
                    (self.base, self.has_base) = (base, true);
                }
                return;
            }
            "link" => {
                let rel = attributes.get("rel").unwrap_or_default();
                if !rel.split_whitespace().any(|one| one.eq_ignore_ascii_case("canonical")) {
                    return;
                }
                let Some(url) = self.address(attributes.get("href")) else { return };
                ("canonical".to_owned(), url)
            }
            _ => {
                let key = attributes.get("name").or(attributes.get("property")).unwrap_or_default();
                let key = key.trim();
                let plain = |letter: char| letter.is_ascii_graphic();
                if key.is_empty() || key.len() > 64 || !key.chars().all(plain) {
                    return;
                }
                (format!("meta-{key}"), one_line(attributes.get("content").unwrap_or_default()))
            }
        };
        if !value.is_empty() && self.properties.len() < PROPERTIES {
            self.properties.entry(key).or_insert(value);
        }
    }

    fn show_void(&mut self, name: &str, attributes: &Attributes) {
        match name {
            "br" => self.gap(Gap::Line),
            "hr" => {
                self.open_cell();
                self.writer.gap(Gap::Paragraph);
                self.writer.words("* * *");
                self.writer.gap(Gap::Paragraph);
            }
            "img" => {
                let words = one_line(attributes.get("alt").unwrap_or_default());
                if words.is_empty() {
                    return;
                }
                self.open_cell();
                match self.address(attributes.get("src")) {
                    Some(url) => self.writer.image(&words, &url),
                    None => self.writer.words(&words),
                }
            }
            _ => {}
        }
    }

    /// An element that is read begins.
    fn begin(&mut self, open: &mut Open, attributes: &Attributes) {
        match open.name.as_str() {
            // What begins a line does so within the cell that it stands in.
            "blockquote" | "li" | "dd" | "pre" => self.open_cell(),
            heading if is_heading(heading) => self.open_cell(),
            "table" => self.arrange(),
            _ => {}
        }
        self.gap(gap_of(&open.name));
        match open.name.as_str() {
            "a" => {
                open.link = self.address(attributes.get("href"));
                if open.link.is_some() {
                    // It can't begin before the cell that it stands in.
                    self.open_cell();
                    self.writer.link();
                }
            }
            heading if is_heading(heading) => self.writer.heading(level(&open.name)),
            "blockquote" => self.writer.enter("> ", "> "),
            "ol" => {
                let start = attributes.get("start").and_then(|start| start.trim().parse().ok());
                open.number = Some(start.unwrap_or(1));
            }
            "li" => {
                let list = self
                    .open
                    .iter_mut()
                    .rev()
                    .find(|open| matches!(&*open.name, "ol" | "ul" | "menu"));
                match list.and_then(|list| list.number.as_mut()) {
                    Some(number) => {
                        self.writer.enter("   ", &format!("{number}. "));
                        *number = number.saturating_add(1);
                    }
                    None => self.writer.enter("  ", "- "),
                }
            }
            "dd" => self.writer.enter("  ", ": "),
            "pre" => {
                self.writer.fence();
                self.writer.language(attributes.language());
            }
            code if is_code(code) => {
                self.writer.language(attributes.language());
                self.writer.code();
            }
            "table" => {
                let arranges = matches!(attributes.get("role"), Some("presentation" | "none"));
                self.tables.push(Table { arranges, ..Table::default() });
            }
            "td" | "th" => match self.tables.last_mut() {
                Some(table) if !table.arranges => table.cell = Cell::Waiting,
                _ => self.writer.gap(Gap::Line),
            },
            "tr" => self.writer.gap(Gap::Line),
            _ => {}
        }
    }

    /// An element that was read ends.
    fn finish(&mut self, open: &Open) {
        match open.name.as_str() {
            "a" => {
                if let Some(url) = &open.link {
                    self.writer.end_link(url);
                }
            }
            heading if is_heading(heading) => self.writer.end_heading(),
            "blockquote" | "li" | "dd" => self.writer.leave(),
            "pre" => self.writer.end_fence(),
            code if is_code(code) => self.writer.end_code(),
            "table" => drop(self.tables.pop()),
            "td" | "th" => {
                if let Some(table) = self.tables.last_mut() {
                    match std::mem::take(&mut table.cell) {
                        Cell::Open => self.writer.end_cell(),
                        Cell::Waiting => table.empty += 1,
                        Cell::Outside => {}
                    }
                }
            }
            "tr" => self.end_row(),
            _ => {}
        }
        self.gap(gap_of(&open.name));
    }

    /// A gap, but for what stands in front of the first words of a cell.
    fn gap(&mut self, gap: Gap) {
        if self.tables.last().is_none_or(|table| table.cell != Cell::Waiting) {
            self.writer.gap(gap);
        }
    }

    /// A table with a table in it only arranges.
    fn arrange(&mut self) {
        if let Some(outer) = self.tables.last_mut() {
            outer.arranges = true;
            if std::mem::take(&mut outer.cell) == Cell::Open {
                self.writer.end_cell();
            }
        }
    }

    /// Writes what stands before the words of a cell.
    fn open_cell(&mut self) {
        if let Some(table) = self.tables.last_mut()
            && table.cell == Cell::Waiting
        {
            table.cell = Cell::Open;
            let empty = std::mem::take(&mut table.empty);
            table.cells += empty + 1;
            for _ in 0..empty {
                self.writer.cell();
                self.writer.end_cell();
            }
            self.writer.cell();
        }
    }

    fn end_row(&mut self) {
        let Some(table) = self.tables.last_mut() else { return };
        let empty = std::mem::take(&mut table.empty);
        let cells = std::mem::take(&mut table.cells);
        if cells == 0 {
            return;
        }
        for _ in 0..empty {
            self.writer.cell();
            self.writer.end_cell();
        }
        self.writer.words("|");
        table.rows += 1;
        if table.rows == 1 && !table.arranges {
            self.writer.gap(Gap::Line);
            for _ in 0..cells + empty {
                self.writer.words("| --- ");
            }
            self.writer.words("|");
        }
        self.writer.gap(Gap::Line);
    }

    /// Ends what the start of `name` ends.
    fn close_implied(&mut self, name: &str) {
        let (ends, within): (&[&str], &[&str]) = match name {
            "li" => (&["li"], &["ul", "ol", "menu", "table"]),
            "dt" | "dd" => (&["dt", "dd"], &["dl", "table"]),
            "tr" => (&["tr"], &["table"]),
            "td" | "th" => (&["td", "th"], &["tr", "table"]),
            "thead" | "tbody" | "tfoot" => (&["thead", "tbody", "tfoot", "tr"], &["table"]),
            "a" => (&["a"], &["table"]),
            "body" => (&["head"], &[]),
            _ => (&[], &[]),
        };
        if !ends.is_empty() {
            self.close(|open| ends.contains(&open), |open| within.contains(&open));
        }
        if self.paragraphs > 0 && is_block(name) {
            self.close(|open| open == "p", |open| matches!(open, "td" | "th" | "table" | "object"));
        }
    }

    fn end(&mut self, name: &str) {
        if name == "title" {
            self.reading_title = false;
        }
        if is_void(name) {
            return;
        }
        if let Some(deeper) = self.deeper.checked_sub(1) {
            self.deeper = deeper;
            return;
        }
        // What stands in a cell ends nothing outside of it.
        let of_tables = is_of_tables(name);
        let in_line = !of_tables && name != "a" && !is_block(name) && is_in_line(name);
        self.close(
            |open| open == name,
            |open| match open {
                "table" => true,
                "td" | "th" => !of_tables,
                _ => in_line && is_block(open),
            },
        );
    }

    /// Ends elements down to the innermost one that is meant, if there is one this side of a border.
    fn close(&mut self, is_meant: impl Fn(&str) -> bool, is_border: impl Fn(&str) -> bool) {
        for (at, open) in self.open.iter().enumerate().rev() {
            if is_meant(&open.name) {
                while self.open.len() > at && self.pop() {}
                return;
            }
            if is_border(&open.name) {
                return;
            }
        }
    }

    fn pop(&mut self) -> bool {
        let Some(open) = self.open.pop() else { return false };
        self.paragraphs -= usize::from(open.name == "p");
        if !open.hidden {
            self.finish(&open);
        }
        true
    }

    /// The whole address behind a link or an image: one of the web, and of another page.
    fn address(&mut self, href: Option<&str>) -> Option<String> {
        let href = href?.trim();
        if href.is_empty() || href.starts_with('#') || href.len() > LINK || self.links >= LINKS {
            return None;
        }
        self.links += 1;
        let url = self.base.join(href).ok().filter(is_web)?;
        let url = String::from(url);
        // Brackets in pairs stay within a link's own (CommonMark, 6.3).
        let paired = url.matches('(').count() == url.matches(')').count();
        let url = if paired { url } else { url.replace('(', "%28").replace(')', "%29") };
        (url.len() <= LINK).then_some(url)
    }
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// A value in one line, and not all of a long one.
pub(super) fn one_line(value: &str) -> String {
    let mut writer = Writer::new(PROPERTY);
    writer.words(value);
    writer.finish()
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

#[cfg(test)]
mod tests;
