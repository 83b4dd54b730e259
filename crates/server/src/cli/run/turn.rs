//! One turn, watched from its beginning to its end: what happens is shown, calls that need a
//! word get one, and Ctrl-C reaches the agent.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead as _, IsTerminal as _},
    process::ExitCode,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::home::Home;
use crate::{
    Error,
    cli::{
        Signals, ask_text, note,
        place::{Follow, Next},
        plain::{harmless_json, one_line},
        say_text,
        screen::{Look, Screen},
    },
};

/// How long an agent that was interrupted may take to be idle.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a turn has ended, for whoever has started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    Done,
    /// With an error that was not overcome.
    Failed,
    /// It has not: calls wait for answers.
    Waits,
    /// At a limit, or with a refusal.
    Limit,
    /// The user has interrupted it.
    Interrupted,
    /// It has not, but the user has left.
    Left,
}

impl Ended {
    /// What the program says of it to its caller.
    pub(super) fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Waits => 3,
            Self::Limit => 4,
            Self::Interrupted | Self::Left => 130,
        })
    }
}

/// What a session was before this command came to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    /// It was not there.
    New,
    /// It was there.
    Old,
    /// It was there, and was just given other models.
    Switched,
}

/// A session that is watched.
pub(super) struct Turn<'a> {
    home: &'a Home,
    session: &'a str,
    follow: Follow,
    screen: Screen,
    json: bool,
    /// Whether somebody is there who can be asked.
    asks: bool,
    /// Events from before, which are not shown.
    passed: HashSet<String>,
    /// The message that has to be taken before an end is this turn's end.
    sent: Option<String>,
    /// Calls that were seen, by their ids.
    calls: HashMap<String, Value>,
    usage: Option<Value>,
    /// When the patience with an interrupted agent ends.
    deadline: Option<Instant>,
}

/// What has happened.
enum Heard {
    Next(Next),
    Interrupt,
    Late,
}

/// What a person has said to a call.
enum Word {
    Given(Value),
    Interrupt,
    Nothing,
}

impl<'a> Turn<'a> {
    /// Nothing is connected yet.
    pub(super) fn new(home: &'a Home, session: &'a str, look: Look, json: bool) -> Self {
        let deltas = if look.live { "?event_deltas[]=agent.message" } else { "" };
        let path = format!("/v1/sessions/{session}/events/stream{deltas}");
        Self {
            home,
            session,
            follow: Follow::new(home.place.clone(), path),
            screen: Screen::new(look),
            json,
            asks: !json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal(),
            passed: HashSet::new(),
            sent: None,
            calls: HashMap::new(),
            usage: None,
            deadline: None,
        }
    }

    /// Gives the task, if there is one, and watches until the turn has ended.
    ///
    /// # Errors
    /// When the server is gone for long, or refuses; [`Error::Usage`] when there is nothing to do.
    pub(super) async fn play(
        &mut self,
        task: Option<String>,
        past: Past,
        interrupts: &mut Signals,
    ) -> Result<Ended, Error> {
        let (waiting, is_at_work) = match past {
            Past::New => (Vec::new(), false),
            Past::Old | Past::Switched => self.look_back().await?,
        };
        if task.is_none() && waiting.is_empty() && !is_at_work {
            if past == Past::Switched {
                return Ok(Ended::Done);
            }
            return Err(Error::Usage(format!(
                "task: is missing, and nothing is under way in {}; say what to do",
                self.session
            )));
        }
        self.follow.open().await?;
        if !waiting.is_empty()
            && let Some(ended) = self.answer(&waiting, interrupts).await?
        {
            return Ok(ended);
        }
        if let Some(task) = task.filter(|_| self.deadline.is_none()) {
            let content = json!([{ "type": "text", "text": task }]);
            let ids =
                self.send(vec![json!({ "type": "user.message", "content": content })]).await?;
            self.sent = ids.into_iter().next();
        }
        loop {
            match self.hear(interrupts).await? {
                Heard::Next(Next::Frame(frame)) => {
                    let Some(ended) = self.take(frame.event, interrupts).await? else { continue };
                    return Ok(ended);
                }
                Heard::Next(Next::Cut) => say_text(&self.screen.close()),
                Heard::Interrupt if self.deadline.is_some() => return Ok(Ended::Left),
                Heard::Interrupt => {
                    if !self.interrupt(interrupts).await? {
                        return Ok(Ended::Left);
                    }
                }
                Heard::Late => return Ok(Ended::Left),
            }
        }
    }

    /// Ends a line that is still open.
    pub(super) fn close(&mut self) -> String {
        self.screen.close()
    }

    /// What has come of it, on one line: session, tokens, cost, time, how to go on.
    pub(super) fn summary(&self, took: Duration) -> String {
        let mut parts = vec![self.session.to_owned()];
        if let Some(usage) = &self.usage {
            let count = |name: &str| usage[name].as_u64().unwrap_or_default();
            let cached: u64 = count("cache_read_input_tokens")
                + usage["cache_creation"]
                    .as_object()
                    .map_or(0, |kinds| kinds.values().filter_map(Value::as_u64).sum());
            let input = count("input_tokens") + cached;
            parts.push(format!("{input} tokens in, {} out", count("output_tokens")));
            let cents = usage["list_cost"]["amount"].as_str().and_then(|text| text.parse().ok());
            parts.extend(cents.map(|cents: u64| format!("${}.{:02}", cents / 100, cents % 100)));
        }
        parts.push(format!("{:.1} s", took.as_secs_f64()));
        parts.push(self.home.command(self.session));
        parts.join(" · ")
    }

    /// What was in the session before is passed over. Returns the calls that wait for answers,
    /// and whether the agent is at work.
    async fn look_back(&mut self) -> Result<(Vec<String>, bool), Error> {
        let session = self.session;
        let client = self.home.place.client()?;
        let status = client.get(&format!("/v1/sessions/{session}")).await?;
        let status = status["status"].as_str().unwrap_or_default();
        let path = format!("/v1/sessions/{session}/events?order=desc&limit=1000");
        let mut rest: Option<Value> = None;
        let mut page = client.get(&path).await?;
        // A stream shows no more than the turn that is under way: back to the end of the last
        // one, and with it everything that a session at rest waits for.
        loop {
            let events = page.get_mut("data").and_then(Value::as_array_mut);
            for event in events.map(std::mem::take).unwrap_or_default() {
                let Some(id) = event["id"].as_str().map(str::to_owned) else { continue };
                if rest.is_none() && event["type"] == "session.status_idle" {
                    rest = Some(event);
                } else if event["type"].as_str().is_some_and(|kind| kind.ends_with("tool_use")) {
                    self.calls.insert(id.clone(), event);
                }
                self.passed.insert(id);
            }
            let Some(next) = page["next_page"].as_str().filter(|_| rest.is_none()) else { break };
            page = client.get(&format!("{path}&page={next}")).await?;
        }
        let waiting = match rest {
            Some(rest) if status == "idle" => waiting(&rest["stop_reason"]),
            _ => Vec::new(),
        };
        Ok((waiting, matches!(status, "running" | "rescheduling")))
    }

    async fn hear(&mut self, interrupts: &mut Signals) -> Result<Heard, Error> {
        let deadline = self.deadline;
        let late = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = interrupts.next() => Ok(Heard::Interrupt),
            next = self.follow.next() => next.map(Heard::Next),
            () = late => Ok(Heard::Late),
        }
    }

    /// Tells the agent to stop. False when the user leaves before it is told.
    async fn interrupt(&mut self, interrupts: &mut Signals) -> Result<bool, Error> {
        say_text(&self.screen.close());
        note("interrupting; once more leaves at once");
        self.deadline = Some(Instant::now() + PATIENCE);
        tokio::select! {
            sent = self.send(vec![json!({ "type": "user.interrupt" })]) => sent.map(|_| true),
            _ = interrupts.next() => Ok(false),
        }
    }

    /// Sends events; returns their ids.
    async fn send(&mut self, events: Vec<Value>) -> Result<Vec<String>, Error> {
        let path = format!("/v1/sessions/{}/events", self.session);
        let answer = self.home.place.client()?.post(&path, &json!({ "events": events })).await?;
        let data = answer["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ids: Vec<String> =
            data.iter().filter_map(|event| event["id"].as_str()).map(str::to_owned).collect();
        Ok(ids)
    }

    /// Shows an event and says whether the turn has ended with it.
    async fn take(
        &mut self,
        event: Value,
        interrupts: &mut Signals,
    ) -> Result<Option<Ended>, Error> {
        let id = event["id"].as_str().unwrap_or_default();
        if self.passed.contains(id) {
            return Ok(None);
        }
        let own = self.sent.as_deref() == Some(id);
        if own {
            self.sent = None;
        }
        if self.json {
            say_text(&format!("{}\n", harmless_json(&event)));
        } else if !own {
            say_text(&self.screen.show(&event));
        }
        match event["type"].as_str().unwrap_or_default() {
            "agent.tool_use" | "agent.mcp_tool_use" | "agent.custom_tool_use" => {
                self.calls.insert(id.to_owned(), event);
            }
            "session.usage" => self.usage = Some(event["usage"].clone()),
            "session.status_terminated" | "session.deleted" => return Ok(Some(Ended::Failed)),
            "session.status_idle" if self.deadline.is_some() => {
                return Ok(Some(Ended::Interrupted));
            }
            // The end of something that was under way before the task is taken.
            "session.status_idle" if self.sent.is_some() => {}
            "session.status_idle" => {
                let reason = &event["stop_reason"];
                return match reason["type"].as_str() {
                    Some("end_turn") => Ok(Some(Ended::Done)),
                    Some("retries_exhausted") => Ok(Some(Ended::Failed)),
                    Some("requires_action") => self.answer(&waiting(reason), interrupts).await,
                    other => {
                        say_text(&self.screen.close());
                        note(&format!("the turn has ended: {}", ending(other, &event)));
                        Ok(Some(Ended::Limit))
                    }
                };
            }
            _ => {}
        }
        Ok(None)
    }

    /// Has calls answered that wait. `None` when they were, or when the user has interrupted.
    async fn answer(
        &mut self,
        waiting: &[String],
        interrupts: &mut Signals,
    ) -> Result<Option<Ended>, Error> {
        say_text(&self.screen.close());
        let call_of = |calls: &HashMap<String, Value>, id: &String| {
            calls.get(id).cloned().unwrap_or_else(|| json!({ "id": id, "name": "a tool" }))
        };
        let calls: Vec<Value> = waiting.iter().map(|id| call_of(&self.calls, id)).collect();
        let custom = |call: &&Value| call["type"] == "agent.custom_tool_use";
        if let Some(call) = calls.iter().find(custom) {
            note(&format!(
                "the agent waits for the result of a tool that a program of yours has to run; \
                 send a user.custom_tool_result to POST /v1/sessions/{}/events:\n  {}  {}",
                self.session,
                Screen::new(Look::PLAIN).call(call),
                call["id"].as_str().unwrap_or_default(),
            ));
            return Ok(Some(Ended::Waits));
        }
        let mut events = Vec::new();
        for (call, id) in calls.iter().zip(waiting) {
            // One call that has just been shown, and as a whole, need not be shown again.
            let whole = self.screen.whole_call(call);
            let known = calls.len() == 1 && !self.passed.contains(id);
            let known = known && whole == self.screen.call(call);
            let shown = if known { String::new() } else { whole + "\n" };
            let word = match self.asks {
                true => ask(&shown, id, interrupts).await,
                false => Word::Nothing,
            };
            match word {
                Word::Given(event) => events.push(event),
                Word::Interrupt => {
                    let told = self.interrupt(interrupts).await?;
                    return Ok((!told).then_some(Ended::Left));
                }
                Word::Nothing => {
                    self.tell_who_waits(&calls);
                    return Ok(Some(Ended::Waits));
                }
            }
        }
        self.send(events).await.map(|_| None)
    }

    /// Says what waits and how it is answered.
    fn tell_who_waits(&self, calls: &[Value]) {
        let mut text = "the agent waits for your word on:".to_owned();
        for call in calls {
            let id = call["id"].as_str().unwrap_or_default();
            text.push_str(&format!("\n  {}", Screen::new(Look::PLAIN).whole_call(call)));
            if let Some(command) = self.home.allow(self.session, id) {
                text.push_str(&format!("\n    {command}"));
            }
        }
        note(&text);
        note("on a terminal, `posthouse run --session` asks for it");
    }
}

/// The calls that a session which requires action waits for.
fn waiting(reason: &Value) -> Vec<String> {
    if reason["type"] != "requires_action" {
        return Vec::new();
    }
    let ids = reason["event_ids"].as_array().map(Vec::as_slice).unwrap_or_default();
    ids.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Why a turn has ended that did not end by itself, in words.
fn ending(reason: Option<&str>, event: &Value) -> String {
    let explanation = event["stop_details"]["explanation"].as_str();
    let words = match reason {
        Some("refusal") => "the model has refused",
        Some(other) => other,
        None => "for no reason that was given",
    };
    let text = explanation.map_or(words.to_owned(), |more| format!("{words}: {more}"));
    one_line(&text)
}

/// Asks whether a call may run.
async fn ask(call: &str, id: &str, interrupts: &mut Signals) -> Word {
    ask_text(&format!("{call}allow? [y/N/reason] "));
    // The thread stays behind in its read when the user interrupts; the program then ends.
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|length| (length > 0).then_some(line))
    });
    let line = tokio::select! {
        read = read => read.ok().and_then(Result::ok).flatten(),
        _ = interrupts.next() => {
            ask_text("\n");
            return Word::Interrupt;
        }
    };
    let Some(line) = line else {
        ask_text("\n");
        return Word::Nothing;
    };
    let confirmation = "user.tool_confirmation";
    Word::Given(match line.trim() {
        "y" | "Y" | "yes" | "Yes" => {
            json!({ "type": confirmation, "tool_use_id": id, "result": "allow" })
        }
        "" | "n" | "N" | "no" | "No" => {
            json!({ "type": confirmation, "tool_use_id": id, "result": "deny" })
        }
        reason => json!({
            "type": confirmation, "tool_use_id": id, "result": "deny", "deny_message": reason,
        }),
    })
}
