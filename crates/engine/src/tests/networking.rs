//! Where cages may connect to, as environments say.

use posthouse_protocol::{
    agent::McpServer,
    environment::{self, package_managers},
};
use posthouse_sandbox::{Networking, Rule};
use serde_json::{Value, json, value::to_raw_value};

use super::script;
use crate::{
    caged::networking::{self, lets_through, of_environment, reaches},
    own::SessionOpened,
};

fn opened(networking: &Value, passthrough: &[&str]) -> SessionOpened {
    let packages = json!({
        "type": "packages", "apt": [], "cargo": [], "gem": [], "go": [], "npm": [], "pip": [],
    });
    let config = json!({ "type": "cloud", "networking": networking, "packages": packages });
    SessionOpened {
        config: to_raw_value(&config).unwrap(),
        passthrough_hosts: passthrough.iter().map(|host| (*host).to_owned()).collect(),
        ..script::opened()
    }
}

fn networking(opened: &SessionOpened) -> serde_json::Result<Networking> {
    networking::networking(opened, &opened.agent.mcp_servers)
}

fn limited(hosts: &[&str], servers: bool, managers: bool) -> Value {
    json!({
        "type": "limited", "allowed_hosts": hosts, "allow_mcp_servers": servers,
        "allow_package_managers": managers,
    })
}

fn list(networking: &Networking) -> Vec<(&str, Rule)> {
    let allowed = networking.allowed.iter().flatten();
    allowed.map(|one| (one.host.as_str(), one.rule)).collect()
}

#[test]
fn the_list_is_what_the_environment_names_and_nothing_else() {
    let open = json!({ "type": "unrestricted" });
    assert_eq!(networking(&opened(&open, &[])).unwrap(), Networking::default());
    let pinned = networking(&opened(&open, &["p.example"])).unwrap();
    assert_eq!((&pinned.allowed, &*pinned.passthrough), (&None, &["p.example".to_owned()][..]));

    let nothing = networking(&opened(&limited(&[], false, false), &[])).unwrap();
    assert_eq!(nothing.allowed, Some(Vec::new()));
    let some = limited(&["A.example", "*.b.example", "10.0.0.1"], false, false);
    let some = networking(&opened(&some, &["p.example"])).unwrap();
    assert_eq!(
        list(&some),
        [
            ("A.example", Rule::AllowedHosts),
            ("*.b.example", Rule::AllowedHosts),
            ("10.0.0.1", Rule::AllowedHosts),
            ("p.example", Rule::Passthrough),
        ]
    );
    let managers = networking(&opened(&limited(&["a.example"], false, true), &[])).unwrap();
    let managers = list(&managers);
    assert_eq!(managers[0], ("a.example", Rule::AllowedHosts));
    let hosts: Vec<_> = managers[1..].iter().map(|(host, _)| *host).collect();
    assert_eq!(hosts, package_managers::hosts().collect::<Vec<_>>());
    assert!(managers[1..].iter().all(|(_, rule)| *rule == Rule::PackageManagers));
}

#[test]
fn mcp_servers_are_those_of_the_agent_and_only_when_they_are_allowed() {
    let server = |url: &str| McpServer::Url { name: "n".into(), url: url.into() };
    for (allow, hosts) in [(false, &[][..]), (true, &["mcp.example", "10.0.0.1"])] {
        let mut opened = opened(&limited(&[], allow, false), &[]);
        opened.agent.mcp_servers = vec![
            server("https://MCP.example./sse?x#y"),
            server("http://10.0.0.1:8080/mcp"),
            server("https://[::1]/mcp"),
            server("no address"),
        ];
        let made = networking(&opened).unwrap();
        let expected: Vec<_> = hosts.iter().map(|host| (*host, Rule::McpServers)).collect();
        assert_eq!(list(&made), expected);
    }
}

#[test]
fn servers_that_a_session_got_later_are_those_that_count() {
    let server = |url: &str| McpServer::Url { name: "n".into(), url: url.into() };
    let mut opened = opened(&limited(&[], true, false), &[]);
    opened.agent.mcp_servers = vec![server("https://first.example")];
    let later = networking::networking(&opened, &[server("https://later.example")]).unwrap();
    assert_eq!(list(&later), [("later.example", Rule::McpServers)]);
    assert_eq!(list(&networking::networking(&opened, &[]).unwrap()), []);
}

#[test]
fn a_server_is_reached_where_its_host_is_allowed_or_all_are() {
    let server = |url: &str| McpServer::Url { name: "n".into(), url: url.into() };
    let stdio = McpServer::Stdio {
        name: "n".into(),
        command: "x".into(),
        args: Vec::new(),
        env: std::collections::BTreeMap::new(),
    };
    let of = |value: Value| of_environment(&opened(&value, &[]).config).unwrap();
    let listed = of(limited(&["A.example", "*.b.example", "10.0.0.1"], false, true));
    for (url, reached) in [
        ("https://a.Example/mcp", true),
        ("http://a.example.:8080", true),
        ("https://x.a.example", false),
        ("https://x.b.example", true),
        ("https://b.example", false),
        ("http://10.0.0.1", true),
        ("http://[::1]", false),
        // What package managers need is no way for servers.
        ("https://pypi.org", false),
    ] {
        assert_eq!(reaches(&listed, &server(url)), reached, "{url}");
    }
    assert!(reaches(&listed, &stdio));
    let all = of(limited(&[], true, false));
    for open in [&all, &environment::Networking::Unrestricted] {
        assert!(
            reaches(open, &server("https://x.example")) && reaches(open, &server("http://[::1]"))
        );
    }
}

#[test]
fn a_value_gets_where_the_door_lets_it_through_and_looks_into_it() {
    let hosts = limited(&["a.example", "*.b.example", "x.c.example"], false, false);
    let listed = networking(&opened(&hosts, &["p.b.example", "q.example"])).unwrap();
    for (entry, reached) in [
        ("a.example", true),
        ("A.EXAMPLE", true),
        ("z.a.example", false),
        ("*.a.example", false),
        ("b.example", false),
        ("y.b.example", true),
        ("*.b.example", true),
        ("*.y.b.example", true),
        // One below it is enough.
        ("*.c.example", true),
        ("*.example", true),
        // What is carried unopened has nothing put into it.
        ("p.b.example", false),
        ("q.example", false),
        ("other.example", false),
    ] {
        assert_eq!(lets_through(&listed, entry), reached, "{entry}");
    }
    let open = json!({ "type": "unrestricted" });
    let open = networking(&opened(&open, &["*.p.example", "q.example"])).unwrap();
    for (entry, reached) in [
        ("a.example", true),
        ("q.example", false),
        ("*.x.p.example", false),
        ("*.p.example", false),
        ("p.example", true),
    ] {
        assert_eq!(lets_through(&open, entry), reached, "{entry}");
    }
}
