//! `posthouse run` on a terminal: a pseudo-terminal of the test's own stands in for one.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use posthouse_testkit::{Reply, Script, ScriptedModel};
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use serde_json::json;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// A program on a terminal.
struct Terminal {
    child: Child,
    keys: File,
    pieces: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    fn start(command: &mut Command) -> Self {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keys).unwrap();
        unlockpt(&keys).unwrap();
        let name = ptsname(&keys, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let screen: OwnedFd = open(name.as_c_str(), flags, Mode::empty()).unwrap();
        let size = Winsize { ws_row: 24, ws_col: 40, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&screen, size).unwrap();
        let copy = || Stdio::from(screen.try_clone().unwrap());
        let child = command.stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap();
        // What the command keeps for another start would hold the terminal open.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let keys = File::from(keys);
        let mut reader = keys.try_clone().unwrap();
        let (sender, pieces) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // A terminal that nobody holds open any more reads as an error.
            while let Ok(length) = reader.read(&mut buffer) {
                if length == 0 || sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, pieces, seen: String::new() }
    }

    /// Waits until the screen has shown something.
    fn wait_for(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let piece = self.pieces.recv_timeout(PATIENCE);
            let piece = piece.unwrap_or_else(|error| panic!("{error}: {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&piece));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// The exit code, and everything that the screen has shown.
    fn end(mut self) -> (i32, String) {
        while let Ok(piece) = self.pieces.recv_timeout(PATIENCE) {
            self.seen.push_str(&String::from_utf8_lossy(&piece));
        }
        (self.child.wait().unwrap().code().unwrap(), std::mem::take(&mut self.seen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that has ended needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(folder: &TempDir, model: &ScriptedModel) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthouse"));
    command
        .env_clear()
        .env("HOME", folder.path())
        .env("TERM", "xterm")
        .env("ANTHROPIC_API_KEY", "k")
        .env("ANTHROPIC_BASE_URL", model.url())
        .arg("run");
    command
}

fn asking(folder: &TempDir) -> String {
    let path = folder.path().join("asking.yaml");
    let agent = "name: Asking\nmodel: claude-sonnet-5\ntools:\n- type: agent_toolset_20260401\n  \
                 default_config: {permission_policy: {type: always_ask}}\n";
    std::fs::write(&path, agent).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_shown_what_happens_and_asked() {
    let folder = TempDir::new().unwrap();
    let model = ScriptedModel::start(Script::of([
        Reply::text("Let me \u{1b}]52;c;eA==\u{7}see.")
            .and_tool_use("bash", json!({ "command": format!("rm -rf {}", "x".repeat(60)) }))
            .when_user_says("tidy"),
        Reply::text("Then not.").in_chunks(3, Duration::ZERO).when_result_of("bash"),
    ]))
    .await;
    let mut terminal =
        Terminal::start(command(&folder, &model).args(["--agent", &asking(&folder), "tidy up"]));
    terminal.wait_for("allow? [y/N/reason] ");
    terminal.press("rather not\n");
    let (code, shown) = tokio::task::spawn_blocking(move || terminal.end()).await.unwrap();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("Let me \u{fffd}]52;c;eA==\u{fffd}see.\r\n"), "{shown:?}");
    let call = format!("\u{1b}[1m▸ bash\u{1b}[0m  rm -rf {}…\r\n", "x".repeat(24));
    assert_eq!(shown.matches(&call).count(), 1, "{shown:?}");
    // Who is asked sees all of it.
    assert!(shown.contains(&format!("rm -rf {}\r\nallow? ", "x".repeat(60))), "{shown:?}");
    assert!(shown.contains("failed: "), "{shown:?}");
    assert!(shown.contains("Then not.\r\n"), "{shown:?}");
    // One dim line at the end, with how to go on.
    let last = shown.trim_end().lines().last().unwrap();
    assert!(last.starts_with("\u{1b}[2msesn_") && last.ends_with("\u{1b}[0m"), "{last:?}");
    assert!(last.contains(" tokens in, ") && last.contains("posthouse run --session sesn_"));
    assert!(last.contains(" · $0."), "{last:?}");
    // Nothing that commands the terminal but colours of our own.
    for piece in shown.split('\u{1b}').skip(1) {
        assert!(piece.starts_with('[') && piece.contains('m'), "{shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_can_be_interrupted_and_colours_refused() {
    let folder = TempDir::new().unwrap();
    let model =
        ScriptedModel::start(Script::of([
            Reply::tool_use("bash", json!({ "command": "ls" })).when_user_says("list")
        ]))
        .await;
    let mut command = command(&folder, &model);
    command.env("NO_COLOR", "1").args(["--agent", &asking(&folder), "list it"]);
    let mut terminal = Terminal::start(&mut command);
    terminal.wait_for("allow? [y/N/reason] ");
    let pid = terminal.child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let (code, shown) = tokio::task::spawn_blocking(move || terminal.end()).await.unwrap();
    assert_eq!(code, 130, "{shown}");
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}
