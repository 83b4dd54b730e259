//! Which hosts lists stand for, in every way of writing them.

use super::*;

fn list(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|&entry| entry.to_owned()).collect()
}

fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

#[test]
fn an_entry_stands_for_itself_and_all_names_below_it() {
    for (entry, page, expected) in [
        ("example.com", "https://example.com/", true),
        ("example.com", "https://EXAMPLE.com:8443/a?b", true),
        ("example.com", "https://example.com./", true),
        ("example.com", "https://a.b.example.com/", true),
        ("example.com", "https://notexample.com/", false),
        ("example.com", "https://example.com.evil.example/", false),
        ("example.com", "https://example.com@evil.example/", false),
        ("example.com", "https://evil.example/#example.com", false),
        ("example.com", "https://evil.example\\@example.com/", false),
        ("a.example.com", "https://example.com/", false),
        ("Example.COM.", "https://example.com/", true),
        ("bücher.example", "https://xn--bcher-kva.example/", true),
        ("xn--bcher-kva.example", "https://BÜCHER.example/", true),
        ("example.com", "https://ｅｘａｍｐｌｅ.com/", true),
        ("example.com", "https://ex%61mple.com/", true),
        ("example.com", "https://example。com/", true),
        ("example.com/docs", "https://example.com/docs", true),
        ("example.com/docs", "https://example.com/docs/a", true),
        ("example.com/docs/", "https://www.example.com/docs/a", true),
        ("example.com/docs", "https://example.com/docset", false),
        ("example.com/docs", "https://example.com/docs/../secret", false),
        ("example.com/docs", "https://example.com/", false),
        ("1.2.3.4", "https://1.2.3.4/", false),
        ("2.3.4", "https://1.2.3.4/", false),
        ("4", "https://1.2.3.4/", false),
        ("", "https://example.com/", false),
        (".", "https://example.com/", false),
        ("com", "https://example.com/", true),
    ] {
        let one = Domains { allowed: Some(list(&[entry])), ..Domains::default() };
        assert_eq!(one.allows(&url(page)), expected, "{entry} allows {page}");
        let one = Domains { blocked: list(&[entry]), ..Domains::default() };
        assert_eq!(!one.allows(&url(page)), expected, "{entry} blocks {page}");
    }
}

#[test]
fn an_environment_stands_for_its_names_alone() {
    for (entry, page, expected) in [
        ("example.com", "https://example.com/", true),
        ("example.com", "https://www.example.com/", false),
        ("*.example.com", "https://www.example.com/", true),
        ("*.example.com", "https://a.b.EXAMPLE.com./", true),
        ("*.example.com", "https://example.com/", false),
        ("*.example.com", "https://notexample.com/", false),
        ("93.184.216.34", "https://93.184.216.34/", true),
        ("93.184.216.34", "https://0x5db8d822/", true),
        ("93.184.216.34", "https://93.184.216.35/", false),
        ("*.184.216.34", "https://93.184.216.34/", false),
        ("example.com", "https://[2606:2800:220:1::1]/", false),
    ] {
        let one = Domains { environment: Some(list(&[entry])), ..Domains::default() };
        assert_eq!(one.allows(&url(page)), expected, "{entry} {page}");
    }
    let advice = |domains: &Domains| domains.check_page(&url("https://a.example/")).unwrap_err();
    let none = Domains { environment: Some(vec![]), ..Domains::default() };
    assert_eq!(
        advice(&none).to_string(),
        "url_not_allowed — this session's environment allows no web hosts, so no URL can be fetched. \
         Do not retry; tell the user that web_fetch needs hosts in the environment's allowed_hosts."
    );
    let others = Domains { environment: Some(list(&["b.example"])), ..Domains::default() };
    assert!(advice(&others).advice.contains("does not allow the host a.example"));
}

#[test]
fn a_search_needs_a_name_of_the_open_web() {
    let check = |hosts: &[&str]| {
        Domains { environment: Some(list(hosts)), ..Domains::default() }.check_search()
    };
    for hosts in [
        &[][..],
        &["localhost"],
        &["10.0.0.1", "93.184.216.34"],
        &["db.internal", "*.local", "printer.home.arpa", "intranet"],
    ] {
        let error = check(hosts).unwrap_err();
        assert_eq!(error.code, "url_not_allowed");
        assert!(error.advice.starts_with("no host in this session's environment (its"), "{error}");
    }
    for hosts in [&["example.com"][..], &["*.example.com"], &["db.internal", "a.example.org"]] {
        assert_eq!(check(hosts), Ok(()), "{hosts:?}");
    }
    assert_eq!(Domains::default().check_search(), Ok(()));
}

#[test]
fn rules_of_two_meet() {
    let allowed =
        |entries: Option<&[&str]>| Domains { allowed: entries.map(list), ..Domains::default() };
    type Entries = Option<&'static [&'static str]>;
    let table: [(Entries, Entries, Entries); 8] = [
        (None, None, None),
        (Some(&["a.example"]), None, Some(&["a.example"])),
        (Some(&["example.com"]), Some(&["docs.example.com"]), Some(&["docs.example.com"])),
        (Some(&["example.com", "b.example"]), Some(&["EXAMPLE.com"]), Some(&["example.com"])),
        (Some(&["example.com/docs"]), Some(&["a.example.com"]), Some(&["a.example.com/docs"])),
        (Some(&["example.com/docs"]), Some(&["example.com/docs/a"]), Some(&["example.com/docs/a"])),
        (Some(&["example.com/docs"]), Some(&["example.com/do"]), Some(&[])),
        (Some(&["a.example"]), Some(&["b.example"]), Some(&[])),
    ];
    for (one, other, expected) in table {
        for (one, other) in [(one, other), (other, one)] {
            let both = allowed(one).narrowed(&allowed(other));
            assert_eq!(both, allowed(expected), "{one:?} {other:?}");
        }
    }
    let nothing = allowed(Some(&["a.example"])).narrowed(&allowed(Some(&["b.example"])));
    assert!(!nothing.allows(&url("https://a.example/")));

    let environment = |entries: &[&str]| Domains {
        blocked: list(&["bad.example", entries[0]]),
        environment: Some(list(entries)),
        ..Domains::default()
    };
    for (one, other, expected) in [
        ("*.example.com", "a.example.com", &["a.example.com"][..]),
        ("*.example.com", "*.a.example.com", &["*.a.example.com"]),
        ("*.example.com", "example.com", &[]),
        ("a.example", "A.example", &["A.example"]),
        ("1.2.3.4", "1.2.3.4", &["1.2.3.4"]),
    ] {
        let both = environment(&[one]).narrowed(&environment(&[other]));
        assert_eq!(both.environment, Some(list(expected)), "{one} {other}");
        assert_eq!(both.blocked[0], "bad.example");
        assert_eq!(both.blocked.len(), if one == other { 2 } else { 3 });
    }
}

#[test]
fn what_meets_allows_what_both_allow() {
    let entries = [
        "example.com",
        "a.example.com",
        "b.a.example.com",
        "example.com/docs",
        "a.example.com/docs/x",
    ];
    let pages = [
        "https://example.com/",
        "https://example.com/docs",
        "https://a.example.com/docs/x",
        "https://b.a.example.com/",
        "https://b.a.example.com/docs/x/y",
        "https://c.example.com/docs/x",
        "https://other.example/",
    ];
    // Every pair of every two lists of up to two entries.
    let lists =
        || entries.iter().flat_map(|one| entries.iter().map(move |other| list(&[one, other])));
    for (one, other) in lists().flat_map(|one| lists().map(move |other| (one.clone(), other))) {
        let one = Domains { allowed: Some(one), ..Domains::default() };
        let other = Domains { allowed: Some(other), ..Domains::default() };
        let both = one.narrowed(&other);
        for page in pages.map(url) {
            let expected = one.allows(&page) && other.allows(&page);
            assert_eq!(both.allows(&page), expected, "{one:?} {other:?} {page}");
        }
    }
}

#[test]
fn registries_are_told_from_whom_they_serve() {
    for name in
        ["com", "co.uk", "CO.UK", "com.au.", "x.ck", "公司.cn", "xn--55qx5d.cn", "k12.ca.us"]
    {
        assert!(is_of_a_registry(name), "{name}");
    }
    for name in
        ["", "example.com", "example.co.uk", "www.ck", "github.io", "a.unheard-of", "10.0.0.1"]
    {
        assert!(!is_of_a_registry(name), "{name}");
    }
}
