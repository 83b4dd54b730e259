//! The door between a cage and a world outside, each in namespaces of its own.
//!
//! In the world outside every address is local: the internet, its private networks and its
//! metadata addresses are all played by one origin, and nothing can leave.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use posthouse_net::Rules;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener as Listener,
    runtime::Runtime,
};

use super::{places::CONNECTIONS, *};
use crate::{
    inside::{network::Ports, trial},
    settings::Allowed,
};

mod cage;
mod client;
mod inside_web;
mod origin;
mod web;
mod witness;

pub(crate) use cage::inside;
use witness::Witness;

/// Where the origin listens, at every address.
const ORIGIN: u16 = 7777;
/// Bytes of the large download.
const LARGE: usize = 50 << 20;

#[test]
fn a_name_leads_to_its_origin_at_any_port() {
    trial::play("outside:names");
}

#[test]
fn addresses_that_are_not_public_are_refused_and_never_dialled() {
    trial::play("outside:refused");
}

#[test]
fn under_a_list_nothing_else_gets_out_and_no_name_to_a_resolver() {
    trial::play("outside:limited");
}

#[test]
fn bytes_pass_whole_in_numbers_and_to_their_ends() {
    trial::play("outside:load");
}

#[test]
fn hostile_questions_bring_nothing_down() {
    trial::play("outside:hostile");
}

#[test]
fn no_cage_has_more_connections_than_its_places() {
    trial::play("outside:places");
}

#[test]
fn a_closed_door_ends_what_went_through_it() {
    trial::play("outside:closed");
}

#[test]
fn http_passes_whole_in_all_its_forms() {
    trial::play("outside:http");
}

#[test]
fn a_request_that_names_another_host_goes_nowhere() {
    trial::play("outside:held");
}

#[test]
fn what_is_not_http_and_what_smuggles_goes_nowhere() {
    trial::play("outside:spoken");
}

#[test]
fn whoever_is_blocked_is_told_in_words_also_within_tls() {
    trial::play("outside:blocked");
}

#[test]
fn the_tls_of_a_pinned_client_passes_by_its_name_alone() {
    trial::play("outside:pinned");
}

#[test]
fn a_value_takes_its_placeholders_place_where_it_may_and_nowhere_else() {
    trial::play("outside:secrets");
}

#[test]
fn without_a_list_only_what_may_need_a_secret_is_looked_into() {
    trial::play("outside:open");
}

#[test]
fn an_origin_that_is_not_to_be_trusted_or_reached_is_told_within_tls() {
    trial::play("outside:origins");
}

/// A list of hosts.
fn limited(hosts: &[&str]) -> Networking {
    let allowed = |host: &&str| Allowed { host: (*host).to_owned(), rule: Rule::AllowedHosts };
    Networking { allowed: Some(hosts.iter().map(allowed).collect()), passthrough: vec![] }
}

struct Outside {
    // Before the runtime, which ends in its own time.
    _origins: JoinSet<()>,
    runtime: Runtime,
}

/// The half of a scene that plays outside.
pub(crate) fn outside(scene: &str) {
    crate::inside::network::make_every_address_local().unwrap();
    let runtime = Runtime::new().unwrap();
    let mut origins = JoinSet::new();
    let mut outside_web = None;
    if web::SCENES.contains(&scene) {
        let origin = Arc::new(origin::Origin::new());
        for port in [80, 443] {
            let listener = runtime.block_on(Listener::bind(("0.0.0.0", port))).unwrap();
            origins.spawn_on(Arc::clone(&origin).serve(listener, port == 443), runtime.handle());
        }
        let greeter = runtime.block_on(Listener::bind(("0.0.0.0", 25))).unwrap();
        origins.spawn_on(origin::greet(greeter), runtime.handle());
        outside_web = Some(origin);
    }
    let raw: &[u16] = if outside_web.is_some() { &[ORIGIN] } else { &[80, 443, ORIGIN] };
    for port in raw {
        let listener = runtime.block_on(Listener::bind(("0.0.0.0", *port))).unwrap();
        origins.spawn_on(raw_origin(listener), runtime.handle());
    }
    let outside = Outside { runtime, _origins: origins };
    if let Some(origin) = outside_web {
        return web::play(&outside, &origin, scene);
    }
    match scene {
        "names" => outside.names(),
        "refused" => outside.refused(),
        "limited" => outside.limited(),
        "load" => outside.load(),
        "hostile" => outside.hostile(),
        "places" => outside.places(),
        "closed" => outside.closed(),
        _ => panic!("no such scene: {scene}"),
    }
}

/// Does as the first byte of a connection says.
async fn raw_origin(listener: Listener) {
    let mut connections = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            match stream.read_u8().await? {
                // Echoes up to the end, and says that it has seen it.
                b'E' => {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await?;
                    to.write_all(b"end").await?;
                }
                // Sends a lot.
                b'L' => {
                    for start in (0..LARGE).step_by(1 << 16) {
                        stream.write_all(&cage::pattern(start, 1 << 16)).await?;
                    }
                }
                // Breaks.
                b'R' => stream.set_zero_linger()?,
                // Looks like a page.
                _ => {
                    stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nthe origin").await?;
                    stream.shutdown().await?;
                    // What is closed before it was read ends as a break.
                    tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
                }
            }
            Ok::<_, io::Error>(())
        });
    }
}

impl Outside {
    fn guard(&self) -> Guard {
        let origin = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), ORIGIN);
        let names = ["origin.example", "a.b.origin.example", "other.example"];
        let resolve = names.map(|name| (name.to_owned(), origin)).into();
        let own = vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 443)];
        Guard::new(Rules { resolve, ..Rules::default() }, own)
    }

    /// Opens the door of a new cage.
    fn cage(
        &self,
        scene: &str,
        policy: &Networking,
        guard: &Guard,
    ) -> (Door, Arc<Witness>, trial::Inside) {
        let witness = Arc::new(Witness::default());
        let authority = Arc::new(Authority::new().unwrap());
        let (door, inside) = self.cage_with(scene, policy, guard, &witness, authority);
        (door, witness, inside)
    }

    /// The same with a keeper and an authority.
    fn cage_with(
        &self,
        scene: &str,
        policy: &Networking,
        guard: &Guard,
        witness: &Arc<Witness>,
        authority: Arc<Authority>,
    ) -> (Door, trial::Inside) {
        let (inside, listeners, dns, ports) = trial::start(scene);
        assert_eq!(ports, Ports::All);
        let _within = self.runtime.enter();
        let keeper = Arc::clone(witness) as Arc<dyn Keeper>;
        let door = Door::open(listeners, dns, policy, guard, keeper, authority).unwrap();
        (door, inside)
    }

    fn names(&self) {
        let guard = self.guard();
        let (door, witness, inside) = self.cage("names", &Networking::default(), &guard);
        inside.finish();
        let record = witness.decisions();
        assert!(record.iter().all(|decision| decision.allowed), "{record:?}");
        assert!(record.contains(&Decision {
            host: "origin.example".to_owned(),
            port: Some(65535),
            allowed: true,
            rule: Rule::Unrestricted,
        }));
        // And an address without a name.
        assert!(record.iter().any(|decision| decision.host == "93.184.216.34"));
        assert_eq!(door.counts(), Counts { allowed: record.len() as u64, denied: 0 });
        assert_eq!(guard.looked_up(), 0);
    }

    fn refused(&self) {
        // The positive control: out here all of them answer.
        for (address, port) in cage::REFUSED {
            let mut stream = TcpStream::connect((*address, *port)).unwrap();
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            let mut page = String::new();
            stream.read_to_string(&mut page).unwrap();
            assert!(page.ends_with("the origin"), "{address}: {page}");
        }
        // Loopback out here is open, and not what a cage means by it.
        let own = vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 443)];
        let loopback = vec!["127.0.0.0/8".parse().unwrap()];
        let guard = Guard::new(Rules { allow_private: loopback, ..Rules::default() }, own);
        let (door, witness, inside) = self.cage("refused", &Networking::default(), &guard);
        inside.finish();
        assert_eq!((guard.looked_up(), guard.dialled()), (0, 0));
        assert_eq!(door.counts().allowed, 0);
        let record = witness.decisions();
        for (address, port) in cage::REFUSED {
            let decided =
                |decision: &Decision| decision.host == *address && decision.port == Some(*port);
            assert!(record.iter().any(decided), "{address}: {record:?}");
        }
    }

    fn limited(&self) {
        let guard = self.guard();
        let (door, witness, inside) = self.cage("nothing", &limited(&[]), &guard);
        inside.finish();
        assert_eq!((guard.looked_up(), guard.dialled()), (0, 0));
        assert_eq!(door.counts().allowed, 0);
        // However often and in whatever way a name is asked for, it is one refusal.
        let asked = |decision: &&Decision| {
            decision.host == "secret.evil.example"
                && decision.port.is_none()
                && decision.rule == Rule::NotListed
        };
        assert_eq!(witness.decisions().iter().filter(asked).count(), 1);
        let list = limited(&["*.ORIGIN.example", "other.example", "93.184.216.34"]);
        let (door, witness, inside) = self.cage("limited", &list, &guard);
        inside.finish();
        assert_eq!((guard.looked_up(), guard.dialled()), (0, 5));
        assert_eq!(door.counts().allowed, 5);
        for (host, port, rule) in [
            ("93.184.216.34", 7777, Rule::Port),
            ("93.184.216.35", 80, Rule::NotListed),
            ("origin.example", 80, Rule::NotListed),
        ] {
            let refused =
                Decision { host: host.to_owned(), port: Some(port), allowed: false, rule };
            assert!(witness.decisions().contains(&refused), "{refused:?}");
        }
        // The positive control: without a list the same name would be looked up. The resolver is
        // out of reach out here, which is all the same.
        let _ = self.runtime.block_on(guard.resolve("secret.evil.invalid"));
        assert_eq!(guard.looked_up(), 1);
    }

    fn load(&self) {
        let (door, _, inside) = self.cage("load", &Networking::default(), &self.guard());
        inside.finish();
        assert_eq!(door.counts(), Counts { allowed: cage::PARALLEL as u64 + 4, denied: 0 });
    }

    fn hostile(&self) {
        let (_door, _, inside) = self.cage("hostile", &Networking::default(), &self.guard());
        inside.finish();
    }

    fn places(&self) {
        let (door, _, mut inside) = self.cage("places", &Networking::default(), &self.guard());
        inside.step();
        while door.counts().allowed < CONNECTIONS as u64 {
            std::thread::sleep(Duration::from_millis(5));
        }
        // All places are taken, and more connections wait. Nobody is let through meanwhile.
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(door.counts().allowed, CONNECTIONS as u64);
        inside.finish();
        assert!(door.counts().allowed > CONNECTIONS as u64);
    }

    fn closed(&self) {
        let (door, _, mut inside) = self.cage("closed", &Networking::default(), &self.guard());
        inside.step();
        drop(door);
        inside.finish();
    }
}
