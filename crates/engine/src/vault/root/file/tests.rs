//! Files of keys: made, read, refused and changed.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;

use super::*;

fn place() -> (TempDir, KeyFile) {
    let folder = TempDir::new().unwrap();
    let file = KeyFile::at(folder.path().join("vault.key"));
    (folder, file)
}

fn names(file: &KeyFile) -> Vec<String> {
    file.read().unwrap().iter().map(|key| key.name().to_owned()).collect()
}

fn listing(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_file_is_made_once_and_is_its_owners_alone() {
    let (folder, file) = place();
    assert!(matches!(file.read(), Err(KeyFileError::File { .. })));
    // What a crash has left is in nobody's way.
    fs::write(file.fresh(), "half of a k").unwrap();
    let made = file.read_or_make().unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(listing(&folder), ["vault.key"]);
    let again = file.read_or_make().unwrap();
    let sealed = made[0].wrap(&[3; 32], "w/v").await.unwrap();
    assert_eq!(*again[0].unwrap(&sealed, "w/v").await.unwrap(), [3; 32]);
}

#[tokio::test]
async fn a_new_key_seals_and_the_old_ones_open_until_they_are_removed() {
    let (folder, file) = place();
    let first = file.read_or_make().unwrap().remove(0);
    let sealed = first.wrap(&[3; 32], "w/v").await.unwrap();
    let added = file.change().unwrap().add().unwrap();
    assert_eq!(names(&file), [added.clone(), first.name().to_owned()]);
    let keys = file.read().unwrap();
    assert_eq!(*keys[1].unwrap(&sealed, "w/v").await.unwrap(), [3; 32]);
    let third = file.change().unwrap().add().unwrap();
    let changing = file.change().unwrap();
    let refused = changing.keep_first(&added).unwrap_err().to_string();
    assert!(refused.ends_with("any more; nothing was removed"), "{refused}");
    assert_eq!(names(&file).len(), 3);
    assert_eq!(changing.keep_first(&third).unwrap(), [added, first.name().to_owned()]);
    assert_eq!(changing.keep_first(&third).unwrap(), Vec::<String>::new());
    assert_eq!(names(&file), [third]);
    assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(listing(&folder), ["vault.key"]);
}

#[test]
fn one_at_a_time_changes_a_file() {
    let (_folder, file) = place();
    file.read_or_make().unwrap();
    let changing = file.change().unwrap();
    assert!(matches!(file.change(), Err(KeyFileError::Busy { .. })));
    // Reading goes on.
    assert_eq!(file.read_or_make().unwrap().len(), 1);
    drop(changing);
    file.change().unwrap();
}

#[test]
fn a_link_stays_a_link_to_a_file_that_is_changed() {
    let (folder, file) = place();
    file.read_or_make().unwrap();
    let link = KeyFile::at(folder.path().join("link"));
    symlink(file.path(), link.path()).unwrap();
    let added = link.change().unwrap().add().unwrap();
    assert_eq!(names(&file)[0], added);
    assert!(fs::symlink_metadata(link.path()).unwrap().is_symlink());
    assert_eq!(listing(&folder), ["link", "vault.key"]);
    let lost = KeyFile::at(folder.path().join("lost"));
    symlink("nowhere", lost.path()).unwrap();
    // Whoever names a place that is not mounted does not want a new key there.
    assert!(matches!(lost.read_or_make(), Err(KeyFileError::File { .. })));
}

#[test]
fn a_file_that_is_open_to_others_or_no_file_of_keys_is_refused() {
    let (folder, file) = place();
    file.read_or_make().unwrap();
    let good = fs::read_to_string(file.path()).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o610, 0o666, 0o601] {
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        let error = file.read().err().unwrap().to_string();
        let said = format!("is open to others (mode {mode:04o}); right would be 0600");
        assert!(error.contains(&said), "{error}");
        assert!(file.change().unwrap().add().is_err());
    }
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o400)).unwrap();
    file.read().unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
    for (text, said) in [
        (String::new(), "holds no key"),
        ("\n\n".to_owned(), "holds no key"),
        (format!("{good}hunter2\n"), "key 2 is no key"),
        (format!("{good}{good}"), "key 2 stands there twice"),
        ("x".repeat(70_000), "can't be used"),
    ] {
        fs::write(file.path(), &text).unwrap();
        let error = file.read().err().unwrap().to_string();
        assert!(error.contains(said) && !error.contains("hunter2"), "{error}");
        assert!(file.change().unwrap().add().is_err());
        assert_eq!(fs::read_to_string(file.path()).unwrap(), text, "it is as it was");
    }
    assert!(KeyFile::at(folder.path()).read().is_err());
}
