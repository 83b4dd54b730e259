//! The tools that a session's models are shown, kept from one request and one turn to the next, and
//! what the log says when MCP servers have been asked for theirs.
//!
//! The log names each list by its hash, and the session's blob of that name holds it: so a restart
//! finds the tools that the conversation is about without asking anybody.

use std::{collections::HashMap, sync::Arc};

use posthouse_model::{Request, ToolSpec};
use posthouse_protocol::agent::SessionAgent;
use posthouse_store::{log::Work, record::hex};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::{Drive, Stopped};
use crate::{
    line,
    own::{self, ServerListed, ToolsListed},
    toolbox::Toolbox,
    tools::{Listing, ServerTool, Standpoint, Trouble, TroubleKind},
};

/// The tools of a session.
#[derive(Default)]
pub(crate) struct Kit {
    /// Lists by their hashes.
    lists: HashMap<Arc<str>, Arc<[ServerTool]>>,
    packed: Option<Packed>,
    offered: Option<Offered>,
    /// The agent and the tools of the beginning of requests that was kept last, and its hash.
    prefix: Option<(Arc<SessionAgent>, Arc<[ToolSpec]>, String)>,
}

/// A toolbox, and what it was made of.
struct Packed {
    agent: Arc<SessionAgent>,
    lists: Vec<(Arc<str>, Arc<str>)>,
    toolbox: Arc<Toolbox>,
}

/// What requests show, and what that was chosen by.
struct Offered {
    toolbox: Arc<Toolbox>,
    window: u64,
    /// Loaded tools are never unloaded, so that their number says which they are.
    loaded: usize,
    tools: Arc<[ToolSpec]>,
}

impl Kit {
    /// What a request shows to a model with that window.
    pub(super) fn offer(
        &mut self,
        toolbox: &Arc<Toolbox>,
        window: u64,
        loaded: &[Arc<str>],
    ) -> Arc<[ToolSpec]> {
        let is_same = |one: &&Offered| {
            Arc::ptr_eq(&one.toolbox, toolbox) && one.window == window && one.loaded == loaded.len()
        };
        if let Some(offered) = self.offered.as_ref().filter(is_same) {
            return Arc::clone(&offered.tools);
        }
        let tools = toolbox.offer(window, loaded);
        self.offered = Some(Offered {
            toolbox: Arc::clone(toolbox),
            window,
            loaded: loaded.len(),
            tools: Arc::clone(&tools),
        });
        tools
    }

    /// The hash of what all requests of this session begin with, and its text when this kit has not
    /// had it yet.
    pub(super) fn prefix(
        &mut self,
        agent: &Arc<SessionAgent>,
        request: &Request,
    ) -> (String, Vec<(String, Arc<str>)>) {
        #[derive(Serialize)]
        struct Shown<'a> {
            name: &'a str,
            description: &'a str,
            input_schema: &'a RawValue,
        }
        #[derive(Serialize)]
        struct Beginning<'a> {
            system: &'a str,
            tools: Vec<Shown<'a>>,
        }
        if let Some((of, tools, hash)) = &self.prefix
            && Arc::ptr_eq(of, agent)
            && Arc::ptr_eq(tools, &request.tools)
        {
            return (hash.clone(), Vec::new());
        }
        let shown = request.tools.iter().map(|tool| Shown {
            name: &tool.name,
            description: &tool.description,
            input_schema: &tool.input_schema,
        });
        let tools = shown.collect();
        // Plain structs; turning them into JSON can't fail.
        let text = serde_json::to_string(&Beginning { system: &request.system, tools });
        let text = text.unwrap_or_default();
        let hash = hex(&Sha256::digest(&text));
        self.prefix = Some((Arc::clone(agent), Arc::clone(&request.tools), hash.clone()));
        (hash.clone(), vec![(hash, text.into())])
    }

    /// The hash of a list, and its text when this kit has not had it yet.
    fn keep(&mut self, list: &Arc<[ServerTool]>) -> (Arc<str>, Option<Arc<str>>) {
        let known = self.lists.iter().find(|(_, known)| Arc::ptr_eq(known, list));
        if let Some((hash, _)) = known {
            return (Arc::clone(hash), None);
        }
        // Plain structs; turning them into JSON can't fail.
        let text = serde_json::to_string(list).unwrap_or_default();
        let hash: Arc<str> = hex(&Sha256::digest(&text)).into();
        // The same list under another address is kept as the newest one.
        self.lists.insert(Arc::clone(&hash), Arc::clone(list));
        (hash, Some(text.into()))
    }
}

impl Drive<'_> {
    /// Where the session stands towards the world outside.
    pub(super) fn standpoint(&self) -> Arc<Standpoint> {
        Arc::new(Standpoint {
            session: Arc::clone(&self.session),
            workspace: Arc::clone(&self.workspace),
            vaults: Arc::clone(&self.state.vaults),
            agent: Arc::clone(&self.state.agent),
            networking: self.state.networking.clone(),
        })
    }

    /// The tools of a thread. None when a list that the log names is gone.
    pub(super) async fn toolbox(&mut self, thread: &str) -> Result<Option<Arc<Toolbox>>, Stopped> {
        let agent = Arc::clone(&self.state.agent);
        let listed = self.state.thread(thread).map_or(&[][..], |thread| &thread.lists);
        let named =
            |one: &ServerListed| Some((Arc::clone(&one.name), Arc::clone(one.hash.as_ref()?)));
        let lists: Vec<_> = match agent.mcp_servers.is_empty() {
            true => Vec::new(),
            false => listed.iter().filter_map(named).collect(),
        };
        if let Some(packed) = &self.kit.packed
            && Arc::ptr_eq(&packed.agent, &agent)
            && packed.lists == lists
        {
            return Ok(Some(Arc::clone(&packed.toolbox)));
        }
        let mut found = Vec::with_capacity(lists.len());
        for (server, hash) in &lists {
            let Some(list) = self.list_of(hash).await? else { return Ok(None) };
            found.push((Arc::clone(server), list));
        }
        self.kit.lists.retain(|kept, _| lists.iter().any(|(_, hash)| hash == kept));
        let toolbox = Arc::new(Toolbox::new(&agent, &found, &self.core.limits));
        self.kit.packed = Some(Packed { agent, lists, toolbox: Arc::clone(&toolbox) });
        Ok(Some(toolbox))
    }

    /// The tools of a thread, without those of MCP servers when their lists are gone: for what is
    /// under way already. Whatever needs more asks for the lists again.
    pub(super) async fn toolbox_at_hand(&mut self, thread: &str) -> Result<Arc<Toolbox>, Stopped> {
        let whole = self.toolbox(thread).await?;
        let bare = || Arc::new(Toolbox::new(&self.state.agent, &[], &self.core.limits));
        Ok(whole.unwrap_or_else(bare))
    }

    async fn list_of(&mut self, hash: &Arc<str>) -> Result<Option<Arc<[ServerTool]>>, Stopped> {
        if let Some(list) = self.kit.lists.get(hash) {
            return Ok(Some(Arc::clone(list)));
        }
        let text = self.core.log.blob(self.number, Arc::clone(hash)).await?;
        let list: Option<Arc<[ServerTool]>> =
            text.and_then(|text| serde_json::from_str(&text).ok());
        if let Some(list) = &list {
            self.kit.lists.insert(Arc::clone(hash), Arc::clone(list));
        }
        Ok(list)
    }

    /// Says in the log that the lists of a thread are gone, so that they are asked for again.
    pub(super) async fn ask_for_lists_again(&mut self, thread: &Arc<str>) -> Result<(), Stopped> {
        tracing::warn!(session = %self.session, %thread, "a list of tools is gone");
        let lost = ToolsListed { servers: Vec::new() };
        let line = line::own_record(own::kind::TOOLS_LISTED, thread, &lost);
        self.append_lines(vec![line]).await
    }

    /// Appends what the agent's MCP servers have answered: who is in trouble, then the lists, in one
    /// append with those that the session has not kept yet.
    pub(super) async fn append_lists(
        &mut self,
        thread: &Arc<str>,
        listings: Vec<Listing>,
    ) -> Result<(), Stopped> {
        let agent = Arc::clone(&self.state.agent);
        let mut listings: HashMap<Arc<str>, Listing> =
            listings.into_iter().map(|one| (Arc::clone(&one.server), one)).collect();
        let mut kept: Vec<Arc<str>> = Vec::new();
        if let Some(thread) = self.state.thread(thread) {
            kept.extend(thread.lists.iter().filter_map(|one| one.hash.clone()));
        }
        let (mut lines, mut servers, mut blobs) = (Vec::new(), Vec::new(), Vec::new());
        for server in &agent.mcp_servers {
            let name: Arc<str> = server.name().into();
            let outcome = listings.remove(&name).map(|listing| listing.outcome);
            match outcome.unwrap_or_else(|| Err(unanswered(&name))) {
                Ok(list) => {
                    let (hash, text) = self.kit.keep(&list);
                    if let Some(text) = text.filter(|_| !kept.contains(&hash)) {
                        blobs.push((hash.to_string(), text));
                    }
                    let tools = list.len();
                    servers.push(ServerListed { name, hash: Some(hash), tools, error: None });
                }
                Err(trouble) => {
                    lines.push(line::server_trouble(thread, &trouble));
                    let error = Some(trouble.message);
                    servers.push(ServerListed { name, hash: None, tools: 0, error });
                }
            }
        }
        lines.push(line::own_record(own::kind::TOOLS_LISTED, thread, &ToolsListed { servers }));
        self.core.faults().point("list.before_append")?;
        let drafts = self.write(lines);
        self.append(Work { drafts, blobs, ..Work::default() }).await?;
        self.core.faults().point("list.after_append")?;
        Ok(())
    }
}

/// The trouble with a server that was not even asked.
fn unanswered(server: &Arc<str>) -> Trouble {
    Trouble {
        server: Arc::clone(server),
        kind: TroubleKind::Connection,
        message: "The server was not asked for its tools.".to_owned(),
    }
}
