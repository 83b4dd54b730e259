//! Effects that are under way: a model's answer, a tool, a list of tools, a wait.
//!
//! A flight knows nothing of the log. It shows previews beside it, and reports once.

use std::{collections::HashMap, sync::Arc};

use futures_util::StreamExt as _;
use posthouse_model::{BlockKind, Event, Failure, FailureKind, ModelStream, Response, Usage};
use posthouse_protocol::{agent::ToolName, event::kind as wire};
use posthouse_store::{Faults, Log, Preview};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::{
    settle::{Asked, Previewed},
    step::Effect,
    tools::{Hands, Listing, ToolFuture, ToolOutcome, Work},
};

/// The end of a flight.
#[derive(Debug)]
pub(crate) struct Landing {
    pub(crate) effect: Effect,
    pub(crate) outcome: Outcome,
}

/// What came of an effect.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answered {
        asked: Asked,
        response: Response,
        previewed: Previewed,
    },
    Failed {
        asked: Asked,
        failure: Failure,
    },
    /// A model request that was stopped, and what it had used.
    Stopped {
        asked: Asked,
        usage: Usage,
    },
    Tool(ToolOutcome),
    /// A tool that was stopped.
    ToolStopped,
    Listed(Vec<Listing>),
    Awake,
}

/// An effect under way. Dropping it ends it.
pub(crate) struct Flight {
    stop: Stop,
    task: tokio::task::JoinHandle<()>,
}

impl Flight {
    /// Asks it to end. True when it will land and say so, false when there is nothing to say
    /// and it may be dropped.
    pub(crate) fn stop(&mut self) -> bool {
        match &mut self.stop {
            Stop::Silent => false,
            Stop::Lands(stop) => {
                if let Some(stop) = stop.take() {
                    // A flight that has landed already needs no telling.
                    let _ = stop.send(());
                }
                true
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How an effect ends before its time.
enum Stop {
    /// Without a word.
    Silent,
    /// It is told, and lands; told already when there is nobody to tell.
    Lands(Option<oneshot::Sender<()>>),
}

/// Where flights report.
pub(crate) type Tower = mpsc::UnboundedSender<Landing>;

/// Everything that the flight of a model request needs.
pub(crate) struct ModelFlight {
    pub(crate) effect: Effect,
    pub(crate) session: Arc<str>,
    pub(crate) thread: Arc<str>,
    pub(crate) asked: Asked,
    pub(crate) log: Log,
    pub(crate) faults: Faults,
    pub(crate) new_id: Box<dyn FnMut() -> Arc<str> + Send>,
    pub(crate) hands: Arc<dyn Hands>,
}

impl ModelFlight {
    /// Takes off. Nothing of the answer is shown before `durable` says that the request's
    /// start stands in the log.
    pub(crate) fn take_off(
        self,
        stream: ModelStream,
        durable: oneshot::Receiver<()>,
        tower: Tower,
    ) -> Flight {
        let (stop, stopped) = oneshot::channel();
        launch(Stop::Lands(Some(stop)), async move {
            let effect = self.effect.clone();
            let outcome = self.fly(stream, durable, stopped).await;
            // The drive may be gone; then nobody needs the answer.
            let _ = tower.send(Landing { effect, outcome });
        })
    }

    async fn fly(
        mut self,
        mut stream: ModelStream,
        durable: oneshot::Receiver<()>,
        mut stopped: oneshot::Receiver<()>,
    ) -> Outcome {
        let mut usage = Usage::default();
        let mut shown = Shown::default();
        let mut durable = Some(durable);
        let mut held = Vec::new();
        loop {
            let event = tokio::select! {
                biased;
                // A stop that was never asked for is a drive that is gone.
                _ = &mut stopped => return Outcome::Stopped { asked: self.asked, usage },
                () = wait_until_open(&mut durable), if durable.is_some() => {
                    for event in held.drain(..) {
                        self.show(&mut shown, &event);
                    }
                    continue;
                }
                event = stream.next() => event,
            };
            if let Some(Event::Started { kind: BlockKind::ToolUse { name }, .. }) = &event
                && ToolName::parse(name).is_some_and(ToolName::is_sandboxed)
            {
                self.hands.expect(&self.session);
            }
            if self.faults.point("model.during_response").is_err() {
                return Outcome::Stopped { asked: self.asked, usage };
            }
            match event {
                Some(Event::Ended(response)) => {
                    // What is appended has to come after the start, and so has its reporting.
                    wait_until_open(&mut durable).await;
                    for event in held.drain(..) {
                        self.show(&mut shown, &event);
                    }
                    return Outcome::Answered { asked: self.asked, response, previewed: shown.ids };
                }
                Some(Event::Failed(failure)) => {
                    wait_until_open(&mut durable).await;
                    return Outcome::Failed { asked: self.asked, failure };
                }
                Some(Event::Usage(so_far)) => usage = so_far,
                Some(event) if durable.is_some() => held.push(event),
                Some(event) => self.show(&mut shown, &event),
                None => {
                    let failure = Failure {
                        kind: FailureKind::Transient,
                        message: "The provider's stream ended without an end.".to_owned(),
                        retry_after: None,
                        usage,
                    };
                    return Outcome::Failed { asked: self.asked, failure };
                }
            }
        }
    }

    /// Shows a sign of an event that will be in the log. Text blocks in a row are one message.
    fn show(&mut self, shown: &mut Shown, event: &Event) {
        match event {
            Event::Started { index, kind } => {
                if *kind != BlockKind::Text {
                    shown.message = None;
                }
                if *kind == BlockKind::Thinking {
                    let id = (self.new_id)();
                    shown.ids.insert(*index, Arc::clone(&id));
                    self.open(wire::AGENT_THINKING, &id);
                }
            }
            Event::Text { index, text } => {
                let opens = shown.message.is_none();
                let message = shown
                    .message
                    .get_or_insert_with(|| Message { id: (self.new_id)(), blocks: Vec::new() });
                let id = Arc::clone(&message.id);
                let position = match message.blocks.iter().position(|block| block == index) {
                    Some(position) => position,
                    None => {
                        message.blocks.push(*index);
                        shown.ids.insert(*index, Arc::clone(&id));
                        message.blocks.len() - 1
                    }
                };
                if opens {
                    self.open(wire::AGENT_MESSAGE, &id);
                }
                self.log.preview(&self.session, || Preview {
                    thread: Arc::clone(&self.thread),
                    kind: wire::AGENT_MESSAGE,
                    opens: false,
                    body: json!({
                        "type": "event_delta",
                        "event_id": id,
                        "delta": {
                            "type": "content_delta",
                            "index": position,
                            "content": { "type": "text", "text": text },
                        },
                    })
                    .to_string(),
                    event: id,
                });
            }
            Event::Usage(_) | Event::Ended(_) | Event::Failed(_) => {}
        }
    }

    fn open(&self, kind: &'static str, id: &Arc<str>) {
        self.log.preview(&self.session, || Preview {
            thread: Arc::clone(&self.thread),
            kind,
            event: Arc::clone(id),
            opens: true,
            body: json!({ "type": "event_start", "event": { "type": kind, "id": id } }).to_string(),
        });
    }
}

/// What was shown of an answer.
#[derive(Default)]
struct Shown {
    ids: HashMap<usize, Arc<str>>,
    message: Option<Message>,
}

/// A message that is being shown.
struct Message {
    id: Arc<str>,
    /// The response's blocks that it is made of.
    blocks: Vec<usize>,
}

/// Waits until the request's start is durable.
async fn wait_until_open(durable: &mut Option<oneshot::Receiver<()>>) {
    let Some(gate) = durable else { return };
    if gate.await.is_err() {
        // A gate whose keeper is gone never opens; the drive drops this flight.
        std::future::pending::<()>().await;
    }
    *durable = None;
}

/// Starts a tool, or the search for what came of it.
pub(crate) fn tool(effect: Effect, work: ToolFuture, tower: Tower) -> Flight {
    let (stop, stopped) = oneshot::channel();
    launch(Stop::Lands(Some(stop)), async move {
        let outcome = tokio::select! {
            biased;
            _ = stopped => Outcome::ToolStopped,
            outcome = work => Outcome::Tool(outcome),
        };
        let _ = tower.send(Landing { effect, outcome });
    })
}

/// Asks for the tools of MCP servers.
pub(crate) fn list(effect: Effect, work: Work<Vec<Listing>>, tower: Tower) -> Flight {
    launch(Stop::Silent, async move {
        let outcome = Outcome::Listed(work.await);
        let _ = tower.send(Landing { effect, outcome });
    })
}

/// Starts a wait.
pub(crate) fn sleep(effect: Effect, wait: std::time::Duration, tower: Tower) -> Flight {
    launch(Stop::Silent, async move {
        tokio::time::sleep(wait).await;
        let _ = tower.send(Landing { effect, outcome: Outcome::Awake });
    })
}

fn launch(stop: Stop, work: impl Future<Output = ()> + Send + 'static) -> Flight {
    #[expect(clippy::disallowed_methods, reason = "ends with the flight, which aborts it on drop")]
    let task = tokio::task::spawn(work);
    Flight { stop, task }
}
