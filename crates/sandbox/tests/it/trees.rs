//! A tree that an attacker has prepared for the next start: whatever stands where, the cage starts,
//! and nothing outside of the tree is made, changed or deleted.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::{
    driver::{self, for_both},
    place::{self, canary},
};

/// Run before the cage is gone. `HOST` is a folder of the host.
const PREPARED: &[&str] = &[
    "rm -rf /workspace/* && touch /workspace/f && chmod 000 /workspace",
    "rm -rf /mnt/session/outputs && ln -s HOST /mnt/session/outputs",
    "mv /mnt/session /mnt/old; ln -s HOST /mnt/session",
    "mv /mnt/session /mnt/old; echo file > /mnt/session",
    "mv /mnt/session /mnt/old; mkfifo /mnt/session",
    "mv /mnt/session /mnt/old; ln -s / /mnt/session",
    "mv /mnt/session /mnt/old; mkdir -p /mnt/session; ln -s HOST /mnt/session/uploads",
    "mv /mnt/session /mnt/old; mkdir -p /mnt/session; ln -s /etc /mnt/session/uploads",
    "mv /mnt/session /mnt/old; mkdir -m 000 /mnt/session",
    "mv /mnt/session /mnt/old; ln -s session /mnt/session",
    "chmod 000 /tmp /home/agent /root /mnt; true",
    "mkdir -p /tmp/tool-results; rm -rf /tmp/tool-results; ln -s HOST /tmp/tool-results",
    "ln -s HOST/made /home/agent/.bashrc; ln -s HOST /home/agent/.config; true",
    "cd /workspace; for i in $(seq 100); do mkdir d; cd d; done; chmod 000 /workspace/d",
    "echo 'exit 3' > ~/.bashrc; echo 'exit 3' > ~/.profile; echo 'exit 3' > ~/.bash_profile",
];

for_both! {
    /// The next start works and touches nothing outside.
    #[test]
    fn a_prepared_tree_does_no_harm(user: User) {
        let driver = driver::shared(user);
        for prepared in PREPARED {
            let host = place::folder(user, "prepared");
            let kept = host.join("kept");
            fs::write(&kept, "untouched").unwrap();
            let about = |path: &std::path::Path| {
                let about = fs::metadata(path).unwrap();
                (about.mode(), about.uid(), about.mtime_nsec(), about.ctime_nsec())
            };
            let before = (about(&host), about(&kept));
            let source = place::host_file(user, "an upload");
            let session = driver.session().mount("/mnt/session/uploads/given.txt", &source);
            session.bash(&prepared.replace("HOST", &host.display().to_string()));
            session.kill();
            let said = session.bash("cat /mnt/session/uploads/given.txt; \
                echo x > /mnt/session/outputs/made && echo x > /workspace/made && echo works");
            assert!(said.text.contains("an upload"), "{prepared}: {said:?}");
            assert!(said.text.contains("works"), "{prepared}: {said:?}");
            let listed = session.outputs();
            assert!(listed.iter().any(|(path, _)| path.ends_with("made")), "{prepared}: {listed:?}");
            session.kill();
            session.delete();
            assert_eq!((about(&host), about(&kept)), before, "{prepared}");
            assert_eq!(fs::read_to_string(&kept).unwrap(), "untouched", "{prepared}");
            assert_eq!(fs::read_dir(&host).unwrap().count(), 1, "{prepared}");
        }
    }

    /// A tree that can hardly be deleted is deleted, and nothing that it points to.
    #[test]
    fn a_stubborn_tree_is_deleted(user: User) {
        let driver = driver::shared(user);
        let session = driver.session();
        let host = place::folder(user, "stubborn");
        let secret = canary("kept");
        fs::write(host.join(&secret), "x").unwrap();
        let host = host.display();
        session.bash(&format!("cd /workspace && ln -s '{host}' link && mkdir -p a/b && \
            touch a/b/f && chmod 000 a/b a && mkdir many && cd many && seq 3000 | xargs touch && \
            cd .. && python3 -c '
import os
for i in range(1500): os.mkdir(\"d\"); os.chdir(\"d\")' ; mkfifo pipe; \
            touch $'odd\\nname' $'\\xff'; chattr +i a 2>/dev/null; chmod 000 /workspace; true"));
        session.delete();
        let left: Vec<_> = place::below(&driver.folder).into_iter()
            .filter(|path| path.to_string_lossy().contains(&session.name)).collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(std::path::Path::new(&format!("{host}/{secret}")).is_file());
    }

    /// A name of a session is a name, never a way.
    #[test]
    fn a_session_is_no_path(user: User) {
        let driver = driver::shared(user);
        let kept = place::host_file(user, "kept");
        let up = format!("../../{}", kept.parent().unwrap().file_name().unwrap().display());
        for name in ["..", ".", "", "a/b", "../x", "/tmp/x", ".etc", ".live", "a\u{0}b", &up] {
            let session = driver.session_named(name, driver::next_number());
            let said = session.bash("echo inside");
            assert!(said.failed.is_some(), "{name:?}: {said:?}");
            driver.ask(&serde_json::json!({"do": "delete", "session": name}), "deleted");
        }
        assert!(kept.is_file() && driver.folder.is_dir());
        let session = driver.session();
        session.bash("echo still").fine();
        session.delete();
    }
}
