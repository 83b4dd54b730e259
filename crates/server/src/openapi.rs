//! `openapi.json`: the public API, described from the list of routes and the tables that the
//! handlers read. Nothing here answers a request.

mod operations;

use posthouse_protocol::{
    id::IdKind,
    schema::{
        Absent, Field, Kind, answers,
        json::{self, Components},
        log,
    },
};
use serde_json::{Map, Value, json};

use crate::api::{self, Route};
use operations::{Answer, Body, EXTENSIONS, OPERATIONS, Operation};

/// The document, as it is committed.
#[must_use]
pub fn render() -> String {
    // A value always has a JSON form.
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
}

/// The document (OpenAPI 3.1).
#[must_use]
pub fn document() -> Value {
    let mut components = Components::default();
    components.add("PosthouseEvent", own_event());
    let event = components.kind(&Kind::Union(&log::EVENT));
    let own = json!({ "$ref": "#/components/schemas/PosthouseEvent" });
    components.add("ListedEvent", json!({ "anyOf": [event, own] }));
    let preview = components.kind(&Kind::Union(&log::PREVIEW));
    let error = components.table(&answers::ERROR);
    let streamed = json!({ "anyOf": [event, own, preview, error] });
    components.add("StreamedEvent", streamed);
    let mut paths: Map<String, Value> = Map::new();
    for route in api::routes() {
        if let Some(operation) = find(&route) {
            let described = describe(&route, operation, &mut components);
            let method = route.method.as_str().to_lowercase();
            let path = paths.entry(route.shown_path()).or_insert_with(|| json!({}));
            path[method] = described;
        }
    }
    let refusals = refusals(&mut components);
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "posthouse",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache 2.0", "identifier": "Apache-2.0" },
            "description": "The Claude Managed Agents API, as posthouse speaks it. Extensions: objects \
                named posthouse, types that begin with posthouse_, the parameters after, after_seq, before_seq and posthouse_events, \
                and the paths below /posthouse/v1. The header anthropic-beta and the query beta=true \
                mean nothing, and every version of anthropic-version is the same. A 400 names the \
                field: `<path>: <what is wrong>; <what would be right>`. Array parameters may come \
                with or without brackets, and repeated. Every answer has a request-id.",
        },
        "servers": [{ "url": "http://127.0.0.1:8787" }],
        "security": [{ "bearer": [] }, { "key": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "key": { "type": "apiKey", "in": "header", "name": "x-api-key" },
            },
            "responses": refusals,
            "schemas": components.into_schemas(),
        },
    })
}

/// What is known of a route.
fn find(route: &Route) -> Option<&'static Operation> {
    let (path, method) = (route.shown_path(), route.method.as_str());
    OPERATIONS.iter().chain(EXTENSIONS).find(|one| one.path == path && one.method == method)
}

/// The routes that no operation describes, in words.
#[must_use]
pub fn mismatches() -> Vec<String> {
    let routes = api::routes();
    let bare = routes.iter().filter(|route| find(route).is_none());
    bare.map(|route| format!("{} {} is not described", route.method, route.path)).collect()
}

fn describe(route: &Route, operation: &Operation, components: &mut Components) -> Value {
    let mut parameters: Vec<Value> = path_parameters(&route.shown_path());
    for field in operation.query.map_or(&[][..], |table| table.fields) {
        parameters.extend(query_parameters(field, components));
    }
    if matches!(operation.answer, Answer::Events) {
        parameters.push(json!({
            "name": "Last-Event-ID", "in": "header", "schema": { "type": "string" },
            "description": "The id of the last server-sent event that came.",
        }));
    }
    if !matches!(operation.body, Body::None) && operation.keeps_answer {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header",
            "schema": { "type": "string", "minLength": 1, "maxLength": 255 },
            "description": "A request that comes again with the same key within 24 hours is answered \
                as the first one was, and does nothing.",
        }));
    }
    let mut described = json!({
        "operationId": operation.name,
        "summary": operation.about,
        "tags": [route.need.resource.name()],
        "x-posthouse-scope": route.need.to_string(),
        "parameters": parameters,
        "responses": responses(operation, components),
    });
    if let Some(body) = body(&operation.body, components) {
        described["requestBody"] = body;
    }
    described
}

fn body(body: &Body, components: &mut Components) -> Option<Value> {
    let (kind, schema, example) = match body {
        Body::None => return None,
        Body::Empty => {
            let schema = json!({ "type": "object", "additionalProperties": false });
            ("application/json", schema, None)
        }
        Body::Json(table) => {
            ("application/json", components.table(table), Some(json::example(table)))
        }
        Body::Form(table) => ("multipart/form-data", components.table(table), None),
        Body::Message => ("application/json", message(), None),
    };
    let required = !matches!(body, Body::Empty);
    Some(json!({ "required": required, "content": { kind: media(schema, example) } }))
}

fn responses(operation: &Operation, components: &mut Components) -> Value {
    let mut example = None;
    let (kind, schema, about) = match operation.answer {
        Answer::Table(table) => {
            example = Some(json::example(table));
            ("application/json", components.table(table), table.about)
        }
        Answer::Bytes => {
            let schema =
                json!({ "type": "string", "contentMediaType": "application/octet-stream" });
            ("application/octet-stream", schema, "The bytes, with the type that the file has.")
        }
        Answer::Events => (
            "text/event-stream",
            json!({ "$ref": "#/components/schemas/StreamedEvent" }),
            "Server-sent events without end. Each has a line `event:` with its type, a line `data:` \
             with JSON as the schema describes it and, where it stands in the log, a line `id:` with \
             its place, from which a stream can go on. A comment opens the stream; after 15 seconds \
             of silence comes an event `ping`.",
        ),
        Answer::Messages => (
            "text/event-stream",
            message(),
            "What the protocol answers: server-sent events whose data are messages, or one message.",
        ),
    };
    let mut responses = Map::new();
    if matches!(operation.answer, Answer::Messages) {
        let taken = json!({ "description": "The message is taken; nothing answers it." });
        responses.insert("202".into(), taken);
    }
    let content = json!({ kind: media(schema, example) });
    responses.insert("200".into(), json!({ "description": about, "content": content }));
    for (name, status, applies) in [
        ("Invalid", "400", true),
        ("Unauthenticated", "401", true),
        ("Forbidden", "403", true),
        ("NotFound", "404", operation.path.contains('{') || operation.names_others),
        ("Conflict", "409", !matches!(operation.body, Body::None)),
        ("TooLarge", "413", !matches!(operation.body, Body::None)),
        ("Failed", "500", true),
        ("Unavailable", "503", true),
    ] {
        if applies {
            let refusal = json!({ "$ref": format!("#/components/responses/{name}") });
            responses.insert(status.into(), refusal);
        }
    }
    Value::Object(responses)
}

/// What the statuses of refusals mean.
fn refusals(components: &mut Components) -> Value {
    let error = components.table(&answers::ERROR);
    let mut refusals = Map::new();
    for (name, about) in [
        ("Invalid", "The request is wrong as it stands; the message says what would be right."),
        ("Unauthenticated", "No key, or one that is not known."),
        ("Forbidden", "The key may not do that."),
        ("NotFound", "There is no such thing, or it is not yours."),
        (
            "Conflict",
            "It has changed in the meantime, or the Idempotency-Key was used for another request.",
        ),
        ("TooLarge", "The body is too large."),
        ("Failed", "The server has failed; its log says more under the request's id."),
        ("Unavailable", "The server is stopping."),
    ] {
        let media = media(error.clone(), Some(json::example(&answers::ERROR)));
        let content = json!({ "application/json": media });
        refusals.insert(name.into(), json!({ "description": about, "content": content }));
    }
    Value::Object(refusals)
}

/// A message whose members are the protocol's business.
fn message() -> Value {
    json!({
        "type": "object",
        "description": "A JSON-RPC message of the Model Context Protocol, revisions 2025-06-18, \
            2025-11-25 and 2026-07-28.",
        "properties": { "jsonrpc": { "const": "2.0" } },
        "required": ["jsonrpc"],
        "additionalProperties": true,
    })
}

/// A body of one type.
fn media(schema: Value, example: Option<Value>) -> Value {
    match example {
        Some(example) => json!({ "schema": schema, "example": example }),
        None => json!({ "schema": schema }),
    }
}

/// The ids in a path.
fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter = |name: &str| {
        let schema = match id_kind(name) {
            Some(kind) => {
                let pattern = format!("^{}_[0-9A-Za-z]{{1,64}}$", kind.prefix());
                json!({ "type": "string", "pattern": pattern })
            }
            None => json!({ "type": "string", "minLength": 1 }),
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    };
    names.map(parameter).collect()
}

fn id_kind(name: &str) -> Option<IdKind> {
    Some(match name {
        "agent" => IdKind::Agent,
        "environment" => IdKind::Environment,
        "session" => IdKind::Session,
        "thread" => IdKind::Thread,
        "resource" => IdKind::Resource,
        "file" => IdKind::File,
        "vault" => IdKind::Vault,
        "credential" => IdKind::Credential,
        "key" => IdKind::Key,
        "workspace" => IdKind::Workspace,
        _ => return None,
    })
}

fn query_parameters(field: &Field, components: &mut Components) -> Vec<Value> {
    let mut schema = components.kind(&field.kind);
    if let Absent::Means(means) = field.absent
        && let Ok(default @ (Value::Number(_) | Value::String(_) | Value::Bool(_))) =
            serde_json::from_str(means)
    {
        schema["default"] = default;
    }
    let about = match field.rule {
        Some(rule) => format!("{} {rule}", field.about),
        None => field.about.to_owned(),
    };
    let parameter = |name: String, about: &str| json!({ "name": name, "in": "query", "schema": schema, "description": about });
    match field.kind {
        Kind::Times => [
            ("gt", "After this time."),
            ("gte", "At this time or after it."),
            ("lt", "Before this time."),
            ("lte", "At this time or before it."),
        ]
        .iter()
        .map(|(bound, exact)| {
            parameter(format!("{}[{bound}]", field.name), &format!("{about} {exact}"))
        })
        .collect(),
        Kind::List { .. } => vec![parameter(format!("{}[]", field.name), &about)],
        _ => vec![parameter(field.name.to_owned(), &about)],
    }
}

/// A record of the log's own, which no table describes: what it holds may change with each version.
fn own_event() -> Value {
    json!({
        "type": "object",
        "description": "A record of the log's own, shown with posthouse_events=true.",
        "properties": {
            "id": { "type": "string" },
            "type": { "type": "string", "pattern": r"^posthouse\." },
            "processed_at": { "type": "string", "format": "date-time" },
        },
        "required": ["id", "type", "processed_at"],
        "additionalProperties": true,
    })
}
