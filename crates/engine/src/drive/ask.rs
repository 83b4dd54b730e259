//! How a thread's model is asked. What comes of it is settled where all effects are.

use std::sync::Arc;

use posthouse_model::{Failure, FailureKind, Usage};
use posthouse_store::{log::Work, record::hex};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::{Drive, Stopped};
use crate::{
    context,
    flight::ModelFlight,
    line,
    own::{self, RequestSent},
    settle::{self, Asked},
    step::Effect,
};

impl Drive<'_> {
    /// Sends a model request. It leaves at once, because the input that it rests on is durable;
    /// that it was sent becomes durable meanwhile.
    pub(super) async fn ask(
        &mut self,
        effect: Effect,
        thread_id: &Arc<str>,
    ) -> Result<(), Stopped> {
        let Some(toolbox) = self.toolbox(thread_id).await? else {
            return self.ask_for_lists_again(thread_id).await;
        };
        let Some(thread) = self.state.thread(thread_id) else { return Ok(()) };
        let agent = &self.state.agent;
        let model = thread.model(agent);
        let resolved = match self.core.providers.find(&model.id).await {
            Ok(resolved) => resolved,
            Err(unavailable) => {
                let message = unavailable.to_string();
                return self.append_unsent(thread_id, FailureKind::Hopeless, message).await;
            }
        };
        let attempt = thread.retry.map_or(0, |retry| retry.attempt);
        let tools = self.kit.offer(&toolbox, resolved.spec.window, &thread.loaded);
        let Ok(context) = context::build(&self.state, thread, &resolved, tools) else {
            let message = "The conversation no longer fits the model's context window".to_owned();
            return self.append_unsent(thread_id, FailureKind::TooLong, message).await;
        };
        let own_model = (thread.rank > 0).then(|| (model.id.clone(), agent.model.id.clone()));
        let body = resolved.provider.render(&context.request);
        let asked = Asked {
            span: self.new_id(),
            provider: resolved.provider.name().into(),
            wire: resolved.provider.wire(),
            model: resolved.model.clone(),
            spec: Arc::clone(&resolved.spec),
            fast: context.request.fast,
            inference_geo: context.request.inference_geo.clone(),
        };
        if let Some(ready) = self.core.hands.before_model(&self.session) {
            ready.await;
        }
        self.core.faults().point("model.before_request")?;
        let (gate, durable) = oneshot::channel();
        let core = Arc::clone(self.core);
        let flight = ModelFlight {
            effect: effect.clone(),
            session: Arc::clone(&self.session),
            thread: Arc::clone(thread_id),
            asked: asked.clone(),
            log: self.core.log.clone(),
            faults: self.core.faults().clone(),
            new_id: Box::new(move || core.new_event_id()),
            hands: Arc::clone(&self.core.hands),
        };
        let stream = resolved.provider.stream(body.clone());
        let flight = flight.take_off(stream, durable, self.tower.clone());
        let (prefix_hash, blobs) = self.kit.prefix(&self.state.agent, &context.request);
        let sent = RequestSent {
            span: Arc::clone(&asked.span),
            provider: asked.provider.to_string(),
            model: asked.model.clone(),
            window: resolved.spec.window,
            attempt,
            body_hash: hex(&Sha256::digest(&body.bytes)),
            prefix_hash,
            trimmed_before: context.trimmed_before,
        };
        let substitute = own_model.as_ref().map(|(model, own)| (model.as_str(), own.as_str()));
        let start = line::request_start(thread_id, &asked.span, substitute);
        let lines = vec![start, line::own_record(own::kind::REQUEST, thread_id, &sent)];
        let drafts = self.write(lines);
        self.append(Work { drafts, blobs, ..Work::default() }).await?;
        // A flight that has failed already does not wait at the gate.
        let _ = gate.send(());
        self.flights.insert(effect, flight);
        Ok(())
    }

    /// Appends what follows from a request that could not even be made.
    async fn append_unsent(
        &mut self,
        thread: &Arc<str>,
        kind: FailureKind,
        message: String,
    ) -> Result<(), Stopped> {
        let failure = Failure { kind, message, retry_after: None, usage: Usage::default() };
        let lines = match (self.state.thread(thread), self.summary_of(thread)) {
            (Some(state), Some(summary)) => {
                settle::after_failure(&self.state.agent, state, summary, &failure, self.moment())
            }
            _ => Vec::new(),
        };
        self.append_lines(lines).await
    }
}
