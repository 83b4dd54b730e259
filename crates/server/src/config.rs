//! The configuration: one TOML file, below the environment, below the flags.
//!
//! Read once at start. Unknown keys are refused by name; every key is described in
//! `docs/CONFIGURATION.md`. Keys of providers are never in the file, only the names of the
//! variables that hold them.

mod mcp;
mod providers;
mod sandbox;
mod vault;
mod web;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use posthouse_model::{Catalog, Providers};
use serde::Deserialize;

pub use mcp::Mcp;
pub use providers::ListedProvider;
pub use sandbox::{Egress, Sandbox};
pub use vault::{Transit, Vault};
pub use web::Web;

use crate::Error;

/// Where the server listens unless told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8787";

/// The program that runs, whatever lies at its path by now.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// What is told unless somebody says otherwise. `h2` and `rmcp` warn of what their peers do, and those
/// could do it all day; `rmcp` quotes servers, which may repeat a credential, and what it has to say is
/// told by who uses it.
const LOG: &str = "warn,posthouse=info,rmcp=off,h2=error";

/// How a variable of the environment is read.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What was said on the command line.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--listen`.
    pub listen: Option<String>,
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--config`.
    pub config: Option<PathBuf>,
}

/// Everything that a server needs to know to start.
#[derive(Clone)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The data folder.
    pub data: PathBuf,
    /// What to write to standard error, in the language of `tracing`'s filters.
    pub log: String,
    /// `POSTHOUSE_API_KEY`.
    pub api_key: Option<String>,
    /// The models' providers.
    pub providers: Providers,
    /// Bounds on what one turn may do.
    pub limits: Limits,
    /// How tools are caged.
    pub sandbox: Sandbox,
    /// What cages may reach.
    pub egress: Egress,
    /// Where the root keys of vaults are.
    pub vault: Vault,
    /// What the tools of the web may take, and who searches.
    pub web: Web,
    /// The MCP servers of agents, and the server as one.
    pub mcp: Mcp,
    /// The program that is executed as the launcher of cages: this very one.
    pub helper: PathBuf,
    /// Bounds on files.
    pub files: Files,
    /// Whether sessions are worked on. The demo switches it off to show that it matters.
    pub harness: bool,
}

/// Bounds on what one turn may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How many model requests one turn may take.
    pub model_requests_per_turn: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { model_requests_per_turn: 500 }
    }
}

/// Bounds on files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// How many bytes one file may have.
    pub max_bytes: u64,
    /// How many bytes all files may have together.
    pub quota_bytes: u64,
}

impl Files {
    /// Refuses what no file can fit into.
    fn check(self) -> Result<Self, Error> {
        for (name, bytes) in [("max_bytes", self.max_bytes), ("quota_bytes", self.quota_bytes)] {
            if bytes == 0 {
                return Err(Error::Config(format!("files.{name}: is 0; write at least 1")));
            }
        }
        Ok(self)
    }
}

impl Default for Files {
    fn default() -> Self {
        Self { max_bytes: 500 << 20, quota_bytes: 1 << 40 }
    }
}

/// The file, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    listen: Option<String>,
    data: Option<PathBuf>,
    log: Option<String>,
    limits: Limits,
    sandbox: sandbox::SandboxEntry,
    egress: sandbox::EgressEntry,
    vault: vault::VaultEntry,
    web: web::WebEntry,
    mcp: mcp::McpEntry,
    files: Files,
    providers: BTreeMap<String, providers::ProviderEntry>,
    discover_ollama: bool,
    models: toml::Table,
    /// Where the file is: relative paths in it begin there.
    #[serde(skip)]
    folder: PathBuf,
}

impl Default for File {
    fn default() -> Self {
        Self {
            listen: None,
            data: None,
            log: None,
            limits: Limits::default(),
            sandbox: sandbox::SandboxEntry::default(),
            egress: sandbox::EgressEntry::default(),
            vault: vault::VaultEntry::default(),
            web: web::WebEntry::default(),
            mcp: mcp::McpEntry::default(),
            files: Files::default(),
            providers: BTreeMap::new(),
            discover_ollama: true,
            models: toml::Table::new(),
            folder: PathBuf::new(),
        }
    }
}

impl Config {
    /// Puts file, environment and flags together.
    ///
    /// # Errors
    /// [`Error::Config`] that names the key or variable, [`Error::ConfigFile`].
    pub fn load(flags: &Flags, variables: Variables<'_>) -> Result<Self, Error> {
        let variable = |name: &str| variables(name).filter(|value| !value.trim().is_empty());
        let file = File::find(flags, &variable)?;
        let listen = flags
            .listen
            .clone()
            .or_else(|| variable("POSTHOUSE_LISTEN"))
            .or_else(|| file.listen.clone())
            .unwrap_or_else(|| DEFAULT_LISTEN.to_owned());
        let listen: SocketAddr = listen.parse().map_err(|_| {
            Error::Config(format!(
                "listen: {listen:?} is no address; write it as {DEFAULT_LISTEN} or [::1]:8787"
            ))
        })?;
        if file.limits.model_requests_per_turn == 0 {
            return Err(Error::Config(
                "limits.model_requests_per_turn: is 0; write at least 1".into(),
            ));
        }
        let providers = providers::read(
            &file.providers,
            file.discover_ollama,
            file.catalog()?,
            listen,
            &variable,
        )?;
        let door = |model: &str| {
            let resolved = providers.resolve(model).map_err(|error| error.to_string())?;
            let name = resolved.provider.name();
            let door = providers::door(&file.providers, name, &variable);
            let door = door.ok_or_else(|| format!("{name} has no search"))?;
            Ok((resolved.model, door))
        };
        Ok(Self {
            listen,
            data: file.data_folder(flags, &variable)?,
            web: file.web.read(&door, &variable)?,
            providers,
            log: variable("POSTHOUSE_LOG").or(file.log).unwrap_or_else(|| LOG.to_owned()),
            api_key: variable("POSTHOUSE_API_KEY").map(|key| key.trim().to_owned()),
            limits: file.limits,
            sandbox: file.sandbox.read()?,
            egress: file.egress.read(&file.folder)?,
            vault: file.vault.read(&file.folder, &variable)?,
            mcp: file.mcp.read()?,
            helper: OWN_PROGRAM.into(),
            files: file.files.check()?,
            harness: true,
        })
    }

    /// Where the data is, by the same rules and without looking at the rest.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn data_folder(flags: &Flags, variables: Variables<'_>) -> Result<PathBuf, Error> {
        let variable = |name: &str| variables(name).filter(|value| !value.trim().is_empty());
        File::find(flags, &variable)?.data_folder(flags, &variable)
    }

    /// How tools are caged, by the same rules and without looking at the rest.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn sandbox(flags: &Flags, variables: Variables<'_>) -> Result<Sandbox, Error> {
        let variable = |name: &str| variables(name).filter(|value| !value.trim().is_empty());
        File::find(flags, &variable)?.sandbox.read()
    }

    /// The providers that are configured, whether or not they can be used: which variable holds
    /// each one's key, and whether it is set. One that may be found is not among them.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::ConfigFile`].
    pub fn listed_providers(
        flags: &Flags,
        variables: Variables<'_>,
    ) -> Result<Vec<ListedProvider>, Error> {
        let variable = |name: &str| variables(name).filter(|value| !value.trim().is_empty());
        Ok(providers::listed(&File::find(flags, &variable)?.providers, &variable))
    }
}

impl File {
    /// Reads the file that is named, or the one at the usual place if it is there.
    fn find(flags: &Flags, variable: Variables<'_>) -> Result<Self, Error> {
        let named =
            flags.config.clone().or_else(|| variable("POSTHOUSE_CONFIG").map(PathBuf::from));
        let usual = || {
            let folder = folder_of(variable, "XDG_CONFIG_HOME", ".config")?;
            Some(folder.join("config.toml")).filter(|path| path.exists())
        };
        let Some(path) = named.or_else(usual) else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(&path)
            .map_err(|source| Error::ConfigFile { path: path.clone(), source })?;
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { folder, ..Self::parse(&text, &path)? })
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| {
            Error::Config(format!("{}: {}", path.display(), error.to_string().trim()))
        })
    }

    fn data_folder(&self, flags: &Flags, variable: Variables<'_>) -> Result<PathBuf, Error> {
        flags
            .data
            .clone()
            .or_else(|| variable("POSTHOUSE_DATA").map(PathBuf::from))
            .or_else(|| self.data.clone())
            .or_else(|| folder_of(variable, "XDG_DATA_HOME", ".local/share"))
            .ok_or_else(|| {
                Error::Config("data: neither XDG_DATA_HOME nor HOME is set; name a folder".into())
            })
    }

    fn catalog(&self) -> Result<Catalog, Error> {
        if self.models.is_empty() {
            return Ok(Catalog::built_in());
        }
        let mut table = toml::Table::new();
        table.insert("models".into(), self.models.clone().into());
        Catalog::with_overrides(&table.to_string())
            .map_err(|error| Error::Config(format!("models: {error}")))
    }
}

/// A folder of ours by the XDG base directory rules, which ignore relative paths.
fn folder_of(variable: Variables<'_>, name: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |path: String| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let base = variable(name)
        .and_then(absolute)
        .or_else(|| variable("HOME").and_then(absolute).map(|home| home.join(below_home)))?;
    Some(base.join("posthouse"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let mut variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        variables.entry("HOME").or_insert("/home/somebody");
        let read = |name: &str| variables.get(name).map(|value| (*value).to_owned());
        let flags = Flags { config: Some(path), ..Flags::default() };
        Config::load(&flags, &read).map_err(|error| error.with_causes())
    }

    #[test]
    fn everything_has_a_default() {
        let config = load("", &[]).unwrap();
        assert_eq!(config.listen.to_string(), DEFAULT_LISTEN);
        assert_eq!(config.data, Path::new("/home/somebody/.local/share/posthouse"));
        assert_eq!(config.limits.model_requests_per_turn, 500);
        assert_eq!(config.files, Files { max_bytes: 524_288_000, quota_bytes: 1_099_511_627_776 });
        assert!(config.providers.names().is_empty());
        assert!(config.log.ends_with(",rmcp=off,h2=error"), "peers write no log: {}", config.log);
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let file = "listen = \"127.0.0.1:1\"\ndata = \"/file\"";
        assert_eq!(load(file, &[]).unwrap().listen.port(), 1);
        let with = load(file, &[("POSTHOUSE_LISTEN", "127.0.0.1:2"), ("POSTHOUSE_DATA", "/env")]);
        let with = with.unwrap();
        assert_eq!((with.listen.port(), with.data.as_path()), (2, Path::new("/env")));
        let flags = Flags { listen: Some("127.0.0.1:3".into()), ..Flags::default() };
        let read = |name: &str| {
            [("POSTHOUSE_LISTEN", "127.0.0.1:2"), ("HOME", "/h"), ("XDG_DATA_HOME", "relative")]
                .into_iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| value.to_owned())
        };
        let config = Config::load(&flags, &read).unwrap();
        assert_eq!(config.listen.port(), 3);
        assert_eq!(config.data, Path::new("/h/.local/share/posthouse"));
    }

    #[test]
    fn files_are_named_from_the_folder_of_the_one_that_names_them() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "egress.trusted_roots = \"ca.pem\"\nvault.key_file = \"a.key\"")
            .unwrap();
        let flags = Flags { config: Some(path), ..Flags::default() };
        let home = |name: &str| (name == "HOME").then(|| "/h".to_owned());
        let config = Config::load(&flags, &home).unwrap();
        assert_eq!(config.egress.trusted_roots, Some(folder.path().join("ca.pem")));
        assert_eq!(config.vault.file(&config.data), Some(folder.path().join("a.key")));
    }

    #[test]
    fn a_key_of_your_own_may_come_out_of_a_file_with_a_line_end() {
        let key = |text| load("", &[("POSTHOUSE_API_KEY", text)]).unwrap().api_key;
        assert_eq!(key(" secret\n").as_deref(), Some("secret"));
        assert_eq!(key(" \n"), None);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (text, name) in [
            ("lisen = \"x\"", "lisen"),
            ("[limits]\nturns = 1", "turns"),
            ("[providers.a]\nkind = \"anthropic\"\ncolour = 1", "colour"),
            ("[providers.a]\nkind = \"other\"", "other"),
            ("[models.\"m\"]\ncolour = 1", "colour"),
            ("listen = \"here\"", "listen"),
            ("[limits]\nmodel_requests_per_turn = 0", "limits.model_requests_per_turn"),
            ("[mcp]\nname = 1", "name"),
            ("[mcp]\nnames = [\"https://a.example\"]", "mcp.names"),
            ("[files]\nmax = 1", "max"),
            ("[files]\nquota_bytes = 0", "files.quota_bytes"),
            ("[vault]\nkey = 1", "key"),
            ("[web]\nsearches = 1", "searches"),
            ("[web.search]\nbackend = \"brave\"", "BRAVE_API_KEY"),
            ("[mcp]\nseconds = 1", "seconds"),
            ("[mcp]\ntools = 0", "mcp.tools"),
            ("[vault.aws]\nkey_id = \"a\"", "aws"),
            ("[egress]\ntrusted_roots = 1", "egress.trusted_roots"),
        ] {
            let error = load(text, &[]).err().unwrap();
            assert!(error.contains(name), "{text}: {error}");
        }
    }
}
