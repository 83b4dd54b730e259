//! Environments as bodies make and change them, and as they are shown.

use serde_json::{Value, json};

use super::*;

const AT: Micros = Micros(1_763_600_000_000_000);
const LATER: Micros = Micros(1_763_600_001_000_000);

fn create(body: Value) -> Result<Environment, ApiError> {
    parse_create(Fields::open(body, "").unwrap(), "env_1".into(), AT)
}

fn update(current: &Environment, body: Value) -> Result<Environment, ApiError> {
    apply_update(current, Fields::open(body, "").unwrap(), LATER)
}

fn message(result: Result<Environment, ApiError>) -> String {
    result.unwrap_err().message
}

#[test]
fn a_bare_environment_is_written_out_in_full() {
    let environment = create(json!({ "name": "e" })).unwrap();
    let shown = serde_json::to_value(&environment).unwrap();
    assert_eq!(
        shown,
        json!({
            "type": "environment", "id": "env_1", "name": "e", "description": null,
            "config": {
                "type": "cloud",
                "networking": { "type": "unrestricted" },
                "packages": {
                    "type": "packages",
                    "apt": [], "cargo": [], "gem": [], "go": [], "npm": [], "pip": [],
                },
            },
            "metadata": {}, "scope": "organization",
            "created_at": "2025-11-20T00:53:20.000000Z",
            "updated_at": "2025-11-20T00:53:20.000000Z",
            "archived_at": null,
        })
    );
    assert_eq!(serde_json::from_value::<Environment>(shown).unwrap(), environment);
    for config in [json!(null), json!({ "type": "anthropic_cloud" }), json!({"type": "cloud"})] {
        let with = create(json!({ "name": "e", "config": config })).unwrap();
        assert_eq!(with, environment);
    }
}

/// The networking of what came out.
fn networking(result: Result<Environment, ApiError>) -> Value {
    serde_json::to_value(result.unwrap()).unwrap()["config"]["networking"].take()
}

/// The body of a `limited` environment, with these members.
fn limited(members: Value) -> Value {
    let mut networking = members;
    networking["type"] = "limited".into();
    json!({ "name": "e", "config": { "type": "cloud", "networking": networking } })
}

#[test]
fn limited_networking_is_written_out_in_full() {
    let nothing = json!({
        "type": "limited", "allowed_hosts": [], "allow_mcp_servers": false,
        "allow_package_managers": false,
    });
    for members in [
        json!({}),
        json!({ "allowed_hosts": [], "allow_mcp_servers": false, "allow_package_managers": null }),
        json!({ "allowed_hosts": null, "allow_mcp_servers": null }),
    ] {
        assert_eq!(networking(create(limited(members))), nothing);
    }
    // As it was sent: in its letters, in its order, and what is there twice is there twice.
    let hosts =
        json!(["API.Example.com", "*.example.org", "10.1.2.3", "api.example.com", "a", "a"]);
    let all = json!({
        "type": "limited", "allowed_hosts": hosts, "allow_mcp_servers": true,
        "allow_package_managers": true,
    });
    assert_eq!(networking(create(limited(all.clone()))), all);
    let most = json!({ "allowed_hosts": vec!["a.example"; 1000] });
    assert!(create(limited(most)).is_ok());
}

#[test]
fn a_change_of_a_limited_network_keeps_what_is_not_sent() {
    let first = json!({
        "allowed_hosts": ["a.example"], "allow_mcp_servers": true, "allow_package_managers": true,
    });
    let before = create(limited(first.clone())).unwrap();
    let mut full = first;
    full["type"] = "limited".into();
    let change = |members: Value| {
        let mut body = limited(members);
        body.as_object_mut().unwrap().shift_remove("name");
        networking(update(&before, body))
    };
    for nothing in [
        json!({}),
        json!({
            "allowed_hosts": null, "allow_mcp_servers": null, "allow_package_managers": null,
        }),
    ] {
        assert_eq!(change(nothing), full);
    }
    for (name, value) in [
        ("allowed_hosts", json!([])),
        ("allowed_hosts", json!(["b.example"])),
        ("allow_mcp_servers", json!(false)),
        ("allow_package_managers", json!(false)),
    ] {
        let mut expected = full.clone();
        expected[name] = value.clone();
        assert_eq!(change(json!({ name: value })), expected);
    }
    // Another type begins with its defaults, there and back.
    let open = json!({ "config": { "type": "cloud", "networking": { "type": "unrestricted" } } });
    let open = update(&before, open).unwrap();
    let back = json!({
        "config": { "type": "cloud", "networking": { "type": "limited", "allow_mcp_servers": true } },
    });
    let shown = networking(update(&open, back));
    let expected = json!({
        "type": "limited", "allowed_hosts": [], "allow_mcp_servers": true,
        "allow_package_managers": false,
    });
    assert_eq!(shown, expected);
    assert_eq!(
        update(&before, json!({ "config": { "networking": null, "type": "cloud" } })),
        Ok(before)
    );
}

#[test]
fn hosts_that_are_none_are_refused_with_their_place() {
    let refused = |hosts: Value| message(create(limited(json!({ "allowed_hosts": hosts }))));
    assert_eq!(
        refused(json!(["a.example", "example.com:443"])),
        "`allowed_hosts` entry \"example.com:443\" contains a port. Entries must be bare hostnames \
         without ports."
    );
    assert_eq!(
        refused(json!(["https://example.com"])),
        "`allowed_hosts` entry \"https://example.com\" contains a URL scheme. Entries must be bare \
         hostnames like \"google.com\"."
    );
    let place = "config.networking.allowed_hosts";
    for (hosts, start) in [
        (json!("a.example"), ": is a text; send a list"),
        (json!(["a.example", 7]), "[1]: is a number; send a name"),
        (json!([""]), "[0]: is empty; send a name"),
        (json!(["a.example/x"]), "[0]: \"a.example/x\" contains a path; send a name"),
        (json!(["::1"]), "[0]: \"::1\" is an IPv6 address, or no host at all; send a name"),
        (json!(vec!["a"; 1001]), ": has 1001 entries; send 0 to 1000"),
    ] {
        let refused = refused(hosts);
        assert!(refused.starts_with(&format!("{place}{start}")), "{refused}");
    }
}

#[test]
fn passthrough_hosts_are_shown_when_there_are_any() {
    let with = |posthouse: Value| create(json!({ "name": "e", "posthouse": posthouse }));
    let shown = |environment: &Environment| {
        serde_json::to_value(environment)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .shift_remove("posthouse")
    };
    let none = create(json!({ "name": "e" })).unwrap();
    for nothing in [
        json!(null),
        json!({}),
        json!({ "passthrough_hosts": null }),
        json!({ "passthrough_hosts": [] }),
    ] {
        assert_eq!(with(nothing).unwrap(), none);
    }
    assert_eq!(shown(&none), None);
    let hosts = json!({ "passthrough_hosts": ["Pinned.example", "*.b.example"] });
    let before = with(hosts.clone()).unwrap();
    assert_eq!(shown(&before), Some(hosts.clone()));
    let read: Environment = serde_json::from_value(serde_json::to_value(&before).unwrap()).unwrap();
    assert_eq!(read, before);
    for (change, after) in [
        (json!({}), Some(hosts.clone())),
        (json!({ "posthouse": {} }), Some(hosts)),
        (json!({ "posthouse": null }), None),
        (json!({ "posthouse": { "passthrough_hosts": null } }), None),
        (json!({ "posthouse": { "passthrough_hosts": [] } }), None),
        (
            json!({ "posthouse": { "passthrough_hosts": ["c.example"] } }),
            Some(json!({ "passthrough_hosts": ["c.example"] })),
        ),
    ] {
        assert_eq!(shown(&update(&before, change).unwrap()), after);
    }
    let refused = message(with(json!({ "passthrough_hosts": ["10.0.0.1"] })));
    assert!(
        refused
            .starts_with("posthouse.passthrough_hosts[0]: \"10.0.0.1\" is an address; send a name"),
        "{refused}"
    );
    let refused = message(with(json!({ "passthrough_hosts": ["a.example:443"] })));
    assert!(refused.starts_with("`passthrough_hosts` entry \"a.example:443\" contains a port."));
    let refused = message(with(json!({ "pass": [] })));
    assert_eq!(refused, "Failed to parse request body: unknown field \"posthouse.pass\"");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let cloud = |config: Value| create(json!({ "name": "e", "config": config }));
    assert!(
        message(cloud(json!({ "type": "self_hosted" })))
            .starts_with("config.type: self_hosted is not supported")
    );
    assert!(
        message(cloud(json!({ "type": "cloud", "packages": { "pip": ["numpy"] } })))
            .starts_with("config.packages.pip: is not supported")
    );
    assert!(message(create(json!({ "name": "e", "scope": "account" }))).contains("account"));
    assert!(create(json!({ "name": "e", "scope": null })).is_ok());
    assert_eq!(
        message(cloud(
            json!({ "type": "cloud", "networking": { "type": "unrestricted", "x": 1 } })
        )),
        "Failed to parse request body: unknown field \"config.networking.x\""
    );
    assert!(message(create(json!({}))).starts_with("name: is missing"));
}

#[test]
fn an_update_keeps_what_is_not_sent() {
    let before = create(json!({
        "name": "e", "description": "d", "metadata": { "a": "1", "b": "2" },
        "config": { "type": "cloud", "networking": { "type": "limited" } },
    }))
    .unwrap();
    assert_eq!(update(&before, json!({})).unwrap(), before);
    assert_eq!(update(&before, json!({ "config": { "type": "cloud" } })).unwrap(), before);
    let after = update(&before, json!({ "description": "", "metadata": { "a": "" } })).unwrap();
    assert_eq!(after.description.as_deref(), Some(""));
    assert_eq!(after.metadata.len(), 1);
    assert_eq!(after.updated_at, LATER.into());
    assert_eq!(update(&before, json!({ "description": null })).unwrap().description, None);
    let networking = json!({ "networking": { "type": "unrestricted" }, "type": "cloud" });
    let after = update(&before, json!({ "config": networking })).unwrap();
    assert_eq!(after.config, Config::default());
}

#[test]
fn errors_of_an_update_have_their_codes() {
    let before = create(json!({ "name": "e" })).unwrap();
    let error = update(&before, json!({ "config": { "type": "self_hosted" } })).unwrap_err();
    assert_eq!(error.code, Some("invalid_config_type_change"));
    let archived = before.archived(LATER);
    let error = update(&archived, json!({})).unwrap_err();
    assert_eq!(error.code, Some("environment_archived"));
    assert_eq!(error.message, "Environment env_1 is archived.");
}
