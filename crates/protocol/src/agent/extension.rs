//! What an agent has beyond the original API: the object `posthouse`.
//!
//! Which of the models answers is decided elsewhere; here they are only checked and kept.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::{self, ModelConfig, ModelRules};
use crate::{
    ApiError, Fields, Given,
    fields::wrong,
    schema::agents::{EXTENSION, EXTENSION_FIELD, FALLBACK},
};

/// The object `posthouse` of an agent, left out when empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Extension {
    /// The models that take over, in this order, when the agent's own can't answer.
    #[serde(default)]
    pub fallback: Vec<ModelConfig>,
}

impl Extension {
    /// Whether there is nothing to show.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fallback.is_empty()
    }
}

/// The models that were sent, not yet looked up.
pub(super) struct Fallback {
    path: String,
    sent: Given<Vec<Value>>,
}

/// Takes `posthouse`: absent keeps, null clears.
pub(super) fn take(fields: &mut Fields) -> Result<Fallback, ApiError> {
    let path = format!("{}.{}", fields.path_of(&EXTENSION_FIELD), FALLBACK.name);
    match fields.object(&EXTENSION_FIELD)? {
        Given::Absent => Ok(Fallback { path, sent: Given::Absent }),
        Given::Null => Ok(Fallback { path, sent: Given::Null }),
        Given::Value(mut given) => {
            let fallback = take_fallback(&mut given)?;
            given.finish(&EXTENSION)?;
            Ok(fallback)
        }
    }
}

/// Takes `fallback` out of such an object: absent keeps, null and `[]` clear.
pub(super) fn take_fallback(fields: &mut Fields) -> Result<Fallback, ApiError> {
    let path = fields.path_of(&FALLBACK);
    Ok(Fallback { sent: fields.list(&FALLBACK)?, path })
}

impl Fallback {
    /// What holds after the change. Looks up the models that were sent, and holds what stays
    /// against `model`, which may be another one than before.
    pub(super) fn apply(
        self,
        before: &Extension,
        model: &ModelConfig,
        rules: &dyn ModelRules,
    ) -> Result<Extension, ApiError> {
        let Self { path, sent } = self;
        let fallback = match sent {
            Given::Absent => before.fallback.clone(),
            Given::Null => Vec::new(),
            Given::Value(sent) => {
                let read =
                    |(index, one)| model::read(one, &format!("{path}[{index}]"), None, rules);
                sent.into_iter().enumerate().map(read).collect::<Result<_, _>>()?
            }
        };
        for (index, one) in fallback.iter().enumerate() {
            let place = format!("{path}[{index}]");
            if rules.is_same(&one.id, &model.id) {
                let what = format!("{:?} is the agent's own model", one.id);
                return Err(wrong(
                    &place,
                    &what,
                    "name others, in the order in which they take over",
                ));
            }
            if fallback[..index].iter().any(|other| rules.is_same(&other.id, &one.id)) {
                let what = format!("{:?} is there twice", one.id);
                return Err(wrong(&place, &what, "name each model once"));
            }
        }
        Ok(Extension { fallback })
    }
}
