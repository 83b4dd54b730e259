//! What is asked for in `door`, by which way, and the order that a client gets for it.
//!
//! Pure: it sends nothing. The hosts' names are fixed by the scene.

use std::fmt;

use super::{
    client::{Order, Trust},
    origin::{ANSWER, BYTES, SECRET_BODY, SECRET_HEADER},
    scene::Scene,
};
use crate::measure::Samples;

/// The host without TLS.
pub(crate) const PLAIN: &str = "plain.bench.example";
/// A host with TLS, to which no secret may go.
pub(crate) const SECURE: &str = "secure.bench.example";
/// The host to which the secret may go.
pub(crate) const SECRET: &str = "secret.bench.example";
/// The host whose TLS is not ended.
pub(crate) const PASSTHROUGH: &str = "passthrough.bench.example";
/// All of them.
pub(crate) const HOSTS: [&str; 4] = [PLAIN, SECURE, SECRET, PASSTHROUGH];

/// What stands for the secret in a cage.
pub(crate) const PLACEHOLDER: &str = "posthouse_secret_bench_0123456789abcdef0123456789abcdef";
/// The secret itself.
pub(crate) const VALUE: &str = "bench-value-fedcba9876543210fedcba9876543210fedcba98";
/// The least that a body holds which is sent.
pub(crate) const BODY: usize = 1024;

/// How a request gets to the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the host, directly.
    Host,
    /// From a network without a cage, by a proxy that owns a listener in it.
    Listener,
    /// The same, by a relay in it and a unix socket.
    Relay,
    /// From a cage of an unrestricted environment.
    Bytes,
    /// From a cage of a limited one: the door reads what is said.
    Limited,
    /// From the same, to a host whose TLS is left alone.
    Passthrough,
    /// From a limited one, whose keeper writes each use of a secret to disk.
    Written,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Listener => "proxy, listener inside",
            Self::Relay => "proxy, relay inside",
            Self::Bytes => "door, bytes",
            Self::Limited => "door, looked into",
            Self::Passthrough => "door, passthrough",
            Self::Written => "door, uses on disk",
        })
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A few bytes, over a new connection.
    New,
    /// A few bytes, over one that stands.
    Kept,
    /// The same for a body of 1 KiB.
    Post,
    /// As [`Ask::Kept`], with the secret in a header.
    SecretHeader,
    /// As [`Ask::Post`], with the secret in the body.
    SecretBody,
    /// Many bytes, over a connection that stands.
    Download(u64),
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => f.write_str("new"),
            Self::Kept => f.write_str("kept"),
            Self::Post => f.write_str("kept, 1 KiB"),
            Self::SecretHeader => f.write_str("kept, secret in header"),
            Self::SecretBody => f.write_str("kept, 1 KiB, secret in it"),
            Self::Download(length) => write!(f, "{} MiB", length >> 20),
        }
    }
}

impl Ask {
    /// Whether the secret is to arrive.
    pub(crate) fn has_secret(self) -> bool {
        matches!(self, Self::SecretHeader | Self::SecretBody)
    }
}

/// What is asked for, whether with TLS, and how.
pub(crate) type What = (Ask, bool, Way);

/// What is done again and again.
pub(crate) struct Entry {
    /// What is asked for.
    pub(crate) ask: Ask,
    /// Whether with TLS.
    pub(crate) secure: bool,
    /// How.
    pub(crate) way: Way,
    /// The times of its requests.
    pub(crate) samples: Samples,
    /// Processor time of whatever stands between client and origin, in seconds.
    pub(crate) between: f64,
}

impl Entry {
    /// One that was not done yet.
    pub(crate) fn new(ask: Ask, secure: bool, way: Way) -> Self {
        Self { ask, secure, way, samples: Samples::default(), between: 0.0 }
    }

    /// What it is.
    pub(crate) fn what(&self) -> What {
        (self.ask, self.secure, self.way)
    }

    /// What it is called in tables.
    pub(crate) fn name(&self) -> String {
        let Self { ask, secure, way, .. } = self;
        format!("{ask}, {}: {way}", if *secure { "TLS" } else { "plain" })
    }

    /// What it is compared with.
    pub(crate) fn baseline(&self) -> What {
        match self.ask {
            Ask::SecretHeader => (Ask::Kept, self.secure, Way::Limited),
            Ask::SecretBody => (Ask::Post, self.secure, Way::Limited),
            ask => (ask, self.secure, Way::Host),
        }
    }

    fn host(&self) -> &'static str {
        match (self.secure, self.way, self.ask) {
            (false, ..) => PLAIN,
            (true, Way::Passthrough, _) => PASSTHROUGH,
            (true, _, ask) if ask.has_secret() => SECRET,
            (true, ..) => SECURE,
        }
    }

    /// The order for its client.
    pub(crate) fn order(&self, scene: &Scene, warm: usize, count: usize) -> Order {
        let (host, port) = (self.host(), if self.secure { 443 } else { 80 });
        let by_proxy = matches!(self.way, Way::Listener | Way::Relay);
        let trust = match self.way {
            Way::Limited | Way::Written => Trust::Environment,
            way => Trust::File(scene.authority(way)),
        };
        // A proxy is asked for a whole address, unless it was asked for a tunnel.
        let before = match by_proxy && !self.secure {
            true => format!("http://{host}:{port}"),
            false => String::new(),
        };
        Order {
            host: host.to_owned(),
            port,
            address: scene.address(self.way, self.secure),
            tunnel: by_proxy && self.secure,
            trust: self.secure.then_some(trust),
            request: self.request(&before),
            length: match self.ask {
                Ask::Download(length) => length,
                _ => ANSWER.len() as u64,
            },
            kept: self.ask != Ask::New,
            warm,
            count,
        }
    }

    fn request(&self, before: &str) -> String {
        let host = self.host();
        let get = |path: &str, headers: &str| {
            format!("GET {before}{path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n")
        };
        let post = |path: &str, secret: &str| {
            let filled = ".".repeat(BODY);
            let body = format!("{{\"key\":\"{secret}\",\"text\":\"{filled}\"}}");
            let length = body.len();
            format!(
                "POST {before}{path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\n\r\n{body}"
            )
        };
        match self.ask {
            Ask::New | Ask::Kept => get("/", ""),
            Ask::Post => post("/", ""),
            Ask::SecretHeader => {
                get(SECRET_HEADER, &format!("authorization: Bearer {PLACEHOLDER}\r\n"))
            }
            Ask::SecretBody => post(SECRET_BODY, PLACEHOLDER),
            Ask::Download(length) => get(&format!("{BYTES}{length}"), ""),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{runtime::Builder, task::JoinSet};

    use super::{
        super::{client, origin},
        *,
    };

    /// An order of the host's, to an origin in this process.
    fn order(entry: &Entry, hello: &origin::Hello, authority: &std::path::Path) -> Order {
        Order {
            host: entry.host().to_owned(),
            port: 0,
            address: Some(if entry.secure { hello.secure } else { hello.plain }),
            tunnel: false,
            trust: entry.secure.then(|| Trust::File(authority.to_owned())),
            request: entry.request(""),
            length: ANSWER.len() as u64,
            kept: entry.ask != Ask::New,
            warm: 1,
            count: 2,
        }
    }

    #[test]
    fn an_answer_is_good_only_with_the_secret_and_under_the_right_authority() {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ((ours, hello), (_, other)) = runtime.block_on(async {
            (origin::Origin::bind().await.unwrap(), origin::Origin::bind().await.unwrap())
        });
        let mut serving = JoinSet::new();
        serving.spawn_on(ours.serve(), runtime.handle());
        let [right, wrong] = ["right", "wrong"].map(|name| folder.path().join(name));
        std::fs::write(&right, &hello.authority).unwrap();
        std::fs::write(&wrong, &other.authority).unwrap();
        for (ask, secure) in [
            (Ask::New, false),
            (Ask::New, true),
            (Ask::Kept, false),
            (Ask::Kept, true),
            (Ask::Post, true),
        ] {
            let entry = Entry::new(ask, secure, Way::Host);
            let good = order(&entry, &hello, &right);
            assert_eq!(client::follow(&good).unwrap().len(), 2, "{}", entry.name());
            let longer = Order { length: 1 << 10, ..good.clone() };
            assert!(client::follow(&longer).is_err(), "{}", entry.name());
            let untrusting = client::follow(&order(&entry, &hello, &wrong));
            assert_eq!(untrusting.is_err(), secure, "{}", entry.name());
        }
        for ask in [Ask::SecretHeader, Ask::SecretBody] {
            let order = order(&Entry::new(ask, true, Way::Limited), &hello, &right);
            let literal = client::follow(&order).unwrap_err().to_string();
            assert!(literal.starts_with("answered 403"), "{literal}");
            // What the door makes of it.
            let before = format!("content-length: {}\r\n", body_of(&order.request).len());
            let request = order.request.replace(PLACEHOLDER, VALUE);
            let after = format!("content-length: {}\r\n", body_of(&request).len());
            let order = Order { request: request.replace(&before, &after), ..order };
            assert_eq!(client::follow(&order).unwrap().len(), 2);
            // Where no secret belongs it is refused, too.
            let elsewhere = order.request.replace(SECRET_HEADER, "/").replace(SECRET_BODY, "/");
            assert!(client::follow(&Order { request: elsewhere, ..order }).is_err());
        }
        let mut download =
            order(&Entry::new(Ask::Download(1 << 20), true, Way::Host), &hello, &right);
        assert!(client::follow(&download).is_err());
        download.length = 1 << 20;
        assert_eq!(client::follow(&download).unwrap().len(), 2);
    }

    fn body_of(request: &str) -> &str {
        request.split_once("\r\n\r\n").unwrap().1
    }
}
