//! Programs that speak TLS, in a cage, through its door to an origin of this test's: they trust what
//! the door shows them, and the origin gets the value of a placeholder that they send.
//!
//! Each program is one of the host's. One that is not there is named and left out.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use serde_json::json;

use crate::{
    driver::{Driver, Session, for_both},
    place::{self, User, canary},
};

const HOSTS: [&str; 2] = ["origin.test", "other.test"];

/// An origin on loopback behind TLS, which tells what it was sent. Its repository wants a name and
/// this password.
struct Origin {
    address: SocketAddr,
    /// The file of its certificate.
    roots: PathBuf,
}

impl Origin {
    fn start(user: User, password: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(HOSTS.map(str::to_owned)).unwrap().self_signed(&key).unwrap();
        let roots = place::host_file(user, &certificate.pem());
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.into()], key)
            .unwrap();
        let (config, password) = (Arc::new(config), password.to_owned());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Ends with this process; nothing waits for it.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, password) = (Arc::clone(&config), password.clone());
                std::thread::spawn(move || {
                    let connection = ServerConnection::new(config).unwrap();
                    // A client that goes is no concern of the origin's.
                    let _ = serve(StreamOwned::new(connection, stream), &password);
                });
            }
        });
        Self { address, roots }
    }
}

/// Answers one request.
fn serve(stream: StreamOwned<ServerConnection, TcpStream>, password: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    let header = |name: &str| {
        let lower = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        head.lines().find(lower).map(|line| line[name.len() + 1..].trim().to_owned())
    };
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let wanted = format!("Basic {}", STANDARD.encode(format!("agent:{password}")));
    let refs = "0123456789012345678901234567890123456789\trefs/heads/main\n".to_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (status, page) = match path {
        path if !path.starts_with("/repository.git/") => {
            ("200 OK", format!("{head}{}", String::from_utf8_lossy(&body)))
        }
        _ if header("authorization") != Some(wanted) => ("401 Unauthorized", String::new()),
        "/repository.git/HEAD" => ("200 OK", "ref: refs/heads/main\n".to_owned()),
        _ => ("200 OK", refs),
    };
    let stream = reader.get_mut();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         WWW-Authenticate: Basic realm=\"origin\"\r\nConnection: close\r\n\r\n{page}",
        page.len()
    )?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Programs, whether they look where the variables say alone, and how each sends a header and
/// prints the answer.
const PROGRAMS: [(&str, bool, &str); 6] = [
    ("curl", false, "curl -sS -m 20 -H \"X-Token: $SERVICE_TOKEN\" URL"),
    ("wget", false, "wget -q -T 20 -t 1 -O - --header=\"X-Token: $SERVICE_TOKEN\" URL"),
    (
        "python3",
        false,
        "python3 -c 'import os, sys, urllib.request as u; print(u.urlopen(u.Request(sys.argv[1], \
         headers={\"X-Token\": os.environ[\"SERVICE_TOKEN\"]})).read().decode())' URL",
    ),
    (
        "node",
        true,
        "node -e 'require(\"https\").get(process.argv[1], {headers: {\"X-Token\": \
         process.env.SERVICE_TOKEN}}, answer => answer.pipe(process.stdout))' URL",
    ),
    // Over HTTP/1.1 or 2, as it likes.
    ("curl", false, "curl -sS -m 20 --http1.1 -u \"agent:$SERVICE_TOKEN\" -H 'X-Token: none' URL"),
    ("curl", false, "curl -sS -m 20 --data \"a=1&token=$SERVICE_TOKEN\" -H 'X-Token: none' URL"),
];

fn has(session: &Session<'_>, program: &str) -> bool {
    let has = !session.bash(&format!("{program} --version >/dev/null 2>&1")).is_error;
    if !has {
        println!("{program} is not there, so it was not asked");
    }
    has
}

for_both! {
    /// Usual programs get through, with the variables and as far as they can without, and what
    /// they send as a placeholder arrives as the value at its host alone.
    #[test]
    fn programs_get_through_and_values_arrive(user: User) {
        let (placeholder, value) = (canary("placeholder").replace('-', "_"), canary("value"));
        let origin = Origin::start(user, &value);
        let address = origin.address.to_string();
        let driver = Driver::start(user, &json!({
            "resolve": {HOSTS[0]: address, HOSTS[1]: address}, "trusted_roots": origin.roots,
        }));
        let mut session = driver.session();
        session.networking = json!({"limited": HOSTS});
        session.give(&json!([{
            "name": "SERVICE_TOKEN", "placeholder": placeholder, "value": value,
            "hosts": [HOSTS[0]], "header": true, "body": true,
        }]));
        let coded = |text: &str| STANDARD.encode(format!("agent:{text}"));
        let mut asked = 0;
        for (program, told, command) in PROGRAMS {
            if !has(&session, program) {
                continue;
            }
            for clear in [false, true] {
                if clear && told {
                    continue;
                }
                let ask = |host: &str| {
                    let command = command.replace("URL", &format!("https://{host}/echo"));
                    let command = if clear {
                        format!("for name in $(compgen -e); do case $name in \
                            *_CERT*|*_CA*|*_CAINFO|PIP_CERT) unset $name;; esac; done; {command}")
                    } else {
                        command
                    };
                    session.bash(&format!("( {command} ) 2>&1")).text
                };
                let said = ask(HOSTS[0]);
                let arrived = said.contains(&value) || said.contains(&coded(&value));
                assert!(arrived && !said.contains(&placeholder), "{command} {clear}: {said}");
                let said = ask(HOSTS[1]);
                let literal = said.contains(&placeholder) || said.contains(&coded(&placeholder));
                assert!(literal && !said.contains(&value), "{command} {clear}: {said}");
                asked += 1;
            }
        }
        if has(&session, "git") {
            let list = |host: &str| session.bash(&format!(
                "git ls-remote https://agent:$SERVICE_TOKEN@{host}/repository.git 2>&1"));
            let said = list(HOSTS[0]).fine();
            assert!(said.contains("refs/heads/main"), "{said}");
            let said = list(HOSTS[1]);
            assert!(said.is_error && !said.text.contains("refs/heads/main"), "{said:?}");
            asked += 1;
        }
        println!("{asked} ways were tried");
        let uses = session.record()["uses"].clone();
        let uses = uses.as_array().unwrap();
        assert!(uses.len() >= asked && uses.iter().all(|one| one["host"] == HOSTS[0]), "{uses:?}");
        assert!(!json!(uses).to_string().contains(&value));
    }
}
