//! Measures of trees that are known, and the watch over them.

use std::{fs, sync::mpsc};

use super::*;

const SOON: Duration = Duration::from_secs(60);

#[test]
fn each_file_counts_once_and_holes_count_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("one"), [1; 100_000]).unwrap();
    let before = usage(folder.path(), |_| false).unwrap();
    fs::hard_link(folder.path().join("one"), folder.path().join("two")).unwrap();
    fs::File::create(folder.path().join("hole")).unwrap().set_len(1 << 40).unwrap();
    let after = usage(folder.path(), |_| false).unwrap();
    assert!(before.complete && after.complete);
    assert!(before.bytes >= 100_000 && before.bytes < 200_000, "{before:?}");
    assert_eq!(after.bytes, before.bytes);
    assert_eq!((before.entries, after.entries), (1, 3));
    let stopped = usage(folder.path(), |usage| usage.entries == 2).unwrap();
    assert!(!stopped.complete && stopped.entries == 2);
}

#[test]
fn what_lies_too_deep_is_said_to_be_hidden() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join(["d"; DEPTH - 1].join("/"))).unwrap();
    assert_eq!(usage(folder.path(), |_| false).unwrap().hidden, 0);
    fs::create_dir_all(folder.path().join(["d"; DEPTH + 5].join("/"))).unwrap();
    assert_eq!(usage(folder.path(), |_| false).unwrap().hidden, 1);
}

fn wait_for_a_look(watch: &Watch, id: &str) {
    let end = Instant::now() + SOON;
    while watch.last(id).is_none_or(|usage| usage.entries == 0) {
        assert!(Instant::now() < end, "{id} was never looked at");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn who_comes_back_to_tidy_up_is_let() {
    let folder = tempfile::tempdir().unwrap();
    let (send, alarms) = mpsc::channel();
    let tell = move |alarm| drop(send.send(alarm));
    let watch = Watch::new(folder.path().to_owned(), 0, tell).unwrap();
    let path = folder.path().join("full");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("large"), vec![1; 1 << 20]).unwrap();
    watch.add("full", path.clone(), 1 << 16, 10);
    wait_for_a_look(&watch, "full");
    fs::remove_file(path.join("large")).unwrap();
    fs::write(path.join("small"), "x").unwrap();
    let end = Instant::now() + SOON;
    while watch.last("full").is_none_or(|usage| usage.bytes > 1 << 16) {
        assert!(Instant::now() < end, "it was never looked at again");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(alarms.try_recv().is_err());
    // What has gone below the limit is not borne a second time.
    fs::write(path.join("large"), vec![1; 1 << 19]).unwrap();
    assert!(matches!(alarms.recv_timeout(SOON).unwrap(), Alarm::Over { .. }));
}

#[test]
fn who_is_over_a_limit_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (send, alarms) = mpsc::channel();
    let tell = move |alarm| send.send(alarm).unwrap();
    let watch = Watch::new(folder.path().to_owned(), 0, tell).unwrap();
    for (id, bytes, entries) in
        [("calm", 1 << 30, 100), ("large", 50_000, 100), ("many", 1 << 30, 2)]
    {
        let path = folder.path().join(id);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("first"), "x").unwrap();
        watch.add(id, path.clone(), bytes, entries);
        wait_for_a_look(&watch, id);
        for number in 0..3 {
            fs::write(path.join(number.to_string()), [1; 30_000]).unwrap();
        }
    }
    let mut left = vec!["large", "many"];
    while !left.is_empty() {
        let Alarm::Over { id, what, .. } = alarms.recv_timeout(SOON).unwrap() else {
            panic!("the host is not full");
        };
        assert_ne!(id, "calm");
        assert_eq!(what.contains("bytes"), id == "large", "{what}");
        watch.remove(&id);
        left.retain(|one| *one != id);
    }
    assert!(watch.last("large").is_none());
    fs::write(folder.path().join("calm/late"), vec![1; 1 << 20]).unwrap();
    watch.add("calm", folder.path().join("calm"), 1 << 20, 100);
    wait_for_a_look(&watch, "calm");
    // What was there is borne, and grows no more.
    fs::write(folder.path().join("calm/later"), vec![1; 1 << 16]).unwrap();
    let alarm = alarms.recv_timeout(SOON).unwrap();
    assert!(matches!(alarm, Alarm::Over { id, .. } if id == "calm"));
}

#[test]
fn a_host_below_its_reserve_is_told_with_the_largest_first() {
    let folder = tempfile::tempdir().unwrap();
    let (send, alarms) = mpsc::channel();
    let tell = move |alarm| drop(send.send(alarm));
    let watch = Watch::new(folder.path().to_owned(), u64::MAX, tell).unwrap();
    for (id, bytes) in [("small", 10_000), ("large", 100_000)] {
        let path = folder.path().join(id);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("file"), vec![1; bytes]).unwrap();
        watch.add(id, path, u64::MAX, u64::MAX);
    }
    // The first may come before both were measured.
    loop {
        let Alarm::Host { free, largest } = alarms.recv_timeout(SOON).unwrap() else {
            panic!("nobody is over a limit");
        };
        assert!(free > 0);
        if largest.iter().all(|(_, bytes)| *bytes > 0) && largest.len() == 2 {
            assert_eq!(largest[0].0, "large");
            break;
        }
    }
}

#[test]
fn measuring_takes_its_share_and_no_more() {
    assert_eq!(pause(Duration::ZERO, 1), EACH);
    assert_eq!(pause(Duration::from_secs(1), 1), Duration::from_secs(10));
    assert_eq!(pause(Duration::from_secs(1), 4), Duration::from_secs(40));
}
