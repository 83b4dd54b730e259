//! A thread's conversation as a model request, cut to the model's window.
//!
//! The log is never changed for that. What is cut stays cut for windows of that size and smaller
//! ones, so that the requests of a session keep a common beginning and a provider's cache goes on
//! hitting. A model with more room sees the whole again.

use std::{ops::Range, sync::Arc};

use posthouse_model::{Effort, Item, Request, Resolved, ToolSpec};
use posthouse_protocol::agent::{self, Speed};
use posthouse_store::Seq;

use crate::{
    prompt,
    state::{self, Entry, State, Thread},
};

/// From this share of the window on, the oldest tool results are left out.
const TRIM_AT_PERCENT: u64 = 80;
/// Down to this share, so that the cut does not move with each request.
const TRIM_TO_PERCENT: u64 = 50;
/// What can't be cut may fill this share; beyond it there is no room for an answer.
const FULL_AT_PERCENT: u64 = 95;

/// A request, and where the cut is.
#[derive(Debug)]
pub struct Context {
    /// What to send.
    pub request: Request,
    /// Tool results before this place were left out.
    pub trimmed_before: Seq,
}

/// The conversation does not fit, even with all tool results left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Builds the request for a thread, which shows those tools.
///
/// # Errors
/// [`Full`] when it can't be made to fit.
pub fn build(
    state: &State,
    thread: &Thread,
    resolved: &Resolved,
    tools: Arc<[ToolSpec]>,
) -> Result<Context, Full> {
    let (trimmed_before, items) = fit(thread, resolved.spec.window)?;
    let model = thread.model(&state.agent);
    Ok(Context {
        request: Request {
            conversation: Arc::clone(&thread.id),
            model: resolved.model.clone(),
            spec: Arc::clone(&resolved.spec),
            effort: model.effort.map(effort),
            fast: model.speed == Speed::Fast,
            inference_geo: model.inference_geo.clone(),
            system: prompt::system(&state.agent, state.opened_at),
            tools,
            items,
        },
        trimmed_before,
    })
}

/// The conversation, and the place before which its tool results are left out.
fn fit(thread: &Thread, window: u64) -> Result<(Seq, Vec<Item>), Full> {
    let mut trimmed_before = thread.cut(window);
    // The last response has measured another cut: a request that gave none has moved it since, or
    // a model with another window has its own.
    let saved = |places: Range<Seq>| -> u64 {
        thread.entries.iter().filter(|entry| places.contains(&entry.seq)).map(saving).sum()
    };
    let (back, gone) =
        (trimmed_before..thread.measured_before, thread.measured_before..trimmed_before);
    let mut estimate = (thread.window_estimate() + saved(back)).saturating_sub(saved(gone));
    if estimate * 100 > window * TRIM_AT_PERCENT {
        let goal = window * TRIM_TO_PERCENT / 100;
        let answered =
            thread.entries.iter().rfind(|entry| matches!(entry.item, Item::Assistant { .. }));
        let seen = answered.map_or(0, |entry| entry.seq);
        for entry in &thread.entries {
            // What the model has not seen yet goes only when nothing else helps.
            let fits = estimate * 100 <= window * FULL_AT_PERCENT;
            if estimate <= goal || (entry.seq > seen && fits) {
                break;
            }
            if entry.seq < trimmed_before || !matches!(entry.item, Item::ToolResults(_)) {
                continue;
            }
            estimate = estimate.saturating_sub(saving(entry));
            trimmed_before = entry.seq + 1;
        }
    }
    if estimate * 100 > window * FULL_AT_PERCENT {
        return Err(Full);
    }
    let notice = state::text_block(prompt::TRIMMED);
    let items = thread.entries.iter().map(|entry| match &entry.item {
        Item::ToolResults(results) if entry.seq < trimmed_before => {
            let mut results = results.clone();
            for result in &mut results {
                result.content = Arc::clone(&notice);
            }
            Item::ToolResults(results)
        }
        item => item.clone(),
    });
    Ok((trimmed_before, items.collect()))
}

/// About how many tokens it saves to leave a step's tool results out.
fn saving(entry: &Entry) -> u64 {
    match &entry.item {
        Item::ToolResults(results) => {
            let left = state::estimate(prompt::TRIMMED) * results.len() as u64;
            entry.tokens.saturating_sub(left)
        }
        _ => 0,
    }
}

fn effort(effort: agent::Effort) -> Effort {
    match effort {
        agent::Effort::Low => Effort::Low,
        agent::Effort::Medium => Effort::Medium,
        agent::Effort::High => Effort::High,
        agent::Effort::Xhigh => Effort::Xhigh,
        agent::Effort::Max => Effort::Max,
    }
}
