//! `/v1/models`: what all providers serve, in one list, and one model by its name.
//!
//! The list is that of this moment, kept by `posthouse_model`; nothing of it is stored. A
//! capability is what a session here can make use of, so that what this server has no words for
//! is not supported, whatever the model can do elsewhere.

use posthouse_model::{Effort, Offer, Prices, Thinking};
use posthouse_protocol::{
    ApiError, Micros,
    fields::wrong,
    query::Query,
    schema::lists::{self, AFTER_ID, BEFORE_ID, LIFECYCLE, LIMIT_1000},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Call, Refusal};

/// How many names of one body are looked at; it may have fewer.
const MOST: usize = 16;

const LIFECYCLES: [&str; 3] = ["active", "deprecated", "retired"];

/// `GET /v1/models`: the newest first.
///
/// # Errors
/// 400 about the query.
pub async fn list(call: Call) -> Result<Answer, Refusal> {
    let mut query = call.query()?;
    let wanted = Wanted::take(&mut query)?;
    query.finish(&lists::MODELS)?;
    let providers = call.app.engine.providers();
    providers.learn_all().await;
    let mut offers = providers.offers();
    offers.retain(|offer| wanted.lifecycles.contains(&offer.spec.about.lifecycle.as_str()));
    let (page, has_more) = wanted.cut(&offers)?;
    let list = json!({
        "data": page.iter().map(shown).collect::<Vec<_>>(),
        "has_more": has_more,
        "first_id": page.first().map(|offer| &offer.id),
        "last_id": page.last().map(|offer| &offer.id),
    });
    Ok(Answer::new(list.to_string()))
}

/// `GET /v1/models/{model}`, whose name may have slashes, and may be an alias.
///
/// # Errors
/// 404.
pub async fn retrieve(call: Call) -> Result<Answer, Refusal> {
    call.no_query()?;
    let providers = call.app.engine.providers();
    providers.learn_all().await;
    let name = call.name(0);
    match providers.offer(name) {
        Some(offer) => Ok(Answer::new(shown(&offer).to_string())),
        None => Err(ApiError::not_found(format!("model: {name}")).into()),
    }
}

/// Gets to know what the names of models in a body may mean, before anybody judges them: those of
/// an agent, of a session's agent, and of a change of a session.
pub async fn learn(call: &Call) {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        model: Value,
        agent: Value,
        posthouse: Value,
    }
    // What is wrong with the body is said by whoever reads it whole.
    let body: Body = serde_json::from_slice(call.body()).unwrap_or_default();
    let ours = [&body.posthouse, &body.agent["posthouse"]];
    let own = [&body.model, &body.agent["model"], &ours[0]["model"], &ours[1]["model"]];
    let others = ours.iter().filter_map(|one| one["fallback"].as_array()).flatten();
    let name = |model: &'_ Value| model.as_str().or(model["id"].as_str()).map(str::to_owned);
    let names: Vec<String> = own.into_iter().chain(others).filter_map(name).take(MOST).collect();
    for name in names {
        call.app.engine.providers().learn(&name).await;
    }
}

/// Which part of the list is asked for.
struct Wanted {
    limit: usize,
    after: Option<String>,
    before: Option<String>,
    lifecycles: Vec<&'static str>,
}

impl Wanted {
    fn take(query: &mut Query) -> Result<Self, ApiError> {
        let limit = query.limit(&LIMIT_1000)?;
        let (after, before) = (query.one(&AFTER_ID)?, query.one(&BEFORE_ID)?);
        let stages = query.choices(&LIFECYCLE, |_| false)?;
        if after.is_some() && before.is_some() {
            return Err(wrong("before_id", "comes with after_id", "leave out one of them"));
        }
        let lifecycles = match stages.is_empty() {
            true => LIFECYCLES[..2].to_vec(),
            false => LIFECYCLES.into_iter().filter(|one| stages.iter().any(|s| s == one)).collect(),
        };
        Ok(Self { limit, after, before, lifecycles })
    }

    /// The part, and whether more lies behind it in the direction that was asked for.
    fn cut<'a>(&self, offers: &'a [Offer]) -> Result<(&'a [Offer], bool), ApiError> {
        let place = |name: &str, id: &str| {
            offers.iter().position(|offer| offer.id == id).ok_or_else(|| {
                let what = format!("{id:?} is no model of this list");
                wrong(name, &what, "send an id that the list has shown")
            })
        };
        if let Some(before) = &self.before {
            let end = place("before_id", before)?;
            let start = end.saturating_sub(self.limit);
            return Ok((&offers[start..end], start > 0));
        }
        let start = match &self.after {
            Some(after) => place("after_id", after)? + 1,
            None => 0,
        };
        let end = offers.len().min(start + self.limit);
        Ok((&offers[start..end], end < offers.len()))
    }
}

/// A model on the wire.
fn shown(offer: &Offer) -> Value {
    let (spec, about) = (&offer.spec, &offer.spec.about);
    let time = |seconds: i64| Micros(seconds.saturating_mul(1_000_000)).to_rfc3339();
    json!({
        "type": "model",
        "id": offer.id,
        "display_name": offer.display_name.as_deref().unwrap_or(&offer.model),
        "created_at": time(offer.created.unwrap_or(0)),
        "lifecycle": about.lifecycle.as_str(),
        "deprecated_at": about.deprecated.map(time),
        "retires_at": about.retires.map(time),
        "line": about.line,
        "max_input_tokens": offer.window.is_known().then_some(spec.window),
        "max_tokens": spec.max_output,
        "capabilities": offer.is_described.then(|| capabilities(offer)),
        "allowed_fallback_models": null,
        "posthouse": {
            "provider": offer.provider,
            "wire": offer.wire.as_str(),
            "window_from": offer.window.as_str(),
            "prices": spec.prices.as_ref().map(prices),
        },
    })
}

/// What a session here can make use of.
fn capabilities(offer: &Offer) -> Value {
    let spec = &offer.spec;
    let one = |supported: bool| json!({ "supported": supported });
    let effort = |effort: Effort| one(spec.efforts.contains(&effort));
    json!({
        "batch": one(false),
        "citations": one(false),
        "code_execution": one(false),
        "compaction": null,
        "context_management": {
            "supported": false,
            "clear_thinking_20251015": null,
            "clear_tool_uses_20250919": null,
            "compact_20260112": null,
        },
        "effort": {
            "supported": !spec.efforts.is_empty(),
            "low": effort(Effort::Low),
            "medium": effort(Effort::Medium),
            "high": effort(Effort::High),
            "xhigh": effort(Effort::Xhigh),
            "max": effort(Effort::Max),
        },
        "image_input": one(spec.images),
        "pdf_input": one(spec.documents),
        "server_tools": {
            "supported": false,
            "web_search": one(false),
            "code_execution": one(false),
        },
        "structured_outputs": one(false),
        "thinking": {
            "supported": spec.thinking != Thinking::None,
            "types": {
                "adaptive": one(spec.thinking == Thinking::Adaptive),
                "enabled": one(spec.thinking == Thinking::Budget),
                "disabled": one(spec.thinking == Thinking::None),
                "between_tools": one(false),
            },
        },
    })
}

/// Prices in USD per million tokens.
fn prices(prices: &Prices) -> Value {
    json!({
        "currency": "USD",
        "input": dollars(prices.input),
        "output": dollars(prices.output),
        "cache_read": dollars(prices.cache_read),
        "cache_write_5m": dollars(prices.cache_write_5m),
        "cache_write_1h": dollars(prices.cache_write_1h),
    })
}

/// Nano-dollars per token as dollars per million tokens, with two decimals or three.
fn dollars(nanodollars: u64) -> String {
    let text = format!("{}.{:03}", nanodollars / 1000, nanodollars % 1000);
    match text.strip_suffix('0') {
        Some(short) => short.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_texts_with_two_decimals_or_three() {
        let expected = [(6_250, "6.25"), (125, "0.125"), (10_000, "10.00"), (0, "0.00")];
        for (nanodollars, text) in expected {
            assert_eq!(dollars(nanodollars), text);
        }
    }
}
