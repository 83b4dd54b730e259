//! Whom programs in a cage trust: the host's public authorities and the cage's own, and nobody
//! else's.

use serde_json::json;

use crate::{
    driver::{self, Driver, Session, for_both},
    place,
};

/// Cuts the last certificate out of the bundle: the cage's own.
const OWN: &str = "tac /etc/ssl/certs/ca-certificates.crt | sed '/BEGIN CERTIFICATE/q' | tac";

/// The cage's own certificate, as a program inside reads it.
fn own(session: &Session<'_>) -> String {
    let pem = session.bash(OWN).fine();
    assert!(pem.contains("BEGIN CERTIFICATE") && !pem.contains("PRIVATE"), "{pem}");
    pem
}

for_both! {
    /// The bundle holds what the host's does and one more; it can't be written, and each cage has
    /// another one.
    #[test]
    fn each_cage_has_an_authority_of_its_own(user: User) {
        let driver = driver::shared(user);
        let (one, other) = (driver.session(), driver.session());
        let (first, second) = (own(&one), own(&other));
        assert_ne!(first, second);
        // The control: it is read the same twice.
        assert_eq!(first, own(&one));
        let count = |text: &str| text.matches("BEGIN CERTIFICATE").count();
        let host = std::fs::read_to_string("/etc/ssl/certs/ca-certificates.crt");
        let inside = one.bash("grep -c 'BEGIN CERTIFICATE' /etc/ssl/certs/ca-certificates.crt").fine();
        if let Ok(host) = host {
            assert_eq!(inside.trim(), (count(&host) + 1).to_string());
        }
        for attempt in ["echo x >> F", "rm F", "chmod 666 F", "mv F F.old", "umount F", "ln -sf /tmp/x F"] {
            let attempt = attempt.replace('F', "/etc/ssl/certs/ca-certificates.crt");
            let said = one.bash(&format!("{attempt} 2>&1"));
            assert!(said.is_error, "{attempt}: {said:?}");
        }
        assert_eq!(first, own(&one));
        // The next cage of a session has another one, too.
        assert!(one.kill());
        assert_ne!(first, own(&one));
        one.delete();
        other.delete();
    }

    /// Whom the operator trusts for origins, programs inside trust as well: what passes with its
    /// own TLS is theirs to check.
    #[test]
    fn whom_the_operator_trusts_is_trusted_inside(user: User) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["operator.test".to_owned()]).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let file = place::host_file(user, &pem);
        let driver = Driver::start(user, &json!({"trusted_roots": file}));
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let flat = "tr -d '\\n' < /etc/ssl/certs/ca-certificates.crt";
        let session = driver.session();
        let has = |session: &Session<'_>| session.bash(&format!("{flat} | grep -cF '{body}'")).text;
        assert_eq!(has(&session).lines().next(), Some("1"));
        // The control.
        let other = driver::shared(user).session();
        assert_eq!(has(&other).lines().next(), Some("0"));
        assert!(!own(&session).contains(pem.lines().nth(1).unwrap()));
        other.delete();
    }

    /// A cage's file goes with the cage.
    #[test]
    fn nothing_of_it_is_left_behind(user: User) {
        let driver = Driver::start(user, &json!({}));
        let session = driver.session();
        own(&session);
        let file = driver.folder.join(&session.name).join("authorities");
        assert!(file.is_file());
        assert!(session.kill());
        assert!(!file.exists());
    }

    /// Libraries find the authority in the file and by the hash of its name, with variables and
    /// without. The control is a certificate of the same name that nobody has made known.
    #[test]
    fn libraries_find_the_authority(user: User) {
        let session = driver::shared(user).session();
        let has = |program: &str| {
            let is_there = !session.bash(&format!("{program} >/dev/null 2>&1")).is_error;
            if !is_there {
                println!("`{program}` fails here, so it was not asked");
            }
            is_there
        };
        if has("openssl version") {
            session.bash(&format!("{OWN} > /tmp/own.pem; openssl req -x509 -newkey ec \
                -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /tmp/key.pem \
                -out /tmp/stranger.pem -subj '/CN=Sandbox authority'")).fine();
            for how in [
                "-no-CApath -CAfile /etc/ssl/certs/ca-certificates.crt",
                "-no-CAfile -no-CAstore -CApath /etc/ssl/certs",
                // Whatever it was built with.
                "",
            ] {
                let said = session.bash(&format!("for one in own stranger; do \
                    env -i PATH=\"$PATH\" openssl verify {how} /tmp/$one.pem > /tmp/$one.txt 2>&1 \
                    && echo yes || echo no; done")).fine();
                let details = || session.bash("cat /tmp/own.txt /tmp/stranger.txt");
                assert_eq!(said.trim(), "yes\nno", "{how}: {:?}", details());
            }
        }
        if has("python3 -c 'import ssl'") {
            for clear in ["", "env -i PATH=\"$PATH\" "] {
                let said = session.bash(&format!("{clear}python3 -c '
import ssl
paths = ssl.get_default_verify_paths()
names = [pair[1] for one in ssl.create_default_context().get_ca_certs()
         for part in one[\"subject\"] for pair in part]
print(names.count(\"Sandbox authority\"), len(names) > 20, paths)'")).fine();
                // Where it was built without a file, it reads the folder when it needs to.
                assert!(said.starts_with("1 True") || !clear.is_empty(), "{clear}: {said}");
            }
        }
        let said = session.bash("for n in SSL_CERT_FILE CURL_CA_BUNDLE REQUESTS_CA_BUNDLE \
            NODE_EXTRA_CA_CERTS GIT_SSL_CAINFO PIP_CERT CARGO_HTTP_CAINFO AWS_CA_BUNDLE \
            NPM_CONFIG_CAFILE DENO_CERT; do cmp \"${!n}\" /etc/ssl/certs/ca-certificates.crt \
            && echo same; done").fine();
        assert_eq!(said.matches("same").count(), 10, "{said}");
        session.delete();
    }
}
