//! Files that the host has and a cage must not: by their path, by links, by other roots.
//!
//! Each file is put there by the test, and is readable by everybody outside.

use std::fs;

use crate::{
    driver::{self, Driver, for_both},
    place::{self, User},
};

/// Ways around a path: each is put in front of the path of the file.
const WAYS: &[&str] = &[
    "",
    "/..",
    "/../../../..",
    "/proc/1/root",
    "/proc/self/root",
    "/proc/self/cwd/../..",
    "/proc/1/cwd",
    "/proc/thread-self/root",
    "/proc/$$/root",
    "/proc/$PPID/root",
    "/proc/self/task/$$/root",
    "/dev/fd/0/..",
    "/workspace/../..",
    "/mnt/session/uploads/../../..",
    "/usr/..",
    "/etc/..",
    "/proc/self/fd/0/../../..",
    "/tmp/../proc/1/root/..",
];

fn is_closed(driver: &Driver, path: &std::path::Path, secret: &str) {
    // The control: out here it is read.
    assert!(fs::read_to_string(path).unwrap().contains(secret));
    let session = driver.session();
    let path = path.display();
    let mut script = String::from("cd /tmp; ");
    for way in WAYS {
        script.push_str(&format!("cat \"{way}{path}\"; "));
    }
    script.push_str(&format!(
        "ln -s '{path}' link; cat link; ln '{path}' hard; cat hard; cp '{path}' copy; cat copy; \
         for p in /proc/[0-9]*; do cat $p/root'{path}' $p/cwd'{path}'; done; \
         cat /proc/self/mountinfo | head -0; exec 9<'{path}'; cat <&9; true"
    ));
    let said = session.bash(&format!("{{ {script} }} 2>&1"));
    assert!(!said.text.contains(secret), "{}", said.text);
    // The tools of files are no other way.
    for (tool, input) in [
        ("read", serde_json::json!({"file_path": path.to_string()})),
        ("read", serde_json::json!({"file_path": format!("/proc/1/root{path}")})),
        ("read", serde_json::json!({"file_path": "/tmp/link"})),
        ("grep", serde_json::json!({"pattern": "canary", "path": path.to_string()})),
        ("grep", serde_json::json!({"pattern": "canary", "path": "/proc/1/root"})),
    ] {
        let said = session.call(tool, &input);
        assert!(!said.text.contains(secret), "{tool}: {said:?}");
    }
    // The script does find what is there.
    session.bash(&format!("echo {secret} > /tmp/own; cat /proc/self/root/tmp/own")).fine();
    let said = session.bash("cat /proc/self/root/tmp/own /tmp/own").fine();
    assert!(said.contains(secret), "{said}");
    session.delete();
}

for_both! {
    /// A file of the host's that every user may read is read by no path.
    #[test]
    fn a_file_of_the_host_is_read_by_no_path(user: User) {
        let secret = place::canary("host");
        is_closed(driver::shared(user), &place::host_file(user, &secret), &secret);
    }

    /// Folders that a cage has under the same name are not the host's.
    #[test]
    fn folders_with_the_hosts_names_are_not_the_hosts(user: User) {
        let mut kept = Vec::new();
        for folder in ["/root", "/home", "/var/tmp", "/srv", "/opt", "/tmp", "/mnt", "/run"] {
            let secret = place::canary("folder");
            let file = tempfile::Builder::new().prefix("posthouse-attack").tempfile_in(folder);
            let Ok(file) = file else {
                println!("{folder}: these tests may not put a file there");
                continue;
            };
            fs::write(file.path(), &secret).unwrap();
            kept.push((file, secret));
        }
        assert!(!kept.is_empty());
        let session = driver::shared(user).session();
        for (file, secret) in &kept {
            let path = file.path().display();
            let said = session.bash(&format!("cat '{path}' '/proc/1/root{path}' 2>&1; \
                find / -xdev -name 'posthouse-attack*' 2>/dev/null"));
            assert!(!said.text.contains(secret.as_str()), "{said:?}");
            assert!(!said.text.lines().any(|line| line == path.to_string()), "{said:?}");
        }
        session.delete();
    }

    /// The folder of the server's data, other sessions and the journal included, is not there.
    #[test]
    fn the_data_folder_is_not_there(user: User) {
        let driver = driver::shared(user);
        let neighbour = driver.session();
        let secret = place::canary("neighbour");
        neighbour.bash(&format!("echo {secret} > /workspace/secret.txt")).fine();
        let path = place::below(&driver.folder).into_iter()
            .find(|path| path.to_string_lossy().contains(&neighbour.name)
                && path.ends_with("workspace/secret.txt"))
            .expect("the neighbour's file is in the data folder");
        let session = driver.session();
        let folder = driver.folder.display();
        let said = session.bash(&format!("ls -la '{folder}' 2>&1; cat '{}' 2>&1; \
            find / -name '{}' 2>/dev/null; find / -xdev -name secret.txt 2>/dev/null",
            path.display(), neighbour.name));
        assert!(!said.text.contains(&secret), "{said:?}");
        assert!(!said.text.lines().any(|line| line.starts_with('/')), "{said:?}");
        session.delete();
        neighbour.delete();
    }

    /// What only root may read of the host's own programs stays closed, although a cage of root's
    /// has a root of its own.
    #[test]
    fn what_only_root_may_read_stays_closed(user: User) {
        let session = driver::shared(user).session();
        let said = session.bash("find /usr /bin /sbin /lib /lib64 -xdev ! -perm -o=r -type f \
            2>/dev/null | head -20 | while read -r f; do cat \"$f\" > /dev/null 2>&1 && \
            echo OPEN \"$f\"; done; cat /etc/shadow /etc/gshadow 2>&1; true");
        assert!(!said.text.contains("OPEN"), "{said:?}");
        assert!(!said.text.contains("root:"), "{said:?}");
        // The control, where there is one: root out here reads it.
        if user == User::Root {
            assert!(fs::read_to_string("/etc/shadow").unwrap().contains("root:"));
        }
        session.delete();
    }

    /// A program that runs as whoever owns it is of no use: not inside, where the bit does not
    /// count, and not outside, where nobody else can reach it.
    #[test]
    fn a_set_user_id_file_is_of_no_use(user: User) {
        use std::os::unix::fs::MetadataExt;
        let driver = driver::shared(user);
        let session = driver.session();
        let said = session.bash("cp /usr/bin/id /workspace/id && chmod 6755 /workspace/id && \
            grep -E ' /(workspace|tmp|mnt|home/agent|root) ' /proc/self/mountinfo").fine();
        let writable = said.lines().filter(|line| line.contains(" rw,")).count();
        assert!(writable >= 3, "{said}");
        assert!(said.lines().all(|line| line.contains("nosuid")), "{said}");
        let path = place::below(&driver.folder).into_iter()
            .find(|path| path.ends_with("workspace/id") && path.to_string_lossy().contains(&session.name))
            .unwrap();
        let about = fs::metadata(&path).unwrap();
        assert!(about.uid() != 0, "a file of the host's root was made");
        let closed = path.ancestors().take_while(|one| one.starts_with(&driver.folder)).skip(1)
            .any(|one| fs::metadata(one).unwrap().mode() & 0o007 == 0);
        assert!(closed, "{}", path.display());
        session.delete();
    }

    /// Whoever else has an account on this machine does not see into the data folder.
    #[test]
    fn other_users_see_no_session(user: User) {
        use std::os::unix::fs::PermissionsExt;
        let driver = driver::shared(user);
        let session = driver.session();
        session.bash("echo x > /workspace/f").fine();
        let path = place::below(&driver.folder).into_iter()
            .find(|path| path.ends_with("workspace/f") && path.to_string_lossy().contains(&session.name))
            .unwrap();
        // Some folder on the way down is closed to others.
        let closed = path.ancestors().take_while(|one| one.starts_with(&driver.folder))
            .skip(1)
            .any(|one| fs::metadata(one).unwrap().permissions().mode() & 0o007 == 0);
        assert!(closed, "{}", path.display());
        session.delete();
    }
}
