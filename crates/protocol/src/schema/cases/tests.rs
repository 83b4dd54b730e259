//! Every case of every table, held against the parsers themselves.

use super::*;
use crate::{
    ApiError, Fields, Given, Micros,
    agent::{self, Agent, Changed, Effort, ModelRules, Reference},
    credential,
    environment::{self, Environment},
    event::ClientEvent,
    resource,
    schema::{agents, credentials, environments, events, resources, servers, tools, vaults, web},
    vault,
};

const AT: Micros = Micros(1_763_600_000_000_000);

/// Every model there is can do everything.
struct Anything;

impl ModelRules for Anything {
    fn exists(&self, _: &str) -> Result<(), String> {
        Ok(())
    }
    fn default_effort(&self, _: &str) -> Option<Effort> {
        Some(Effort::High)
    }
    fn supports_effort(&self, _: &str, _: Effort) -> bool {
        true
    }
    fn supports_fast(&self, _: &str) -> bool {
        true
    }
    fn supports_geo(&self, _: &str) -> bool {
        true
    }
    fn has_search(&self) -> bool {
        true
    }
}

/// Holds all cases of a table against what a parser makes of them.
fn check<T>(table: &'static Table, parse: impl Fn(Value) -> Result<T, ApiError>) {
    let walk = Walk { known: &|_| None };
    let base = walk.minimal(table);
    parse(base.clone()).map(drop).unwrap_or_else(|error| panic!("{}: {error}", table.name));
    let cases = walk.bodies(table, &base);
    assert!(cases.len() > 10, "{} has {} cases", table.name, cases.len());
    let mut wrong = Vec::new();
    for Case { what, sent, outcome } in cases {
        let came = parse(sent.clone()).map(drop).map_err(|error| error.message);
        let fits = match (&outcome, &came) {
            (Outcome::Taken, Ok(())) | (Outcome::Open, _) => true,
            (Outcome::Refused(says), Err(message)) => message.contains(says.as_str()),
            _ => false,
        };
        if !fits {
            let sent: String = sent.to_string().chars().take(200).collect();
            wrong.push(format!("{what}\n  {sent}\n  {outcome:?}\n  {came:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

fn open(value: Value) -> Result<Fields, ApiError> {
    Fields::open(value, "")
}

fn an_agent() -> Agent {
    let body = json!({ "name": "a", "model": "own" });
    agent::parse_create(open(body).unwrap(), "agent_1".into(), AT, &Anything).unwrap()
}

fn an_environment() -> Environment {
    environment::parse_create(open(json!({ "name": "e" })).unwrap(), "env_1".into(), AT).unwrap()
}

#[test]
fn agents_are_read_as_their_tables_say() {
    check(&agents::CREATE, |body| {
        agent::parse_create(open(body)?, "agent_1".into(), AT, &Anything)
    });
    let current = an_agent();
    check(&agents::UPDATE, |body| -> Result<Changed, ApiError> {
        agent::apply_update(&current, open(body)?, AT, &Anything)
    });
}

/// What stands inside of lists with rules, each entry in an agent that keeps the rules.
#[test]
fn tools_and_servers_are_read_as_their_tables_say() {
    let create = |extra: Value| {
        let mut body = json!({ "name": "a", "model": "own" });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        agent::parse_create(open(body)?, "agent_1".into(), AT, &Anything)
    };
    // What is no object is told at its place, and the table tells it of a body.
    let inside = |body: &Value| open(body.clone()).map(drop);
    let toolset = |configs: Value| json!({ "type": "agent_toolset_20260401", "configs": configs });
    let weather = json!({
        "type": "custom", "name": "weather", "description": "d",
        "input_schema": { "type": "object" },
    });
    for table in [&tools::TOOLSET, &tools::CUSTOM] {
        check(table, |body| inside(&body).and_then(|()| create(json!({ "tools": [body] }))));
    }
    for table in [&tools::SANDBOXED, &web::WEB_FETCH, &web::WEB_SEARCH] {
        check(table, |body| {
            inside(&body)
                .and_then(|()| create(json!({ "tools": [toolset(json!([body])), weather] })))
        });
    }
    let docs = json!({ "type": "url", "name": "docs", "url": "https://a.example" });
    let of_docs = json!({ "type": "mcp_toolset", "mcp_server_name": "docs" });
    check(&servers::MCP_TOOLSET, |body| {
        inside(&body).and_then(|()| create(json!({ "mcp_servers": [docs], "tools": [body] })))
    });
    check(&servers::CONFIG, |body| {
        let mut set = of_docs.clone();
        set["configs"] = json!([body]);
        inside(&body).and_then(|()| create(json!({ "mcp_servers": [docs], "tools": [set] })))
    });
    for table in [&servers::URL_SERVER, &servers::STDIO_SERVER] {
        check(table, |body| {
            inside(&body)
                .and_then(|()| create(json!({ "mcp_servers": [body], "tools": [of_docs] })))
        });
    }
    check(&agents::EXPOSED, |body| {
        inside(&body).and_then(|()| create(json!({ "posthouse": { "mcp_tool": body } })))
    });
}

#[test]
fn references_and_overrides_are_read_as_their_tables_say() {
    let base = an_agent();
    for table in [&agents::PLAIN_REFERENCE, &agents::OVERRIDES] {
        check(table, |body| {
            if !body.is_object() {
                return open(body).map(drop);
            }
            Reference::parse(body)?.apply(&base, &Anything).map(drop)
        });
    }
}

#[test]
fn changes_of_a_sessions_agent_are_read_as_their_tables_say() {
    let current = an_agent().snapshot();
    check(&agents::SESSION_AGENT, |body| {
        agent::parse_session_update(&current, open(body)?, &Anything)
    });
    check(&agents::SWITCH, |body| {
        agent::parse_switch(&current, Given::Value(open(body)?), &Anything)
    });
}

#[test]
fn environments_are_read_as_their_tables_say() {
    check(&environments::CREATE, |body| environment::parse_create(open(body)?, "env_1".into(), AT));
    let current = an_environment();
    check(&environments::UPDATE, |body| environment::apply_update(&current, open(body)?, AT));
}

#[test]
fn events_are_read_as_their_tables_say() {
    check(&events::BATCH, |body| ClientEvent::parse_batch(body.to_string().as_bytes()));
}

#[test]
fn resources_are_read_as_their_table_says() {
    check(&resources::FILE, |body| resource::parse(open(body)?, String::new()));
}

#[test]
fn vaults_are_read_as_their_tables_say() {
    let create = |body| vault::parse_create(open(body)?, "vlt_1".into(), AT);
    check(&vaults::CREATE, create);
    let current = create(json!({ "display_name": "v" })).unwrap();
    check(&vaults::UPDATE, |body| vault::apply_update(&current, open(body)?, AT));
}

#[test]
fn credentials_are_read_as_their_tables_say() {
    let create = |body: Value| {
        let (id, vault) = ("vcrd_1".into(), "vlt_1".into());
        credential::parse_create(open(body)?, id, vault, AT, &|_| false)
    };
    check(&credentials::CREATE, create);
    for table in
        [&credentials::OAUTH, &credentials::BEARER, &credentials::VARIABLE, &credentials::HEADER]
    {
        check(table, |body| match body.is_object() {
            true => create(json!({ "auth": body })),
            false => open(body).and_then(|_| create(Value::Null)),
        });
    }
    let auth = [
        json!({
            "type": "mcp_oauth", "mcp_server_url": "https://a.example", "access_token": "t",
            "refresh": {
                "client_id": "c", "token_endpoint": "https://b.example", "refresh_token": "r",
                "token_endpoint_auth": { "type": "client_secret_basic", "client_secret": "s" },
            },
        }),
        json!({ "type": "static_bearer", "mcp_server_url": "https://a.example", "token": "t" }),
        json!({
            "type": "environment_variable", "secret_name": "A", "secret_value": "v",
            "networking": { "type": "unrestricted" },
        }),
        json!({
            "type": "posthouse_header", "mcp_server_url": "https://a.example", "token": "t",
            "header_name": "x-key",
        }),
    ];
    let tables = [
        &credentials::OAUTH_UPDATE,
        &credentials::BEARER_UPDATE,
        &credentials::VARIABLE_UPDATE,
        &credentials::HEADER_UPDATE,
    ];
    for (auth, table) in auth.into_iter().zip(tables) {
        let current = create(json!({ "auth": auth })).unwrap().credential;
        check(&credentials::UPDATE, |body| credential::apply_update(&current, open(body)?, AT));
        check(table, |body| {
            let body = if body.is_object() { json!({ "auth": body }) } else { body };
            credential::apply_update(&current, open(body)?, AT)
        });
    }
}
