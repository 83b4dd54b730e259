//! Where a browser comes back to: one page on the loopback interface, for as long as it takes.
//!
//! Takes what bears the state of this sign-in, and nothing else: whoever guesses the port can't end it.

use std::{io::IsTerminal as _, pin::Pin, process::Stdio, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, HeaderName, Uri, header},
    response::Html,
    routing::get,
};
use posthouse_mcp::oauth::{Consent, SignInError};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use url::Url;

use super::super::super::{ask_text as ask, plain::harmless};
use crate::Error;

/// How long the user has.
const PATIENCE: Duration = Duration::from_secs(600);

const DONE: &str = "<!doctype html><title>posthouse</title><p>posthouse has heard of it. You may \
                    close this page.";
const STRANGE: &str = "<!doctype html><title>posthouse</title><p>This page waits for another \
                       sign-in.";

/// A port that a browser is sent back to.
pub(super) struct Redirect {
    listener: Option<TcpListener>,
    port: u16,
    browser: bool,
}

struct Waiting {
    state: String,
    base: String,
    back: mpsc::Sender<String>,
}

impl Redirect {
    /// Listens; on a free port when it is 0.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub(super) async fn listen(port: u16, browser: bool) -> Result<Self, Error> {
        let address = ([127, 0, 0, 1], port).into();
        let bind = |source| Error::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let port = listener.local_addr().map_err(bind)?.port();
        Ok(Self { listener: Some(listener), port, browser })
    }

    fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn wait(&mut self, url: &str) -> Result<String, SignInError> {
        let failed = |what: &str| SignInError::Failed(what.to_owned());
        let parsed = Url::parse(url).map_err(|error| SignInError::Failed(error.to_string()))?;
        let state = parsed.query_pairs().find(|(name, _)| name == "state");
        let Some(state) = state.map(|(_, value)| value.into_owned()) else {
            return Err(failed("the address to open has no state"));
        };
        let listener = self.listener.take().ok_or_else(|| failed("the user was asked already"))?;
        ask(&harmless(&format!("open this address to sign in:\n{url}\n")));
        if self.browser {
            open(url);
        }
        let (back, mut came) = mpsc::channel(1);
        let waiting = Arc::new(Waiting { state, base: self.base(), back });
        let router = Router::new().route("/callback", get(answer)).with_state(waiting);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
            let _ = stopped.await;
        });
        let mut serving = std::pin::pin!(serving.into_future());
        let url = tokio::select! {
            url = timeout(PATIENCE, came.recv()) => url,
            _ = &mut serving => return Err(failed("the port of this machine was closed")),
        };
        // The page is shown whole; who keeps a connection open is not waited for.
        drop(stop);
        let _ = timeout(Duration::from_secs(2), serving).await;
        match url {
            Ok(Some(url)) => Ok(url),
            Ok(None) | Err(_) => Err(SignInError::TimedOut),
        }
    }
}

/// The page: kept by nobody, and told to nobody whose link is clicked on it.
type Page = ([(HeaderName, &'static str); 3], Html<&'static str>);

async fn answer(State(waiting): State<Arc<Waiting>>, uri: Uri, headers: HeaderMap) -> Page {
    let page = |text| {
        let headers = [
            (header::CONNECTION, "close"),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
        ];
        (headers, Html(text))
    };
    let url = format!("{}{uri}", waiting.base);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let ours = host.is_some_and(|host| waiting.base.strip_prefix("http://") == Some(host))
        && Url::parse(&url).is_ok_and(|url| {
            url.query_pairs().any(|(name, value)| name == "state" && *value == *waiting.state)
        });
    if !ours {
        return page(STRANGE);
    }
    // A second one is late.
    let _ = waiting.back.try_send(url);
    page(DONE)
}

impl Consent for Redirect {
    fn redirect_uri(&self) -> String {
        format!("{}/callback", self.base())
    }

    fn ask<'a>(
        &'a mut self,
        url: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<String, SignInError>> + Send + 'a>> {
        Box::pin(self.wait(url))
    }
}

/// Opens a browser where somebody sits in front of one. The address is printed anyway.
fn open(url: &str) {
    if !std::io::stdout().is_terminal() {
        return;
    }
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let quiet = || Stdio::null();
    let _ = std::process::Command::new(program)
        .arg(url)
        .stdin(quiet())
        .stdout(quiet())
        .stderr(quiet())
        .spawn();
}
