//! What is in a cage that nobody has put anything into: every path, every mount, every variable.
//!
//! The recipe is an allowlist, and so are these lists.

use serde_json::json;

use crate::{
    driver::{self, SECRET, for_both},
    place,
};

/// All that stands in the root.
const ROOT: &[&str] = &[
    "bin",
    "dev",
    "etc",
    "home",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "mnt",
    "proc",
    "root",
    "run",
    "sbin",
    "tmp",
    "usr",
    "workspace",
];

/// All that stands in `/dev`.
const DEVICES: &[&str] = &[
    "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
    "urandom", "zero",
];

/// All that may stand in `/etc`.
const SETTINGS: &[&str] = &[
    "alternatives",
    "group",
    "host.conf",
    "hostname",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "passwd",
    "pki",
    "protocols",
    "resolv.conf",
    "services",
    "shells",
    "ssl",
];

/// All variables that a tool's environment may have.
const VARIABLES: &[&str] = &[
    "HOME",
    "HOSTNAME",
    "LANG",
    "LC_ALL",
    "LOGNAME",
    "OLDPWD",
    "PATH",
    "PWD",
    "SHELL",
    "SHLVL",
    "TERM",
    "TMPDIR",
    "USER",
    "_",
    "PAGER",
    "GIT_PAGER",
    "TZ",
    "EDITOR",
    "DEBIAN_FRONTEND",
    "PYTHONUNBUFFERED",
    "NO_COLOR",
    "GIT_TERMINAL_PROMPT",
    // Whom to trust.
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "NPM_CONFIG_CAFILE",
    "DENO_CERT",
];

/// All that may stand in folders of `/etc` that tell whom to trust, but for the certificates.
const TRUST: [(&str, &[&str]); 5] = [
    ("/etc/ssl", &["ca-bundle.pem", "cert.pem", "certs", "openssl.cnf"]),
    ("/etc/pki", &["ca-trust", "tls"]),
    ("/etc/pki/tls", &["cert.pem", "certs"]),
    ("/etc/pki/tls/certs", &["ca-bundle.crt"]),
    ("/etc/pki/ca-trust/extracted/pem", &["tls-ca-bundle.pem"]),
];

/// Where a mount's source may be seen: what `mountinfo` can't be kept from telling. The root of a
/// bind mount within its file system is one of them; it names the session's folder.
const KINDS: &[&str] = &["tmpfs", "proc", "devpts"];

for_both! {
    /// The root, `/dev`, `/etc` and the folders that tools write to hold what the recipe says.
    #[test]
    fn every_path_is_in_the_recipe(user: User) {
        let session = driver::shared(user).session();
        let listed = |folder: &str| -> Vec<String> {
            let text = session.bash(&format!("ls -A1 {folder}")).fine();
            text.lines().filter(|line| !line.starts_with('[') && *line != "(no output)")
                .map(str::to_owned).collect()
        };
        for (folder, wanted) in [("/", ROOT), ("/dev", DEVICES), ("/etc", SETTINGS)] {
            let found = listed(folder);
            assert!(found.len() > 5, "{folder}: {found:?}");
            let more: Vec<_> =
                found.iter().filter(|name| !wanted.contains(&name.as_str())).collect();
            assert!(more.is_empty(), "{folder} has {more:?}");
        }
        for (folder, wanted) in TRUST {
            let found = listed(folder);
            assert!(!found.is_empty(), "{folder}");
            let more: Vec<_> =
                found.iter().filter(|name| !wanted.contains(&name.as_str())).collect();
            assert!(more.is_empty(), "{folder} has {more:?}");
        }
        // Like the host's, but for the certificate that some make for themselves.
        let certificates = listed("/etc/ssl/certs");
        assert!(certificates.iter().any(|name| name == "ca-certificates.crt"), "{certificates:?}");
        assert!(!certificates.iter().any(|name| name.contains("snakeoil")), "{certificates:?}");
        for folder in ["/workspace", "/run", "/dev/shm", "/root", "/mnt/session/outputs"] {
            assert_eq!(listed(folder), Vec::<String>::new(), "{folder}");
        }
        assert_eq!(listed("/home"), ["agent"]);
        assert_eq!(listed("/mnt"), ["session"]);
        for gone in ["/var/lib", "/srv", "/opt", "/sys", "/boot", "/media", "/etc/shadow",
            "/etc/machine-id", "/etc/fstab", "/etc/sudoers", "/etc/ssh"] {
            let said = session.bash(&format!("ls -d {gone}"));
            assert!(said.is_error, "{gone} is there: {said:?}");
        }
        session.delete();
    }

    /// Every path there is, except for the host's programs and the kernel's own files, belongs to
    /// the session, to nobody, or to the root of the cage; and nothing of it can be written that is
    /// not the session's.
    #[test]
    fn every_path_is_owned_as_it_should_be(user: User) {
        let session = driver::shared(user).session();
        let text = session.bash(
            "find / \\( -path /proc -o -path /usr -o -path /dev/pts \\) -prune -o \
             -printf '%U %p\\n' 2>/dev/null | awk '{print $1}' | sort -n | uniq -c",
        ).fine();
        let owners: Vec<u32> = text.lines()
            .filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect();
        assert!(!owners.is_empty(), "{text}");
        assert!(owners.iter().all(|owner| [0, 1000, 65_534].contains(owner)), "{text}");
        let text = session.bash(
            "for d in $(find / -xdev -type d 2>/dev/null; find /usr /etc -type d | head -2000); do \
             [ -w \"$d\" ] && echo \"$d\"; done; true",
        ).fine();
        let allowed = ["/workspace", "/mnt", "/tmp", "/home/agent", "/root", "/run", "/dev/shm"];
        for line in text.lines().filter(|line| line.starts_with('/')) {
            let fine = allowed.iter().any(|one| line == *one || line.starts_with(&format!("{one}/")));
            assert!(fine, "{line} can be written");
        }
        // Held in the hand: the listing does tell what can be written.
        let text = session.bash("[ -w /workspace ] && echo yes").fine();
        assert_eq!(text.trim(), "yes");
        session.delete();
    }

    /// No user and no name of the host is in the made files.
    #[test]
    fn users_and_names_of_the_host_are_unknown(user: User) {
        let session = driver::shared(user).session();
        let text = session.bash("cat /etc/passwd /etc/group /etc/hosts /etc/hostname; hostname; \
            id; uname -n; cat /proc/sys/kernel/hostname").fine();
        let host = std::fs::read_to_string("/etc/passwd").unwrap();
        let kept = ["root", "nobody", "agent"];
        for name in host.lines().filter_map(|line| line.split(':').next()) {
            let shown = text.lines().any(|line| line.starts_with(&format!("{name}:")));
            assert!(kept.contains(&name) || name == "tty" || !shown, "{name} is shown");
        }
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let own = own.trim();
        assert!(own == "localhost" || own == "sandbox" || !text.contains(own), "{own}: {text}");
        assert!(text.contains("uid=1000"), "{text}");
        session.delete();
    }

    /// What is mounted, how, and what of the host's paths that shows.
    #[test]
    fn mounts_tell_nothing_that_can_be_helped(user: User) {
        let session = driver::shared(user).session();
        let text = session.bash("cat /proc/self/mountinfo").fine();
        let mut bound = 0;
        for line in text.lines().filter(|line| line.contains(" - ")) {
            let (front, back) = line.split_once(" - ").unwrap();
            let front: Vec<&str> = front.split(' ').collect();
            let (root, point, options) = (front[3], front[4], front[5]);
            let kind = back.split(' ').next().unwrap();
            if KINDS.contains(&kind) {
                assert!(options.contains("nosuid"), "{line}");
                continue;
            }
            bound += 1;
            // A file of the kernel that is covered by the empty device.
            if root == "/null" && point.starts_with("/proc/") {
                continue;
            }
            // Devices are bound one by one. Of other file systems only these are seen.
            let known = ["/usr", "/bin", "/sbin", "/lib", "/etc", "/workspace", "/mnt", "/tmp",
                "/home/agent", "/root", "/dev/", "/run"];
            assert!(known.iter().any(|one| point.starts_with(one)), "{line}");
            assert!(options.contains("nosuid"), "{line}");
            assert!(point.starts_with("/dev/") || options.contains("nodev"), "{line}");
            let writable = ["/workspace", "/mnt", "/tmp", "/home/agent", "/root"];
            if !point.starts_with("/dev/") {
                let is_writable = writable.contains(&point);
                assert_eq!(options.split(',').any(|one| one == "rw"), is_writable, "{line}");
            }
            // The kernel tells where in its file system a mount begins. That path is a name, and
            // opens nothing: the files of the host are tried elsewhere.
            if writable.contains(&point) {
                assert!(root.contains(&session.name) || root.starts_with('/'), "{line}");
            }
        }
        assert!(bound > 5, "{text}");
        session.delete();
    }

    /// The environment of tools, of the helper and of everything that can be seen is made, not taken.
    #[test]
    fn the_environment_holds_nothing_of_the_servers(user: User) {
        let driver = driver::shared(user);
        let session = driver.session();
        let text = session.bash("env -0 | tr '\\0' '\\n'").fine();
        let named: Vec<&str> = text.lines()
            .filter_map(|line| line.split_once('=').map(|(name, _)| name)).collect();
        assert!(named.contains(&"PATH"), "{text}");
        let more: Vec<_> = named.iter().filter(|name| !VARIABLES.contains(name)).collect();
        assert!(more.is_empty(), "{more:?}");
        let text = session.bash("cat /proc/*/environ /proc/*/task/*/environ 2>/dev/null | \
            tr '\\0' '\\n'; grep -rls canary-of-the-servers /proc/[0-9]*/cmdline; true").fine();
        assert!(text.contains("PATH="), "{text}");
        assert!(!text.contains(SECRET), "{text}");
        // The control: the server has it. Nothing that it has started does.
        if user.becomes().is_none() {
            let of = |pid: u32| std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let has = |pid: u32| of(pid).windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
            assert!(has(driver.pid()));
            let below = place::descendants(driver.pid());
            assert!(below.len() >= 2, "{below:?}");
            assert!(!below.iter().any(|pid| has(*pid)), "{below:?}");
        }
        session.delete();
    }

    /// A child of the shell has its three descriptors and nothing else.
    #[test]
    fn no_descriptor_is_left_open(user: User) {
        let session = driver::shared(user).session();
        let text = session.bash("python3 -c 'import os; print(sorted(os.listdir(\"/proc/self/fd\")))' \
            2>/dev/null || ls -1 /proc/self/fd").fine();
        // The fourth is the listing's own.
        let count = text.matches(|letter: char| letter.is_ascii_digit()).count();
        assert!((3..=4).contains(&count), "{text}");
        let text = session.bash("ls -l /proc/self/fd /proc/$$/fd").fine();
        assert!(!text.contains("journal"), "{text}");
        let folder = driver::shared(user).folder.display().to_string();
        assert!(!text.contains(&folder), "{text}");
        session.delete();
    }

    /// What the driver tells of a cage is what is in force.
    #[test]
    fn the_report_says_what_is_in_force(user: User) {
        let session = driver::shared(user).session();
        let text = session.bash("grep -E '^(Seccomp|NoNewPrivs|CapEff)' /proc/self/status; \
            cat /proc/self/uid_map").fine();
        let live = session.live().expect("it is live");
        let isolation = &live["isolation"];
        assert_eq!(isolation["technology"], "namespaces", "{live}");
        assert_eq!(isolation["seccomp"], json!(text.contains("Seccomp:\t2")), "{text} {live}");
        let map: Vec<u64> = text.lines().last().unwrap().split_whitespace()
            .filter_map(|word| word.parse().ok()).collect();
        let own = isolation["own_ids"] == true;
        assert_eq!(own, map.last() > Some(&1), "{text} {live}");
        assert_eq!(own, user == crate::place::User::Root, "{live}");
        assert!(map[1] != 0, "the host's root is in the map: {text}");
        let levels = ["cgroup_v2", "cgroup_v1", "rlimits"];
        let level = isolation["limits"].as_str().unwrap_or_default();
        assert!(levels.contains(&level), "{live}");
        let counted = live["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0);
        assert_eq!(counted, level != "rlimits", "{live}");
        let pid = live["pid"].as_u64().unwrap();
        let host = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(host.contains("Seccomp:\t2") && host.contains("NoNewPrivs:\t1"), "{host}");
        let users: Vec<&str> = host.lines().find(|line| line.starts_with("Uid:")).unwrap()
            .split_whitespace().skip(1).collect();
        assert!(!users.contains(&"0"), "{host}");
        session.delete();
    }
}
