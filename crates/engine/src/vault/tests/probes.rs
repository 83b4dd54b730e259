//! What a validation finds out, and how little of it is shown.

use posthouse_net::Guard;
use serde_json::{Value, json};

use super::{
    bench::{Bench, WORKSPACE, token, value, variable},
    refreshes::{oauth, tokens},
    server::{Reply, Seen, Server},
};
use crate::vault::{Secrets, ValidateError};

/// An MCP server that takes one token.
fn serves(good: &'static str, stream: bool) -> impl Fn(&Seen) -> Reply {
    move |seen| {
        if seen.path.starts_with("/token") {
            let body = json!({ "access_token": "good-2", "refresh_token": "rotated" });
            return Reply::json(200, body);
        }
        if seen.header("authorization") != format!("Bearer {good}") {
            let body = json!({ "error": seen.header("authorization") });
            return Reply::json(401, body);
        }
        let said: Value = serde_json::from_str(&seen.body).unwrap_or_default();
        let result = match said["method"].as_str() {
            Some("initialize") => {
                assert_eq!(said["params"]["protocolVersion"], "2025-11-25");
                json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} } })
            }
            _ => {
                assert_eq!(seen.header("mcp-session-id"), "session 1");
                assert_eq!(seen.header("mcp-protocol-version"), "2025-06-18");
                json!({ "tools": [] })
            }
        };
        if said.get("id").is_none() {
            return Reply::json(202, "");
        }
        let answer = json!({ "jsonrpc": "2.0", "id": said["id"], "result": result });
        let mut reply = Reply::json(200, &answer);
        if stream {
            let notice = json!({ "jsonrpc": "2.0", "method": "notifications/message" });
            reply.headers = vec![("content-type", "text/event-stream; charset=utf-8".into())];
            reply.body = format!(
                ": hello\n\nevent: message\ndata: {notice}\n\nevent: message\r\nid: 7\r\ndata: {answer}\r\n\r\n"
            );
        }
        reply.headers.push(("mcp-session-id", "session 1".into()));
        reply
    }
}

async fn validated(
    secrets: Secrets,
    answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) -> (Value, Bench, Server) {
    let server = Server::start(answer).await;
    let bench = Bench::open(Some(server.address));
    bench.vault("vlt_1").await;
    bench.credential("vlt_1", "vcrd_1", oauth("none", None), secrets).await;
    let found = bench.vaults.validate(WORKSPACE, "vlt_1", "vcrd_1").await.unwrap();
    (found, bench, server)
}

fn verdict(found: &Value) -> Value {
    json!([found["status"], found["mcp_probe"]["method"], found["refresh"]["status"]])
}

#[tokio::test]
async fn a_token_that_is_good_is_valid() {
    for stream in [false, true] {
        let (found, bench, server) =
            validated(tokens("good", None, None), serves("good", stream)).await;
        let mut expected = json!({
            "type": "vault_credential_validation",
            "credential_id": "vcrd_1",
            "vault_id": "vlt_1",
            "validated_at": found["validated_at"],
            "has_refresh_token": false,
            "status": "valid",
            "mcp_probe": null,
            "refresh": null,
        });
        expected["validated_at"] = found["validated_at"].clone();
        assert_eq!(found, expected);
        let seen = server.seen();
        let methods: Vec<_> = seen.iter().map(|one| one.method.as_str()).collect();
        assert_eq!(methods, ["POST", "POST", "POST", "DELETE"]);
        let uses = bench.uses();
        assert_eq!(uses.len(), 4);
        assert!(uses.iter().all(|one| one["kind"] == "validate" && one["host"] == "server.test"));
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_refreshed_once() {
    let (found, bench, server) =
        validated(tokens("stale", Some("r"), None), serves("good-2", false)).await;
    assert_eq!(verdict(&found), json!(["valid", null, "succeeded"]));
    assert_eq!(found["refresh"]["http_response"], Value::Null);
    assert_eq!(found["has_refresh_token"], true);
    assert_eq!(server.seen().len(), 1 + 1 + 4);
    let stored = bench.secrets("vlt_1", "vcrd_1").await;
    use secrecy::ExposeSecret as _;
    assert_eq!(stored.refresh_token.unwrap().expose_secret(), "rotated");

    let (found, _bench, server) =
        validated(tokens("stale", Some("r"), None), serves("never", false)).await;
    assert_eq!(verdict(&found), json!(["invalid", "initialize", "succeeded"]));
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn what_the_endpoint_says_decides() {
    let (found, ..) = validated(tokens("stale", None, None), serves("good", false)).await;
    assert_eq!(verdict(&found), json!(["invalid", "initialize", "no_refresh_token"]));
    let response = &found["mcp_probe"]["http_response"];
    assert_eq!(response["status_code"], 401);
    assert_eq!(response["content_type"], "application/json");
    assert_eq!(response["body"], json!({ "error": "Bearer [REDACTED]" }).to_string());
    assert_eq!(response["body_truncated"], false);

    for (status, body, expected, shown) in [
        (400, json!({ "error": "invalid_grant", "got": "r&secret" }), "invalid", true),
        (401, json!({}), "invalid", true),
        (429, json!({}), "unknown", true),
        (503, json!({}), "unknown", true),
        (302, json!({}), "unknown", true),
        (200, json!({ "tokens": "elsewhere" }), "unknown", false),
    ] {
        let serve = serves("good", false);
        let reply = Reply::json(status, &body);
        let answer = move |seen: &Seen| match seen.path.starts_with("/token") {
            true => reply.clone(),
            false => serve(seen),
        };
        let (found, ..) = validated(tokens("stale", Some("r&secret"), None), answer).await;
        assert_eq!(verdict(&found), json!([expected, "initialize", "failed"]), "{status}");
        let response = &found["refresh"]["http_response"];
        assert_eq!(response.is_object(), shown, "{status}");
        assert!(!found.to_string().contains("r&secret"), "{found}");
    }
}

#[tokio::test]
async fn a_credential_that_is_forbidden_is_invalid_and_whoever_asks_insists() {
    let (found, _, server) =
        validated(tokens("good", Some("r"), None), |_: &Seen| Reply::json(403, "")).await;
    assert_eq!(verdict(&found), json!(["invalid", "initialize", null]));
    assert_eq!(server.seen().len(), 1, "another token would be forbidden as well");
    let (found, bench, server) =
        validated(tokens("stale", Some("r"), None), |_: &Seen| Reply::json(401, "")).await;
    assert_eq!(verdict(&found), json!(["invalid", "initialize", "failed"]));
    let again = bench.vaults.validate(WORKSPACE, "vlt_1", "vcrd_1").await.unwrap();
    assert_eq!(verdict(&again), verdict(&found));
    assert_eq!(server.seen().len(), 4, "the token endpoint is asked each time");
}

#[tokio::test]
async fn what_does_not_answer_is_unknown() {
    for (reply, status_code) in [
        (Reply::json(500, "out of order"), 500),
        (Reply::json(429, ""), 429),
        (Reply::json(404, ""), 404),
        (Reply::json(200, "no JSON"), 200),
        (Reply::json(200, json!({ "jsonrpc": "2.0", "id": 9, "result": {} })), 200),
        (Reply::json(200, json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -1 } })), 200),
    ] {
        let (found, _, server) =
            validated(tokens("good", Some("r"), None), move |_: &Seen| reply.clone()).await;
        assert_eq!(verdict(&found), json!(["unknown", "initialize", null]));
        assert_eq!(found["mcp_probe"]["http_response"]["status_code"], status_code);
        assert_eq!(server.seen().len(), 1);
    }
    // Nobody there.
    let bench = Bench::open(None);
    bench.vault("vlt_1").await;
    bench.credential("vlt_1", "vcrd_1", oauth("none", None), tokens("t", Some("r"), None)).await;
    let found = bench.vaults.validate(WORKSPACE, "vlt_1", "vcrd_1").await.unwrap();
    assert_eq!(verdict(&found), json!(["unknown", "initialize", null]));
    assert_eq!(found["mcp_probe"]["http_response"], Value::Null);
    assert_eq!(Guard::dialled(&bench.guard), 0);
}

#[tokio::test]
async fn the_step_that_fails_is_named() {
    let serve = serves("good", false);
    let answer = move |seen: &Seen| match seen.body.contains("tools/list") {
        true => Reply::json(503, ""),
        false => serve(seen),
    };
    let (found, _, server) = validated(tokens("good", None, None), answer).await;
    assert_eq!(verdict(&found), json!(["unknown", "tools/list", null]));
    assert_eq!(server.seen().last().unwrap().method, "DELETE");
    // A server without tools has opened all the same.
    let serve = serves("good", false);
    let answer = move |seen: &Seen| match seen.body.contains("tools/list") {
        true => {
            let error = json!({ "code": -32601, "message": "Method not found" });
            Reply::json(200, json!({ "jsonrpc": "2.0", "id": 2, "error": error }))
        }
        false => serve(seen),
    };
    let (found, ..) = validated(tokens("good", None, None), answer).await;
    assert_eq!(verdict(&found), json!(["valid", null, null]));
}

#[tokio::test]
async fn a_long_answer_is_cut_behind_the_cleaning() {
    for start in [2038, 2040, 2044, 2047, 2048] {
        let body = format!("{}a canary of gold{}", "x".repeat(start), "é".repeat(2000));
        let (found, ..) = validated(tokens("a canary of gold", None, None), move |_: &Seen| {
            Reply::json(500, &body)
        })
        .await;
        let response = &found["mcp_probe"]["http_response"];
        assert_eq!(response["body_truncated"], true);
        let body = response["body"].as_str().unwrap();
        assert!(body.len() <= 2048 && !body.contains("a c"), "{body}");
    }
}

#[tokio::test]
async fn what_stands_for_a_secret_is_not_searched_for_secrets() {
    let body = "R".repeat(4 << 20);
    let secrets = tokens("R", Some("E"), Some("D"));
    let (found, ..) = validated(secrets, move |_: &Seen| Reply::json(500, &body)).await;
    let body = found["mcp_probe"]["http_response"]["body"].as_str().unwrap();
    assert!(body.starts_with("[REDACTED][REDACTED][REDACTED]") && body.len() <= 2048, "{body}");
}

#[tokio::test]
async fn a_secret_that_comes_back_in_other_clothes_is_cleaned_too() {
    let secret = "a \"c/n+ry\"";
    let answer = move |seen: &Seen| {
        if !seen.path.starts_with("/token") {
            return Reply::json(401, "");
        }
        let mut reply = Reply::json(400, json!({ "to the letter": secret, "form": seen.body }));
        reply.headers = vec![("content-type", format!("text/plain; was={secret}"))];
        reply.body.push_str(secret);
        reply.body.push_str(seen.header("authorization"));
        reply.body.push_str(&json!([secret]).to_string().replace('/', "\\/"));
        reply.body.push_str(&seen.body.replace('+', "%20"));
        reply.body.push_str(&seen.header("authorization").replace('=', ""));
        reply
    };
    for (kind, client) in [
        ("none", None),
        ("client_secret_post", Some(secret)),
        ("client_secret_basic", Some(secret)),
    ] {
        let server = Server::start(answer).await;
        let bench = Bench::open(Some(server.address));
        bench.vault("vlt_1").await;
        let secrets = tokens("good", Some(secret), client);
        bench.credential("vlt_1", "vcrd_1", oauth(kind, None), secrets).await;
        let found = bench.vaults.validate(WORKSPACE, "vlt_1", "vcrd_1").await.unwrap();
        let text = found["refresh"].to_string();
        assert!(text.contains("[REDACTED]"), "{text}");
        for trace in ["c/n", "c%2Fn", "ry"] {
            assert!(!text.contains(trace), "{kind}: {text}");
        }
        let basic = server.seen()[1].header("authorization").to_owned();
        let basic = basic.strip_prefix("Basic ").unwrap_or("nothing");
        assert!(!text.contains(basic), "{kind}: {text}");
    }
}

#[tokio::test]
async fn only_a_live_credential_of_the_kind_is_tried() {
    let bench = Bench::open(None);
    bench.vault("vlt_1").await;
    bench.vault("vlt_2").await;
    let server = json!({ "type": "static_bearer", "mcp_server_url": "https://a.example" });
    bench.credential("vlt_1", "vcrd_1", server, token("t")).await;
    bench.credential("vlt_1", "vcrd_2", variable("A", None), value("v")).await;
    bench.credential("vlt_1", "vcrd_3", oauth("none", None), tokens("t", None, None)).await;
    bench
        .write(|connection| {
            let text = "UPDATE credentials SET archived_at = 5, sealed = NULL WHERE id = 'vcrd_3'";
            connection.execute_batch(text).map_err(posthouse_store::Error::from)
        })
        .await;
    for (workspace, vault, credential, expected) in [
        (WORKSPACE, "vlt_1", "vcrd_1", "not of the kind"),
        (WORKSPACE, "vlt_1", "vcrd_2", "not of the kind"),
        (WORKSPACE, "vlt_1", "vcrd_3", "archived"),
        (WORKSPACE, "vlt_2", "vcrd_3", "no such credential"),
        (WORKSPACE, "vlt_9", "vcrd_3", "no such credential"),
        (WORKSPACE, "vlt_1", "vcrd_9", "no such credential"),
        ("wrkspc_2", "vlt_1", "vcrd_3", "no such credential"),
    ] {
        let refused: ValidateError =
            bench.vaults.validate(workspace, vault, credential).await.unwrap_err();
        assert!(refused.to_string().contains(expected), "{credential}: {refused}");
    }
    assert_eq!(bench.uses().len(), 0);
    assert_eq!(bench.guard.looked_up(), 0);
}
