//! Reasons, from facts that are made up; and one look at the host as it is.

use super::*;

const REFUSED: Tried = Tried {
    user: Err(libc::EPERM),
    others: Err(probe::SILENT),
    mount: Err(probe::SILENT),
    proc: Err(probe::SILENT),
    network: Err(probe::SILENT),
    transparent: Err(probe::SILENT),
};

const ALLOWED: Tried = Tried {
    user: Ok(()),
    others: Ok(()),
    mount: Ok(()),
    proc: Ok(()),
    network: Ok(()),
    transparent: Ok(()),
};

fn facts() -> Facts {
    Facts { release: "6.1.0-13-amd64".to_owned(), ..Facts::default() }
}

#[test]
fn each_cause_has_the_line_that_mends_it() {
    let cases = [
        (Facts { max_user_namespaces: Some(0), ..facts() }, REFUSED, "user.max_user_namespaces="),
        (Facts { unprivileged_clone: Some(0), ..facts() }, REFUSED, "unprivileged_userns_clone=1"),
        (Facts { apparmor_restricts: Some(1), ..facts() }, REFUSED, "/etc/apparmor.d/posthouse"),
        (Facts { container: Some("Docker"), ..facts() }, REFUSED, "systempaths=unconfined"),
        (
            Facts { container: Some("Docker"), apparmor_restricts: Some(1), ..facts() },
            REFUSED,
            "seccomp=unconfined",
        ),
        (Facts { filtered: true, ..facts() }, REFUSED, "seccomp=unconfined"),
        (facts(), Tried { user: Err(libc::ENOSPC), ..REFUSED }, "max_user_namespaces"),
        (facts(), Tried { user: Err(libc::EINVAL), ..REFUSED }, "CONFIG_USER_NS"),
        (facts(), REFUSED, "SELinux"),
        (
            Facts { container: Some("Docker"), ..facts() },
            Tried { proc: Err(libc::EPERM), ..ALLOWED },
            "systempaths=unconfined",
        ),
        (facts(), Tried { proc: Err(libc::EPERM), ..ALLOWED }, "unmount"),
        (
            Facts { apparmor_restricts: Some(1), ..facts() },
            Tried { user: Ok(()), ..Tried { others: Err(libc::EPERM), ..REFUSED } },
            "/etc/apparmor.d/posthouse",
        ),
    ];
    for (facts, tried, wanted) in cases {
        let findings = spaces(&facts, &tried);
        let missing: Vec<_> =
            findings.iter().filter(|finding| finding.state == State::Missing).collect();
        assert_eq!(missing.len(), 1, "{findings:?}");
        let mend = missing[0].mend.as_deref().unwrap();
        assert!(mend.contains(wanted), "{wanted} in {mend}");
        assert!(!allows_cages(&findings));
    }
    let findings = spaces(&facts(), &ALLOWED);
    assert!(allows_cages(&findings) && findings.len() == 6);
    // Root is not bound by what binds ordinary users.
    let root = Facts { root: true, unprivileged_clone: Some(0), ..facts() };
    assert!(spaces(&root, &REFUSED)[0].mend.as_deref().unwrap().contains("SELinux"));
}

#[test]
fn old_kernels_are_refused() {
    let of = |release: &str| kernel(&Facts { release: release.to_owned(), ..Facts::default() });
    assert_eq!(of("5.4.0-100-generic").state, State::Missing);
    assert_eq!(of("5.11.9").state, State::Missing);
    assert_eq!(of("odd").state, State::Degraded);
    assert_eq!(of("5.12.0").state, State::Ok);
    assert_eq!(of("6.18.44").state, State::Ok);
}

#[test]
fn this_host_is_looked_at_whole_and_left_as_it_is() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let findings = examine(&folder.path().join("not/yet"));
    for finding in &findings {
        assert!(!finding.detail.is_empty());
        assert_eq!(finding.mend.is_some(), finding.state != State::Ok, "{finding:?}");
        assert!(!finding.detail.contains("no answer"), "{finding:?}");
    }
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts);
    println!("{findings:#?}");
    let text = serde_json::to_string(&findings).unwrap();
    assert!(text.contains(r#""name":"landlock""#), "{text}");
}
