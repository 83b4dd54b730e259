//! Everything between which requests go: the origin, the cages, the proxy and its relay.
//!
//! It measures nothing. What it has started ends with it.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use posthouse_net::Rules;
use posthouse_sandbox::{Allowed, Mount, Networking, Place, Rule};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    client::Order,
    entry::{HOSTS, PASSTHROUGH, PLAIN, Way},
    keeper::OneSecret,
    origin, relay,
};
use crate::{
    Outcome, floor::DurableFile, machine, measure::Report, own::Own, peers::Peer, setup::Setup,
};

/// Where a cage finds what it is given.
const UPLOADS: &str = "/mnt/session/uploads";
/// This program, as the client.
const CLIENT: &str = "client";
/// The origin's authority.
const AUTHORITY: &str = "authority.pem";

/// The scene.
pub(crate) struct Scene {
    own: Own,
    /// Unrestricted.
    bytes: Place,
    limited: Place,
    /// Limited, with a keeper that writes.
    written: Place,
    keepers: [Arc<OneSecret>; 2],
    relay: Option<Relay>,
    origin: origin::Hello,
    _origin: Program,
    folder: TempDir,
}

/// The proxy, and the relay on the other side of it.
struct Relay {
    hello: relay::Hello,
    // The relay first: the proxy has its listener.
    inside: Program,
    proxy: Program,
}

impl Scene {
    /// Builds it. Who is missing on this machine is named in the report.
    pub(crate) fn build(setup: &Setup, report: &mut Report) -> Outcome<Self> {
        let folder = setup.make_folder()?;
        let path = folder.path();
        // A relay may be another user in its own world.
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        // A copy, because cages link what they are given: this program's own file stays out of it.
        fs::copy(std::env::current_exe()?, path.join(CLIENT))?;
        fs::set_permissions(path.join(CLIENT), fs::Permissions::from_mode(0o755))?;
        let (_origin, hello) = Program::start(&mut own_program(["play", "origin"])?)?;
        let origin: origin::Hello = serde_json::from_str(&hello)?;
        fs::write(path.join(AUTHORITY), &origin.authority)?;
        let rules = Rules {
            resolve: BTreeMap::from(HOSTS.map(|host| (host.to_owned(), origin.of(host)))),
            trusted_roots: vec![CertificateDer::from_pem_slice(origin.authority.as_bytes())?],
            ..Rules::default()
        };
        let mut own = Own::with_rules(&path.join("sandboxes"), rules)?;
        let keepers = [None, Some(DurableFile::make(path)?)].map(OneSecret::new);
        let mut place = |networking: Networking| {
            let files = [CLIENT, AUTHORITY].map(|name| Mount {
                path: Path::new(UPLOADS).join(name),
                literal: None,
                source: path.join(name),
            });
            Place { networking, mounts: Arc::new(move || Ok(files.to_vec())), ..own.place() }
        };
        let bytes = place(Networking::default());
        let [limited, written] = keepers.each_ref().map(|keeper| {
            let keeper = Arc::clone(keeper);
            Place { keeper, ..place(limited()) }
        });
        let relay = match Relay::start(path, &origin) {
            Ok(relay) => Some(relay),
            Err(failure) => {
                report.note(format!("proxies: {failure}"));
                None
            }
        };
        Ok(Self { own, bytes, limited, written, keepers, relay, origin, _origin, folder })
    }

    /// Whether there is that way on this machine.
    pub(crate) fn has(&self, way: Way) -> bool {
        self.relay.is_some() || !matches!(way, Way::Listener | Way::Relay)
    }

    /// Where a client connects by that way. None where it asks for the host's address.
    pub(crate) fn address(&self, way: Way, secure: bool) -> Option<SocketAddr> {
        let hello = self.relay.as_ref().map(|relay| &relay.hello);
        match way {
            Way::Host if secure => Some(self.origin.secure),
            Way::Host => Some(self.origin.plain),
            Way::Listener => hello.map(|hello| hello.listener),
            Way::Relay => hello.map(|hello| hello.relay),
            Way::Bytes | Way::Limited | Way::Passthrough | Way::Written => None,
        }
    }

    /// Where a client finds the origin's authority.
    pub(crate) fn authority(&self, way: Way) -> PathBuf {
        match way {
            Way::Host | Way::Listener | Way::Relay => self.folder.path().join(AUTHORITY),
            _ => Path::new(UPLOADS).join(AUTHORITY),
        }
    }

    /// How many uses of the secret were told of.
    pub(crate) fn uses(&self) -> usize {
        self.keepers.iter().map(|keeper| keeper.uses()).sum()
    }

    /// Processor time, so far, of whatever stands between client and origin.
    pub(crate) fn processor_seconds(&self, way: Way) -> f64 {
        match (way, &self.relay) {
            (Way::Host, _) | (Way::Listener | Way::Relay, None) => 0.0,
            (Way::Listener | Way::Relay, Some(relay)) => {
                let pids = [relay.proxy.child.id(), relay.hello.pid];
                pids.map(machine::processor_seconds).iter().sum()
            }
            // The doors are in this very process.
            _ => machine::processor_seconds(std::process::id()),
        }
    }

    /// Has a client follow an order.
    pub(crate) fn send(&mut self, way: Way, order: &Order) -> Outcome<Vec<Duration>> {
        let order = serde_json::to_string(order)?;
        let place = match way {
            Way::Host => {
                let mut client = Command::new(self.folder.path().join(CLIENT));
                client.args(["play", "client", &order]).env_clear().stdin(Stdio::null());
                let output = client.output()?;
                if !output.status.success() {
                    return Err(String::from_utf8_lossy(&output.stderr).trim().into());
                }
                return times(&String::from_utf8(output.stdout)?);
            }
            Way::Listener | Way::Relay => {
                let relay = self.relay.as_mut().ok_or("there is no relay")?;
                return times(&relay.inside.ask(&order)?);
            }
            Way::Bytes => &self.bytes,
            Way::Limited | Way::Passthrough => &self.limited,
            Way::Written => &self.written,
        };
        // An order has no quotation mark of this kind in it.
        let command = format!("{UPLOADS}/{CLIENT} play client '{order}'");
        times(&self.own.bash(place, &command)?)
    }
}

/// The networking of a limited environment.
fn limited() -> Networking {
    let rule_of = |host| match host {
        PASSTHROUGH => Rule::Passthrough,
        _ => Rule::AllowedHosts,
    };
    let allowed = HOSTS.map(|host| Allowed { host: host.to_owned(), rule: rule_of(host) });
    Networking { allowed: Some(allowed.to_vec()), passthrough: vec![PASSTHROUGH.to_owned()] }
}

/// A client's answer.
fn times(answer: &str) -> Outcome<Vec<Duration>> {
    let read: Value =
        serde_json::from_str(answer.trim()).map_err(|error| format!("{error}: {answer}"))?;
    if let Some(reason) = read["failed"].as_str() {
        return Err(reason.into());
    }
    let times = read.as_array().ok_or("a client's answer is no list")?;
    Ok(times.iter().filter_map(Value::as_u64).map(Duration::from_nanos).collect())
}

impl origin::Hello {
    /// Where one of the hosts is.
    fn of(&self, host: &str) -> SocketAddr {
        if host == PLAIN { self.plain } else { self.secure }
    }
}

impl Relay {
    /// In a network of its own, made by bubblewrap, as those have it who use this design.
    fn start(folder: &Path, origin: &origin::Hello) -> Outcome<Self> {
        let bubblewrap = Peer::Bubblewrap.find()?;
        let known: relay::Known = HOSTS
            .iter()
            .map(|host| {
                let port = if *host == PLAIN { 80 } else { 443 };
                (format!("{host}:{port}"), origin.of(host))
            })
            .collect::<HashMap<_, _>>();
        let (text, known) = (folder.display().to_string(), serde_json::to_string(&known)?);
        let (proxy, _) = Program::start(&mut own_program(["play", "proxy", &text, &known])?)?;
        let mut command = Command::new(bubblewrap);
        command.args([
            "--unshare-user",
            "--unshare-net",
            "--die-with-parent",
            "--dev-bind",
            "/",
            "/",
        ]);
        command.arg(folder.join(CLIENT)).args(["play", "relay", &text]);
        let (inside, hello) = Program::start(&mut command)?;
        Ok(Self { hello: serde_json::from_str(&hello)?, inside, proxy })
    }
}

fn own_program<const N: usize>(words: [&str; N]) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(words).env_clear();
    Ok(command)
}

/// A program that says a line when it is ready, and another to each that it is told. It ends with
/// its standard input.
struct Program {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it; returns what it says when it is ready.
    fn start(command: &mut Command) -> Outcome<(Self, String)> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("a program without output")?);
        let mut program = Self { child, orders, answers };
        let hello = program.line()?;
        Ok((program, hello))
    }

    fn ask(&mut self, order: &str) -> Outcome<String> {
        writeln!(self.orders.as_mut().ok_or("the program has ended")?, "{order}")?;
        self.line()
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err("it has ended before it said anything".into()),
            _ => Ok(line),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.child.wait();
    }
}
