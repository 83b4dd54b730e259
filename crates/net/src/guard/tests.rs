//! What the guard lets through and what not. Connects to loopback alone.

use std::{net::Ipv4Addr, time::Instant};

use tokio::net::TcpListener;

use super::*;

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A resolver for tests: the name says what it resolves to.
fn fake(name: &str) -> io::Result<Vec<IpAddr>> {
    let addresses: &[&str] = match name {
        "public.example" => &["93.184.216.34", "2606:4700::1111"],
        "mixed.example" => &["10.0.0.1", "93.184.216.34", "::1", "169.254.169.254"],
        "private.example" => &["127.0.0.1", "10.0.0.1"],
        "metadata.example" => &["169.254.169.254"],
        "mapped.example" => &["::ffff:93.184.216.34"],
        "nothing.example" => &[],
        "many.example" => {
            return Ok((0..200)
                .map(|last| IpAddr::V4(Ipv4Addr::new(93, 184, 216, last)))
                .collect());
        }
        _ => return Err(io::Error::other("no such name")),
    };
    Ok(addresses.iter().map(|text| text.parse().unwrap()).collect())
}

#[test]
fn what_may_be_opened_is_told_without_a_resolver() {
    let guard = |networks: &[&str], names: &[&str]| {
        let resolve = names.iter().map(|name| ((*name).to_owned(), ([127, 0, 0, 1], 1).into()));
        let rules = Rules {
            allow_private: self::networks(networks),
            resolve: resolve.collect(),
            ..Rules::default()
        };
        Guard::with_resolver(rules, vec![], fake)
    };
    for (networks, names, host, expected) in [
        (&[][..], &[][..], "a.test", false),
        (&[], &["a.test"], "A.test.", true),
        (&[], &["a.test"], "b.test", false),
        (&["10.0.0.0/8"], &[], "10.1.2.3", true),
        (&["10.0.0.0/8"], &[], "11.1.2.3", false),
        // What a name stands for is not known yet.
        (&["10.0.0.0/8"], &[], "b.test", true),
        (&["10.0.0.0/8"], &[], "0x0a000001", false),
    ] {
        let guard = guard(networks, names);
        assert_eq!(guard.may_be_opened(host), expected, "{networks:?} {names:?} {host}");
        assert_eq!(guard.looked_up(), 0);
    }
}

#[tokio::test]
async fn only_public_addresses_of_a_name_are_kept() {
    let guard = Guard::with_resolver(Rules::default(), vec![], fake);
    let pinned = guard.resolve("Public.Example.").await.unwrap();
    assert_eq!(pinned.host(), "public.example");
    assert_eq!(
        pinned.targets(443),
        ["93.184.216.34:443".parse().unwrap(), "[2606:4700::1111]:443".parse().unwrap()]
    );
    let pinned = guard.resolve("mixed.example").await.unwrap();
    assert_eq!(pinned.targets(80), ["93.184.216.34:80".parse().unwrap()]);
    assert_eq!(guard.resolve("many.example").await.unwrap().targets(1).len(), ADDRESSES);
    for (name, refused) in [
        ("private.example", "private.example is private, not public"),
        ("metadata.example", "metadata.example is where a cloud serves metadata"),
        ("mapped.example", "mapped.example is an IPv4 address in IPv6 form"),
        ("nothing.example", "nothing.example has no address"),
        ("other.example", "other.example has no address"),
    ] {
        let text = guard.resolve(name).await.unwrap_err().to_string();
        assert!(text.starts_with(refused), "{name}: {text}");
    }
}

#[tokio::test]
async fn refused_addresses_are_neither_looked_up_nor_dialled() {
    let guard = Guard::with_resolver(Rules::default(), vec![], fake);
    for text in [
        "169.254.169.254",
        "127.0.0.1",
        "10.0.0.1",
        "0.0.0.0",
        "::1",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "168.63.129.16",
    ] {
        assert!(matches!(guard.resolve(text).await, Err(Refused::NotPublic { .. })), "{text}");
    }
    for text in ["0x7f000001", "2130706433", "127.1", "0177.0.0.1", "fe80::1%1", "bücher.example"]
    {
        assert!(matches!(guard.resolve(text).await, Err(Refused::Malformed(_))), "{text}");
    }
    assert_eq!((guard.looked_up(), guard.dialled()), (0, 0));
}

#[tokio::test]
async fn a_name_of_this_machine_is_resolved_and_refused() {
    let guard = Guard::new(Rules::default(), vec![]);
    let refused = guard.resolve("localhost").await.unwrap_err();
    let expected = Refused::NotPublic { host: "localhost".to_owned(), kind: "loopback" };
    assert_eq!(refused, expected);
    assert_eq!((guard.looked_up(), guard.dialled()), (1, 0));
}

#[test]
fn the_operator_opens_networks_but_not_what_hides_in_them() {
    let rules = Rules {
        allow_private: networks(&["10.0.0.0/8", "169.254.0.0/16", "64:ff9b::/96", "2002::/16"]),
        ..Rules::default()
    };
    let guard = Guard::new(rules, vec![]);
    for (text, allowed) in [
        ("10.0.0.1", true),
        ("169.254.1.1", true),
        ("169.254.169.254", false),
        ("192.168.0.1", false),
        ("64:ff9b::8.8.8.8", true),
        ("64:ff9b::10.0.0.1", true),
        ("64:ff9b::192.168.0.1", false),
        ("64:ff9b::169.254.169.254", false),
        ("2002:7f00:1::1", false),
        ("93.184.216.34", true),
    ] {
        assert_eq!(guard.check(address(text)).is_ok(), allowed, "{text}");
    }
}

#[tokio::test]
async fn a_named_address_is_reached_at_its_own_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let rules = Rules { resolve: [("Origin.example.".to_owned(), at)].into(), ..Rules::default() };
    let guard = Guard::new(rules, vec![]);
    let pinned = guard.resolve("ORIGIN.example").await.unwrap();
    for port in [80, 443, 9999] {
        let stream = guard.connect(&pinned, port).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), at);
        assert!(stream.nodelay().unwrap());
    }
    assert_eq!((guard.looked_up(), guard.dialled()), (0, 3));
}

#[tokio::test]
async fn what_the_operator_has_fixed_or_opened_is_known_as_such() {
    let at = "127.0.0.1:8443".parse().unwrap();
    let rules = Rules {
        resolve: [("fixed.example".to_owned(), at)].into(),
        allow_private: networks(&["10.0.0.0/8"]),
        ..Rules::default()
    };
    let guard = Guard::with_resolver(rules, vec![], fake);
    let fixed = guard.resolve("fixed.example").await.unwrap();
    assert!(fixed.is_fixed() && guard.is_opened(&fixed));
    let private = guard.literal(address("10.1.2.3")).unwrap();
    assert!(!private.is_fixed() && guard.is_opened(&private));
    let public = guard.resolve("public.example").await.unwrap();
    assert!(!public.is_fixed() && !guard.is_opened(&public));
}

#[tokio::test]
async fn the_server_itself_is_out_of_reach_whatever_is_opened() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let everywhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), at.port());
    for own in [at, everywhere] {
        let rules = Rules {
            allow_private: networks(&["127.0.0.0/8"]),
            resolve: [("self.example".to_owned(), at)].into(),
            ..Rules::default()
        };
        let guard = Guard::new(rules, vec![own]);
        let mut hosts = vec!["127.0.0.1", "self.example"];
        if own == everywhere {
            hosts.push("127.9.9.9");
        }
        for host in hosts {
            let pinned = guard.resolve(host).await.unwrap();
            let error = guard.connect(&pinned, at.port()).await.unwrap_err();
            assert!(matches!(error, ConnectError::Refused(Refused::Own { .. })), "{host}: {error}");
        }
        assert_eq!(guard.dialled(), 0);
        // Another port of the same machine is not the server.
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pinned = guard.resolve("127.0.0.1").await.unwrap();
        guard.connect(&pinned, other.local_addr().unwrap().port()).await.unwrap();
    }
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_fails() {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let guard =
        Guard::new(Rules { allow_private: networks(&["127.0.0.0/8"]), ..Rules::default() }, vec![]);
    let port = listener.local_addr().unwrap().port();
    let both = vec![address("127.0.0.3"), address("127.0.0.2")];
    let pinned = guard.keep("two.example".to_owned(), both).unwrap();
    let stream = guard.connect(&pinned, port).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap().ip(), address("127.0.0.2"));
    drop(listener);
    let error = guard.connect(&pinned, port).await.unwrap_err();
    assert!(matches!(error, ConnectError::Failed { .. }), "{error}");
}

fn slow(_: &str) -> io::Result<Vec<IpAddr>> {
    std::thread::sleep(Duration::from_millis(300));
    Ok(vec![IpAddr::V4(Ipv4Addr::new(93, 184, 216, 34))])
}

#[tokio::test]
async fn a_share_that_is_used_up_holds_up_nobody_else() {
    let guard = Guard::with_resolver(Rules::default(), vec![], slow);
    let (first, second) = (guard.share(1), guard.share(1));
    let begun = Instant::now();
    let mut asked = JoinSet::new();
    for number in 0..20 {
        let first = first.clone();
        asked.spawn(async move { first.resolve(&format!("n{number}.example")).await });
    }
    while guard.looked_up() == 0 {
        tokio::task::yield_now().await;
    }
    second.resolve("other.example").await.unwrap();
    // Twenty in turn would take six seconds; the other share has waited for none of them.
    assert!(guard.looked_up() < 20, "{:?}", begun.elapsed());
    assert_eq!(first.share.lookups.available_permits(), 0);
}

#[tokio::test]
async fn the_server_itself_waits_for_no_share() {
    let guard = Guard::with_resolver(Rules::default(), vec![], slow);
    let common = Arc::clone(&guard.shared.lookups);
    let all = common.acquire_many_owned(LOOKUPS as u32).await.unwrap();
    guard.resolve("one.example").await.unwrap();
    let share = guard.share(1);
    let waiting = timeout(NEXT_ADDRESS, share.resolve("two.example")).await;
    assert!(waiting.is_err() && guard.looked_up() == 1);
    drop(all);
    share.resolve("two.example").await.unwrap();
}
