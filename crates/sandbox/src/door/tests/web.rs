//! The outside half of the scenes in which the door looks into what passes.

use std::{fs, sync::atomic::Ordering};

use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{origin::Origin, witness::Closed, *};

/// The scenes.
pub(super) const SCENES: &[&str] =
    &["http", "held", "spoken", "blocked", "pinned", "secrets", "open", "origins"];

/// Hosts of the world outside that speak TLS at any port.
const SECURED: &[&str] = &[
    "api.example",
    "other.example",
    "a.wild.example",
    "old.example",
    "mute.example",
    "raw.example",
    "banner.example",
    "pinned.example",
    "stranger.example",
    "impostor.example",
    "unlisted.example",
];
/// Where this server listens, as the guard believes.
const OWN: u16 = 9443;

struct Scene<'a> {
    outside: &'a Outside,
    origin: &'a Origin,
    guard: Guard,
    witness: Arc<Witness>,
    authority: Arc<Authority>,
    folder: tempfile::TempDir,
}

/// Plays a scene.
pub(super) fn play(outside: &Outside, origin: &Origin, name: &str) {
    let here = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let mut resolve: std::collections::BTreeMap<_, _> =
        SECURED.iter().map(|name| ((*name).to_owned(), here(443))).collect();
    for (name, port) in [
        ("plain.example", 80),
        ("echo.example", ORIGIN),
        ("greeter.example", 25),
        ("gone.example", 2),
        ("own.example", OWN),
    ] {
        resolve.insert(name.to_owned(), here(port));
    }
    let vouched = origin.authority.certificate_pem();
    let root = CertificateDer::from_pem_slice(vouched.as_bytes()).unwrap();
    let rules = Rules { resolve, trusted_roots: vec![root], ..Rules::default() };
    let folder = tempfile::tempdir().unwrap();
    let authority = Arc::new(Authority::new().unwrap());
    fs::write(folder.path().join("authority.pem"), authority.certificate_pem()).unwrap();
    fs::write(folder.path().join("origin.pem"), vouched).unwrap();
    let guard = Guard::new(rules, vec![here(OWN)]);
    let witness = Arc::default();
    let scene = Scene { outside, origin, guard, witness, authority, folder };
    match name {
        "http" => scene.http(),
        "held" => scene.held(),
        "spoken" => scene.spoken(),
        "blocked" => scene.blocked(),
        "pinned" => scene.pinned(),
        "secrets" => scene.secrets(),
        "open" => scene.open(),
        "origins" => scene.origins(),
        _ => panic!("no such scene: {name}"),
    }
}

/// A secret. Its value is `value-of-` and its name.
fn secret(name: &str, hosts: &[&str], header: bool, body: bool) -> Secret {
    Secret {
        name: name.into(),
        credential: format!("vcrd_{name}").into(),
        vault: "vlt_test".into(),
        placeholder: format!("ph_{name}").into(),
        hosts: Some(hosts.iter().map(|host| (*host).to_owned()).collect()),
        header,
        body,
        value: format!("value-of-{name}").into(),
    }
}

impl Scene<'_> {
    fn cage(&self, scene: &str, policy: &Networking) -> (Door, trial::Inside) {
        let scene = format!("{scene}|{}", self.folder.path().display());
        let authority = Arc::clone(&self.authority);
        self.outside.cage_with(&scene, policy, &self.guard, &self.witness, authority)
    }

    fn refused(&self, host: &str, port: u16, rule: Rule) {
        let refused = self.witness.refused(host, port, rule);
        assert!(refused, "{host} {port} {rule:?}: {:#?}", self.witness.decisions());
    }

    fn http(&self) {
        let hosts = ["api.example", "plain.example", "*.wild.example", "old.example"];
        let (door, inside) = self.cage("http", &limited(&hosts));
        inside.finish();
        assert_eq!(door.counts().denied, 0, "{:?}", self.witness.decisions());
        assert_eq!(self.guard.looked_up(), 0);
        assert!(self.witness.uses().is_empty());
    }

    fn held(&self) {
        let hosts = ["api.example", "other.example", "plain.example", origin::ADDRESS];
        let (_door, inside) = self.cage("held", &limited(&hosts));
        inside.finish();
        for (host, port) in [
            // In the handshake, in requests, and in requests without TLS.
            ("other.example", 443),
            ("unlisted.example", 443),
            ("api.example", 443),
            ("10.0.0.1", 443),
            ("other.example", 80),
        ] {
            self.refused(host, port, Rule::Mismatch);
        }
        assert_eq!(self.guard.looked_up(), 0);
    }

    fn spoken(&self) {
        let hosts = ["api.example", "plain.example", "mute.example"];
        let (_door, inside) = self.cage("spoken", &limited(&hosts));
        inside.finish();
        self.refused("api.example", 443, Rule::Protocol);
        self.refused("plain.example", 80, Rule::Protocol);
    }

    fn blocked(&self) {
        let hosts = ["api.example", "93.184.216.34", "10.0.0.1"];
        let (door, inside) = self.cage("blocked", &limited(&hosts));
        inside.finish();
        // Nothing was asked for, and nobody was dialled but the positive control.
        assert_eq!((self.guard.looked_up(), self.guard.dialled()), (0, 2));
        assert_eq!(door.counts().allowed, 2);
        for port in [80, 443, 22] {
            self.refused("unlisted.example", port, Rule::NotListed);
        }
        self.refused("93.184.216.35", 443, Rule::NotListed);
        self.refused("10.0.0.1", 443, Rule::Guard);
        self.refused("93.184.216.34", ORIGIN, Rule::Port);
    }

    fn pinned(&self) {
        let mut policy = limited(&["api.example"]);
        let pinned = Allowed { host: "pinned.example".to_owned(), rule: Rule::Passthrough };
        policy.allowed.as_mut().unwrap().push(pinned);
        policy.allowed.as_mut().unwrap().extend(limited(&["plain.example"]).allowed.unwrap());
        policy.passthrough = ["pinned.example", "plain.example"].map(str::to_owned).to_vec();
        let hosts = ["api.example", "pinned.example", "plain.example"];
        self.witness.give(vec![secret("token", &hosts, true, true)]);
        let (_door, inside) = self.cage("pinned", &policy);
        inside.finish();
        let passed = Decision {
            host: "pinned.example".to_owned(),
            port: Some(443),
            allowed: true,
            rule: Rule::Passthrough,
        };
        assert!(self.witness.decisions().contains(&passed));
        self.refused("pinned.example", 443, Rule::Mismatch);
        self.refused("api.example", 443, Rule::Mismatch);
        let uses = self.witness.uses();
        assert!(uses.iter().all(|one| one.host == "api.example"), "{uses:?}");
        assert_eq!(uses.len(), 1);
    }

    fn secrets(&self) {
        let hosts = ["api.example", "other.example", "plain.example", origin::ADDRESS];
        let given = || {
            let hosts = ["api.example", "plain.example", origin::ADDRESS];
            vec![
                secret("token", &hosts, true, false),
                secret("part", &["api.example"], false, true),
            ]
        };
        self.witness.give(given());
        let (_door, mut inside) = self.cage("secrets", &limited(&hosts));
        inside.step();
        let uses = self.witness.uses();
        let of = |host: &str| uses.iter().filter(|one| one.host == host).count();
        assert_eq!((of("api.example"), of("plain.example"), of(origin::ADDRESS)), (8, 1, 1));
        assert_eq!(uses.len(), 10, "{uses:#?}");
        let sent = Use {
            credential: "vcrd_part".into(),
            vault: "vlt_test".into(),
            host: "api.example".to_owned(),
            port: 443,
            method: "POST".to_owned(),
            header: false,
            body: true,
        };
        assert!(uses.contains(&sent), "{uses:#?}");
        // The vault does not answer, then its ledger: nothing leaves.
        for closed in [Closed::Vault, Closed::Ledger] {
            self.witness.close(closed);
            inside.step();
        }
        self.witness.close(Closed::Nothing);
        inside.step();
        // Taken back.
        self.witness.give(vec![]);
        inside.step();
        assert_eq!(self.witness.uses().len(), 11);
        inside.finish();
        let denied = self.witness.decisions().into_iter().filter(|one| !one.allowed);
        assert_eq!(denied.count(), 0);
    }

    fn open(&self) {
        let hosts = [
            "api.example",
            "raw.example",
            "banner.example",
            "echo.example",
            "greeter.example",
            "pinned.example",
        ];
        self.witness.give(vec![secret("token", &hosts, true, false)]);
        let passthrough = vec!["pinned.example".to_owned()];
        let (_door, mut inside) = self.cage("open", &Networking { allowed: None, passthrough });
        inside.step();
        assert_eq!(self.witness.uses().len(), 1);
        // One for every host does not mean addresses, one for the address does.
        let mut everywhere = secret("token", &[], true, false);
        everywhere.hosts = None;
        self.witness.give(vec![everywhere]);
        inside.step();
        self.witness.give(vec![secret("token", &[origin::ADDRESS], true, false)]);
        inside.step();
        inside.finish();
        let hosts: Vec<String> = self.witness.uses().into_iter().map(|one| one.host).collect();
        assert_eq!(hosts, ["api.example", "plain.example", origin::ADDRESS]);
        self.refused("other.example", 443, Rule::Mismatch);
        let refused: Vec<Decision> =
            self.witness.decisions().into_iter().filter(|one| !one.allowed).collect();
        assert_eq!(refused.len(), 1, "{refused:?}");
    }

    fn origins(&self) {
        let hosts =
            ["api.example", "stranger.example", "impostor.example", "gone.example", "own.example"];
        self.witness.give(vec![secret("token", &hosts, true, true)]);
        let (_door, inside) = self.cage("origins", &limited(&hosts));
        inside.finish();
        self.refused("stranger.example", 443, Rule::Certificate);
        self.refused("impostor.example", 443, Rule::Certificate);
        self.refused("own.example", 443, Rule::Guard);
        assert!(self.witness.uses().is_empty());
        assert!(self.origin.connections.load(Ordering::SeqCst) > 0);
    }
}
