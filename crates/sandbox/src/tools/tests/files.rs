//! `read`, `write` and `edit`: contents, and trees that were laid out as traps.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::{PermissionsExt, symlink},
    os::unix::net::UnixListener,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;

fn read(path: &str) -> Value {
    json!({ "file_path": path })
}

fn range(path: &str, first: i64, last: i64) -> Value {
    json!({ "file_path": path, "view_range": [first, last] })
}

fn write(path: &str, content: &str) -> Value {
    json!({ "file_path": path, "content": content })
}

fn edit(path: &str, old: &str, new: &str) -> Value {
    json!({ "file_path": path, "old_string": old, "new_string": new })
}

fn fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn text_has_numbered_lines() {
    let bench = Bench::new();
    bench.put("a.txt", "one\ntwo\r\n\nf\u{fc}nf");
    let whole = "1\tone\n2\ttwo\r\n3\t\n4\tf\u{fc}nf";
    assert_eq!(bench.text("read", read("a.txt")), whole);
    assert_eq!(bench.text("read", read("/workspace/a.txt")), whole);
    let host = bench.at("a.txt").to_string_lossy().into_owned();
    assert_eq!(bench.text("read", read(&host)), whole);
    bench.put("ended.txt", "one\n");
    assert_eq!(bench.text("read", read("ended.txt")), "1\tone");
    bench.put("empty.txt", "");
    assert_eq!(bench.text("read", read("empty.txt")), "(the file is empty)");
    bench.put("newline.txt", "\n");
    assert_eq!(bench.text("read", read("newline.txt")), "1\t");
}

#[test]
fn a_range_picks_lines() {
    let bench = Bench::new();
    bench.put("a", "1\n2\n3\n4\n5\n");
    for (first, last, expected) in [
        (2, 3, "2\t2\n3\t3"),
        (4, 0, "4\t4\n5\t5"),
        (4, -1, "4\t4\n5\t5"),
        (5, 99, "5\t5"),
        (1, 1, "1\t1"),
    ] {
        assert_eq!(bench.text("read", range("a", first, last)), expected);
    }
    for (first, last, expected) in [
        (0, 3, "view_range: begins with 0; lines are counted from 1"),
        (6, 0, "view_range: begins with 6; a has 5 lines"),
        (
            3,
            2,
            "view_range: ends with 2, before it begins with 3; the last line is to be 3 or more, or 0 for the end",
        ),
    ] {
        assert_eq!(bench.error("read", range("a", first, last)), expected);
    }
    assert!(
        bench
            .run("read", json!({ "file_path": "a", "view_range": [1.0, 2.0] }))
            .content
            .to_string()
            .contains("2")
    );
}

#[test]
fn long_files_ask_for_a_range() {
    let bench = Bench::new();
    let line = "x".repeat(99) + "\n";
    bench.put("long", line.repeat(50_000));
    let text = bench.error("read", read("long"));
    assert_eq!(
        text,
        "long: The file has more than 256 KiB; read a part of it with view_range, as in [1, 200]"
    );
    let text = bench.text("read", range("long", 49_999, 0));
    assert_eq!(text, format!("49999\t{0}\n50000\t{0}", "x".repeat(99)));
    assert!(bench.error("read", range("long", 1, 49_000)).contains("This range has more than"));
    // A long line is cut inside of no character.
    bench.put("wide", format!("a{}\nend", "\u{fc}".repeat(1 << 20)));
    let text = bench.text("read", read("wide"));
    assert!(text.len() < 20 << 10);
    assert!(text.ends_with(" more bytes in this line]\n2\tend"));
    // More than fits, but less than the cap: spilled.
    bench.put("spilled", line.repeat(1500));
    let text = bench.text("read", read("spilled"));
    let path = bench.root().join("tmp/tool-results/call_1.txt");
    let begin = format!("[This result has 156392 characters; all of it is in {}.", path.display());
    assert!(text.starts_with(&begin), "{}", &text[..200]);
    // The path that was named can be read.
    assert!(bench.text("read", range(&path.to_string_lossy(), 1, 1)).starts_with("1\t1\txx"));
    let kept = fs::read_to_string(bench.root().join("tmp/tool-results/call_1.txt")).unwrap();
    assert_eq!(kept.len(), 156_392);
    assert!(text.ends_with(&kept[kept.len() - 20_000..]));
}

#[test]
fn spilled_files_stay_in_their_folder() {
    let bench = Bench::new();
    bench.put("a", ("x".repeat(99) + "\n").repeat(1500));
    let stop = Stop::new().unwrap();
    let outcome = bench.tools.run("../../workspace/a", "read", &read("a"), &stop);
    assert!(words(&outcome).contains("/tmp/tool-results/______workspace_a.txt"));
    // A folder that leads elsewhere leads into the tree.
    fs::remove_dir_all(bench.root().join("tmp/tool-results")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), bench.root().join("tmp/tool-results")).unwrap();
    let outcome = bench.tools.run("b", "read", &read("a"), &stop);
    assert!(!outcome.is_error);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn images_and_pdf_files_are_blocks() {
    let bench = Bench::new();
    for (bytes, kind, media) in [
        (&b"\x89PNG\r\n\x1a\n\0\0"[..], "image", "image/png"),
        (b"\xff\xd8\xff\xe0", "image", "image/jpeg"),
        (b"GIF89a..", "image", "image/gif"),
        (b"RIFF\0\0\0\0WEBPVP8", "image", "image/webp"),
        (b"%PDF-1.7\n\xff", "document", "application/pdf"),
    ] {
        // The name says nothing.
        bench.put("file.txt", bytes);
        let outcome = bench.run("read", read("file.txt"));
        assert!(!outcome.is_error);
        let source =
            json!({ "type": "base64", "media_type": media, "data": STANDARD.encode(bytes) });
        assert_eq!(outcome.content, json!([{ "type": kind, "source": source }]));
    }
    assert!(bench.error("read", range("file.txt", 1, 2)).contains("is application/pdf, not text"));
    let mut large = b"\x89PNG\r\n\x1a\n".to_vec();
    large.resize((5 << 20) + 1, 0);
    bench.put("large.png", &large);
    assert_eq!(
        bench.error("read", read("large.png")),
        "large.png: has more than 5 MiB, the most that can be read of image/png"
    );
    large.pop();
    bench.put("large.png", &large);
    assert!(!bench.run("read", read("large.png")).is_error);
}

#[test]
fn notebooks_are_readable() {
    let bench = Bench::new();
    let notebook = json!({ "nbformat": 4, "cells": [
        { "cell_type": "markdown", "source": ["# Title\n", "text"] },
        { "cell_type": "code", "source": "print(1)", "outputs": [
            { "output_type": "stream", "text": ["1\n"] },
            { "output_type": "display_data", "data": { "image/png": "AAAA", "text/plain": "<Figure>" } },
            { "output_type": "error", "ename": "E", "evalue": "v", "traceback": ["\u{1b}[31mred\u{1b}[0m"] },
        ] },
    ]});
    bench.put("a.ipynb", notebook.to_string());
    assert_eq!(
        bench.text("read", read("a.ipynb")),
        "[cell 0: markdown]\n# Title\ntext\n\n[cell 1: code]\nprint(1)\n[output of cell 1]\n1\n\
         [output of cell 1]\n<Figure>\n(image/png, not shown)\n[output of cell 1]\nred\n\n"
    );
    assert!(bench.text("read", range("a.ipynb", 1, 1)).starts_with("1\t{"));
    for hostile in ["not json".to_owned(), "[".repeat(100_000), "{\"cells\":5}".to_owned()] {
        bench.put("b.ipynb", &hostile);
        assert!(bench.text("read", read("b.ipynb")).starts_with("1\t"));
    }
}

#[test]
fn what_is_no_regular_text_file_is_refused_at_once() {
    let bench = Bench::new();
    fs::create_dir(bench.at("folder")).unwrap();
    fifo(&bench.at("fifo"));
    let _listener = UnixListener::bind(bench.at("socket")).unwrap();
    symlink("loop", bench.at("loop")).unwrap();
    symlink("fifo", bench.at("to-fifo")).unwrap();
    bench.put("binary", b"ELF\0\x01");
    bench.put("latin", b"caf\xe9\n");
    for (name, expected) in [
        ("missing", "missing: no such file or folder"),
        ("binary/x", "binary/x: a part of this path is a file, not a folder"),
        ("folder", "folder: is a folder; a file is needed"),
        ("fifo", "fifo: is a FIFO; a regular file is needed"),
        ("to-fifo", "to-fifo: is a FIFO; a regular file is needed"),
        ("socket", "socket: is no regular file; a regular file is needed"),
        ("loop", "loop: goes through a loop of links, or a link of /proc"),
        ("binary", "binary: is a binary file; text, images and PDF files can be read"),
        ("latin", "latin: is no UTF-8 text; text, images and PDF files can be read"),
    ] {
        assert_eq!(bench.error("read", read(name)), expected);
        if name != "missing" && name != "binary" && name != "latin" {
            let text = bench.error("write", write(name, "x"));
            assert!(text.starts_with(name), "{text}");
            bench.error("edit", edit(name, "a", "b"));
        }
    }
    assert_eq!(fs::read(bench.at("binary")).unwrap(), b"ELF\0\x01");
}

#[test]
fn a_leased_file_is_refused_and_not_waited_for() {
    let bench = Bench::new();
    bench.put("leased", "x");
    let hold = "import fcntl, os, signal, time; signal.signal(signal.SIGIO, signal.SIG_IGN); \
        fd = os.open('leased', os.O_RDWR); fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK); \
        open('held', 'w'); time.sleep(1000)";
    if bench.bash(&format!("type -p python3 || true; python3 -c \"{hold}\" &")) == "(no output)" {
        return;
    }
    eventually("the lease", || bench.at("held").exists());
    let held = "leased: is held by another process of the sandbox";
    assert_eq!(bench.error("read", read("leased")), held);
    assert_eq!(bench.error("edit", edit("leased", "x", "y")), held);
    assert_eq!(bench.error("write", write("leased", "y")), held);
    let text = bench.text("grep", json!({ "pattern": "." }));
    assert_eq!(text, "No matches found\n[1 files could not be read]");
}

#[test]
fn nothing_leaves_the_tree() {
    let bench = Bench::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let secret = outside.path().join("secret");
    symlink(&secret, bench.at("absolute")).unwrap();
    symlink(outside.path(), bench.at("folder")).unwrap();
    let up = "../".repeat(20);
    symlink(format!("{up}{}", secret.display()), bench.at("relative")).unwrap();
    let name = secret.to_string_lossy().into_owned();
    for path in [name.as_str(), &format!("{up}{name}"), "absolute", "folder/secret", "relative"] {
        assert!(bench.error("read", read(path)).contains("no such file"), "{path}");
        bench.error("edit", edit(path, "secret", "x"));
    }
    for path in [name.as_str(), "absolute", "folder/new", "relative", "../../../../../new"] {
        assert!(bench.text("write", write(path, "mine")).starts_with("wrote 4 bytes"));
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(bench.root().join("new")).unwrap(), "mine");
    assert_eq!(bench.text("read", read("absolute")), "1\tmine");
    assert_eq!(bench.text("glob", json!({ "pattern": "secret", "path": "/" })).lines().count(), 1);
}

/// As in a cage, where the root is all there is. Nothing outside of a temporary folder is
/// written.
#[test]
fn this_process_is_closed_to_its_own_tools() {
    let bench = Bench::with(|workplace| workplace.root = None);
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "secret").unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(secret.as_file());
    let pid = std::process::id();
    // The control: the way is open but for the tools' own care.
    assert_eq!(fs::read_to_string(format!("/proc/self/fd/{number}")).unwrap(), "secret");
    for path in [
        format!("/proc/self/fd/{number}"),
        format!("/dev/fd/{number}"),
        format!("/proc/{pid}/fd/{number}"),
        format!("/proc/self/root{}", secret.path().display()),
        "/proc/self/environ".to_owned(),
        "/proc/self/maps".to_owned(),
        "/proc/thread-self/maps".to_owned(),
        format!("/proc/{pid}/task/{pid}/environ"),
    ] {
        let text = bench.error("read", read(&path));
        assert!(
            text.contains("a link of /proc") || text.contains("belongs to the sandbox itself"),
            "{text}"
        );
        bench.error("grep", json!({ "pattern": ".", "path": path }));
    }
    let path = format!("/proc/self/fd/{number}");
    bench.error("write", write(&path, "forged"));
    bench.error("edit", edit(&path, "secret", "forged"));
    bench.error("write", write(&format!("/proc/{pid}/comm"), "forged"));
    bench.error("write", write("/proc/self/comm", "forged"));
    assert_eq!(fs::read_to_string(secret.path()).unwrap(), "secret");
    bench.error("grep", json!({ "pattern": ".", "path": "/proc/self" }));
    bench.error("glob", json!({ "pattern": "*", "path": "/proc/self/fd" }));
    // Other files of /proc may be read.
    assert!(bench.text("read", read("/proc/version")).starts_with("1\tLinux"));
}

#[test]
fn write_makes_folders_and_replaces() {
    let bench = Bench::new();
    assert_eq!(bench.text("write", write("a/b/c.txt", "h\u{fc}")), "wrote 3 bytes to a/b/c.txt");
    assert_eq!(fs::read_to_string(bench.at("a/b/c.txt")).unwrap(), "h\u{fc}");
    fs::set_permissions(bench.at("a/b/c.txt"), fs::Permissions::from_mode(0o751)).unwrap();
    bench.text("write", write("/workspace/a/b/c.txt", ""));
    let about = fs::metadata(bench.at("a/b/c.txt")).unwrap();
    assert_eq!((about.len(), about.permissions().mode() & 0o7777), (0, 0o751));
    symlink("a/b/c.txt", bench.at("link")).unwrap();
    bench.text("write", write("link", "through"));
    assert!(fs::symlink_metadata(bench.at("link")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(bench.at("a/b/c.txt")).unwrap(), "through");
    symlink("new/place", bench.at("dangling")).unwrap();
    bench.text("write", write("dangling", "new"));
    assert_eq!(fs::read_to_string(bench.at("new/place")).unwrap(), "new");
    for path in ["a/", "/", "a/b/..", "."] {
        assert!(bench.error("write", write(path, "x")).contains("folder"), "{path}");
    }
    // No temporary file is left.
    assert_eq!(fs::read_dir(bench.at("a/b")).unwrap().count(), 1);
}

#[test]
fn a_full_disk_leaves_the_old_file_whole() {
    let bench = Bench::new();
    bench.put("a", "old");
    let mut open = fs::File::open(bench.at("a")).unwrap();
    // What a reader has open is the old file: the new one has taken its name in one step.
    bench.text("write", write("a", "new and longer"));
    let mut old = String::new();
    open.read_to_string(&mut old).unwrap();
    assert_eq!(old, "old");
    // /dev/full stands in for a full disk where no limit can be set: a folder without room.
    let small = "unshare --user --map-root-user --mount sh -c \
        'mount -t tmpfs -o size=64k none /mnt && echo old >/mnt/a && exec \"$0\" tools::tests::files::inside_a_full_disk --exact'";
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("{small} \"$TEST\"")])
        .env("TEST", std::env::current_exe().unwrap())
        .env("POSTHOUSE_TEST_FULL_DISK", "/mnt")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let forbidden = errors.contains("unshare") || errors.contains("mount:");
    assert!(
        output.status.success() || forbidden,
        "{}{errors}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// What the test above runs where `/mnt` is a very small disk.
#[test]
fn inside_a_full_disk() {
    let Some(disk) = std::env::var_os("POSTHOUSE_TEST_FULL_DISK") else { return };
    let bench = Bench::with(|workplace| workplace.root = Some(disk.into()));
    let text = bench.error("write", write("/a", &"x".repeat(1 << 20)));
    assert_eq!(text, "/a: no space is left in the sandbox");
    assert_eq!(bench.text("read", read("/a")), "1\told");
    assert_eq!(bench.text("glob", json!({ "pattern": "*", "path": "/" })), "/a");
}

#[test]
fn edit_replaces_what_is_unique() {
    let bench = Bench::new();
    bench.put("a", "one\r\ntwo\r\none more\r\n");
    fs::set_permissions(bench.at("a"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(bench.error("edit", edit("a", "none", "x")), "old_string: not found in a");
    assert_eq!(
        bench.error("edit", edit("a", "one", "x")),
        "old_string: appears 2 times in a (must be unique); add lines around it, or set replace_all"
    );
    assert_eq!(
        bench.error("edit", edit("a", "one\ntwo", "x")),
        "old_string: not found in a; its lines end with \\r\\n, and old_string's with \\n"
    );
    assert_eq!(
        bench.error("edit", edit("a", "two", "two")),
        "new_string: the same as old_string; there is nothing to replace"
    );
    assert_eq!(bench.text("edit", edit("a", "two", "2 $1 \\n")), "edited a (1 replacement(s))");
    assert_eq!(
        bench.text(
            "edit",
            json!({ "file_path": "a", "old_string": "one", "new_string": "1", "replace_all": true })
        ),
        "edited a (2 replacement(s))"
    );
    assert_eq!(fs::read_to_string(bench.at("a")).unwrap(), "1\r\n2 $1 \\n\r\n1 more\r\n");
    assert_eq!(fs::metadata(bench.at("a")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(
        bench.text("edit", edit("a", "1\r\n2 $1 \\n\r\n", "")),
        "edited a (1 replacement(s))"
    );
    assert_eq!(fs::read_to_string(bench.at("a")).unwrap(), "1 more\r\n");
    bench.put("b", "aaa");
    assert!(bench.error("edit", edit("b", "aa", "x")).contains("appears 2 times"));
    bench.put("c", b"\xff a");
    assert!(bench.error("edit", edit("c", "a", "b")).contains("no UTF-8 text"));
    assert_eq!(fs::read(bench.at("c")).unwrap(), b"\xff a");
}

#[test]
fn edits_at_the_same_time_do_not_lose_each_other() {
    let bench = Bench::new();
    bench.put("a", (0..40).map(|number| format!("<{number}>\n")).collect::<String>());
    let threads: Vec<_> = (0..40)
        .map(|number| {
            let tools = Arc::clone(&bench.tools);
            std::thread::spawn(move || {
                let input = edit("a", &format!("<{number}>"), &format!("({number})"));
                tools.run("call", "edit", &input, &Stop::new().unwrap())
            })
        })
        .collect();
    assert!(threads.into_iter().all(|thread| !thread.join().unwrap().is_error));
    let expected: String = (0..40).map(|number| format!("({number})\n")).collect();
    assert_eq!(fs::read_to_string(bench.at("a")).unwrap(), expected);
}
