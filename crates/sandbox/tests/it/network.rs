//! The network of a cage is loopback and a door. What the door lets through is its own matter
//! (`door`, and crate `net`); that there is nothing beside it is tried here.
//!
//! Every target is a listener of this test on loopback, or an address that no packet is sent to:
//! a cage has no interface that could carry one.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use serde_json::json;

use crate::{
    driver::{self, Driver, for_both},
    place::canary,
};

/// A server of the host's loopback that says a word to everyone, and counts them.
struct Origin {
    address: SocketAddr,
    word: String,
    visits: Arc<AtomicU32>,
}

impl Origin {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let word = canary("origin");
        let visits = Arc::new(AtomicU32::new(0));
        let (said, counted) = (word.clone(), Arc::clone(&visits));
        // Ends with this process; nothing waits for it.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.and_then(|mut stream| writeln!(stream, "{said}"));
            }
        });
        Self { address, word, visits }
    }
}

/// Addresses that lead to the host or to its cloud, in each way to write them.
const ELSEWHERE: &[&str] = &[
    "169.254.169.254:80",
    "169.254.170.2:80",
    "100.100.100.200:80",
    "168.63.129.16:80",
    "10.0.0.1:80",
    "172.17.0.1:80",
    "192.168.0.1:80",
    "192.168.1.1:443",
    "100.64.0.1:80",
    "224.0.0.1:80",
    "255.255.255.255:80",
    "0.0.0.0:81",
    "[fd00:ec2::254]:80",
    "[fe80::1]:80",
    "[::ffff:169.254.169.254]:80",
    "[::ffff:127.0.0.1]:81",
    "[2001:db8::1]:80",
    "[64:ff9b::a9fe:a9fe]:80",
    "198.18.200.1:80",
    "192.0.2.1:80",
];

for_both! {
    /// There is one interface, and it is loopback.
    #[test]
    fn there_is_nothing_but_loopback(user: User) {
        let session = driver::shared(user).session();
        let text = session.bash("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; echo; \
            cat /proc/net/if_inet6 2>/dev/null").fine();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("lo"), "{text}");
        assert!(lines.all(|line| line.is_empty() || line.ends_with("lo")), "{text}");
        session.delete();
    }

    /// A server on the host's loopback is not on the cage's.
    #[test]
    fn the_hosts_loopback_is_not_the_cages(user: User) {
        let origin = Origin::start();
        let port = origin.address.port();
        let attempt = format!("tcp_answer=127.0.0.1:{port}");
        // The control: out here it answers.
        let (answered, word) = driver::probe_outside(&attempt);
        assert!(answered && word.contains(&origin.word), "{word}");
        let before = origin.visits.load(Ordering::SeqCst);
        let driver = driver::shared(user);
        for session in [driver.session(), driver.session().unrestricted()] {
            let session = session.with_probe();
            let mut hosts = vec!["127.0.0.1".to_owned(), "localhost".into(), "127.9.9.9".into(),
                "0.0.0.0".into(), "[::1]".into(), "[::ffff:127.0.0.1]".into()];
            hosts.extend(own_addresses());
            for host in hosts {
                let (answered, word) = session.probe(&format!("tcp_answer={host}:{port}"));
                assert!(!answered || !word.contains(&origin.word), "{host}: {word}");
            }
            session.delete();
        }
        assert_eq!(origin.visits.load(Ordering::SeqCst), before, "somebody got through");
    }

    /// With networking off, no address answers and no name leads anywhere.
    #[test]
    fn with_networking_off_nothing_gets_out(user: User) {
        let origin = Origin::start();
        let resolve = json!({"origin.test": origin.address.to_string()});
        let driver = Driver::start(user, &json!({
            "resolve": resolve, "allow_private": ["127.0.0.1/32"],
        }));
        let closed = driver.session().with_probe();
        for address in ELSEWHERE {
            let (answered, word) = closed.probe(&format!("tcp_answer={address}"));
            assert!(!answered || word.starts_with("HTTP/1.1 403"), "{address}: {word}");
        }
        for name in ["origin.test", "example.com", "localhost.example.com", "metadata.google.internal",
            "aaaa.exfiltrated.example.org"] {
            // Its address stands for the refusal alone.
            let resolved = format!("import socket; print(socket.gethostbyname('{name}'))");
            let address = closed.bash(&format!("python3 -c \"{resolved}\"")).fine();
            assert!(address.starts_with("198.18."), "{name}: {address}");
            let (answered, word) = closed.probe(&format!("tcp_answer={name}:80"));
            assert!(!answered || word.starts_with("HTTP/1.1 403"), "{name}: {word}");
        }
        assert_eq!(origin.visits.load(Ordering::SeqCst), 0);
        // The control: the same server, the same name, and a session that may.
        let open = driver.session().unrestricted().with_probe();
        let (answered, word) = open.probe("tcp_answer=origin.test:80");
        assert!(answered && word.contains(&origin.word), "{word}");
        assert_eq!(origin.visits.load(Ordering::SeqCst), 1);
    }

    /// With networking on, addresses of the host, of private networks and of clouds stay closed.
    #[test]
    fn with_networking_on_private_addresses_stay_closed(user: User) {
        let session = driver::shared(user).session().unrestricted().with_probe();
        // Addresses of documentation lead nowhere, and the others must not be dialled at all.
        let attempts: Vec<String> = ELSEWHERE.iter()
            .filter(|address| !address.starts_with("[2001:db8"))
            .map(|address| format!("'tcp_answer={address}'")).collect();
        let text = session.bash(&format!("/tmp/probe {}", attempts.join(" "))).fine();
        assert_eq!(text.lines().filter(|line| line.starts_with('{')).count(), attempts.len());
        for line in text.lines().filter(|line| line.contains("\"allowed\":true")) {
            assert!(line.contains("HTTP/1.1 403"), "{line}");
        }
        session.delete();
    }

    /// Packets without a connection reach nobody.
    #[test]
    fn datagrams_reach_nobody(user: User) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let answering = socket.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok((_, from)) = answering.recv_from(&mut bytes) {
                let _ = answering.send_to(b"x", from);
            }
        });
        assert!(driver::probe_outside(&format!("udp_answer={address}")).0);
        let session = driver::shared(user).session().unrestricted().with_probe();
        for target in [address.to_string(), "169.254.169.254:123".into(), "10.0.0.1:500".into(),
            "198.18.0.9:4433".into()] {
            let (answered, detail) = session.probe(&format!("udp_answer={target}"));
            assert!(!answered, "{target}: {detail}");
        }
        session.delete();
    }

    /// What agents run for themselves on loopback works, on low ports, too.
    #[test]
    fn servers_inside_work(user: User) {
        let session = driver::shared(user).session();
        let said = session.bash("python3 -c '
import socket, threading
for port in (3000, 8080, 80):
    try:
        s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((\"0.0.0.0\", port)); s.listen()
    except OSError as error: print(port, error); continue
    threading.Thread(target=lambda: s.accept()[0].send(b\"hello\")).start()
    c = socket.create_connection((\"127.0.0.1\", port), 3); print(port, c.recv(9).decode())'").fine();
        assert!(said.contains("3000 hello") && said.contains("8080 hello"), "{said}");
        session.delete();
    }

    /// A server inside does not get what was meant for outside.
    #[test]
    fn a_server_inside_catches_nothing_meant_for_outside(user: User) {
        let origin = Origin::start();
        let driver = Driver::start(user, &json!({
            "resolve": {"origin.test": origin.address.to_string()},
        }));
        let session = driver.session().unrestricted().with_probe();
        session.bash("python3 -c '
import socket, time
for port in (80, 443, 8080):
    try:
        s = socket.socket(); s.bind((\"0.0.0.0\", port)); s.listen()
        globals()[f\"s{port}\"] = s
    except OSError: pass
time.sleep(60)' > /dev/null 2>&1 & sleep 0.3").fine();
        let (answered, word) = session.probe("tcp_answer=origin.test:80");
        assert!(answered && word.contains(&origin.word), "{word}");
    }
}

/// The addresses that this host has, but for loopback.
fn own_addresses() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let mut found: Vec<String> = lines
        .windows(2)
        .filter(|pair| pair[1].contains("/32 host LOCAL"))
        .filter_map(|pair| pair[0].trim().strip_prefix("|-- ").map(str::to_owned))
        .filter(|address| !address.starts_with("127."))
        .collect();
    found.dedup();
    found
}
