//! The half of each scene that plays inside of the cage. It fails by panicking.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use super::LARGE;
use crate::inside::{network, trial::World};

/// Connections at the same time.
pub(super) const PARALLEL: usize = 500;
/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(30);
const NO_SUCH_NAME: u8 = 3;

/// What answers outside and may not be reached from here.
pub(super) const REFUSED: &[(&str, u16)] = &[
    ("169.254.169.254", 80),
    ("100.100.100.200", 80),
    ("168.63.129.16", 80),
    ("10.0.0.1", 80),
    ("172.16.0.1", 80),
    ("192.168.1.1", 80),
    ("100.64.0.1", 80),
    ("169.254.1.1", 80),
    ("198.19.7.7", 80),
    ("203.0.113.1", 80),
    ("169.254.169.254", 443),
    ("10.0.0.1", 443),
    ("10.0.0.1", 7777),
    // A public address that is the server's own.
    ("93.184.216.34", 443),
];

/// Plays a scene.
pub(crate) fn inside(scene: &str) {
    let world = World::hand_out(network::prepare().unwrap());
    if let Some((scene, folder)) = scene.split_once('|') {
        return super::inside_web::play(scene, folder.as_ref(), &world);
    }
    match scene {
        "names" => names(),
        "refused" => refused(),
        "nothing" => nothing(),
        "limited" => limited(),
        "load" => load(),
        "hostile" => hostile(),
        "places" => places(&world),
        "closed" => closed(&world),
        _ => panic!("no such scene: {scene}"),
    }
}

/// The bytes of the large download from a place on.
pub(super) fn pattern(start: usize, length: usize) -> Vec<u8> {
    (start..start + length).map(|place| (place % 251) as u8).collect()
}

fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = b"\xab\xcd\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

/// The code of an answer, and the address in it.
fn read_answer(asked: &[u8], answer: &[u8]) -> (u8, Option<Ipv4Addr>) {
    assert_eq!(answer[..2], asked[..2]);
    assert_eq!(answer[12..asked.len()], asked[12..]);
    let address = (answer[7] == 1).then(|| *answer.last_chunk::<4>().unwrap());
    (answer[3] & 15, address.map(Ipv4Addr::from))
}

fn ask(server: &str, name: &str, kind: u16) -> (u8, Option<Ipv4Addr>) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Connected: an answer from any other address would not arrive.
    socket.connect((server, 53)).unwrap();
    socket.set_read_timeout(Some(LONG / 10)).unwrap();
    let asked = question(name, kind);
    let mut answer = [0; 1024];
    // A datagram may be lost where there was no room for it; whoever asks asks again.
    for _ in 0..10 {
        socket.send(&asked).unwrap();
        if let Ok(length) = socket.recv(&mut answer) {
            return read_answer(&asked, &answer[..length]);
        }
    }
    panic!("{server} does not answer");
}

fn ask_over_tcp(server: &str, name: &str) -> (u8, Option<Ipv4Addr>) {
    let mut stream = connect((server.parse::<Ipv4Addr>().unwrap(), 53)).unwrap();
    let asked = question(name, 1);
    stream.write_all(&(asked.len() as u16).to_be_bytes()).unwrap();
    stream.write_all(&asked).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    read_answer(&asked, &answer)
}

pub(super) fn address_of(name: &str) -> Ipv4Addr {
    ask("127.0.0.1", name, 1).1.unwrap()
}

pub(super) fn connect(to: (Ipv4Addr, u16)) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(to), LONG)?;
    stream.set_read_timeout(Some(LONG))?;
    stream.set_write_timeout(Some(LONG))?;
    Ok(stream)
}

/// Sends bytes to the origin, ends the sending, and reads them back up to the end.
pub(super) fn echo(to: (Ipv4Addr, u16), bytes: &[u8]) {
    let mut stream = connect(to).unwrap();
    stream.write_all(b"E").unwrap();
    let mut writer = stream.try_clone().unwrap();
    let back = thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(bytes).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        back
    });
    assert!(back == [bytes, b"end"].concat(), "{} bytes came back", back.len());
}

/// Asks for a page, and returns what comes, or how the connection was broken.
fn page(to: (Ipv4Addr, u16)) -> Result<String, ErrorKind> {
    page_of("asked.example", to)
}

fn page_of(host: &str, to: (Ipv4Addr, u16)) -> Result<String, ErrorKind> {
    let kind = |error: std::io::Error| error.kind();
    let mut stream = connect(to).map_err(kind)?;
    let asked = format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(asked.as_bytes()).map_err(kind)?;
    let mut page = String::new();
    stream.read_to_string(&mut page).map_err(kind)?;
    Ok(page)
}

pub(super) fn assert_broken(to: (Ipv4Addr, u16)) {
    let ended = page(to);
    let broken = matches!(ended, Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe));
    assert!(broken, "{to:?}: {ended:?}");
}

fn names() {
    let origin = address_of("origin.example");
    // Any server answers, and answers the same.
    for server in ["127.0.0.1", "8.8.8.8", "198.18.0.1", "169.254.169.254"] {
        assert_eq!(ask(server, "ORIGIN.example", 1), (0, Some(origin)), "{server}");
        assert_eq!(ask_over_tcp(server, "origin.example"), (0, Some(origin)), "{server}");
    }
    let other = address_of("other.example");
    assert_ne!(origin, other);
    for kind in [28, 16, 65] {
        assert_eq!(ask("127.0.0.1", "origin.example", kind), (0, None));
    }
    assert_eq!(ask("127.0.0.1", "localhost", 1), (0, Some(Ipv4Addr::LOCALHOST)));
    assert_eq!(ask("127.0.0.1", "1.0.0.127.in-addr.arpa", 12), (NO_SUCH_NAME, None));
    assert_eq!(ask("127.0.0.1", "b\u{fc}cher.example", 1), (NO_SUCH_NAME, None));
    // Servers of the cage's own are reached at loopback, and take nothing away. That connections
    // to other hosts' ports are open or were a moment ago is no hindrance.
    let mut open = connect((origin, 80)).unwrap();
    open.write_all(b"E").unwrap();
    echo((origin, 3000), b"before");
    for port in [80, 3000, 65535] {
        let own = TcpListener::bind(("0.0.0.0", port)).unwrap();
        thread::spawn(move || {
            for stream in own.incoming() {
                stream.unwrap().write_all(b"my own").unwrap();
            }
        });
        let mut said = String::new();
        connect((Ipv4Addr::LOCALHOST, port)).unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "my own");
    }
    for port in [1, 22, 80, 443, 3000, 31337, 65535] {
        echo((origin, port), b"over a name");
    }
    echo((Ipv4Addr::new(93, 184, 216, 34), 7777), b"over an address");
    open.write_all(b"still").unwrap();
    open.read_exact(&mut [0; 5]).unwrap();
}

fn refused() {
    for (address, port) in REFUSED {
        let to = (address.parse().unwrap(), *port);
        if !matches!(*port, 80 | 443) {
            assert_broken(to);
            continue;
        }
        let page = page(to).unwrap();
        assert!(page.starts_with("HTTP/1.1 403 "), "{address}: {page}");
        assert!(page.contains("to asked.example: "), "{address}: {page}");
        assert!(!page.contains("the origin"), "{address}: {page}");
    }
    assert_broken((Ipv4Addr::LOCALHOST, 1));
    // Who says nothing is told as well, by the address.
    let mut silent = connect((Ipv4Addr::new(10, 0, 0, 1), 80)).unwrap();
    silent.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    silent.read_to_string(&mut said).unwrap();
    assert!(said.contains("to 10.0.0.1: 10.0.0.1 is private"), "{said}");
}

fn nothing() {
    let mut blocked = Ipv4Addr::UNSPECIFIED;
    for name in ["secret.evil.example", "origin.example", "example"] {
        let (code, address) = ask("8.8.8.8", name, 1);
        // An address that stands for nothing but the refusal, the same for everybody.
        blocked = address.unwrap();
        assert_eq!((code, blocked.octets()[0]), (0, 198), "{name}");
        assert_eq!(ask_over_tcp("8.8.8.8", name), (0, Some(blocked)));
        for kind in [28, 16] {
            assert_eq!(ask("8.8.8.8", name, kind), (0, None), "{name}");
        }
    }
    let public = Ipv4Addr::new(93, 184, 216, 34);
    let said = page((public, 80)).unwrap();
    assert!(said.starts_with("HTTP/1.1 403 ") && said.contains("to asked.example: "), "{said}");
    let said = page((blocked, 80)).unwrap();
    assert!(said.starts_with("HTTP/1.1 403 ") && said.contains("to example: "), "{said}");
    assert!(page((public, 443)).unwrap().starts_with("HTTP/1.1 403 "));
    for port in [1, 8080, 7777] {
        assert_broken((public, port));
        assert_broken((blocked, port));
        assert_broken((Ipv4Addr::new(198, 19, 1, 0), port));
    }
    assert_eq!(ask("127.0.0.1", "localhost", 1), (0, Some(Ipv4Addr::LOCALHOST)));
}

fn limited() {
    for (name, port) in
        [("a.b.origin.example", 80), ("OTHER.example", 443), ("other.example", 65535)]
    {
        let said = page_of(name, (address_of(name), port)).unwrap();
        assert!(said.ends_with("the origin"), "{name}: {said}");
    }
    let listed = Ipv4Addr::new(93, 184, 216, 34);
    assert!(page_of("93.184.216.34", (listed, 80)).unwrap().ends_with("the origin"));
    assert_broken((listed, 7777));
    // An origin that breaks off without an answer.
    let mut broken = connect((listed, 80)).unwrap();
    broken.write_all(b"REPORT / HTTP/1.1\r\nHost: 93.184.216.34\r\n\r\n").unwrap();
    assert_eq!(broken.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    for name in ["origin.example", "b.other.example"] {
        let said = page_of(name, (address_of(name), 80)).unwrap();
        assert!(said.contains(&format!("to {name}: ")), "{said}");
        assert_broken((address_of(name), 7777));
    }
    let said = page((Ipv4Addr::new(93, 184, 216, 35), 80)).unwrap();
    assert!(said.starts_with("HTTP/1.1 403 "), "{said}");
}

fn load() {
    let origin = address_of("origin.example");
    let mut stream = connect((origin, 443)).unwrap();
    stream.write_all(b"L").unwrap();
    let mut bytes = Vec::with_capacity(LARGE);
    stream.read_to_end(&mut bytes).unwrap();
    assert!(bytes == pattern(0, LARGE), "{} bytes came", bytes.len());
    // Both ways at once, and one end before the other.
    echo((origin, 443), &bytes[..10 << 20]);
    echo((origin, 443), b"");
    // A break outside is a break inside.
    let mut broken = connect((origin, 443)).unwrap();
    broken.write_all(b"R").unwrap();
    assert_eq!(broken.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut streams: Vec<TcpStream> =
        (0..PARALLEL).map(|_| connect((origin, 443)).unwrap()).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        stream.write_all(format!("E{number}").as_bytes()).unwrap();
    }
    for stream in &streams {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut back = String::new();
        stream.read_to_string(&mut back).unwrap();
        assert_eq!(back, format!("{number}end"));
    }
}

fn hostile() {
    let mut state = 1_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("8.8.8.8:53").unwrap();
    for round in 0..5000 {
        let mut bytes = question("origin.example", 1);
        for _ in 0..random() % 5 {
            let place = random() as usize % bytes.len();
            bytes[place] = random() as u8;
        }
        bytes.resize(if round % 50 == 0 { 60_000 } else { random() as usize % 80 }, 0xc0);
        let _ = socket.send(&bytes);
    }
    for round in 0..50 {
        let mut stream = connect((Ipv4Addr::new(8, 8, 8, 8), 53)).unwrap();
        let bytes: Vec<u8> = (0..random() % 5000).map(|_| random() as u8).collect();
        let _ = stream.write_all(&bytes);
        if round % 2 == 0 {
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    let origin = address_of("origin.example");
    assert_eq!(ask_over_tcp("1.1.1.1", "origin.example"), (0, Some(origin)));
    echo((origin, 80), b"still there");
}

fn places(world: &World) {
    let origin = address_of("origin.example");
    let mut streams: Vec<TcpStream> =
        (0..super::CONNECTIONS + 20).map(|_| connect((origin, 443)).unwrap()).collect();
    world.stepped();
    let mut last = streams.pop().unwrap();
    streams.truncate(super::CONNECTIONS / 2);
    // Places have come free: the last to come is served now.
    last.write_all(b"Eat last").unwrap();
    last.shutdown(Shutdown::Write).unwrap();
    let mut back = String::new();
    last.read_to_string(&mut back).unwrap();
    assert_eq!(back, "at lastend");
}

fn closed(world: &World) {
    let origin = address_of("origin.example");
    let mut open = connect((origin, 443)).unwrap();
    open.write_all(b"E!").unwrap();
    open.read_exact(&mut [0]).unwrap();
    world.stepped();
    // The connection has ended, and no new one is taken: nothing is left that would answer.
    assert!(matches!(open.read(&mut [0]), Ok(0) | Err(_)));
    assert!(page((origin, 443)).is_err());
    assert!(page((origin, 80)).is_err());
    // A question that came in before the socket was closed is lost; a later one is refused.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("127.0.0.1:53").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let refused = (0..100).any(|_| {
        let sent = socket.send(&question("origin.example", 1)).map(drop);
        let ended = sent.and_then(|()| socket.recv(&mut [0; 512]).map(drop));
        ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert!(refused);
}
