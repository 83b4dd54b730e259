//! Which credential an MCP server gets, and the header that carries it.

use std::sync::Arc;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::bench::{Bench, WORKSPACE, token, value, variable};
use crate::vault::{AuthError, McpAuth, McpRequest};

fn vaults(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

pub(super) fn request<'a>(vaults: &'a [String], server_url: &'a str) -> McpRequest<'a> {
    McpRequest {
        workspace: WORKSPACE,
        vaults,
        session: None,
        event_ids: &[],
        server_url,
        method: "POST",
        refused: None,
    }
}

fn bearer(server: &str) -> Value {
    json!({ "type": "static_bearer", "mcp_server_url": server })
}

fn shown(auth: Option<McpAuth>) -> Option<(String, String, String)> {
    let auth = auth?;
    let value = auth.value.expose_secret().to_owned();
    Some((auth.credential, auth.header_name.to_string(), value))
}

#[tokio::test]
async fn the_first_vault_with_the_same_server_wins() {
    let bench = Bench::open(None);
    for vault in ["vlt_1", "vlt_2"] {
        bench.vault(vault).await;
    }
    bench.vault_of("wrkspc_2", "vlt_3").await;
    bench.credential("vlt_1", "vcrd_1", bearer("https://a.example/mcp"), token("one")).await;
    bench.credential("vlt_2", "vcrd_2", bearer("https://a.example/mcp"), token("two")).await;
    bench.credential("vlt_2", "vcrd_3", bearer("https://b.example"), token("three")).await;
    let named = json!({
        "type": "posthouse_header",
        "mcp_server_url": "https://c.example?q=1",
        "header_name": "X-Api-Key",
    });
    bench.credential("vlt_2", "vcrd_4", named, token("four")).await;
    bench.credential("vlt_1", "vcrd_5", variable("A", None), value("five")).await;
    let theirs = bearer("https://d.example");
    bench.credential_of("wrkspc_2", "vlt_3", "vcrd_6", theirs, token("six")).await;

    let (both, turned) = (vaults(&["vlt_1", "vlt_2", "vlt_3"]), vaults(&["vlt_2", "vlt_1"]));
    let expected = |credential: &str, name: &str, value: &str| {
        Some((credential.to_owned(), name.to_owned(), value.to_owned()))
    };
    for (vaults, server, wanted) in [
        (&both, "https://a.example/mcp", expected("vcrd_1", "authorization", "Bearer one")),
        (&both, "HTTPS://A.example:443/mcp/", expected("vcrd_1", "authorization", "Bearer one")),
        (&turned, "https://a.example/mcp", expected("vcrd_2", "authorization", "Bearer two")),
        (&both, "https://b.example/", expected("vcrd_3", "authorization", "Bearer three")),
        (&both, "https://c.example/?q=1", expected("vcrd_4", "x-api-key", "four")),
        (&both, "https://c.example/", None),
        (&both, "https://a.example/MCP", None),
        (&both, "https://a.example:8443/mcp", None),
        (&both, "http://a.example/mcp", None),
        (&both, "https://x.a.example/mcp", None),
        (&both, "https://d.example", None),
        (&both, "A", None),
    ] {
        let auth = bench.vaults.bearer(request(vaults, server)).await.unwrap();
        let foretold = bench.vaults.matching(WORKSPACE, vaults, server).unwrap();
        let taken = auth.as_ref().map(|auth| (auth.vault.clone(), auth.credential.clone()));
        assert_eq!(foretold.map(|one| (one.vault, one.credential)), taken, "{server}");
        assert_eq!(shown(auth), wanted, "{server}");
    }
    let uses = bench.uses();
    assert_eq!(uses.len(), 5);
    assert!(uses.iter().all(|one| one["kind"] == "mcp" && one["session_id"].is_null()));
}

#[tokio::test]
async fn each_use_is_in_the_ledger_before_its_value_is_handed_out() {
    let bench = Bench::open(None);
    bench.vault("vlt_1").await;
    bench
        .credential("vlt_1", "vcrd_1", bearer("https://a.example:8443/mcp"), token("canary"))
        .await;
    let vaults = vaults(&["vlt_1"]);
    let calls: [Arc<str>; 1] = ["sevt_1".into()];
    let ask = McpRequest {
        session: Some("sesn_1"),
        event_ids: &calls,
        method: "DELETE",
        ..request(&vaults, "https://a.example:8443/mcp")
    };
    let auth = bench.vaults.bearer(ask).await.unwrap().unwrap();
    assert!(!format!("{auth:?}").contains("canary"));
    let uses = bench.uses();
    let one = &uses[0];
    assert_eq!(
        json!([one["vault_id"], one["credential_id"], one["session_id"], one["event_ids"]]),
        json!(["vlt_1", "vcrd_1", "sesn_1", ["sevt_1"]])
    );
    assert_eq!(
        json!([one["host"], one["port"], one["method"], one["location"]]),
        json!(["a.example", 8443, "DELETE", { "header": true, "body": false }])
    );
    assert!(!one.to_string().contains("canary"));

    // What is refused and can't be refreshed is not sent again.
    let again = bench.vaults.bearer(McpRequest { refused: Some(&auth), ..ask }).await;
    assert!(matches!(again, Err(AuthError::Refused)), "{again:?}");
    // Another token is.
    bench.put("vlt_1", "vcrd_1", &token("new")).await;
    let again = bench.vaults.bearer(McpRequest { refused: Some(&auth), ..ask }).await.unwrap();
    assert_eq!(again.unwrap().value.expose_secret(), "Bearer new");

    bench.database.close();
    assert!(matches!(bench.vaults.bearer(ask).await, Err(AuthError::Vault(_))));
}
