//! One page: asked for, followed, bounded, and made readable.

use bytes::Bytes;
use posthouse_net::Guard;
use url::Url;

use crate::Domains;

/// Reads pages. Clones share what is remembered (rules for robots).
#[derive(Clone)]
pub struct Reader {}

/// What a page may take.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From the look at the name to the last byte, redirects included.
    pub time: std::time::Duration,
    /// The most bytes of a page as sent.
    pub page_bytes: usize,
    /// The most bytes of a PDF.
    pub pdf_bytes: usize,
    /// Whether robots.txt is asked.
    pub robots: bool,
    /// How we call ourselves.
    pub user_agent: String,
}

/// A page that is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its address.
    pub url: Url,
    /// Where it and its redirects may lead.
    pub domains: Domains,
    /// The most tokens of text, about four characters each.
    pub max_content_tokens: Option<u64>,
}

/// A page.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Where it was found, redirects followed.
    pub url: Url,
    /// Its title.
    pub title: Option<String>,
    /// What it says.
    pub body: Body,
}

/// What a page says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Readable text.
    Text(String),
    /// A PDF, as it was sent.
    Pdf(Bytes),
}

/// Why there is no page. `code` is for models and programs, the text for both.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} — {advice}")]
pub struct FetchError {
    /// One of the codes of the API: `url_not_allowed`, `url_not_accessible`, …
    pub code: &'static str,
    /// What is wrong and what to do.
    pub advice: String,
}

impl Reader {
    /// A reader.
    #[must_use]
    pub fn new(_guard: Guard, _settings: Settings) -> Self {
        todo!()
    }

    /// Reads a page.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, _wanted: &Wanted) -> Result<Page, FetchError> {
        todo!()
    }
}
