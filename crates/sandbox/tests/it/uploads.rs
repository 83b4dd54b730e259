//! Files that the user gives: read by the agent, changed by nobody.

use std::fs;

use crate::{
    driver::{self, for_both},
    place::{self, canary},
};

const GIVEN: &str = "/mnt/session/uploads/given.txt";

for_both! {
    /// Every way to change, replace, remove or keep a writable hand on an upload is closed.
    #[test]
    fn uploads_are_read_only(user: User) {
        let word = canary("upload");
        let source = place::host_file(user, &word);
        let session = driver::shared(user).session().mount(GIVEN, &source);
        // The control: it can be read, and a copy of one's own can be changed.
        assert_eq!(session.bash(&format!("cat {GIVEN}")).fine().trim(), word);
        session.bash(&format!("cp {GIVEN} /workspace/copy && chmod 600 /workspace/copy && \
            echo x >> /workspace/copy")).fine();
        for attempt in [
            "echo x > GIVEN", "echo x >> GIVEN", "truncate -s 0 GIVEN", "rm -f GIVEN && ! ls GIVEN",
            "chmod 777 GIVEN", "chown 1000 GIVEN", "touch -d 2001-01-01 GIVEN",
            "mv GIVEN /workspace/moved", "mv /workspace/copy GIVEN", "ln GIVEN /workspace/hard",
            "ln -sf /etc/passwd GIVEN", "touch /mnt/session/uploads/new", "mkdir /mnt/session/uploads/d",
            "rmdir /mnt/session/uploads", "mv /mnt/session/uploads /mnt/session/old",
            "mount -o remount,rw /mnt/session/uploads", "umount /mnt/session/uploads",
            "umount -l /mnt/session/uploads", "setfattr -n user.x -v x GIVEN",
            "dd if=/dev/zero of=GIVEN bs=1 count=1 conv=notrunc", "fallocate -l 10 GIVEN",
            "python3 -c 'import os; fd = os.open(\"GIVEN\", os.O_RDONLY); \
                open(f\"/proc/self/fd/{fd}\", \"w\")'",
            "python3 -c 'import os; os.fchmod(os.open(\"GIVEN\", os.O_RDONLY), 0o777)'",
            "python3 -c 'import os, mmap; fd = os.open(\"GIVEN\", os.O_RDONLY); \
                m = mmap.mmap(fd, 4, mmap.MAP_SHARED, mmap.PROT_WRITE); m[0:1] = b\"X\"'",
        ] {
            let said = session.bash(&attempt.replace("GIVEN", GIVEN));
            assert!(said.is_error, "{attempt}: {said:?}");
            assert_eq!(fs::read_to_string(&source).unwrap(), word, "{attempt}");
            assert_eq!(session.bash(&format!("cat {GIVEN}")).fine().trim(), word, "{attempt}");
        }
        for (tool, input) in [
            ("write", serde_json::json!({"file_path": GIVEN, "content": "x"})),
            ("edit", serde_json::json!({"file_path": GIVEN, "old_string": "canary", "new_string": "x"})),
        ] {
            assert!(session.call(tool, &input).is_error, "{tool}");
        }
        session.delete();
        assert_eq!(fs::read_to_string(&source).unwrap(), word, "deleted with its session");
    }

    /// Mounts come and go while a cage is live, and lead nowhere but to the uploads.
    #[test]
    fn mounts_stay_in_their_place(user: User) {
        let driver = driver::shared(user);
        let word = canary("mount");
        let source = place::host_file(user, &word);
        let session = driver.session();
        session.bash("true").fine();
        let mounts = |paths: &[&str]| {
            let mounts: Vec<_> = paths.iter()
                .map(|path| serde_json::json!({"path": path, "source": source})).collect();
            driver.ask(&serde_json::json!({
                "do": "mounts", "session": session.name, "mounts": mounts,
            }), "mounted")
        };
        assert_eq!(mounts(&[GIVEN])["mounted"], true);
        assert_eq!(session.bash(&format!("cat {GIVEN}")).fine().trim(), word);
        mounts(&["/mnt/session/uploads/../../../workspace/out", "/etc/passwd", "/workspace/out",
            "/mnt/session/uploads/../outputs/out", "/mnt/session/uploads/.."]);
        let said = session.bash("ls /workspace /mnt/session/outputs; cat /etc/passwd").fine();
        assert!(!said.contains("out\n") && !said.contains(&word), "{said}");
        mounts(&[]);
        assert!(session.bash(&format!("cat {GIVEN}")).is_error);
        session.delete();
        assert_eq!(fs::read_to_string(&source).unwrap(), word);
    }
}
