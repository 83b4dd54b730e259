//! What the authority makes, as clients see it: this crate's own TLS, and the programs of this host.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};

use super::*;

fn client(pem: &str, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER));
    let builder = builder.with_protocol_versions(versions).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// Shakes hands in memory. What was agreed on, or why not.
fn shake(
    server: Arc<ServerConfig>,
    client: ClientConfig,
    host: &str,
) -> Result<Option<Vec<u8>>, rustls::Error> {
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut from = wire.as_slice();
        while !from.is_empty() {
            server.read_tls(&mut from).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut from = wire.as_slice();
        while !from.is_empty() {
            client.read_tls(&mut from).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(client.alpn_protocol().map(<[u8]>::to_vec))
}

#[test]
fn its_certificates_are_good_for_their_host_and_its_cage_alone() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    for versions in [&[&TLS12][..], &[&TLS13]] {
        for host in ["api.example.test", "93.184.216.34", "a-b.c_d.example.test"] {
            for protocol in [Some(&b"h2"[..]), Some(b"http/1.1"), None] {
                let config = authority.server_config(host, protocol).unwrap();
                let client = |of: &Authority| client(&of.certificate_pem(), versions);
                let agreed = shake(Arc::clone(&config), client(&authority), host).unwrap();
                assert_eq!(agreed.as_deref(), protocol);
                let wrong = shake(Arc::clone(&config), client(&authority), "other.example.test");
                assert!(matches!(wrong, Err(rustls::Error::InvalidCertificate(_))), "{wrong:?}");
                let wrong = shake(config, client(&other), host);
                assert!(matches!(wrong, Err(rustls::Error::InvalidCertificate(_))), "{wrong:?}");
            }
        }
    }
}

#[test]
fn what_was_made_for_a_host_is_kept_within_bounds() {
    let authority = Authority::new().unwrap();
    let make = |host: &str| authority.server_config(host, Some(b"h2")).unwrap();
    let first = make("0.example.test");
    assert!(Arc::ptr_eq(&first, &make("0.example.test")));
    let other = authority.server_config("0.example.test", None).unwrap();
    assert!(!Arc::ptr_eq(&first, &other) && other.alpn_protocols.is_empty());
    assert!(Arc::ptr_eq(&first, &make("0.example.test")));
    for number in 1..=HOSTS {
        make(&format!("{number}.example.test"));
        assert!(locked(&authority.hosts).len() <= HOSTS);
    }
    assert!(!Arc::ptr_eq(&first, &make("0.example.test")));
    assert!(authority.server_config("Ä.example.test", None).is_err());
}

#[test]
fn keys_are_in_no_text() {
    let authority = Authority::new().unwrap();
    let pem = authority.certificate_pem();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----") && !pem.contains("PRIVATE"));
    assert_eq!(format!("{authority:?}"), "Authority { .. }");
}

/// A page behind the authority's TLS, at a port of loopback, for as long as the test lasts.
fn page(authority: &Authority, versions: usize) -> u16 {
    let config = authority.server_config("localhost", Some(b"http/1.1")).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with its last visitor, or with this process.
    thread::spawn(move || {
        for stream in listener.incoming().take(versions) {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream.unwrap());
            let mut asked = [0; 1024];
            // A client that does not trust it is gone by now.
            if stream.read(&mut asked).is_ok() {
                let page =
                    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
                let _ = stream.write_all(page).and_then(|()| stream.flush());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    port
}

/// Programs of this host, each with the variables of cages: whoever is told of the authority
/// reaches the page, and whoever is not does not.
#[test]
fn programs_trust_it_when_they_are_told() {
    let authority = Authority::new().unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("authorities");
    let mut pem = crate::etc::public_authorities();
    std::fs::write(folder.path().join("others"), &pem).unwrap();
    pem.push(b'\n');
    pem.extend_from_slice(authority.certificate_pem().as_bytes());
    std::fs::write(&file, pem).unwrap();
    let python = "import sys, urllib.request; \
                  print(urllib.request.urlopen(sys.argv[1]).read().decode())";
    let strict = "import sys, ssl, urllib.request; c = ssl.create_default_context(); \
                  c.verify_flags |= ssl.VERIFY_X509_STRICT; \
                  print(urllib.request.urlopen(sys.argv[1], context=c).read().decode())";
    let node = "require('https').get(process.argv[1], \
                a => a.on('data', d => console.log(String(d)))).on('error', \
                e => { console.error(e.code); process.exit(1) })";
    let programs: [(&str, &[&str], &str); 6] = [
        ("curl", &["-sS", "--max-time", "20", "{}"], "CURL_CA_BUNDLE"),
        ("python3", &["-c", python, "{}"], "SSL_CERT_FILE"),
        ("python3", &["-c", strict, "{}"], "SSL_CERT_FILE"),
        ("node", &["-e", node, "{}"], "NODE_EXTRA_CA_CERTS"),
        ("wget", &["-q", "-T", "20", "-t", "1", "--ca-certificate={file}", "-O", "-", "{}"], "X"),
        (
            "openssl",
            &["s_client", "-quiet", "-verify_return_error", "-connect", "{at}"],
            "SSL_CERT_FILE",
        ),
    ];
    let mut run = 0;
    for (program, arguments, variable) in programs {
        let found = std::env::var("PATH").unwrap_or_default();
        if !found.split(':').any(|folder| Path::new(folder).join(program).is_file()) {
            println!("{program}: this host has none, so it was not asked");
            continue;
        }
        for (told, file) in [(true, &file), (false, &folder.path().join("others"))] {
            let port = page(&authority, 1);
            let fill = |argument: &&str| match *argument {
                "{}" => format!("https://localhost:{port}/"),
                "{at}" => format!("localhost:{port}"),
                other => other.replace("{file}", &file.display().to_string()),
            };
            let mut command = Command::new(program);
            command.args(arguments.iter().map(fill)).env(variable, file);
            for variable in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"]
            {
                command.env_remove(variable);
            }
            let mut child = command
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = child.stdin.take().unwrap();
            // Who does not read it is gone.
            let _ = input.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let output = child.wait_with_output().unwrap();
            drop(input);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(said.contains("hello"), told, "{program}: {said} {output:?}");
            run += 1;
            // Whoever never came is replaced, so that the page ends.
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        }
    }
    println!("{run} visits");
}

/// OpenSSL finds an authority in a folder by the hash of its name.
#[test]
fn its_name_has_the_hash_that_links_are_made_for() {
    let authority = Authority::new().unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-noout", "-subject_hash"]);
    let piped = std::process::Stdio::piped;
    let Ok(mut child) = openssl.stdin(piped()).stdout(piped()).spawn() else {
        println!("this host has no openssl to ask");
        return;
    };
    child.stdin.take().unwrap().write_all(authority.certificate_pem().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), NAME_HASH);
}
