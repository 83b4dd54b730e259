//! Tables of headers, and bodies in every way in which they can come, against a naive replacement.

use std::{convert::Infallible, future::Future};

use http_body_util::{Empty, Full};
use secrecy::ExposeSecret as _;

use super::*;

fn secret(name: &str, placeholder: &str, value: &str) -> Secret {
    Secret {
        name: name.into(),
        credential: format!("vcrd_{name}").into(),
        vault: "vlt_1".into(),
        placeholder: placeholder.into(),
        hosts: None,
        header: true,
        body: true,
        value: value.into(),
    }
}

fn injection(secrets: Vec<Secret>) -> Injection {
    Injection::for_host(&secrets.into(), "api.example.test").unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    map
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.unwrap().block_on(work)
}

#[test]
fn a_secret_goes_to_its_hosts_and_places_alone() {
    let mut one = secret("ONE", "PH_one", "v1");
    one.hosts = Some(vec!["API.example.test".into(), "*.below.test".into()]);
    let mut two = secret("TWO", "PH_two", "v2");
    (two.header, two.body) = (true, false);
    let mut three = secret("THREE", "PH_three", "v3");
    (three.header, three.body) = (false, false);
    let secrets: Arc<[Secret]> = vec![one.clone(), two.clone(), three.clone()].into();
    for (host, wanted, body) in [
        ("api.example.test", "v1 v2 PH_three", true),
        ("Api.Example.Test", "v1 v2 PH_three", true),
        ("a.b.below.test", "v1 v2 PH_three", true),
        ("below.test", "PH_one v2 PH_three", false),
        ("api.example.test.evil", "PH_one v2 PH_three", false),
        ("93.184.216.34", "PH_one v2 PH_three", false),
    ] {
        let injection = Injection::for_host(&secrets, host).unwrap();
        let mut map = headers(&[("x-all", "PH_one PH_two PH_three")]);
        injection.headers(&mut map);
        assert_eq!(map["x-all"], wanted, "{host}");
        assert_eq!(injection.wants_body(), body, "{host}");
    }
    assert!(Injection::for_host(&vec![one, three].into(), "elsewhere.test").is_none());
    assert!(Injection::for_host(&Vec::new().into(), "api.example.test").is_none());
}

#[test]
fn values_stand_in_headers_where_placeholders_stood() {
    let injection = injection(vec![
        secret("ONE", "PH_1", "value-one"),
        secret("LONG", "PH_12", "value-long"),
        secret("AGAIN", "PH_1", "never: the first of a name counts"),
        secret("NESTED", "PH_n", "PH_1"),
        secret("EMPTY", "", "never: nothing stands for it"),
    ]);
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let unpadded = basic("git:PH_1").trim_end_matches('=').to_owned();
    for (name, value, wanted, seen) in [
        ("authorization", "Bearer PH_1", "Bearer value-one", &[0][..]),
        ("x-key", "aPH_1b,PH_12,PH_1", "avalue-oneb,value-long,value-one", &[0, 1]),
        // What was put in is not looked at again.
        ("x-key", "PH_n", "PH_1", &[3]),
        ("x-key", "PH_ ph_1 PH-1", "PH_ ph_1 PH-1", &[]),
        ("cookie", "a=PH_1; b=c", "a=value-one; b=c", &[0]),
        ("authorization", &basic("git:PH_1"), &basic("git:value-one"), &[0]),
        ("authorization", &unpadded, &basic("git:value-one"), &[0]),
        ("authorization", "bAsIc  Z2l0OlBIXzE=", &basic("git:value-one"), &[0]),
        ("proxy-authorization", &basic("PH_12:PH_1"), &basic("value-long:value-one"), &[0, 1]),
        ("authorization", &basic("git:none"), &basic("git:none"), &[]),
        ("authorization", "Basic PH_1", "Basic value-one", &[0]),
        ("authorization", "Basic ***", "Basic ***", &[]),
        ("authorization", "Basic", "Basic", &[]),
        // Base64 elsewhere is nobody's business.
        ("x-key", &basic("git:PH_1"), &basic("git:PH_1"), &[]),
        ("host", "PH_1", "PH_1", &[]),
        ("content-length", "PH_1", "PH_1", &[]),
        ("transfer-encoding", "PH_1", "PH_1", &[]),
        ("connection", "PH_1", "PH_1", &[]),
        ("upgrade", "PH_1", "PH_1", &[]),
        ("keep-alive", "PH_1", "PH_1", &[]),
        ("te", "PH_1", "PH_1", &[]),
    ] {
        let mut map = headers(&[("x-before", "1"), (name, value), ("x-after", "PH_2")]);
        assert_eq!(injection.headers(&mut map), seen, "{name}: {value}");
        assert_eq!(map[name], wanted, "{name}: {value}");
        assert_eq!(map[name].is_sensitive(), value != wanted, "{name}: {value}");
        assert_eq!((map["x-before"].len(), map["x-after"].len(), map.len()), (1, 4, 3));
    }
    let mut twice = headers(&[("x-key", "PH_1"), ("x-key", "no"), ("x-key", "PH_12")]);
    assert_eq!(injection.headers(&mut twice), [0, 1]);
    let values: Vec<_> = twice.get_all("x-key").iter().collect();
    assert_eq!(values, ["value-one", "no", "value-long"]);
}

#[test]
fn a_value_that_no_header_holds_leaves_it_as_it_is() {
    let long = "x".repeat(LONGEST + 1);
    let injection =
        injection(vec![secret("LINES", "PH_l", "a\r\nX-Evil: 1"), secret("LONG", "PH_x", &long)]);
    let mut map = headers(&[("x-a", "PH_l"), ("x-b", "PH_x"), ("x-c", "PH_l PH_x")]);
    assert_eq!(injection.headers(&mut map), Vec::<usize>::new());
    assert_eq!((&map["x-a"], &map["x-b"]), (&"PH_l".parse().unwrap(), &"PH_x".parse().unwrap()));
    // Coded, lines do no harm.
    let mut map = headers(&[("authorization", &format!("Basic {}", STANDARD.encode("a:PH_l")))]);
    assert_eq!(injection.headers(&mut map), [0]);
}

#[test]
fn all_new_values_of_a_request_together_are_bounded() {
    let value = "v".repeat(LONGEST / 4);
    let injection = injection(vec![secret("ONE", "PH_1", &value)]);
    let mut map = HeaderMap::new();
    for _ in 0..100 {
        map.append("x-key", HeaderValue::from_static("PH_1"));
    }
    assert_eq!(injection.headers(&mut map), [0]);
    let values = map.get_all("x-key").iter();
    assert_eq!(values.filter(|new| new.len() == value.len()).count(), 4);
}

type Parts = Vec<Result<Frame<Bytes>, Infallible>>;

fn parts(chunks: impl IntoIterator<Item = Vec<u8>>) -> Parts {
    chunks.into_iter().map(|chunk| Ok(Frame::data(Bytes::from(chunk)))).collect()
}

struct Parted(VecDeque<Result<Frame<Bytes>, Infallible>>);

impl Body for Parted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front())
    }
}

/// What comes of a body that comes in these parts: its data, its length, who was seen.
fn sent(injection: &Injection, parts: Parts) -> (Vec<u8>, Option<u64>, Vec<usize>) {
    run(async {
        let (body, length, seen) = injection.body(Parted(parts.into()), &room()).await.unwrap();
        if let Some(length) = length {
            assert_eq!(body.size_hint().exact(), Some(length));
        }
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        (bytes, length, seen)
    })
}

/// The same by the plainest means.
fn naive(secrets: &[Secret], text: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut made, mut seen, mut at) = (Vec::new(), Vec::new(), 0);
    while at < text.len() {
        let here = (0..secrets.len())
            .filter(|index| text[at..].starts_with(secrets[*index].placeholder.as_bytes()))
            .max_by_key(|index| (secrets[*index].placeholder.len(), std::cmp::Reverse(*index)));
        match here {
            Some(index) => {
                made.extend_from_slice(secrets[index].value.expose_secret().as_bytes());
                at += secrets[index].placeholder.len();
                seen.push(index);
            }
            None => {
                made.push(text[at]);
                at += 1;
            }
        }
    }
    seen.sort_unstable();
    seen.dedup();
    (made, seen)
}

/// Numbers that look like chance and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

#[test]
fn a_body_in_any_pieces_is_what_a_naive_replacement_makes_of_the_whole() {
    let seeds = std::env::var("POSTHOUSE_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(3000) {
        let mut numbers = Numbers(seed);
        // Few letters, so that placeholders begin within each other, and in values.
        let word = |numbers: &mut Numbers, most: usize| -> String {
            (0..=numbers.below(most)).map(|_| char::from(b"ab_"[numbers.below(3)])).collect()
        };
        let count = 1 + numbers.below(4);
        let secrets: Vec<_> = (0..count)
            .map(|index| {
                let (placeholder, value) = (word(&mut numbers, 6), word(&mut numbers, 9));
                secret(&index.to_string(), &placeholder, &value)
            })
            .collect();
        let length = numbers.below(60);
        let text: Vec<u8> = (0..length).map(|_| b"ab_\xff"[numbers.below(4)]).collect();
        let mut chunks = Vec::new();
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            let (chunk, more) = rest.split_at(numbers.below(rest.len().min(7) + 1));
            chunks.push(chunk.to_vec());
            rest = more;
        }
        let (wanted, wanted_seen) = naive(&secrets, &text);
        let injection = injection(secrets.clone());
        let (bytes, told, mut seen) = sent(&injection, parts(chunks.clone()));
        seen.sort_unstable();
        assert_eq!((&bytes, &seen), (&wanted, &wanted_seen), "seed {seed}: {secrets:?}");
        assert_eq!(told, Some(wanted.len() as u64), "seed {seed}");
        // And behind what is read ahead.
        let before = vec![b'.'; 1 + AHEAD as usize];
        if seed % 100 == 0 {
            chunks.insert(0, before.clone());
            let (bytes, told, seen) = sent(&injection, parts(chunks));
            assert_eq!((&bytes[before.len()..], told), (&wanted[..], None), "seed {seed}");
            assert_eq!(seen.len(), count, "all may be in it");
        }
    }
}

#[test]
fn a_placeholder_may_be_cut_anywhere() {
    let injection = injection(vec![secret("ONE", "posthouse_abc", "the value")]);
    let text = b"{\"key\":\"posthouse_abc\"}";
    for cut in 0..=text.len() {
        for second in cut..=text.len() {
            let pieces = [&text[..cut], &text[cut..second], &text[second..]].map(<[u8]>::to_vec);
            let (bytes, length, seen) = sent(&injection, parts(pieces));
            assert_eq!(bytes, b"{\"key\":\"the value\"}");
            assert_eq!((length, seen), (Some(19), vec![0]));
        }
    }
    let letters = text.iter().map(|letter| vec![*letter]);
    assert_eq!(sent(&injection, parts(letters)).0, b"{\"key\":\"the value\"}");
    // Cut off at the end, it is none.
    assert_eq!(sent(&injection, parts([b"posthouse_ab".to_vec()])).0, b"posthouse_ab");
}

#[test]
fn trailers_pass_behind_all_data_and_empty_bodies_stay_empty() {
    let injection = injection(vec![secret("ONE", "PH_1", "value")]);
    let mut all = parts([b"PH_1 PH".to_vec()]);
    all.push(Ok(Frame::trailers(headers(&[("x-sum", "PH_1")]))));
    run(async {
        let (mut body, length, _) = injection.body(Parted(all.into()), &room()).await.unwrap();
        assert_eq!(length, Some(8));
        let mut data = Vec::new();
        let mut trailers = None;
        while let Some(frame) = body.frame().await {
            match frame.unwrap().into_data() {
                Ok(more) if trailers.is_none() => data.extend_from_slice(&more),
                Ok(_) => panic!("data behind the trailers"),
                Err(other) => trailers = other.into_trailers().ok(),
            }
        }
        assert_eq!(
            (data.as_slice(), &trailers.unwrap()["x-sum"]),
            (&b"value PH"[..], &HeaderValue::from_static("PH_1"))
        );
        let (body, length, seen) = injection.body(Empty::<Bytes>::new(), &room()).await.unwrap();
        assert!(body.is_end_stream() && length == Some(0) && seen.is_empty());
        let (body, length, _) =
            injection.body(Full::new(Bytes::from("PH_1")), &room()).await.unwrap();
        assert_eq!((length, body.size_hint().exact()), (Some(5), Some(5)));
    });
}

#[test]
fn who_waits_for_an_answer_is_not_waited_for() {
    let injection = injection(vec![secret("ONE", "PH_1", "value")]);
    run(async {
        let (send, receive) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
        send.send(Bytes::from("PH_1;PH_")).unwrap();
        let (mut body, length, seen) = injection.body(Waiting(receive), &room()).await.unwrap();
        assert_eq!((length, seen, body.is_end_stream()), (None, vec![0], false));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "value");
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), ";");
        send.send(Bytes::from("1;PH_")).unwrap();
        drop(send);
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!(rest, "value;PH_");
    });
}

#[test]
fn who_speaks_steadily_is_not_waited_for_either() {
    let injection = injection(vec![secret("ONE", "PH_1", "value")]);
    run(async {
        let (send, receive) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
        let speaking = async move {
            for _ in 0..1000 {
                send.send(Bytes::from("PH_1;")).unwrap();
                tokio::time::sleep(PATIENCE / 5).await;
            }
            drop(send);
            std::future::pending::<()>().await;
        };
        let room = room();
        // Before all is said.
        let (_, told, seen) = tokio::select! {
            read = injection.body(Waiting(receive), &room) => read.unwrap(),
            () = speaking => unreachable!(),
        };
        assert_eq!((told, seen), (None, vec![0]));
    });
}

#[test]
fn bodies_are_read_ahead_as_far_as_there_is_room_for_them() {
    let injection = injection(vec![secret("ONE", "PH_1", "value")]);
    let text = Bytes::from(format!("{}PH_1", ".".repeat(1000)));
    run(async {
        let room = Arc::new(Semaphore::new(2));
        let body = || Full::new(text.clone());
        let (mut one, told, seen) = injection.body(body(), &room).await.unwrap();
        assert_eq!((told, seen, room.available_permits()), (Some(1005), vec![0], 1));
        let (_two, told, _) = injection.body(body(), &room).await.unwrap();
        assert_eq!((told, room.available_permits()), (Some(1005), 0));
        // It streams, and what is in it is the same.
        let (three, told, seen) = injection.body(body(), &room).await.unwrap();
        assert_eq!((told, seen, three.size_hint().exact()), (None, vec![0], None));
        assert!(three.collect().await.unwrap().to_bytes().ends_with(b".value"));
        // The room is given back when what was read ahead has left.
        while one.frame().await.is_some() {}
        assert_eq!(room.available_permits(), 1);
    });
}

/// A body of unknown length, of what comes out of a channel.
struct Waiting(tokio::sync::mpsc::UnboundedReceiver<Bytes>);

impl Body for Waiting {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

#[test]
fn many_placeholders_cost_no_copies_of_the_value() {
    let value = "v".repeat(64 << 10);
    let injection = injection(vec![secret("ONE", "PH_1", &value)]);
    let text = "PH_1".repeat((AHEAD as usize - 4) / 4);
    run(async {
        let (mut body, length, _) =
            injection.body(Full::new(Bytes::from(text)), &room()).await.unwrap();
        // 16 GiB that are nowhere.
        assert_eq!(length, Some((AHEAD - 4) / 4 * (64 << 10)));
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let second = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((first.len(), first.as_ptr()), (64 << 10, second.as_ptr()));
    });
}

#[test]
fn uses_tell_where_a_value_was_and_never_which() {
    let secrets = vec![
        secret("A", "PH_a", "canary"),
        secret("B", "PH_b", "canary"),
        secret("C", "PH_c", "canary"),
    ];
    let injection = injection(secrets);
    let uses = injection.uses(&[0, 1], &[1], "api.example.test", 443, "POST");
    let told: Vec<_> = uses.iter().map(|one| (&*one.credential, one.header, one.body)).collect();
    assert_eq!(told, [("vcrd_A", true, false), ("vcrd_B", true, true)]);
    assert_eq!(
        (uses[0].host.as_str(), uses[0].port, uses[0].method.as_str()),
        ("api.example.test", 443, "POST")
    );
    let text = format!("{injection:?} {uses:?}");
    assert!(text.contains("PH_a") && !text.contains("canary"), "{text}");
}
