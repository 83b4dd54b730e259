//! Credentials: what is shown, what changes, and what no error says.

use secrecy::ExposeSecret as _;
use serde_json::json;

use super::*;
use crate::Fields;

const AT: Micros = Micros(1_763_600_000_000_000);
const LATER: Micros = Micros(1_763_600_001_000_000);
const URL: &str = "https://mcp.example.com/mcp";

fn create(auth: Value) -> Result<New, ApiError> {
    let body = json!({ "auth": auth });
    let fields = Fields::open(body, "").unwrap();
    let opened = |host: &str| host == "10.0.0.1";
    parse_create(fields, "vcrd_1".into(), "vlt_1".into(), AT, &opened)
}

fn made(auth: Value) -> Credential {
    create(auth).unwrap().credential
}

fn update(current: &Credential, body: Value) -> Result<Change, ApiError> {
    apply_update(current, Fields::open(body, "").unwrap(), LATER)
}

fn change(current: &Credential, auth: Value) -> Result<Change, ApiError> {
    update(current, json!({ "auth": auth }))
}

fn message<T>(result: Result<T, ApiError>) -> String {
    result.map(drop).unwrap_err().message
}

fn told(secret: Option<&SecretString>) -> Option<&str> {
    secret.map(|secret| secret.expose_secret())
}

fn oauth() -> Value {
    json!({
        "type": "mcp_oauth", "mcp_server_url": URL, "access_token": "at",
        "expires_at": "2036-01-01T00:00:00+01:00",
        "refresh": {
            "client_id": "c", "token_endpoint": "https://auth.example.com/t",
            "refresh_token": "rt", "scope": "read", "resource": "https://mcp.example.com",
            "token_endpoint_auth": { "type": "client_secret_basic", "client_secret": "cs" },
        },
    })
}

fn variable() -> Value {
    json!({
        "type": "environment_variable", "secret_name": "TOKEN", "secret_value": "v",
        "networking": { "type": "limited", "allowed_hosts": ["API.example.com", "*.b.example"] },
    })
}

fn header() -> Value {
    json!({
        "type": "posthouse_header", "mcp_server_url": URL, "header_name": "X-Api-Key", "token": "t",
    })
}

#[test]
fn each_kind_is_shown_without_what_is_secret_and_without_what_is_unset() {
    let new = create(oauth()).unwrap();
    assert_eq!(told(new.secrets.access_token.as_ref()), Some("at"));
    assert_eq!(told(new.secrets.refresh_token.as_ref()), Some("rt"));
    assert_eq!(told(new.secrets.client_secret.as_ref()), Some("cs"));
    let shown = serde_json::to_value(&new.credential).unwrap();
    assert_eq!(
        shown,
        json!({
            "type": "vault_credential", "id": "vcrd_1", "vault_id": "vlt_1", "display_name": null,
            "metadata": {},
            "auth": {
                "type": "mcp_oauth", "mcp_server_url": URL,
                "expires_at": "2035-12-31T23:00:00.000000Z",
                "refresh": {
                    "client_id": "c", "token_endpoint": "https://auth.example.com/t",
                    "token_endpoint_auth": { "type": "client_secret_basic" },
                    "resource": "https://mcp.example.com", "scope": "read",
                },
            },
            "created_at": "2025-11-20T00:53:20.000000Z",
            "updated_at": "2025-11-20T00:53:20.000000Z",
            "archived_at": null,
        })
    );
    assert_eq!(serde_json::from_value::<Credential>(shown).unwrap(), new.credential);

    let bare = json!({
        "type": "mcp_oauth", "mcp_server_url": URL, "access_token": "t", "expires_at": null,
        "refresh": null,
    });
    let auth = |sent: Value| serde_json::to_value(made(sent).auth).unwrap();
    assert_eq!(auth(bare), json!({ "type": "mcp_oauth", "mcp_server_url": URL }));
    let bearer = json!({ "type": "static_bearer", "mcp_server_url": URL, "token": "t" });
    assert_eq!(auth(bearer), json!({ "type": "static_bearer", "mcp_server_url": URL }));
    let expected =
        json!({ "type": "posthouse_header", "mcp_server_url": URL, "header_name": "X-Api-Key" });
    assert_eq!(auth(header()), expected);
    let hosts = variable()["networking"].take();
    assert_eq!(
        auth(variable()),
        json!({
            "type": "environment_variable", "secret_name": "TOKEN", "networking": hosts,
            "injection_location": { "header": true, "body": true },
        })
    );
}

#[test]
fn where_a_value_is_put_has_its_own_defaults() {
    let with = |location: Value| {
        let mut sent = variable();
        sent["injection_location"] = location;
        create(sent)
    };
    for (sent, header, body) in [
        (json!({ "header": true }), true, false),
        (json!({ "body": true }), false, true),
        (json!({ "header": true, "body": true }), true, true),
    ] {
        let Auth::EnvironmentVariable { injection_location, .. } =
            with(sent).unwrap().credential.auth
        else {
            panic!("another kind")
        };
        assert_eq!(injection_location, InjectionLocation { header, body });
    }
    for nowhere in
        [json!({}), json!({ "header": false }), json!({ "header": false, "body": false })]
    {
        let said = message(with(nowhere));
        assert!(said.starts_with("auth.injection_location: names no place"), "{said}");
    }
    let said = message(with(Value::Null));
    assert_eq!(said, "auth.injection_location: is null; send an object, or leave it out");
    let said = message(with(json!({ "header": null, "body": true })));
    let expected = "auth.injection_location.header: is null; send true or false, or leave it out";
    assert_eq!(said, expected);
}

#[test]
fn servers_are_https_or_opened_and_tokens_end_in_the_future() {
    let with =
        |url: &str| create(json!({ "type": "static_bearer", "mcp_server_url": url, "token": "t" }));
    for url in [URL, "HTTPS://mcp.example.com", "http://10.0.0.1:8080/mcp?key=1"] {
        assert_eq!(with(url).unwrap().credential.auth.target(), address::normal(url).unwrap());
    }
    for (url, what) in [
        ("http://mcp.example.com", "is http, to a host that the operator has not opened"),
        ("https://user:canary@mcp.example.com", "has a user name or a password"),
        ("https://mcp.example.com/#canary", "has a fragment"),
        ("mcp.example.com", "is no URL"),
    ] {
        let said = message(with(url));
        assert!(said.starts_with(&format!("auth.mcp_server_url: {what}; ")), "{said}");
        assert!(!said.contains("canary"), "{said}");
    }
    let mut past = oauth();
    past["expires_at"] = AT.to_rfc3339().into();
    assert_eq!(message(create(past)), "auth.expires_at must be in the future.");
    let mut plain = oauth();
    plain["refresh"]["token_endpoint"] = "http://auth.example.com".into();
    assert!(message(create(plain)).starts_with("auth.refresh.token_endpoint: is http"));
}

#[test]
fn a_change_keeps_what_is_not_sent() {
    let before = made(oauth());
    for nothing in [
        json!({}),
        json!({ "metadata": null }),
        json!({ "auth": { "type": "mcp_oauth" } }),
        json!({ "auth": {
            "type": "mcp_oauth", "access_token": null, "expires_at": null, "refresh": null,
        } }),
        json!({ "auth": { "type": "mcp_oauth", "refresh": {
            "refresh_token": null, "scope": null,
            "token_endpoint_auth": { "type": "client_secret_post", "client_secret": null },
        } } }),
    ] {
        let change = update(&before, nothing).unwrap();
        assert_eq!(change.credential, before);
        assert!(change.secrets.is_empty() && !change.check);
    }
    let change = change(&before, json!({ "type": "mcp_oauth", "access_token": "new" })).unwrap();
    assert_eq!(told(change.secrets.access_token.as_ref()), Some("new"));
    assert!(change.secrets.refresh_token.is_none());
    let after = Credential { updated_at: LATER.into(), ..before.clone() };
    assert_eq!(change.credential, after, "the old expiry stays");
    let named = update(&before, json!({ "display_name": "n" })).unwrap().credential;
    assert_eq!(named.display_name.as_deref(), Some("n"));
    let unnamed = update(&named, json!({ "display_name": null })).unwrap().credential;
    assert_eq!(unnamed.display_name, None);
}

#[test]
fn a_change_of_how_tokens_are_got_never_changes_the_way() {
    let before = made(oauth());
    let refresh = json!({
        "refresh_token": "r2", "scope": "",
        "token_endpoint_auth": { "type": "client_secret_post", "client_secret": "c2" },
    });
    let change = |auth: Value, refresh: &Value| {
        super::tests::change(&made(auth), json!({ "type": "mcp_oauth", "refresh": refresh }))
    };
    let changed = change(oauth(), &refresh).unwrap();
    assert_eq!(told(changed.secrets.refresh_token.as_ref()), Some("r2"));
    assert_eq!(told(changed.secrets.client_secret.as_ref()), Some("c2"));
    let (Auth::McpOauth { refresh: Some(after), .. }, Auth::McpOauth { refresh: Some(before), .. }) =
        (changed.credential.auth, before.auth)
    else {
        panic!("another kind")
    };
    assert_eq!(after, Refresh { scope: None, ..before });

    let mut public = oauth();
    public["refresh"]["token_endpoint_auth"] = json!({ "type": "none" });
    let said = message(change(public, &refresh));
    assert!(said.starts_with("auth.refresh.token_endpoint_auth: is none"), "{said}");
    let mut without = oauth();
    without.as_object_mut().unwrap().shift_remove("refresh");
    let said = message(change(without, &refresh));
    assert!(said.starts_with("auth.refresh: was not given when"), "{said}");
}

#[test]
fn what_a_credential_is_for_can_not_be_changed() {
    for (auth, fields) in [
        (oauth(), &["mcp_server_url"][..]),
        (header(), &["mcp_server_url", "header_name"]),
        (variable(), &["secret_name"]),
    ] {
        let before = made(auth.clone());
        for field in fields {
            let sent = json!({ "type": auth["type"], *field: auth[*field] });
            let expected = format!("Failed to parse request body: unknown field \"auth.{field}\"");
            assert_eq!(message(change(&before, sent)), expected);
        }
    }
    for field in ["token_endpoint", "client_id", "resource"] {
        let sent = json!({ "type": "mcp_oauth", "refresh": { field: "https://x.example" } });
        let said = message(change(&made(oauth()), sent));
        assert!(said.ends_with(&format!("unknown field \"auth.refresh.{field}\"")), "{said}");
    }
    let said = message(change(&made(oauth()), json!({ "type": "static_bearer", "token": "t" })));
    let expected = "auth.type: can't be changed from mcp_oauth; send mcp_oauth, or make another \
                    credential";
    assert_eq!(said, expected);
    let archived = made(oauth()).archived(LATER);
    assert_eq!(archived.clone().archived(AT), archived);
    assert_eq!(message(update(&archived, json!({}))), "Credential is archived.");
}

#[test]
fn a_variable_is_changed_member_by_member() {
    let before = made(variable());
    let changed = change(
        &before,
        json!({
            "type": "environment_variable", "secret_value": "v2",
            "networking": { "type": "unrestricted" }, "injection_location": { "body": false },
        }),
    )
    .unwrap();
    assert!(changed.check);
    assert_eq!(told(changed.secrets.secret_value.as_ref()), Some("v2"));
    let Auth::EnvironmentVariable { networking, injection_location, .. } = &changed.credential.auth
    else {
        panic!("another kind")
    };
    assert_eq!(*networking, Networking::Unrestricted);
    assert_eq!(*injection_location, InjectionLocation { header: true, body: false });
    let nowhere =
        json!({ "type": "environment_variable", "injection_location": { "header": false } });
    let said = message(change(&changed.credential, nowhere));
    assert!(said.starts_with("auth.injection_location: names no place"), "{said}");
}

#[test]
fn a_value_for_headers_has_no_control_characters() {
    let mut lines = variable();
    lines["secret_value"] = "one\ntwo".into();
    let said = message(create(lines.clone()));
    assert!(said.starts_with("auth.secret_value: holds a line end"), "{said}");
    lines["injection_location"] = json!({ "body": true });
    let new = create(lines).unwrap();
    let change =
        json!({ "type": "environment_variable", "injection_location": { "header": true } });
    let change = super::tests::change(&new.credential, change).unwrap();
    assert!(change.check);
    let merged = new.secrets.with(change.secrets);
    assert!(change.credential.auth.check(&merged).is_err());
}

/// A secret that no error says.
const CANARY: &str = "canary\n0123456789";

#[test]
fn no_error_and_no_debug_form_says_a_secret() {
    let long = "canary".repeat(11_000);
    let mut said = Vec::new();
    let strange =
        [json!(CANARY), json!(long), json!([CANARY]), json!({ "canary": CANARY }), json!("")];
    for value in &strange {
        let mut bodies = Vec::new();
        for field in ["access_token", "refresh_token", "client_secret"] {
            let mut body = oauth();
            match field {
                "access_token" => body[field] = value.clone(),
                "refresh_token" => body["refresh"][field] = value.clone(),
                _ => body["refresh"]["token_endpoint_auth"][field] = value.clone(),
            }
            bodies.push((made(oauth()), body));
        }
        let mut body = header();
        body["token"] = value.clone();
        bodies.push((made(header()), body));
        let mut body = variable();
        body["secret_value"] = value.clone();
        bodies.push((made(variable()), body));
        for (current, body) in bodies {
            said.push(message(create(body.clone())));
            let mut change = body;
            for name in ["mcp_server_url", "header_name", "secret_name"] {
                change.as_object_mut().unwrap().shift_remove(name);
            }
            if let Some(refresh) = change.get_mut("refresh") {
                for name in ["client_id", "token_endpoint", "resource"] {
                    refresh.as_object_mut().unwrap().shift_remove(name);
                }
            }
            // A value with a line end is only known to be wrong once it is seen where it goes.
            match super::tests::change(&current, change) {
                Err(error) => said.push(error.message),
                Ok(change) => {
                    said.push(format!("{change:?}"));
                    said.push(message(change.credential.auth.check(&change.secrets)));
                }
            }
        }
    }
    said.push(format!("{:?}", create(oauth()).unwrap()));
    assert!(said.len() > 50);
    for text in said {
        assert!(!text.contains("canary"), "{text}");
    }
}
