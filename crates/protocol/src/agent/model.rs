//! Which model an agent uses, and how.
//!
//! What models exist and what they can do is known elsewhere and handed in as [`ModelRules`].

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    ApiError, Fields, Given,
    fields::{choose, wrong},
    schema::agents as schema,
};

/// What is known of models, and of what else only the server knows, when an agent is saved.
pub trait ModelRules: Send + Sync {
    /// Whether a configured provider serves the model.
    ///
    /// # Errors
    /// A sentence for the user that names the configured providers.
    fn exists(&self, model: &str) -> Result<(), String>;

    /// The effort that the model uses when none is asked for; `None` when the model has no
    /// such setting.
    fn default_effort(&self, model: &str) -> Option<Effort>;

    /// Whether the model knows that level.
    fn supports_effort(&self, model: &str, effort: Effort) -> bool;

    /// Whether two names mean the same model of the same provider.
    fn is_same(&self, one: &str, other: &str) -> bool {
        one == other
    }

    /// Whether the model has a fast mode.
    fn supports_fast(&self, model: &str) -> bool;

    /// Whether the model's provider lets callers choose a region.
    fn supports_geo(&self, model: &str) -> bool;

    /// Whether the server has a search back end, without which no `web_search` can be asked for by
    /// name.
    fn has_search(&self) -> bool {
        false
    }

    /// Whether everybody registers names below this host name, as below `co.uk`, so that it stands for
    /// nobody's site.
    fn is_of_a_registry(&self, _name: &str) -> bool {
        false
    }
}

/// A model and its settings, as responses show them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// The model's name, possibly with a provider in front (`demo/scripted`).
    pub id: String,
    /// How hard it works; null for models without such a setting.
    pub effort: Option<Effort>,
    /// The speed mode.
    pub speed: Speed,
    /// The provider's region, when one was asked for.
    pub inference_geo: Option<String>,
}

/// How hard a model works, least first. `{"type": "high"}` in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are the API's own")]
pub enum Effort {
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl Effort {
    const ALL: [Self; 5] = [Self::Low, Self::Medium, Self::High, Self::Xhigh, Self::Max];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        schema::EFFORTS[self as usize]
    }

    /// The level of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effort| effort.as_str() == name)
    }
}

/// A model's speed mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speed {
    /// The ordinary one.
    #[default]
    Standard,
    /// Faster and dearer.
    Fast,
}

/// Reads `model`, a name or an object. `before` is what is replaced: its effort is kept when
/// none is sent and the name is the same.
pub(super) fn read(
    value: Value,
    path: &str,
    before: Option<&ModelConfig>,
    rules: &dyn ModelRules,
) -> Result<ModelConfig, ApiError> {
    let name = &schema::MODEL_ID;
    let (fields, id, name_path) = match value {
        Value::String(_) => {
            let id = crate::fields::text(value, path, name)?;
            (None, id, path.to_owned())
        }
        Value::Object(_) => {
            let mut fields = Fields::open(value, path)?;
            let id = fields.required_text(name)?;
            let name_path = fields.path_of(name);
            (Some(fields), id, name_path)
        }
        other => {
            let what = format!("is {}", crate::fields::kind_of(&other));
            return Err(wrong(path, &what, &schema::MODEL.what_is_right()));
        }
    };
    rules.exists(&id).map_err(|reason| ApiError::invalid(format!("{name_path}: {reason}")))?;
    let mut config = ModelConfig {
        effort: match before {
            Some(before) if before.id == id => before.effort,
            _ => rules.default_effort(&id),
        },
        id,
        speed: Speed::Standard,
        inference_geo: None,
    };
    if let Some(mut fields) = fields {
        read_settings(&mut fields, &mut config, rules)?;
        fields.finish(&schema::MODEL_CONFIG)?;
    }
    Ok(config)
}

/// Reads what an object says of a model besides its name.
fn read_settings(
    fields: &mut Fields,
    config: &mut ModelConfig,
    rules: &dyn ModelRules,
) -> Result<(), ApiError> {
    let id = &config.id;
    match take_effort(fields)? {
        Given::Value(effort) if rules.supports_effort(id, effort) => config.effort = Some(effort),
        Given::Value(effort) => {
            let right = match rules.default_effort(id) {
                Some(default) => format!("leave it out for {}", default.as_str()),
                None => "leave it out".into(),
            };
            let what = format!("{} is not supported by {id}", effort.as_str());
            return Err(fields.wrong(&schema::EFFORT, &what, &right));
        }
        Given::Absent => {}
        Given::Null => config.effort = rules.default_effort(id),
    }
    match fields.choice(&schema::SPEED)? {
        Given::Value("fast") if rules.supports_fast(id) => config.speed = Speed::Fast,
        Given::Value("fast") => {
            let what = format!("fast is not supported by {id}");
            return Err(fields.wrong(&schema::SPEED, &what, "send standard or leave it out"));
        }
        _ => {}
    }
    match fields.choice(&schema::GEO)? {
        Given::Value(geo) if !rules.supports_geo(id) => {
            let what = format!("{geo:?} is not supported by {id}");
            Err(fields.wrong(&schema::GEO, &what, "leave it out"))
        }
        given => {
            config.inference_geo = given.value().map(str::to_owned);
            Ok(())
        }
    }
}

fn take_effort(fields: &mut Fields) -> Result<Given<Effort>, ApiError> {
    let path = fields.path_of(&schema::EFFORT);
    let name = match fields.any(&schema::EFFORT)? {
        Given::Absent => return Ok(Given::Absent),
        Given::Null => return Ok(Given::Null),
        Given::Value(level @ Value::Object(_)) => {
            let mut level = Fields::open(level, path)?;
            let name = level.required_choice(&schema::EFFORT_TYPE)?;
            level.finish(&schema::EFFORT_LEVEL)?;
            name
        }
        Given::Value(name) => choose(&name, &path, schema::EFFORTS)?,
    };
    Ok(Effort::parse(name).map_or(Given::Null, Given::Value))
}
