//! Trees as hostile processes make them, and change them while they are looked at.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{fs::PermissionsExt, fs::symlink, net::UnixListener},
    sync::atomic::{AtomicBool, Ordering},
};

use super::*;

const BOUNDS: Bounds = Bounds { entries: 100_000, time: Duration::from_secs(60) };

fn root() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tree");
    fs::create_dir(&path).unwrap();
    (folder, path)
}

fn fifo(path: &Path) {
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

fn names(listing: &Listing) -> BTreeSet<PathBuf> {
    listing.files.iter().map(|entry| entry.path.clone()).collect()
}

#[test]
fn regular_files_are_listed_and_nothing_else() {
    let (folder, path) = root();
    fs::write(folder.path().join("secret"), "s").unwrap();
    fs::create_dir_all(path.join("outputs/a/b")).unwrap();
    fs::write(path.join("outputs/one"), "12345").unwrap();
    fs::write(path.join("outputs/a/b/two"), "1").unwrap();
    fs::write(path.join(OsStr::from_bytes(b"outputs/a/\xff\n")), "").unwrap();
    symlink("../../secret", path.join("outputs/link")).unwrap();
    symlink("..", path.join("outputs/up")).unwrap();
    symlink("/proc/self/root", path.join("outputs/a/root")).unwrap();
    fifo(&path.join("outputs/fifo"));
    let _listener = UnixListener::bind(path.join("outputs/socket")).unwrap();
    let tree = Tree::open(&path).unwrap();
    let listing = tree.files_below(Path::new("outputs"), BOUNDS).unwrap();
    let wanted =
        [&b"one"[..], b"a/b/two", b"a/\xff\n"].map(|n| PathBuf::from(OsStr::from_bytes(n)));
    assert_eq!(names(&listing), wanted.into());
    assert!(!listing.cut);
    let one = listing.files.iter().find(|entry| entry.path == Path::new("one")).unwrap();
    assert_eq!(one.size, 5);
    assert!(one.changed > 0 && one.inode > 0);
    assert!(tree.files_below(Path::new("missing"), BOUNDS).unwrap().files.is_empty());
    for refused in ["outputs/up", "../x", "/etc", "outputs/a/root/etc"] {
        assert!(tree.files_below(Path::new(refused), BOUNDS).is_err(), "{refused}");
    }
}

#[test]
fn only_regular_files_are_opened_and_nothing_blocks() {
    let (folder, path) = root();
    fs::write(folder.path().join("secret"), "s").unwrap();
    fs::create_dir(path.join("a")).unwrap();
    fs::write(path.join("a/file"), "inside").unwrap();
    symlink("file", path.join("a/link")).unwrap();
    symlink("a", path.join("b")).unwrap();
    symlink("/proc/self/fd/0", path.join("magic")).unwrap();
    fifo(&path.join("fifo"));
    let tree = Tree::open(&path).unwrap();
    let file = tree.open_file(Path::new("a/file")).unwrap();
    assert_eq!(io::read_to_string(file).unwrap(), "inside");
    let refused = [
        "a/link",
        "b/file",
        "fifo",
        "magic",
        "a",
        "../secret",
        "/etc/passwd",
        "",
        "a/../a/file",
        "x",
    ];
    for refused in refused {
        assert!(tree.open_file(Path::new(refused)).is_err(), "{refused}");
    }
    // The control: by names alone, they lead there.
    assert!(fs::read(path.join("a/link")).is_ok() && fs::read(path.join("../secret")).is_ok());
}

#[test]
fn bounds_hold() {
    let (_folder, path) = root();
    for number in 0..200 {
        fs::write(path.join(number.to_string()), "").unwrap();
    }
    let tree = Tree::open(&path).unwrap();
    let few = Bounds { entries: 50, ..BOUNDS };
    let listing = tree.files_below(Path::new(""), few).unwrap();
    assert!(listing.cut && listing.files.len() == 50);
    let listing =
        tree.files_below(Path::new(""), Bounds { time: Duration::ZERO, ..BOUNDS }).unwrap();
    assert!(listing.cut && listing.files.len() < 200);
    let deep = path.join(["d"; 100].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "").unwrap();
    let listing = tree.files_below(Path::new(""), BOUNDS).unwrap();
    assert_eq!((listing.files.len(), listing.skipped, listing.cut), (200, 1, false));
}

/// Ends the thread beside a test, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads a tree the way that is wrong.
fn naive(path: &Path, seen: &mut BTreeSet<String>, depth: usize) {
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(found) = entry.metadata() else { continue };
        if found.is_dir() && depth < 4 {
            naive(&path, seen, depth + 1);
        } else if found.is_file() {
            seen.insert(fs::read_to_string(&path).unwrap_or_default());
        }
    }
}

#[test]
fn folders_that_turn_into_links_lead_nowhere() {
    let (folder, path) = root();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "outside").unwrap();
    fs::write(outside.join("treasure"), "outside").unwrap();
    fs::create_dir(path.join("real")).unwrap();
    fs::write(path.join("real/file"), "inside").unwrap();
    symlink(&outside, path.join("false")).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // One name, now a folder and now a link; at no moment is it neither.
            let flags = RenameFlags::EXCHANGE;
            while !over.load(Ordering::Relaxed) {
                let (real, lie) = (path.join("real"), path.join("false"));
                rustix::fs::renameat_with(rustix::fs::CWD, &real, rustix::fs::CWD, &lie, flags)
                    .unwrap();
            }
        });
        let _end = End(&over);
        let mut seen = BTreeSet::new();
        let started = Instant::now();
        while !seen.contains("outside") && started.elapsed() < Duration::from_secs(60) {
            naive(&path, &mut seen, 0);
        }
        let tree = Tree::open(&path).unwrap();
        let mut found = 0;
        for _ in 0..3000 {
            let listing = tree.files_below(Path::new(""), BOUNDS).unwrap();
            for entry in &listing.files {
                assert!(!entry.path.ends_with("treasure"), "{entry:?}");
            }
            for name in ["real/file", "false/file"] {
                if let Ok(file) = tree.open_file(Path::new(name)) {
                    assert_eq!(io::read_to_string(file).unwrap(), "inside");
                    found += 1;
                }
            }
        }
        assert!(seen.contains("outside"), "the wrong way has to go wrong, or nothing is shown");
        assert!(found > 0);
    });
}

#[test]
fn what_is_in_a_folders_place_is_moved_aside() {
    let (folder, path) = root();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, path.join("mnt")).unwrap();
    fs::write(path.join("workspace"), "kept").unwrap();
    fs::write(path.join("workspace.moved-0"), "older").unwrap();
    fs::create_dir(path.join("tmp")).unwrap();
    fs::write(path.join("tmp/file"), "kept").unwrap();
    let tree = Tree::open(&path).unwrap();
    let folders = ["mnt/session/outputs", "workspace", "tmp"].map(Path::new);
    let moved = tree.ensure_folders(&folders, 0o750, None).unwrap();
    assert_eq!(moved, ["mnt.moved-0", "workspace.moved-1"].map(PathBuf::from));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(path.join("workspace.moved-1")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(path.join("tmp/file")).unwrap(), "kept");
    let made = fs::symlink_metadata(path.join("mnt/session/outputs")).unwrap();
    assert!(made.is_dir() && made.permissions().mode() & 0o7777 == 0o750);
    assert!(tree.ensure_folders(&folders, 0o750, None).unwrap().is_empty());
    assert!(tree.ensure_folders(&[Path::new("../x")], 0o750, None).is_err());
}

#[test]
fn everything_is_removed_and_nothing_else() {
    let (folder, path) = root();
    fs::write(folder.path().join("kept"), "").unwrap();
    fs::create_dir(path.join("wide")).unwrap();
    for number in 0..500 {
        fs::write(path.join(format!("wide/{number}")), "").unwrap();
    }
    symlink("../..", path.join("wide/up")).unwrap();
    symlink(folder.path(), path.join("out")).unwrap();
    fifo(&path.join("fifo"));
    // Far deeper than a path can be long, with names in the way of those that are made.
    fs::create_dir_all(path.join(".posthouse-removed-0/x")).unwrap();
    let mut at = rustix::fs::open(&path, OFlags::DIRECTORY, Mode::empty()).unwrap();
    let long = "d".repeat(100);
    for _ in 0..200 {
        rustix::fs::mkdirat(&at, &long, Mode::RWXU).unwrap();
        rustix::fs::mkdirat(&at, "e", Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, &long, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    fs::create_dir_all(path.join("closed/in")).unwrap();
    fs::write(path.join("closed/in/file"), "").unwrap();
    for closed in ["closed/in", "closed"] {
        fs::set_permissions(path.join(closed), fs::Permissions::from_mode(0o0)).unwrap();
    }
    Tree::open(&path).unwrap().remove_all().unwrap();
    assert!(!path.exists());
    assert!(folder.path().join("kept").exists());
}

#[test]
fn an_ordinary_user_removes_and_measures_what_it_closed_to_itself() {
    if !rustix::process::geteuid().is_root() {
        // Then the tests beside this one are run by an ordinary user themselves.
        return;
    }
    let (folder, path) = root();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let owner = Some(65534);
    std::os::unix::fs::chown(&path, owner, owner).unwrap();
    // A thread of its own has the user of its own that the kernel gives each thread.
    std::thread::spawn(move || {
        let user = Uid::from_raw(65534);
        rustix::thread::set_thread_uid(user).unwrap();
        fs::create_dir_all(path.join("closed/in")).unwrap();
        fs::write(path.join("closed/in/file"), [1; 100_000]).unwrap();
        for closed in ["closed/in", "closed"] {
            fs::set_permissions(path.join(closed), fs::Permissions::from_mode(0o0)).unwrap();
        }
        assert!(fs::read_dir(path.join("closed")).is_err(), "the control");
        let usage = crate::disk::usage(&path, |_| false).unwrap();
        assert!(usage.bytes >= 100_000 && usage.hidden == 0, "{usage:?}");
        for closed in ["closed/in", "closed"] {
            fs::set_permissions(path.join(closed), fs::Permissions::from_mode(0o0)).unwrap();
        }
        Tree::open(&path).unwrap().remove_all().unwrap();
        assert!(!path.exists());
    })
    .join()
    .unwrap();
}
