//! Two sessions of one server: neither sees, hears or disturbs the other.

use std::os::linux::net::SocketAddrExt;

use crate::{
    driver::{self, for_both},
    place::canary,
};

for_both! {
    /// Files, processes, ports, sockets, shared memory, queues: each session has its own.
    #[test]
    fn two_sessions_share_nothing(user: User) {
        let driver = driver::shared(user);
        let (one, other) = (driver.session(), driver.session());
        let secret = canary("session");
        let started = one.bash(&format!(
            "for d in /workspace /tmp /root /home/agent /mnt/session/outputs /dev/shm /run; do \
                echo {secret} > $d/{secret}; done; \
             bash -c 'exec -a {secret} sleep 300' > /dev/null 2>&1 & \
             (python3 -c '
import socket, time
t = socket.socket(); t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
t.bind((\"0.0.0.0\", 4711)); t.listen()
a = socket.socket(socket.AF_UNIX); a.bind(\"\\0{secret}\"); a.listen()
print(\"up\", flush=True)
time.sleep(300)' > /tmp/up 2>&1 &) ; ipcmk -M 4096 -p 0666; ipcmk -Q -p 0666; ipcmk -S 1 -p 0666; \
             for i in $(seq 100); do grep -q up /tmp/up && break; sleep 0.05; done; cat /tmp/up")).fine();
        assert!(started.contains("up"), "{started}");
        let look = format!(
            "ls /workspace /tmp /root /home/agent /mnt/session/outputs /dev/shm /run; \
             cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo; cat /proc/net/unix; ipcs; \
             python3 -c '
import socket
s = socket.socket(); s.settimeout(2)
print(\"tcp\", s.connect_ex((\"127.0.0.1\", 4711)))
s = socket.socket(socket.AF_UNIX)
try: s.connect(\"\\0{}\"); print(\"abstract connected\")
except OSError as error: print(\"abstract\", error.errno)' ", secret.replace("canary", "\"\"canary"));
        // The control: the one that has it all sees it.
        let own = one.bash(&look).fine();
        assert!(own.matches(&secret).count() >= 8, "{own}");
        assert!(own.contains("tcp 0") && own.contains("abstract connected"), "{own}");
        let seen = other.bash(&look).fine();
        let seen: Vec<&str> = seen.lines().filter(|line| !line.contains("python3")).collect();
        let text = seen.join("\n");
        assert!(!text.contains(&secret), "{text}");
        assert!(!text.contains("tcp 0") && !text.contains("abstract connected"), "{text}");
        let queues = text.lines().filter(|line| line.starts_with("0x")).count();
        assert_eq!(queues, 0, "{text}");
        // What has a number has the same number for nobody else.
        let said = other.bash("kill -9 -1");
        drop(said);
        assert!(one.bash("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").fine().contains(&secret));
        one.delete();
        other.delete();
    }

    /// Sockets of the host without a path are out of reach.
    #[test]
    fn sockets_of_the_host_are_out_of_reach(user: User) {
        let name = canary("abstract");
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
        let folder = crate::place::folder(user, "socket");
        let path = folder.join("host.sock");
        let _with_path = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let attempts = [format!("abstract_socket={name}"), format!("unix_socket={}", path.display())];
        let session = driver::shared(user).session().with_probe();
        for attempt in attempts {
            assert!(driver::probe_outside(&attempt).0, "{attempt} is there");
            let (allowed, detail) = session.probe(&attempt);
            assert!(!allowed, "{attempt}: {detail}");
        }
        session.delete();
    }

    /// Processes of the host have no number inside, and inside numbers begin anew.
    #[test]
    fn processes_of_the_host_are_not_seen(user: User) {
        let marker = canary("process");
        let mut child = std::process::Command::new("/bin/bash")
            .args(["-c", &format!("exec -a {marker} sleep 300")]).spawn().unwrap();
        crate::place::eventually("it runs", || !crate::place::processes_with(&marker).is_empty());
        let session = driver::shared(user).session();
        let look = "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'; ls -d /proc/[0-9]* | wc -l; \
            kill -0 PID 2>&1; ls -d /proc/PID 2>&1";
        let said = session.bash(&look.replace("PID", &child.id().to_string()));
        let _ = child.kill();
        let _ = child.wait();
        assert!(!said.text.contains(&marker), "{said:?}");
        let count = said.text.lines().filter_map(|line| line.parse::<u32>().ok()).max();
        assert!(count.is_some_and(|count| count < 12), "{said:?}");
        assert!(said.is_error, "the host's process has a number inside: {said:?}");
        session.delete();
    }
}
