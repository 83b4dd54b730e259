//! `[sandbox]` and `[egress]` of the file: how tools are caged, and what their door lets out.
//!
//! Reads and checks values, each by the name of its key. Looks at nothing of the host, and opens no
//! file.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use posthouse_sandbox::settings::{Isolation, Limits, Start};
use serde::Deserialize;
use toml::Value;

use crate::Error;

/// How cages are made.
#[derive(Debug, Clone, PartialEq)]
pub struct Sandbox {
    /// How tools are kept apart from the host.
    pub isolation: Isolation,
    /// What one cage may use.
    pub limits: Limits,
    /// How long a cage stays without a call.
    pub warm: Duration,
    /// When a cage is started.
    pub start: Start,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            isolation: Isolation::default(),
            limits: Limits::default(),
            warm: Duration::from_secs(30),
            start: Start::default(),
        }
    }
}

/// What may be reached from here beyond what everybody may, and who is trusted there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// Private networks that may be connected to, as `10.20.0.0/16`.
    pub allow_private: Vec<String>,
    /// Names, in small letters, that mean a fixed address.
    pub resolve: BTreeMap<String, SocketAddr>,
    /// A file of authorities that are trusted beside the system's.
    pub trusted_roots: Option<PathBuf>,
}

/// `[sandbox]`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SandboxEntry {
    isolation: Option<Value>,
    memory: Option<Value>,
    processes: Option<Value>,
    cpus: Option<Value>,
    disk: Option<Value>,
    entries: Option<Value>,
    open_files: Option<Value>,
    file_size: Option<Value>,
    call_seconds: Option<Value>,
    warm_seconds: Option<Value>,
    start: Option<Value>,
}

/// `[egress]`, as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct EgressEntry {
    allow_private: Option<Value>,
    resolve: Option<Value>,
    trusted_roots: Option<Value>,
}

impl SandboxEntry {
    /// Checks every value; what is not there keeps its default.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub(super) fn read(self) -> Result<Sandbox, Error> {
        let mut sandbox = Sandbox::default();
        let limits = &mut sandbox.limits;
        set(&mut sandbox.isolation, self.isolation, |value| {
            choice(
                "sandbox.isolation",
                &value,
                &[("namespaces", Isolation::Namespaces), ("none", Isolation::None)],
            )
        })?;
        set(&mut sandbox.start, self.start, |value| {
            choice("sandbox.start", &value, &[("lazy", Start::Lazy), ("eager", Start::Eager)])
        })?;
        set(&mut limits.memory, self.memory, |value| size("sandbox.memory", &value))?;
        set(&mut limits.disk, self.disk, |value| size("sandbox.disk", &value))?;
        set(&mut limits.file_size, self.file_size, |value| size("sandbox.file_size", &value))?;
        set(&mut limits.processes, self.processes, |value| {
            let key = "sandbox.processes";
            let number = count(key, &value)?;
            u32::try_from(number).map_err(|_| wrong(key, &value, "is too many", "write 512"))
        })?;
        set(&mut limits.entries, self.entries, |value| count("sandbox.entries", &value))?;
        set(&mut limits.open_files, self.open_files, |value| count("sandbox.open_files", &value))?;
        set(&mut limits.cpus, self.cpus, |value| processors("sandbox.cpus", &value))?;
        set(&mut limits.call, self.call_seconds, |value| seconds("sandbox.call_seconds", &value))?;
        set(&mut sandbox.warm, self.warm_seconds, |value| seconds("sandbox.warm_seconds", &value))?;
        Ok(sandbox)
    }
}

impl EgressEntry {
    /// Checks every value. `folder` is where relative paths begin.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key.
    pub(super) fn read(self, folder: &Path) -> Result<Egress, Error> {
        let mut egress = Egress::default();
        if let Some(value) = self.allow_private {
            let key = "egress.allow_private";
            let right = "write a list of networks, [\"10.20.0.0/16\"]";
            let Value::Array(networks) = &value else {
                return Err(wrong(key, &value, "is no list", right));
            };
            for (index, network) in networks.iter().enumerate() {
                let key = format!("{key}[{index}]");
                egress.allow_private.push(read_network(&key, network)?);
            }
        }
        if let Some(value) = self.resolve {
            let key = "egress.resolve";
            let right = "write { \"api.example.test\" = \"127.0.0.1:8443\" }";
            let Value::Table(names) = &value else {
                return Err(wrong(key, &value, "is no table", right));
            };
            for (name, address) in names {
                let key = format!("{key}.{name:?}");
                if !is_host_name(name) {
                    let what = "is for no host name; write it as \"api.example.test\"";
                    return Err(Error::Config(format!("{key}: {what}")));
                }
                let parsed = address.as_str().and_then(|text| text.parse().ok());
                let parsed = parsed.ok_or_else(|| {
                    let right = "write it as \"127.0.0.1:8443\" or \"[::1]:8443\"";
                    wrong(&key, address, "is no address with a port", right)
                })?;
                egress.resolve.insert(name.to_ascii_lowercase(), parsed);
            }
        }
        if let Some(value) = self.trusted_roots {
            egress.trusted_roots = Some(path("egress.trusted_roots", &value, folder)?);
        }
        Ok(egress)
    }
}

pub(super) fn set<T>(
    target: &mut T,
    value: Option<Value>,
    read: impl FnOnce(Value) -> Result<T, Error>,
) -> Result<(), Error> {
    if let Some(value) = value {
        *target = read(value)?;
    }
    Ok(())
}

pub(super) fn wrong(key: &str, value: &Value, what: &str, right: &str) -> Error {
    Error::Config(format!("{key}: {value} {what}; {right}"))
}

/// The path of a file; a relative one begins at `folder`.
pub(super) fn path(key: &str, value: &Value, folder: &Path) -> Result<PathBuf, Error> {
    let text = value.as_str().filter(|text| !text.is_empty());
    let path = text.map(|text| folder.join(text));
    path.ok_or_else(|| {
        let right = "write it as \"name\" in the folder of the configuration, or \"/path/to/name\"";
        wrong(key, value, "is no path of a file", right)
    })
}

fn choice<T: Copy>(key: &str, value: &Value, choices: &[(&str, T)]) -> Result<T, Error> {
    let found = value.as_str().and_then(|text| choices.iter().find(|(name, _)| *name == text));
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
        wrong(key, value, "is not known", &format!("write {}", names.join(" or ")))
    })
}

/// A number of bytes: `"512MiB"`, `"2GiB"`, or bytes alone.
pub(super) fn size(key: &str, value: &Value) -> Result<u64, Error> {
    let bytes = match value {
        Value::Integer(bytes) => u64::try_from(*bytes).ok(),
        Value::String(text) => bytes(text),
        _ => None,
    };
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| {
        let right = "write \"512MiB\", \"2GiB\" or a number of bytes, more than 0";
        wrong(key, value, "is no size", right)
    })
}

fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

pub(super) fn count(key: &str, value: &Value) -> Result<u64, Error> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or_else(|| {
        wrong(key, value, "is no number of them", "write a whole number, at least 1")
    })
}

fn processors(key: &str, value: &Value) -> Result<f64, Error> {
    #[expect(clippy::cast_precision_loss, reason = "nobody has so many processors")]
    let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
    number.filter(|number| number.is_finite() && *number >= 0.01).ok_or_else(|| {
        wrong(key, value, "is no number of processors", "write 2.0, 0.5 or at least 0.01")
    })
}

pub(super) fn seconds(key: &str, value: &Value) -> Result<Duration, Error> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    let number = number.filter(|number| (1..=LONGEST_SECONDS).contains(number));
    number.map(Duration::from_secs).ok_or_else(|| {
        let right = format!("write a whole number from 1 to {LONGEST_SECONDS}");
        wrong(key, value, "is no number of seconds", &right)
    })
}

/// Thirty days. What is longer is a mistake, and clocks can't add any number to now.
const LONGEST_SECONDS: u64 = 30 * 24 * 60 * 60;

fn read_network(key: &str, value: &Value) -> Result<String, Error> {
    let parsed = value.as_str().and_then(|text| {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let prefix: u32 = prefix.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= width).then_some((address, prefix, width))
    });
    let Some((address, prefix, width)) = parsed else {
        return Err(wrong(key, value, "is no network", "write it as 10.20.0.0/16 or fd00::/8"));
    };
    // Bits behind the prefix mean that somebody had a smaller network in mind.
    let bits = match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    let behind = width - prefix;
    let mask = if behind == 128 { u128::MAX } else { (1 << behind) - 1 };
    if bits & mask != 0 {
        let network = bits & !mask;
        #[expect(clippy::cast_possible_truncation, reason = "an IPv4 address has 32 bits")]
        let network = match address {
            IpAddr::V4(_) => IpAddr::V4((network as u32).into()),
            IpAddr::V6(_) => IpAddr::V6(network.into()),
        };
        let right = format!("write {network}/{prefix} or a longer prefix");
        return Err(wrong(key, value, "has bits behind its prefix", &right));
    }
    Ok(format!("{address}/{prefix}"))
}

fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(fine)
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(text: &str) -> Result<Sandbox, String> {
        let entry: SandboxEntry = toml::from_str(text).map_err(|error| error.to_string())?;
        entry.read().map_err(|error| error.to_string())
    }

    fn egress(text: &str) -> Result<Egress, String> {
        let entry: EgressEntry = toml::from_str(text).map_err(|error| error.to_string())?;
        entry.read(Path::new("/etc/house")).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        assert_eq!(sandbox("").unwrap(), Sandbox::default());
        assert_eq!(egress("").unwrap(), Egress::default());
        assert_eq!(Sandbox::default().isolation, Isolation::Namespaces);
        assert_eq!(Sandbox::default().start, Start::Lazy);
    }

    #[test]
    fn every_key_is_read() {
        let read = sandbox(
            "isolation = \"none\"\nmemory = \"512MiB\"\nprocesses = 64\ncpus = 1\n\
             disk = \"3 GiB\"\nentries = 1000\nopen_files = 256\nfile_size = 1048576\n\
             call_seconds = 60\nwarm_seconds = 5\nstart = \"eager\"",
        );
        let limits = Limits {
            memory: 512 << 20,
            processes: 64,
            cpus: 1.0,
            disk: 3 << 30,
            entries: 1000,
            open_files: 256,
            file_size: 1 << 20,
            call: Duration::from_secs(60),
        };
        let warm = Duration::from_secs(5);
        let isolation = Isolation::None;
        assert_eq!(read.unwrap(), Sandbox { isolation, limits, warm, start: Start::Eager });
        let read = egress(
            "allow_private = [\"10.20.0.0/16\", \"fd00::/8\", \"192.168.1.7/32\"]\n\
             resolve = { \"API.example.test\" = \"127.0.0.1:8443\" }\n\
             trusted_roots = \"ca.pem\"",
        );
        let read = read.unwrap();
        assert_eq!(read.trusted_roots.as_deref(), Some(Path::new("/etc/house/ca.pem")));
        assert_eq!(read.allow_private, ["10.20.0.0/16", "fd00::/8", "192.168.1.7/32"]);
        let address = "127.0.0.1:8443".parse().unwrap();
        assert_eq!(read.resolve, BTreeMap::from([("api.example.test".to_owned(), address)]));
    }

    #[test]
    fn every_key_stands_in_the_document_with_its_default() {
        let document = include_str!("../../../../docs/CONFIGURATION.md");
        let rows: BTreeMap<&str, &str> = document
            .lines()
            .filter_map(|line| {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                let key = cells.get(1)?.strip_prefix('`')?.strip_suffix('`')?;
                Some((key, cells.get(4)?.trim_matches('`')))
            })
            .collect();
        let mut keys = Vec::new();
        let unknown = "no_such_key = 1";
        for (table, refusal) in
            [("sandbox", sandbox(unknown).unwrap_err()), ("egress", egress(unknown).unwrap_err())]
        {
            let names = refusal.split('`').skip(3).step_by(2);
            keys.extend(names.map(|name| format!("{table}.{name}")));
        }
        assert_eq!(keys.len(), 14, "{keys:?}");
        let mut written = String::new();
        for key in &keys {
            let default = rows.get(key.as_str());
            let default = default.unwrap_or_else(|| panic!("{key} is not in the document"));
            if let Some(name) = key.strip_prefix("sandbox.") {
                let text = default.starts_with(|letter: char| letter.is_ascii_alphabetic())
                    || default.ends_with("iB");
                let quote = if text { "\"" } else { "" };
                written.push_str(&format!("{name} = {quote}{default}{quote}\n"));
            }
        }
        assert_eq!(sandbox(&written).unwrap(), Sandbox::default());
        let documented =
            rows.keys().filter(|key| key.starts_with("sandbox.") || key.starts_with("egress."));
        assert_eq!(documented.count(), keys.len(), "the document has keys that are not read");
    }

    #[test]
    fn a_bad_value_is_named_with_its_key_and_what_would_be_right() {
        for (text, key, right) in [
            ("isolation = \"docker\"", "sandbox.isolation", "\"namespaces\" or \"none\""),
            ("isolation = true", "sandbox.isolation", "\"namespaces\" or \"none\""),
            ("start = \"soon\"", "sandbox.start", "\"lazy\" or \"eager\""),
            ("memory = \"2 gigs\"", "sandbox.memory", "2GiB"),
            ("memory = \"2GB\"", "sandbox.memory", "2GiB"),
            ("memory = 0", "sandbox.memory", "more than 0"),
            ("memory = -1", "sandbox.memory", "more than 0"),
            ("disk = \"0GiB\"", "sandbox.disk", "more than 0"),
            ("disk = \"99999999999TiB\"", "sandbox.disk", "2GiB"),
            ("file_size = \"\"", "sandbox.file_size", "2GiB"),
            ("processes = 0", "sandbox.processes", "at least 1"),
            ("processes = 99999999999", "sandbox.processes", "512"),
            ("entries = 1.5", "sandbox.entries", "whole number"),
            ("open_files = \"many\"", "sandbox.open_files", "whole number"),
            ("cpus = 0", "sandbox.cpus", "2.0"),
            ("cpus = nan", "sandbox.cpus", "2.0"),
            ("call_seconds = 0", "sandbox.call_seconds", "from 1"),
            ("warm_seconds = 99999999999", "sandbox.warm_seconds", "to 2592000"),
            ("colour = 1", "colour", "isolation"),
        ] {
            let error = sandbox(text).unwrap_err();
            assert!(error.contains(key) && error.contains(right), "{text}: {error}");
        }
        for (text, key, right) in [
            ("allow_private = \"10.0.0.0/8\"", "egress.allow_private", "a list"),
            ("allow_private = [\"10.0.0.0\"]", "egress.allow_private[0]", "10.20.0.0/16"),
            ("allow_private = [\"10.0.0.0/33\"]", "egress.allow_private[0]", "10.20.0.0/16"),
            ("allow_private = [\"10.1.2.3/16\"]", "egress.allow_private[0]", "10.1.0.0/16"),
            ("allow_private = [\"fd00::1/0\"]", "egress.allow_private[0]", "::/0"),
            ("resolve = 1", "egress.resolve", "api.example.test"),
            ("resolve = { \"a b\" = \"127.0.0.1:1\" }", "egress.resolve.\"a b\"", "host name"),
            ("resolve = { \"a.b\" = \"127.0.0.1\" }", "egress.resolve.\"a.b\"", ":8443"),
            ("trusted_roots = [\"a.pem\"]", "egress.trusted_roots", "write it as"),
            ("trusted_roots = \"\"", "egress.trusted_roots", "write it as"),
        ] {
            let error = egress(text).unwrap_err();
            assert!(error.contains(key) && error.contains(right), "{text}: {error}");
        }
    }
}
