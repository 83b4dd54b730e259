//! MCP servers as sessions use them: connecting, listing tools, calling them.
//!
//! A list is asked for twice where a kept connection turns out to be dead; a call is never sent twice
//! from here.

use std::sync::Arc;

use posthouse_mcp::client::{Called, Connection, Error, Settings, Tool, Tools, Way};
use posthouse_protocol::agent::{Elicitation, McpServer};
use serde_json::{Value, value::RawValue};
use tokio::time::{Instant, timeout};

use super::{
    Room,
    headers::SessionHeaders,
    link::{Link, Listed},
    reach,
    trouble::{self, Came},
};
use crate::tools::{Listing, Program, ServerTool, Standpoint, ToolCall, ToolOutcome, Trouble};

/// Names that one connection looks up at a time.
const LOOKUPS: usize = 4;

/// A connection that is open, and what tells it from others.
struct Reached {
    connection: Connection,
    number: u64,
    /// Whether it was there before.
    kept: bool,
}

impl Room {
    /// The tools of a server, or why there are none; within the time that connecting and listing may
    /// take.
    pub(super) async fn listing(&self, from: &Standpoint, server: &McpServer) -> Listing {
        let _held = self.hold(from, server);
        let limit = self.settings.connect * 2 + self.settings.list;
        let listed = match timeout(limit, self.list(from, server)).await {
            Ok(listed) => listed,
            Err(_) => Err(Error::Connection("it has not answered in time".to_owned())),
        };
        let outcome = listed.map_err(|error| self.trouble(from, server, &error));
        Listing { server: server.name().into(), outcome }
    }

    /// Calls a tool of a server.
    pub(super) async fn call(
        &self,
        from: &Standpoint,
        server: &McpServer,
        call: &ToolCall,
    ) -> ToolOutcome {
        let link = match self.link_to(from, server) {
            Ok(link) => link,
            Err(error) => return self.failed(from, server, &error, Came::Nowhere),
        };
        let _begun = link.calls.begin(&call.call);
        let _held = self.hold(from, server);
        let connection = match self.connect(from, &link).await {
            Ok(reached) => reached.connection,
            Err(error) => return self.failed(from, server, &error, Came::Nowhere),
        };
        let called = connection.call(&call.name, &call.input).await;
        link.touch();
        match called {
            Ok(Called { content, is_error }) => {
                let content = link.carried.clean_all(Value::Array(content));
                ToolOutcome { content, is_error, ..ToolOutcome::default() }
            }
            Err(error) => {
                let error = cleaned(&link, error);
                if !matches!(error, Error::Refused { .. }) {
                    // The next turn finds out whether the server is still what it was.
                    link.forget_list();
                }
                self.failed(from, server, &error, Came::ToTheServer)
            }
        }
    }

    /// What keeps the sandbox of a server that runs in it: the session may have been at rest before, and
    /// what it asks the server for may take longer than an idle sandbox stays.
    fn hold(&self, from: &Standpoint, server: &McpServer) -> Option<Box<dyn Send + Sync>> {
        server.url().is_none().then(|| self.hands.hold(&from.session)).flatten()
    }

    /// What the model gets, with what is wrong beyond this call.
    fn failed(
        &self,
        from: &Standpoint,
        server: &McpServer,
        error: &Error,
        came: Came,
    ) -> ToolOutcome {
        let lasting = !matches!(error, Error::Refused { .. });
        ToolOutcome {
            trouble: lasting.then(|| self.trouble(from, server, error)),
            ..trouble::result(server.name(), error, came)
        }
    }

    fn trouble(&self, from: &Standpoint, server: &McpServer, error: &Error) -> Trouble {
        // What can't be read is no reason to say less.
        let credential = server.url().and_then(|url| {
            self.vaults.matching(&from.workspace, &from.vaults, url).ok().flatten()
        });
        let trouble = trouble::trouble(server.name(), error, &from.vaults, credential.as_ref());
        tracing::info!(
            session = %from.session,
            server = server.name(),
            kind = trouble.kind.as_str(),
            %error,
            "an MCP server can't be used"
        );
        trouble
    }

    /// The session's link to a server that it may reach.
    fn link_to(&self, from: &Standpoint, server: &McpServer) -> Result<Arc<Link>, Error> {
        let url = reach::address(server, &from.networking)
            .map_err(|why| Error::Connection(why.to_owned()))?;
        if url.is_some_and(|url| !url.username().is_empty() || url.password().is_some()) {
            return Err(Error::Authentication {
                message:
                    "its address has a user or a password in it, which is not sent; keep it in \
                          a vault, as a credential of the type `posthouse_header`"
                        .to_owned(),
                scope: None,
            });
        }
        Ok(self.link(&from.session, self.identity(from, server)?))
    }

    async fn list(
        &self,
        from: &Standpoint,
        server: &McpServer,
    ) -> Result<Arc<[ServerTool]>, Error> {
        let link = self.link_to(from, server)?;
        let _turn = link.listing.lock().await;
        if let Some(tools) = link.list(Instant::now()) {
            return Ok(tools);
        }
        let mut reached = self.connect(from, &link).await?;
        let mut answer = reached.connection.tools().await;
        if reached.kept && matches!(answer, Err(Error::Connection(_))) {
            // It may have died while nobody has used it.
            self.close(link.take_one(reached.number));
            reached = self.connect(from, &link).await?;
            answer = reached.connection.tools().await;
        }
        let Tools { tools, valid_for, left_out } = match answer {
            Ok(tools) => tools,
            Err(error) => {
                self.close(link.take_one(reached.number));
                return Err(cleaned(&link, error));
            }
        };
        for what in left_out {
            tracing::info!(
                session = %from.session, server = server.name(), what, "left out of a list of tools"
            );
        }
        let tools: Arc<[ServerTool]> =
            tools.into_iter().filter_map(|tool| described(&link, tool)).collect();
        link.keep_list(Listed {
            tools: Arc::clone(&tools),
            until: valid_for.and_then(|time| Instant::now().checked_add(time)),
            by: reached.number,
            // One that has just listed and can't say that nothing has changed never can.
            tells: !reached.connection.may_have_changed(),
        });
        Ok(tools)
    }

    /// The link's connection; a new one where there is none any more.
    async fn connect(&self, from: &Standpoint, link: &Arc<Link>) -> Result<Reached, Error> {
        let began = Instant::now();
        let kept = |(connection, number)| Reached { connection, number, kept: true };
        if let Some(connection) = link.connection() {
            return Ok(kept(connection));
        }
        let _turn = link.connecting.lock().await;
        if let Some(connection) = link.connection() {
            return Ok(kept(connection));
        }
        // Whoever has waited for an attempt that has failed does not make another one.
        if let Some(error) = link.failure_since(began) {
            return Err(error);
        }
        let permit = self.permit()?;
        match self.open(from, link).await {
            Ok(connection) => {
                let number = link.opened(connection.clone(), permit);
                Ok(Reached { connection, number, kept: false })
            }
            Err(error) => {
                let error = cleaned(link, error);
                link.not_opened(error.clone());
                Err(error)
            }
        }
    }

    async fn open(&self, from: &Standpoint, link: &Link) -> Result<Connection, Error> {
        let identity = &link.identity;
        let way = match &identity.server {
            server @ McpServer::Url { url: text, .. } => {
                let address = reach::address(server, &from.networking);
                let Ok(Some(url)) = address else {
                    return Err(Error::Connection("its address may not be reached".to_owned()));
                };
                let headers = SessionHeaders::new(self.vaults.clone(), from, text, link);
                // Of its own, so that nothing below HTTP tells a server that two sessions are one.
                let guard = self.guard.share(LOOKUPS);
                Way::Http { url, guard, headers: Arc::new(headers) }
            }
            McpServer::Stdio { name, command, args, env } => {
                let program = Program {
                    name: name.clone(),
                    command: command.clone(),
                    args: args.clone(),
                    env: env.clone(),
                };
                let starting = self.hands.start_server(&from.session, program);
                let started = timeout(self.settings.connect, starting).await;
                let started = started.unwrap_or_else(|_| Err("it has not started in time".into()));
                Way::Pipe(started.map_err(Error::Connection)?)
            }
        };
        let settings = &self.settings;
        Connection::open(
            way,
            Settings {
                connect: settings.connect,
                list: settings.list,
                silence: settings.silence,
                call: settings.call,
                tools: settings.tools,
                message_bytes: settings.message_bytes,
                answer_with_defaults: identity.elicitation == Elicitation::Defaults,
            },
        )
        .await
    }
}

/// A tool as the harness knows it. None where nothing is left of it without what the server was sent.
fn described(link: &Link, tool: Tool) -> Option<ServerTool> {
    let schema = tool.input_schema.get();
    let cleaned = link.carried.clean(schema.to_owned());
    let input_schema = match cleaned == schema {
        true => tool.input_schema,
        false => Arc::from(RawValue::from_string(cleaned).ok()?),
    };
    Some(ServerTool {
        name: link.carried.clean(tool.name),
        description: link.carried.clean(tool.description),
        input_schema,
        idempotent: tool.idempotent,
    })
}

/// An error without what the server was sent.
fn cleaned(link: &Link, error: Error) -> Error {
    let clean = |text| link.carried.clean(text);
    match error {
        Error::Connection(text) => Error::Connection(clean(text)),
        Error::Authentication { message, scope } => {
            Error::Authentication { message: clean(message), scope: scope.map(clean) }
        }
        Error::Refused { code, message } => Error::Refused { code, message: clean(message) },
    }
}
