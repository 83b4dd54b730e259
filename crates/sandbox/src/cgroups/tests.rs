//! Places from texts of the kernel, groups of version 2 in folders that stand for them, and groups of
//! this host where it gives any.

use super::*;

const GROUPS: &str =
    "9:name=systemd:/\n8:pids:/\n4:memory:/own/deep\n1:cpu,cpuacct:/own\n0::/slice/own\n";

const MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /own /sys/fs/cgroup/mem\\040ory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 /elsewhere /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

#[test]
fn places_are_where_the_kernel_says() {
    let own = |controller| place(GROUPS, MOUNTS, controller).map(|place| place.own);
    assert_eq!(own(None).unwrap(), Path::new("/sys/fs/cgroup/unified/slice/own"));
    assert_eq!(own(Some("memory")).unwrap(), Path::new("/sys/fs/cgroup/mem ory/deep"));
    assert_eq!(own(Some("cpu")).unwrap(), Path::new("/sys/fs/cgroup/cpu/own"));
    assert!(own(Some("pids")).unwrap_err().contains("not mounted"));
    assert!(own(Some("blkio")).unwrap_err().contains("no hierarchy"));
    assert!(place("0::/../x\n", MOUNTS, None).is_err());
    assert!(place("0::/\n", MOUNTS, None).unwrap().top);
}

/// A folder with the files of a group of version 2 that systemd gave away.
fn second(processes: &str, delegated: bool) -> (tempfile::TempDir, Place) {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().to_owned();
    for (file, text) in [
        ("cgroup.controllers", "cpu memory pids"),
        ("cgroup.subtree_control", ""),
        ("cgroup.procs", processes),
        ("cgroup.type", "domain"),
    ] {
        fs::write(own.join(file), text).unwrap();
    }
    if delegated {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(&own, "user.delegate", b"1", flags).unwrap();
    }
    let place = Place { own, top: false };
    (folder, place)
}

#[test]
fn a_group_that_was_not_given_is_not_taken() {
    let me = format!("{}\n", std::process::id());
    if rustix::process::geteuid().is_root() {
        let (_folder, place) = second(&me, false);
        assert!(second_base(&place, true).unwrap_err().contains("Delegate=yes"));
    }
    let (_folder, place) = second(&format!("{me}1\n"), true);
    assert!(second_base(&place, true).unwrap_err().contains("other processes"));
    let (_folder, place) = second(&me, true);
    assert_eq!(second_base(&place, false).unwrap(), None);
    assert!(!place.own.join(LEAF).exists(), "a look changes nothing");
    fs::write(place.own.join("cgroup.controllers"), "hugetlb").unwrap();
    assert!(second_base(&place, true).unwrap_err().contains("not given"));
}

#[test]
fn a_group_that_was_given_is_prepared_once() {
    let (_folder, place) = second(&format!("{}\n", std::process::id()), true);
    // The kernel makes this file with the folder; here it stands before.
    fs::create_dir(place.own.join(LEAF)).unwrap();
    fs::write(place.own.join(LEAF).join("cgroup.procs"), "").unwrap();
    assert_eq!(second_base(&place, true).unwrap(), Some(place.own.clone()));
    let control = fs::read_to_string(place.own.join("cgroup.subtree_control")).unwrap();
    assert_eq!(control, "+memory +pids +cpu");
    let moved = fs::read_to_string(place.own.join(LEAF).join("cgroup.procs")).unwrap();
    assert_eq!(moved, std::process::id().to_string());
    // As it is after an `exec`: the server is in its own group, and the one above gives.
    fs::write(place.own.join("cgroup.subtree_control"), "memory pids cpu").unwrap();
    let again = Place { own: place.own.join(LEAF), top: false };
    assert_eq!(second_base(&again, true).unwrap(), Some(place.own.clone()));
}

#[test]
fn limits_are_written_as_the_kernel_reads_them() {
    let limits = Limits { memory: 1 << 20, processes: 10, cpus: 0.5, ..Limits::default() };
    let folder = tempfile::tempdir().unwrap();
    let files = [
        "memory.max",
        "pids.max",
        "cpu.max",
        "cpu.cfs_period_us",
        "cpu.cfs_quota_us",
        "memory.limit_in_bytes",
    ];
    for file in files {
        fs::write(folder.path().join(file), "").unwrap();
    }
    for level in [ResourceLevel::CgroupV1, ResourceLevel::CgroupV2] {
        for resource in Resource::ALL {
            let hold = Hold { resource, level, why: String::new(), base: None };
            set(folder.path(), &hold, &limits).unwrap();
        }
    }
    let written = files.map(|file| fs::read_to_string(folder.path().join(file)).unwrap());
    let processes = (10 + RESERVE).to_string();
    assert_eq!(written, ["1048576", &processes, "50000 100000", "100000", "50000", "1048576"]);
    assert_eq!(quota(0.0), 1000);
}

#[test]
fn names_stay_beneath() {
    let none = Cgroups::none("a test");
    assert_eq!(none.level(), ResourceLevel::Rlimits);
    assert!(none.make("posthouse-x-1", &Limits::default()).unwrap().is_none());
    for name in ["", "..", "a/b", LEAF] {
        assert!(none.make(name, &Limits::default()).is_err(), "{name}");
    }
}

/// On a host that gives groups: they hold, they kill, and they go.
#[test]
fn groups_of_this_host_hold_and_go() {
    let cgroups = Cgroups::look();
    if cgroups.level() == ResourceLevel::Rlimits {
        assert!(cgroups.holds().iter().all(|hold| !hold.why.is_empty()));
        return;
    }
    let prefix = format!("posthouse-test{}-", std::process::id());
    let limits = Limits { memory: 64 << 20, processes: 8, ..Limits::default() };
    let Some(group) = cgroups.make(&format!("{prefix}1"), &limits).unwrap() else {
        assert!(cgroups.holds().iter().any(|hold| hold.why == LATER));
        return;
    };
    // It waits for its line before it does anything, so that all of it is in the group.
    let run = |script: &str| {
        let mut child = std::process::Command::new("/bin/bash")
            .args(["-c", &format!("read; {script}")])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        group.add(child.id()).unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
        child
    };
    // Far more than it may have; the control is that half of it does go.
    let grow =
        |mebibytes: u32| format!("x=$(head -c {mebibytes}M /dev/zero | tr '\\0' a); echo ${{#x}}");
    let output = run(&grow(8)).wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), (8 << 20).to_string());
    assert_eq!(group.oom_kills(), 0);
    let output = run(&grow(200)).wait_with_output().unwrap();
    assert_ne!(String::from_utf8_lossy(&output.stdout).trim(), (200 << 20).to_string());
    assert!(group.oom_kills() > 0);
    assert!(group.memory_now().is_some());
    let mut child = run("for i in {1..100}; do sleep 600 >/dev/null & done; wait");
    let found = |file: &str| -> Option<(PathBuf, String)> {
        group.folders.iter().find_map(|(folder, _)| {
            Some((folder.clone(), fs::read_to_string(folder.join(file)).ok()?))
        })
    };
    // How often somebody was refused a process.
    let full = || found("pids.events").is_some_and(|(_, text)| text.trim() != "max 0");
    wait_until(full);
    let (folder, now) = found("pids.current").unwrap();
    assert!(now.trim().parse::<u32>().unwrap() <= limits.processes + RESERVE);
    let folders: Vec<_> = group.folders.iter().map(|(folder, _)| folder.clone()).collect();
    // As if this server had died: another one finds it by its name.
    assert_eq!(cgroups.sweep(&format!("{prefix}none")), 0);
    assert_eq!(cgroups.sweep(&prefix), 1);
    child.wait().unwrap();
    wait_until(|| folders.iter().all(|folder| !folder.exists()));
    assert!(!folder.exists());
}

/// Version 2 kills a group as one. Here it may lack every controller and does so still.
#[test]
fn a_group_of_version_2_is_killed_as_one() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let Ok(place) = place(&groups, &mounts, None) else { return };
    let folder = place.own.join(format!("posthouse-kill{}", std::process::id()));
    if fs::create_dir(&folder).is_err() {
        return;
    }
    let group = Group { folders: vec![(folder.clone(), ResourceLevel::CgroupV2)] };
    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let added = group.add(child.id());
    if added.is_ok() {
        group.kill().unwrap();
    } else {
        child.kill().unwrap();
    }
    child.wait().unwrap();
    drop(group);
    wait_until(|| !folder.exists());
}

fn wait_until(holds: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}
