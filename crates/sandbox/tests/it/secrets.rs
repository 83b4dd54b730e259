//! A session's secrets, from inside: there are placeholders, and the values are nowhere. Neither is
//! the key of the cage's authority.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
};

use serde_json::{Value, json};

use crate::{
    driver::{self, Driver, Session, for_both},
    place::{self, canary},
};

/// How a private key of the authority's curve begins where it lies in memory (PKCS #8, RFC 5208,
/// with RFC 5915): the octets before the number itself.
const KEY: &[u8] = b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\
                     \x01\x07\x04\x6d\x30\x6b\x02\x01\x01\x04\x20";

/// What the tests give to a session: its placeholder and its value.
fn give(session: &Session<'_>) -> (String, String) {
    let (placeholder, value) = (canary("placeholder").replace('-', "_"), canary("value"));
    session.give(&json!([{
        "name": "SERVICE_TOKEN", "placeholder": placeholder, "value": value, "header": true,
        "hosts": ["api.example.test"],
    }]));
    (placeholder, value)
}

/// Whether a process of this host has these octets in memory of its own.
fn has_in_memory(pid: u32, wanted: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut own = maps.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        rest.starts_with("rw").then_some((number(from)?, number(to)?))
    });
    own.any(|(from, to)| {
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        let read = memory.seek(SeekFrom::Start(from)).and_then(|_| memory.read(&mut bytes));
        // Some that are mapped can't be read.
        let read = read.unwrap_or(0);
        bytes[..read].windows(wanted.len()).any(|part| part == wanted)
    })
}

for_both! {
    /// Environment, `/proc`, and every file that a session has: the placeholder is there, the value
    /// and the authority's key are not.
    #[test]
    fn values_and_keys_are_nowhere_inside(user: User) {
        let session = driver::shared(user).session();
        let (placeholder, value) = give(&session);
        let said = session.bash("echo $SERVICE_TOKEN; echo $SERVICE_TOKEN > /workspace/noted; \
            python3 -c 'import os; print(os.environ[\"SERVICE_TOKEN\"])' || true").fine();
        assert!(said.contains(&placeholder) && !said.contains(&value), "{said}");
        // The words are put together inside, so that the search does not find itself.
        let (front, back) = value.split_at(value.len() / 2);
        let (own_front, own_back) = placeholder.split_at(placeholder.len() / 2);
        let script = format!(
            "import os, re
words = {{'value': ('{front}' + '{back}').encode(), 'placeholder': ('{own_front}' + '{own_back}').encode(),
         'key': b'PRIVATE' + b' KEY', 'der': bytes.fromhex('2a8648ce3d0301' + '07046d306b0201010420')}}
found, opened = set(), 0
def look(name, data):
    for kind, word in words.items():
        if word in data: found.add((kind, name))
for top in ('/dev', '/etc', '/home', '/mnt', '/proc', '/root', '/run', '/tmp', '/workspace'):
    for folder, folders, files in os.walk(top):
        if folder.startswith('/proc/') and re.match('/proc/(sys|self|thread-self|.*/task/.*/task)', folder): continue
        for file in files:
            path = os.path.join(folder, file)
            if re.search('/(mem|pagemap|kmsg|clear_refs|random|urandom|zero|full|tty|ptmx|stdin)$', path): continue
            try:
                handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            except OSError: continue
            try: look(path, os.read(handle, 4 << 20)); opened += 1
            except OSError: pass
            finally: os.close(handle)
reached = []
for process in filter(str.isdigit, os.listdir('/proc')):
    try:
        maps = open(f'/proc/{{process}}/maps').read().splitlines()
        memory = open(f'/proc/{{process}}/mem', 'rb')
    except OSError: continue
    if int(process) == os.getpid(): continue
    reached.append(int(process))
    for line in maps:
        ends, mode = line.split()[:2]
        start, end = (int(part, 16) for part in ends.split('-'))
        if 'r' not in mode or end >= 1 << 63: continue
        try: memory.seek(start); look('memory of ' + process, memory.read(end - start))
        except (OSError, ValueError): pass
for kind, name in sorted(found): print('FOUND', kind, name)
print('opened', opened, 'reached', sorted(reached))
"
        );
        session.call("write", &json!({"file_path": "/tmp/search.py", "content": script})).fine();
        let said = session.bash("python3 /tmp/search.py").fine();
        let found = |kind: &str| said.matches(&format!("FOUND {kind} ")).count();
        assert!(found("placeholder") >= 2, "{said}");
        assert!(said.contains("FOUND placeholder /workspace/noted"), "{said}");
        assert!(said.contains("FOUND placeholder memory of "), "the shell's: {said}");
        assert_eq!((found("value"), found("key"), found("der")), (0, 0, 0), "{said}");
        // The helper itself is closed to its tools.
        assert!(!said.contains("reached [1,") && !said.contains("reached [1]"), "{said}");
        session.delete();
    }

    /// From outside: the server has the value and the key, and no process that it has started for
    /// a cage has either.
    #[test]
    fn only_the_server_has_them(user: User) {
        let driver = Driver::start(user, &json!({}));
        let session = driver.session();
        let (placeholder, value) = give(&session);
        assert!(session.bash("echo $SERVICE_TOKEN").fine().contains(&placeholder));
        if place::am_root() {
            assert!(has_in_memory(driver.pid(), value.as_bytes()));
            assert!(has_in_memory(driver.pid(), KEY));
            let below = place::descendants(driver.pid());
            // The launcher, the helper, the shell.
            assert!(below.len() >= 3, "{below:?}");
            for pid in &below {
                assert!(!has_in_memory(*pid, value.as_bytes()), "{pid}");
                assert!(!has_in_memory(*pid, KEY), "{pid}");
            }
            assert!(below.iter().any(|pid| has_in_memory(*pid, placeholder.as_bytes())));
        } else {
            println!("memory of other processes was not searched, for these tests are not root");
        }
        // No file of the session's has them.
        for path in place::below(&driver.folder).iter().filter(|path| path.is_file()) {
            let bytes = fs::read(path).unwrap_or_default();
            let has = |word: &[u8]| bytes.windows(word.len()).any(|part| part == word);
            assert!(!has(value.as_bytes()) && !has(KEY) && !has(b"PRIVATE KEY"), "{path:?}");
        }
        assert!(!driver.noise().contains(&value));
    }

    /// Names that decide what runs or whom to trust are not overridden, and the first of a name
    /// counts.
    #[test]
    fn no_secret_takes_the_place_of_what_counts(user: User) {
        let session = driver::shared(user).session();
        let one = |name: &str, placeholder: &str| {
            json!({"name": name, "placeholder": placeholder, "value": "canary", "header": true})
        };
        session.give(&json!([
            one("PATH", "p_1"), one("LD_PRELOAD", "p_2"), one("SSL_CERT_FILE", "p_3"),
            one("HOME", "p_4"), one("npm_config_cafile", "p_5"), one("FREE", "p_6"),
            one("FREE", "p_7"), one("A B", "p_8"),
        ]));
        let said = session.bash("env").fine();
        let with: Vec<_> = said.lines().filter(|line| line.contains("=p_")).collect();
        assert_eq!(with, ["FREE=p_6"], "{said}");
        assert!(!said.contains("canary"));
        session.delete();
    }

    /// A vault that does not answer is no reason to run tools without their secrets.
    #[test]
    fn no_cage_is_made_without_an_answer_of_the_vault(user: User) {
        let session = driver::shared(user).session();
        session.give(&Value::Null);
        let said = session.bash("echo ran");
        let failed = said.failed.clone().unwrap_or_default();
        assert!(failed.contains("secrets are not available"), "{said:?}");
        assert!(session.live().is_none());
        // The control.
        session.give(&json!([]));
        assert_eq!(session.bash("echo ran").fine().trim(), "ran");
        session.delete();
    }

    /// What a cage is, is written down when it stands.
    #[test]
    fn a_cage_that_stands_is_recorded(user: User) {
        let driver = driver::shared(user);
        let mut limited = driver.session();
        limited.networking = json!({"limited": ["b.example.test", "*.a.example.test"]});
        let open = driver.session().unrestricted();
        for session in [&limited, &open] {
            assert_eq!(session.record()["started"], json!([]));
            session.bash("true").fine();
        }
        let record = limited.record();
        let started = &record["started"][0];
        assert_eq!(started["allowlist"], json!([
            {"host": "b.example.test", "rule": "allowed_hosts"},
            {"host": "*.a.example.test", "rule": "allowed_hosts"},
        ]), "{record}");
        let uname = limited.bash("uname -r").fine();
        assert_eq!(started["kernel"], uname.trim());
        assert_eq!(started["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(started["isolation"], limited.live().unwrap()["isolation"]);
        assert_eq!(started["limits"]["processes"], 128);
        assert_eq!(open.record()["started"][0]["allowlist"], Value::Null);
        assert!(limited.kill());
        limited.bash("true").fine();
        assert_eq!(limited.record()["started"].as_array().unwrap().len(), 2);
        limited.delete();
        open.delete();
    }
}

/// Without isolation there is no door, so no placeholder tells of what would not be put in.
#[test]
fn without_isolation_there_are_no_placeholders() {
    let driver = Driver::start(place::User::Ordinary, &json!({"isolation": "none"}));
    let session = driver.session();
    let (placeholder, value) = give(&session);
    let said = session.bash("env; echo \"<$SERVICE_TOKEN>\"").fine();
    assert!(said.contains("<>") && said.contains("HOME="), "{said}");
    assert!(!said.contains(&placeholder) && !said.contains(&value), "{said}");
    assert!(!said.contains("SSL_CERT_FILE="), "{said}");
    let record = session.record();
    assert_eq!(record["started"][0]["isolation"]["door"], "none", "{record}");
    assert_eq!(record["started"][0]["allowlist"], Value::Null);
    session.delete();
}
