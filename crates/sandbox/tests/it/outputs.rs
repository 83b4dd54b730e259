//! Looking at what tools have put out: whatever stands there, nothing outside is seen or opened,
//! and nothing is waited for.

use serde_json::json;

use crate::{
    driver::{self, for_both},
    place::{self, canary},
};

const OUTPUTS: &str = "/mnt/session/outputs";

for_both! {
    /// Files are listed; links, pipes, sockets and devices are not.
    #[test]
    fn files_are_listed_and_nothing_else(user: User) {
        let driver = driver::shared(user);
        let session = driver.session();
        let secret = canary("linked");
        let host = place::host_file(user, &secret);
        session.bash(&format!("cd {OUTPUTS} && echo fine > fine.txt && mkdir -p a/b && \
            echo deep > a/b/deep.txt && ln -s /etc/shadow shadow && ln -s '{}' host && \
            ln -s / root && ln -s ../../.. up && ln -s {OUTPUTS} loop && ln -s a folder-link && \
            mkfifo pipe && ln fine.txt hard && \
            python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'; true",
            host.display())).fine();
        let mut listed = session.outputs();
        listed.sort();
        let names: Vec<&str> = listed.iter().map(|(path, _)| path.as_str()).collect();
        let end = |name: &str| names.iter().any(|path| path.ends_with(name));
        assert!(end("fine.txt") && end("deep.txt") && end("hard"), "{names:?}");
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(listed.iter().all(|(_, size)| *size == 5), "{listed:?}");
        session.delete();
    }

    /// Names may hold anything but a slash and a zero.
    #[test]
    fn names_of_any_bytes_are_listed(user: User) {
        let session = driver::shared(user).session();
        session.bash(&format!("cd {OUTPUTS} && touch $'line\\nbreak' $'not\\xff utf8' -- '-rf' \
            ' ' '...' $'\\033[31mred' 'quote\"back\\slash' \"$(printf 'x%.0s' $(seq 255))\"")).fine();
        let listed = session.outputs();
        assert_eq!(listed.len(), 8, "{listed:?}");
        assert!(listed.iter().any(|(path, _)| path.contains("line\nbreak")), "{listed:?}");
        session.delete();
    }

    /// Ten thousand files and folders within folders end, and so does the listing.
    #[test]
    fn many_and_deep_are_bounded(user: User) {
        let session = driver::shared(user).session();
        session.bash(&format!("cd {OUTPUTS} && seq -f 'f%g' 8000 | xargs touch && \
            d=.; for i in $(seq 100); do d=$d/d; mkdir $d; done; touch $d/deep")).fine();
        let listed = session.outputs();
        assert!(!listed.is_empty() && listed.len() <= 10_000, "{}", listed.len());
        assert!(listed.iter().any(|(path, _)| path.ends_with("f1")));
        session.bash("echo ok").fine();
        session.delete();
    }

    /// A folder that becomes a link and back while it is listed shows nothing of where it leads.
    #[test]
    fn a_folder_swapped_for_a_link_shows_nothing(user: User) {
        let driver = driver::shared(user);
        let session = driver.session();
        let secret = canary("swapped");
        let host = place::host_file(user, &secret);
        std::fs::write(host.with_file_name(&secret), "x").unwrap();
        let outside = host.parent().unwrap().display();
        session.bash(&format!("cd {OUTPUTS} && mkdir real && touch real/inside && cat > /tmp/swap.py \
            <<'END'\nimport os, time\nos.chdir('{OUTPUTS}')\nos.symlink('{outside}', 'link')\n\
            end = time.time() + 4\nwhile time.time() < end:\n    os.rename('real', 'kept'); \
            os.rename('link', 'real'); os.rename('real', 'link'); os.rename('kept', 'real')\nEND\n\
            python3 /tmp/swap.py > /tmp/swap.log 2>&1 &")).fine();
        let (mut seen, mut rounds) = (0, 0);
        for _ in 0..300 {
            let listed = session.outputs();
            rounds += 1;
            let leaked = listed.iter().any(|(path, _)| path.contains(&secret) || path.ends_with("file.txt"));
            assert!(!leaked, "{listed:?}");
            seen += usize::from(listed.iter().any(|(path, _)| path.ends_with("inside")));
        }
        assert!(seen > 0, "in {rounds} rounds the folder itself was never seen");
        assert_eq!(session.bash("cat /tmp/swap.log").text.trim().trim_matches(['(', ')']), "no output");
        session.delete();
    }

    /// The outputs themselves may be anything: a link, a file, a pipe, nothing, closed.
    #[test]
    fn outputs_that_are_no_folder_are_empty(user: User) {
        let driver = driver::shared(user);
        let secret = canary("replaced");
        let host = place::host_file(user, &secret);
        let target = host.parent().unwrap().display().to_string();
        for replace in [
            format!("ln -s '{target}' outputs"), "ln -s / outputs".into(), "mkfifo outputs".into(),
            "echo x > outputs".into(), "true".into(), "mkdir -m 000 outputs".into(),
            "ln -s outputs outputs".into(),
            format!("rm -rf /mnt/session 2>/dev/null; ln -s '{target}' /mnt/session"),
        ] {
            let session = driver.session();
            session.bash(&format!("cd /mnt/session && rm -rf outputs && {{ {replace}; }}; true")).fine();
            let question = json!({"do": "outputs", "session": session.name});
            let answer = driver.ask(&question, "outputs");
            let listed = answer["outputs"].as_array().map_or(0, Vec::len);
            assert_eq!(listed, 0, "{replace}: {answer}");
            assert!(!answer.to_string().contains(&secret), "{answer}");
            session.delete();
        }
        assert!(host.is_file(), "a file of the host's was deleted with a session");
    }
}
