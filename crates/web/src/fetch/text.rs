//! Writes readable text: whitespace as a reader sees it, lines of lists and quotes, links, tables.
//!
//! It knows no HTML. What it writes is bounded, and so is what it remembers.

/// The most levels of lists and quotes that are told apart.
const LEVELS: usize = 8;

/// What stands before the next word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Gap {
    /// Nothing.
    #[default]
    None,
    /// A space.
    Space,
    /// The end of a line.
    Line,
    /// An empty line.
    Paragraph,
}

/// What is begun with its first word, so that what is empty leaves nothing behind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Begun {
    #[default]
    No,
    /// Asked for.
    Waiting,
    /// Its first mark is written.
    Yes,
}

/// A text that is being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    out: String,
    left: usize,
    gap: Gap,
    /// What each line begins with.
    levels: Vec<&'static str>,
    /// Levels beyond those that are told apart.
    deeper: usize,
    /// Marks of the innermost levels, for the line that the next word begins.
    marks: Vec<String>,
    /// The mark of a heading.
    heading: String,
    link: Begun,
    code: Begun,
    fence: Begun,
    language: String,
    /// Whether lines stay together: in links, headings and cells.
    together: usize,
    in_cell: bool,
}

impl Writer {
    /// A text of at most `most` characters.
    pub(super) fn new(most: usize) -> Self {
        Self { left: most, ..Self::default() }
    }

    /// Whether no more is taken.
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// How many characters may still come.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    pub(super) fn finish(self) -> String {
        self.out
    }

    /// A gap before the next word.
    pub(super) fn gap(&mut self, gap: Gap) {
        let gap = if self.together > 0 { gap.min(Gap::Space) } else { gap };
        self.gap = self.gap.max(gap);
    }

    /// Words. Whitespace is a gap, but in a fence.
    pub(super) fn words(&mut self, text: &str) {
        for letter in text.chars() {
            if self.is_full() {
                return;
            }
            if is_unseen(letter) {
                continue;
            }
            if self.fence != Begun::No {
                self.verbatim(letter);
            } else if letter.is_whitespace() {
                self.gap(Gap::Space);
            } else {
                self.begin();
                if self.in_cell && letter == '|' {
                    self.put("\\");
                }
                self.letter(letter);
            }
        }
    }

    fn verbatim(&mut self, letter: char) {
        if self.fence == Begun::Waiting {
            // The line that the opening tag ends is none of the code's.
            if letter == '\n' && self.gap == Gap::Paragraph {
                self.gap = Gap::Line;
                return;
            }
            self.gap = Gap::Paragraph;
            self.fence = Begun::No;
            let language = std::mem::take(&mut self.language);
            self.begin();
            self.put("```");
            self.put(&language);
            self.fence = Begun::Yes;
            self.line();
        }
        match letter {
            '\n' => self.line(),
            '\r' => {}
            letter => self.letter(letter),
        }
    }

    /// Writes what waits for a word.
    fn begin(&mut self) {
        match self.gap {
            _ if self.out.is_empty() => {}
            Gap::None => {}
            Gap::Space => self.put(" "),
            Gap::Line => self.line(),
            Gap::Paragraph => {
                self.put("\n");
                self.line();
            }
        }
        self.gap = Gap::None;
        for mark in std::mem::take(&mut self.marks) {
            self.put(&mark);
        }
        let heading = std::mem::take(&mut self.heading);
        self.put(&heading);
        if self.link == Begun::Waiting {
            self.link = Begun::Yes;
            self.put("[");
        }
        if self.code == Begun::Waiting {
            self.code = Begun::Yes;
            self.put("`");
        }
    }

    fn line(&mut self) {
        self.put("\n");
        // Where a level begins, its mark stands.
        let levels = self.levels.len().saturating_sub(self.marks.len());
        for at in 0..levels {
            self.put(self.levels.get(at).copied().unwrap_or_default());
        }
    }

    fn put(&mut self, text: &str) {
        text.chars().for_each(|letter| self.letter(letter));
    }

    fn letter(&mut self, letter: char) {
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            self.out.push(letter);
        }
    }

    /// A level of a list or a quote begins, with a mark for its first line.
    pub(super) fn enter(&mut self, level: &'static str, mark: &str) {
        if self.levels.len() < LEVELS {
            self.levels.push(level);
            self.marks.push(mark.to_owned());
        } else {
            self.deeper += 1;
        }
    }

    pub(super) fn leave(&mut self) {
        match self.deeper.checked_sub(1) {
            Some(deeper) => self.deeper = deeper,
            None => {
                self.levels.pop();
                self.marks.pop();
            }
        }
    }

    pub(super) fn heading(&mut self, level: usize) {
        self.gap(Gap::Paragraph);
        // A heading within a link or a cell is text like any other.
        if self.together == 0 {
            self.heading = format!("{} ", "#".repeat(level));
        }
        self.together += 1;
    }

    pub(super) fn end_heading(&mut self) {
        self.together = self.together.saturating_sub(1);
        self.heading.clear();
        self.gap(Gap::Paragraph);
    }

    /// A link begins. There is one at a time.
    pub(super) fn link(&mut self) {
        if self.link == Begun::No {
            self.link = Begun::Waiting;
            self.together += 1;
        }
    }

    /// The link ends, and leads there. Without words there is none.
    pub(super) fn end_link(&mut self, url: &str) {
        let link = std::mem::take(&mut self.link);
        if link == Begun::No {
            return;
        }
        self.together = self.together.saturating_sub(1);
        if link == Begun::Yes {
            self.end_code();
            self.put("](");
            self.put(url);
            self.put(")");
        }
    }

    pub(super) fn image(&mut self, words: &str, url: &str) {
        self.words("![");
        self.words(words);
        self.gap = Gap::None;
        self.put("](");
        self.put(url);
        self.put(")");
    }

    pub(super) fn code(&mut self) {
        if self.code == Begun::No && self.fence == Begun::No {
            self.code = Begun::Waiting;
        }
    }

    pub(super) fn end_code(&mut self) {
        if std::mem::take(&mut self.code) == Begun::Yes {
            self.put("`");
        }
    }

    /// Lines as they are begin.
    pub(super) fn fence(&mut self) {
        if self.together > 0 {
            // There is no line of its own to stand on.
            self.code();
        } else if self.fence == Begun::No {
            self.end_code();
            self.gap = Gap::Paragraph;
            self.fence = Begun::Waiting;
        }
    }

    /// The language of lines that are about to begin.
    pub(super) fn language(&mut self, language: &str) {
        if self.fence == Begun::Waiting && self.language.is_empty() {
            language.clone_into(&mut self.language);
        }
    }

    pub(super) fn end_fence(&mut self) {
        self.language.clear();
        match std::mem::take(&mut self.fence) {
            Begun::Yes => {
                if !self.out.ends_with('\n') {
                    self.line();
                }
                self.put("```");
            }
            Begun::Waiting => {}
            Begun::No => self.end_code(),
        }
        self.gap(Gap::Paragraph);
    }

    /// A cell of a table begins.
    pub(super) fn cell(&mut self) {
        self.words("|");
        self.gap(Gap::Space);
        self.in_cell = true;
        self.together += 1;
    }

    pub(super) fn end_cell(&mut self) {
        self.in_cell = false;
        self.together = self.together.saturating_sub(1);
        self.gap(Gap::Space);
    }
}

/// What nobody sees who reads a page, but a model would: controls, soft hyphens, letters without
/// width, and tags (U+E0000 and on).
fn is_unseen(letter: char) -> bool {
    let written = matches!(letter, '\n' | '\t' | '\r' | '\u{c}');
    (letter.is_control() && !written)
        || matches!(
            letter,
            '\u{ad}' | '\u{200b}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
        )
}
