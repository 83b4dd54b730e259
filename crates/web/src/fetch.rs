//! One page: asked for, followed, bounded, and made readable.
//!
//! Every hop passes the rules for hosts, the guard and, if wanted, the origin's robots.txt. Nothing
//! secret is sent, nothing is kept but what origins say to robots, and nothing that came is run.

mod ask;
mod html;
mod kind;
mod known;
mod robots;
mod text;

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use posthouse_net::Guard;
use tokio::{
    sync::Semaphore,
    task,
    time::{Instant, timeout},
};
use url::Url;

use self::{
    ask::{Answer, ask},
    kind::Kind,
    known::Known,
    robots::Robots,
};
use crate::Domains;

/// The longest address, in bytes.
pub const LONGEST_URL: usize = 2048;
/// The most redirects of a page.
const REDIRECTS: usize = 10;
/// The most redirects of a robots.txt (RFC 9309, 2.3.1.2).
const REDIRECTS_OF_ROBOTS: usize = 5;
/// The longest that a robots.txt may take.
const TIME_OF_ROBOTS: Duration = Duration::from_secs(10);
/// The most characters of text that a page gives when nobody asks for fewer.
const CHARACTERS: usize = 1_000_000;
/// How many characters a token has, about.
const CHARACTERS_OF_A_TOKEN: u64 = 4;
/// Pages that are made readable at the same time. Each holds a thread.
const AT_ONCE: usize = 4;
/// Pages that are asked for at the same time. Others wait.
const PAGES: usize = 128;
/// The largest page that is held beside so many others, in bytes.
const SMALL: usize = 1 << 20;
/// Larger ones that are held at the same time.
const LARGE: usize = 8;

/// Reads pages. Clones share what is remembered (rules for robots).
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

struct Shared {
    guard: Guard,
    settings: Settings,
    known: Known,
    readable: Arc<Semaphore>,
    pages: Semaphore,
    large: Semaphore,
}

/// What a page may take.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From the look at the name to the last byte, redirects included.
    pub time: Duration,
    /// The most bytes of a page as sent. A longer text is cut there.
    pub page_bytes: usize,
    /// The most bytes of a PDF. A longer one is refused.
    pub pdf_bytes: usize,
    /// Whether robots.txt is asked.
    pub robots: bool,
    /// How we call ourselves. The product token at its beginning is the name that a robots.txt knows.
    pub user_agent: String,
}

impl Default for Settings {
    fn default() -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self {
            time: Duration::from_secs(60),
            page_bytes: 10 << 20,
            // 6 MB in base64, which fits into a request of any provider with pages beside it.
            pdf_bytes: 4_500_000,
            robots: true,
            user_agent: format!(
                "posthouse-user/{version} (+https://github.com/posthouse/posthouse)"
            ),
        }
    }
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

impl FetchError {
    pub(crate) fn new(code: &'static str, advice: impl Into<String>) -> Self {
        Self { code, advice: advice.into() }
    }

    /// The page could not be had, which may be otherwise another time.
    fn inaccessible(advice: impl Into<String>) -> Self {
        Self::new("url_not_accessible", advice)
    }
}

/// Reads the address of a page, as a model writes it.
///
/// # Errors
/// `invalid_tool_input` for what is none of the web, or holds a user or a password; `url_too_long`.
pub fn read_url(text: &str) -> Result<Url, FetchError> {
    let invalid = |what: &str| Err(FetchError::new("invalid_tool_input", what));
    if text.len() > LONGEST_URL {
        return Err(too_long());
    }
    // A browser would leave some of these out, and read another address than is shown.
    if text.trim().contains(|letter: char| letter.is_control() || letter.is_whitespace()) {
        return invalid("the URL has a space or a control character in it; encode it.");
    }
    match Url::parse(text.trim()) {
        Ok(url) => check_url(&url).map(|()| url),
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            invalid("the URL is not complete; it begins with https:// or http://.")
        }
        Err(_) => invalid("the URL is malformed; right would be https:// and a host name."),
    }
}

fn check_url(url: &Url) -> Result<(), FetchError> {
    let invalid = |what: &str| Err(FetchError::new("invalid_tool_input", what));
    if !matches!(url.scheme(), "http" | "https") {
        return invalid("only http and https URLs can be fetched.");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return invalid("the URL has a user or a password in front of its host; leave them out.");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return invalid("the URL has no host.");
    }
    if url.as_str().len() > LONGEST_URL { Err(too_long()) } else { Ok(()) }
}

fn too_long() -> FetchError {
    FetchError::new(
        "url_too_long",
        format!("a URL has at most {LONGEST_URL} characters. Do not retry with this URL."),
    )
}

/// What comes of asking for a robots.txt.
enum Asked {
    Rules(Robots),
    /// It can't be told: everything is disallowed then (RFC 9309, 2.3.1.4).
    Nothing,
    /// It lies where this agent may not read.
    OutOfReach,
    /// The origin itself does not answer, or may not be asked.
    Unreachable(FetchError),
}

impl Reader {
    /// A reader.
    #[must_use]
    pub fn new(guard: Guard, settings: Settings) -> Self {
        let shared = Shared {
            guard,
            settings,
            known: Known::default(),
            readable: Arc::new(Semaphore::new(AT_ONCE)),
            pages: Semaphore::new(PAGES),
            large: Semaphore::new(LARGE),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Reads a page.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, wanted: &Wanted) -> Result<Page, FetchError> {
        check_url(&wanted.url)?;
        let time = self.shared.settings.time;
        let late = || {
            Err(FetchError::inaccessible(
                "the page was not there in time. Try once more, or use another source.",
            ))
        };
        let work = async {
            let _place = self.shared.pages.acquire().await;
            self.follow(wanted).await
        };
        timeout(time, work).await.unwrap_or_else(|_| late())
    }

    /// Asks, goes where it is sent, and reads what is at the end.
    async fn follow(&self, wanted: &Wanted) -> Result<Page, FetchError> {
        let mut url = wanted.url.clone();
        let mut seen = HashSet::new();
        for hop in 0..=REDIRECTS {
            // What is wrong with a later address is none of the first one's.
            let of_redirect = |error: FetchError| FetchError {
                advice: if hop == 0 {
                    error.advice
                } else {
                    format!("the page redirects, and there: {}", error.advice)
                },
                ..error
            };
            let answer = self.visit(&url, &wanted.domains).await.map_err(of_redirect)?;
            let Some(next) = answer.redirect(&url).map_err(of_redirect)? else {
                return self
                    .read(answer, url, wanted.max_content_tokens)
                    .await
                    .map_err(of_redirect);
            };
            seen.insert(url.as_str().split('#').next().unwrap_or_default().to_owned());
            check_next(&url, &next)?;
            if seen.contains(next.as_str().split('#').next().unwrap_or_default()) {
                return Err(FetchError::inaccessible(
                    "the page redirects in a circle. Do not retry; use another source.",
                ));
            }
            url = next;
        }
        Err(FetchError::inaccessible(format!(
            "the page redirects more than {REDIRECTS} times. Do not retry; use another source."
        )))
    }

    /// One hop.
    async fn visit(&self, url: &Url, domains: &Domains) -> Result<Answer, FetchError> {
        domains.check_page(url)?;
        let Shared { guard, settings, .. } = &*self.shared;
        if settings.robots && !self.robots_allow(url, domains).await? {
            return Err(FetchError::new(
                "url_not_allowed",
                format!(
                    "the robots.txt of {} does not allow this page to be fetched, or could not be \
                     read. Do not retry; use another source.",
                    url.host_str().unwrap_or_default()
                ),
            ));
        }
        ask(guard, url, &settings.user_agent).await
    }

    /// What robots.txt of the page's origin says.
    ///
    /// # Errors
    /// Why the origin can't be asked for anything.
    async fn robots_allow(&self, url: &Url, domains: &Domains) -> Result<bool, FetchError> {
        let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let origin = url.origin().ascii_serialization();
        if let Some(robots) = self.shared.known.get(&origin, Instant::now()) {
            return Ok(robots.allow(path));
        }
        let asked = timeout(TIME_OF_ROBOTS, self.ask_robots(url, domains)).await;
        let (robots, for_long) = match asked.unwrap_or(Asked::Nothing) {
            Asked::Rules(robots) => (robots, true),
            Asked::Nothing => (Robots::closed(), false),
            // That holds for this agent alone.
            Asked::OutOfReach => return Ok(false),
            // The page could not be had either, and is told why.
            Asked::Unreachable(error) => return Err(error),
        };
        let allow = robots.allow(path);
        self.shared.known.keep(origin, robots, for_long, Instant::now());
        Ok(allow)
    }

    async fn ask_robots(&self, url: &Url, domains: &Domains) -> Asked {
        let Shared { guard, settings, .. } = &*self.shared;
        let Ok(mut url) = url.join("/robots.txt") else { return Asked::Nothing };
        for hop in 0..=REDIRECTS_OF_ROBOTS {
            if domains.check_page(&url).is_err() {
                return Asked::OutOfReach;
            }
            let answer = match ask(guard, &url, &settings.user_agent).await {
                Ok(answer) => answer,
                Err(error) if hop == 0 => return Asked::Unreachable(error),
                Err(_) => return Asked::Nothing,
            };
            match answer.redirect(&url) {
                Ok(Some(next)) if check_next(&url, &next).is_ok() => url = next,
                Ok(None) => return self.read_robots(answer).await,
                _ => return Asked::Nothing,
            }
        }
        // As if there were none (RFC 9309, 2.3.1.2).
        Asked::Rules(Robots::default())
    }

    async fn read_robots(&self, answer: Answer) -> Asked {
        let status = answer.status();
        // There is none.
        if status.is_client_error() {
            return Asked::Rules(Robots::default());
        }
        if !status.is_success() {
            return Asked::Nothing;
        }
        let token = robots::product(&self.shared.settings.user_agent);
        match answer.body(robots::BYTES).await {
            Ok(coming) => Asked::Rules(Robots::read(&coming.end().0, token)),
            Err(_) => Asked::Nothing,
        }
    }

    async fn read(
        &self,
        answer: Answer,
        url: Url,
        tokens: Option<u64>,
    ) -> Result<Page, FetchError> {
        answer.check_status()?;
        let settings = &self.shared.settings;
        let declared = answer.content_type();
        let called_pdf = kind::is_called_pdf(declared.as_deref());
        let most = if called_pdf { settings.pdf_bytes } else { settings.page_bytes };
        let too_large = || {
            let bytes = settings.pdf_bytes;
            Err(FetchError::new(
                "content_too_large",
                format!(
                    "the PDF is larger than {bytes} bytes, the most that can be read. Do not retry; \
                     use another source, or download it with other tools."
                ),
            ))
        };
        if called_pdf && answer.length().is_some_and(|length| length > most as u64) {
            return too_large();
        }
        let mut coming = answer.body(most.min(SMALL)).await?;
        // Many pages may come at once: what they hold together is bounded, too.
        let mut _room = None;
        if !coming.is_whole() {
            _room = Some(self.shared.large.acquire().await);
            coming.more(most).await?;
        }
        let (body, whole) = coming.end();
        let Some(kind) = kind::kind(declared.as_deref(), &body) else {
            let what = declared.as_deref().map_or_else(|| "binary data".to_owned(), html::one_line);
            return Err(FetchError::new(
                "unsupported_content_type",
                format!(
                    "the page is {what}; only text, HTML, JSON, XML and PDF can be read. Do not \
                     retry; use another source."
                ),
            ));
        };
        if kind == Kind::Pdf {
            if !whole || body.len() > settings.pdf_bytes {
                return too_large();
            }
            return Ok(Page { url, title: None, body: Body::Pdf(body) });
        }
        let characters = tokens.map(|tokens| {
            usize::try_from(tokens.saturating_mul(CHARACTERS_OF_A_TOKEN)).unwrap_or(usize::MAX)
        });
        let most = characters.unwrap_or(CHARACTERS).min(CHARACTERS);
        let of_url = url.clone();
        let (title, mut text, cut) = self
            .on_a_thread(move || {
                let text = kind::text(declared.as_deref(), kind, &body);
                let (title, text, cut) = match kind {
                    Kind::Html => {
                        let page = html::readable(&text, &of_url, most);
                        (page.title, page.text, page.cut)
                    }
                    Kind::Text | Kind::Pdf => (None, text.replace('\0', ""), false),
                };
                let end = text.char_indices().nth(most).map(|(at, _)| at);
                let text = end.and_then(|end| text.get(..end)).map(str::to_owned).unwrap_or(text);
                (title, text, cut || end.is_some())
            })
            .await?;
        if cut && most < CHARACTERS {
            text.push_str(
                "\n\n[Cut here: the page is longer than max_content_tokens of this tool allows.]",
            );
        } else if cut || !whole {
            text.push_str("\n\n[Cut here: the page is longer than can be fetched.]");
        }
        Ok(Page { url, title, body: Body::Text(text) })
    }

    /// Runs what keeps a thread busy, and is bounded. Few at a time, also of those nobody waits for.
    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, FetchError> {
        let unavailable = || {
            FetchError::new(
                "unavailable",
                "the page could not be made readable. Use another source.",
            )
        };
        let permit = Arc::clone(&self.shared.readable).acquire_owned().await;
        let permit = permit.map_err(|_| unavailable())?;
        let running = task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        running.await.map_err(|_| unavailable())
    }
}

/// Whether a redirect may be followed, as far as two addresses tell.
fn check_next(from: &Url, to: &Url) -> Result<(), FetchError> {
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err(FetchError::inaccessible(
            "the page redirects from https to http, which is not followed. Do not retry; use another \
             source.",
        ));
    }
    check_url(to).map_err(|error| {
        FetchError::inaccessible(format!("the page redirects, and there: {}", error.advice))
    })
}

#[cfg(test)]
mod tests;
