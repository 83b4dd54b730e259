//! Which model an agent uses, and how.
//!
//! What models exist and what they can do is known elsewhere and handed in as [`ModelRules`].

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ApiError, Fields, Given, fields::wrong};

/// What is known of models when an agent is saved.
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

    /// Whether the model has a fast mode.
    fn supports_fast(&self, model: &str) -> bool;

    /// Whether the model's provider lets callers choose a region.
    fn supports_geo(&self, model: &str) -> bool;
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
    const NAMES: [&'static str; 5] = ["low", "medium", "high", "xhigh", "max"];
    const ALL: [Self; 5] = [Self::Low, Self::Medium, Self::High, Self::Xhigh, Self::Max];

    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
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
    let (mut fields, name_path) = match value {
        Value::String(_) => {
            let mut fields = serde_json::Map::new();
            fields.insert("id".into(), value);
            (Fields::open(Value::Object(fields), path)?, path.to_owned())
        }
        Value::Object(_) => (Fields::open(value, path)?, format!("{path}.id")),
        other => {
            let what = format!("is {}", crate::fields::kind_of(&other));
            return Err(wrong(path, &what, "send a model's name or an object with its id"));
        }
    };
    let id = match fields.required("id", "send a model's name")? {
        Value::String(id) if (1..=256).contains(&id.chars().count()) => id,
        _ => return Err(wrong(&name_path, "is no name", "send a text of 1 to 256 characters")),
    };
    rules.exists(&id).map_err(|reason| ApiError::invalid(format!("{name_path}: {reason}")))?;
    let effort = match take_effort(&mut fields)? {
        Given::Value(effort) if rules.supports_effort(&id, effort) => Some(effort),
        Given::Value(effort) => {
            let right = match rules.default_effort(&id) {
                Some(default) => format!("leave it out for {}", default.as_str()),
                None => "leave it out".into(),
            };
            let what = format!("{} is not supported by {id}", effort.as_str());
            return Err(fields.wrong("effort", &what, &right));
        }
        Given::Absent => match before {
            Some(before) if before.id == id => before.effort,
            _ => rules.default_effort(&id),
        },
        Given::Null => rules.default_effort(&id),
    };
    let speed = match fields.choice("speed", &["standard", "fast"])? {
        Given::Value("fast") if rules.supports_fast(&id) => Speed::Fast,
        Given::Value("fast") => {
            let what = format!("fast is not supported by {id}");
            return Err(fields.wrong("speed", &what, "send standard or leave it out"));
        }
        _ => Speed::Standard,
    };
    let inference_geo = match fields.text("inference_geo", 1..=64)? {
        Given::Value(geo) if !rules.supports_geo(&id) => {
            let what = format!("{geo:?} is not supported by {id}");
            return Err(fields.wrong("inference_geo", &what, "leave it out"));
        }
        Given::Value(geo) if geo == "us" || geo == "global" => Some(geo),
        Given::Value(geo) => {
            let what = format!("{geo:?} is unknown");
            return Err(fields.wrong("inference_geo", &what, "send us or global"));
        }
        Given::Absent | Given::Null => None,
    };
    fields.finish()?;
    Ok(ModelConfig { id, effort, speed, inference_geo })
}

fn take_effort(fields: &mut Fields) -> Result<Given<Effort>, ApiError> {
    let path = fields.path_of("effort");
    let name = match fields.any("effort") {
        Given::Absent => return Ok(Given::Absent),
        Given::Null => return Ok(Given::Null),
        Given::Value(Value::Object(level)) => {
            let mut level = Fields::open(Value::Object(level), path)?;
            let name = level.required_choice("type", &Effort::NAMES)?;
            level.finish()?;
            name
        }
        Given::Value(name) => {
            let mut level = serde_json::Map::new();
            level.insert("effort".into(), name);
            let at = path.strip_suffix(".effort").unwrap_or_default().to_owned();
            Fields::open(Value::Object(level), at)?.required_choice("effort", &Effort::NAMES)?
        }
    };
    Ok(Effort::parse(name).map_or(Given::Null, Given::Value))
}
