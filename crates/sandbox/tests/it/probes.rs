//! Every probe from inside a cage, and the same probes on the bare host as their control.
//!
//! The probes themselves, and what each tries, are in `crates/testkit/src/probe`.

use std::{collections::BTreeMap, process::Command, sync::OnceLock};

use serde_json::Value;

use crate::{
    driver::{self, for_both},
    place,
};

/// Far below what there are; a program that prints nothing proves nothing.
const LEAST: usize = 250;

for_both! {
    /// Nothing that a probe tries succeeds, and everything that must work does.
    #[test]
    fn every_probe_is_closed(user: User) {
        let session = driver::shared(user).session().with_probe();
        let probes = probes(&session.bash("/tmp/probe --target 1 all").fine());
        assert!(probes.len() > LEAST, "only {} probes have spoken", probes.len());
        let wrong: Vec<&Value> = probes
            .values()
            .filter(|probe| probe["allowed"] != (probe["inside"] == "works"))
            .collect();
        assert!(wrong.is_empty(), "{}", lines(&wrong));
        session.delete();
        let provable = proven_outside();
        let proven = probes.keys().filter(|name| provable.get(*name) == Some(&true)).count();
        println!("{proven} of {} are proven by their control on this host", probes.len());
    }

    /// Programs that agents use every day run in a cage.
    #[test]
    fn usual_programs_work(user: User) {
        let session = driver::shared(user).session();
        for (program, command, wanted) in [
            ("bash", "a=1; f() { echo $((a + 1)); }; f", "2"),
            ("python3", PYTHON, "3 49 x"),
            ("git", GIT, "1"),
            ("perl", "perl -e 'print 6*7, qq(\\n)'", "42"),
            ("tar", "mkdir -p t && touch t/f && tar cf t.tar t && tar tf t.tar | wc -l", "2"),
            ("node", "node -e 'setTimeout(() => console.log(40+2), 5)'", "42"),
            ("gcc", "echo 'int main(){return 0;}' > m.c && gcc m.c -o m && ./m && echo ok", "ok"),
            ("curl", "curl --version | head -1 | cut -c1-4", "curl"),
        ] {
            // Only what stands where a cage sees it can be wanted of a cage.
            let there = Command::new("/bin/sh")
                .args(["-c", &format!("command -v {program}")])
                .env("PATH", "/usr/local/bin:/usr/bin:/bin")
                .output()
                .unwrap();
            if !there.status.success() {
                println!("{program} is not on this host; it was not tried");
                continue;
            }
            let said = session.bash(&format!("cd /workspace && {command}"));
            assert!(said.text.trim_end().ends_with(wanted), "{program}: {said:?}");
        }
        session.delete();
    }
}

/// The control: on the bare host, as root, each attempt succeeds, but for what it names itself.
#[test]
fn every_probe_succeeds_on_the_bare_host() {
    if !place::am_root() {
        println!("these tests are not root: no probe is proven by a control");
        return;
    }
    let outside = outside();
    assert!(outside.len() > LEAST, "only {} probes have spoken", outside.len());
    let mut wrong = Vec::new();
    for (name, probe) in outside {
        if probe["allowed"] == true {
            continue;
        }
        let why = probe["why"].as_str().unwrap_or_default();
        match probe["control"].as_str() {
            Some("where") => {
                println!("not provable here: {name}: needs {why}: {}", probe["detail"])
            }
            Some("nowhere") => println!("not provable anywhere: {name}: {why}"),
            // A root without the rights of one, as in a container, proves little.
            _ if !has_all_rights() => println!("not provable without rights: {name}"),
            _ => wrong.push(probe),
        }
    }
    assert!(wrong.is_empty(), "{}", lines(&wrong));
}

const PYTHON: &str = r#"python3 -c '
import multiprocessing, subprocess, threading, tempfile, socket, sqlite3, ctypes
def square(x): return x * x
out = []
t = threading.Thread(target=lambda: out.append(3)); t.start(); t.join()
with multiprocessing.Pool(2) as pool: squares = pool.map(square, [7])
said = subprocess.run(["echo", "x"], capture_output=True, text=True).stdout.strip()
tempfile.NamedTemporaryFile().write(b"x")
sqlite3.connect("/workspace/a.db").execute("create table t(a)")
print(out[0], squares[0], said)
'"#;

const GIT: &str = "rm -rf repo && git init -q repo && cd repo && \
    git config user.email a@example.com && git config user.name a && \
    echo x > f && git add f && git commit -qm x && git gc -q && git log --oneline | wc -l";

fn probes(text: &str) -> BTreeMap<String, Value> {
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|probe| (probe["probe"].as_str().unwrap_or_default().to_owned(), probe))
        .collect()
}

fn outside() -> &'static BTreeMap<String, Value> {
    static OUTSIDE: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    OUTSIDE.get_or_init(|| {
        let probe = place::program("posthouse-probe");
        let output = Command::new(probe).arg("all").current_dir("/").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        probes(&String::from_utf8_lossy(&output.stdout))
    })
}

/// Which probes succeed on this host, where this test runs with a root's rights.
fn proven_outside() -> BTreeMap<String, bool> {
    let named = |(name, probe): (&String, &Value)| (name.clone(), probe["allowed"] == true);
    outside().iter().map(named).collect()
}

fn has_all_rights() -> bool {
    const ADMINISTRATION: u32 = 21;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    u64::from_str_radix(held, 16).unwrap() >> ADMINISTRATION & 1 == 1
}

fn lines(probes: &[&Value]) -> String {
    let lines: Vec<String> = probes.iter().map(ToString::to_string).collect();
    format!("{} are not as they should be:\n{}", lines.len(), lines.join("\n"))
}
