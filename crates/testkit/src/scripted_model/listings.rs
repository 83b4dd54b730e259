//! The lists of models that providers answer with.
//!
//! Never says which model can be asked: any name is answered.

use serde_json::{Value, json};

use super::script::Models;

/// The lists of one script.
pub(super) struct Listings {
    anthropic: Vec<String>,
    openai: Vec<String>,
    gemini: Vec<String>,
    ollama: Vec<String>,
}

impl Default for Listings {
    fn default() -> Self {
        Self::of(Models::default())
    }
}

impl Listings {
    pub(super) fn of(models: Models) -> Self {
        let own = |given: Option<Vec<String>>, own: &[&str]| {
            given.unwrap_or_else(|| own.iter().map(|name| (*name).to_owned()).collect())
        };
        let sizes = ["claude-scripted-large", "claude-scripted-medium", "claude-scripted-small"];
        Self {
            anthropic: own(models.anthropic, &sizes),
            openai: own(models.openai, &["gpt-scripted-large", "gpt-scripted-small"]),
            gemini: own(models.gemini, &["gemini-scripted-large", "gemini-scripted-small"]),
            ollama: own(models.ollama, &["scripted:8b", "scripted:latest"]),
        }
    }

    /// `GET /v1/models` of Anthropic.
    pub(super) fn anthropic(&self) -> Value {
        let data: Vec<Value> = self.anthropic.iter().map(|id| anthropic(id)).collect();
        json!({
            "data": data, "has_more": false,
            "first_id": self.anthropic.first(), "last_id": self.anthropic.last(),
        })
    }

    /// `GET /v1/models/{id}` of Anthropic, if there is such a model.
    pub(super) fn anthropic_named(&self, id: &str) -> Option<Value> {
        self.anthropic.iter().any(|known| known == id).then(|| anthropic(id))
    }

    /// `GET /v1/models` of OpenAI.
    pub(super) fn openai(&self) -> Value {
        let data: Vec<Value> = self.openai.iter().map(|id| openai(id)).collect();
        json!({"object": "list", "data": data})
    }

    /// `GET /v1/models/{id}` of OpenAI, if there is such a model.
    pub(super) fn openai_named(&self, id: &str) -> Option<Value> {
        self.openai.iter().any(|known| known == id).then(|| openai(id))
    }

    /// `GET /v1beta/models` of Gemini.
    pub(super) fn gemini(&self) -> Value {
        let models: Vec<Value> = self.gemini.iter().map(|name| gemini(name)).collect();
        json!({"models": models})
    }

    /// `GET /v1beta/models/{name}` of Gemini, if there is such a model.
    pub(super) fn gemini_named(&self, name: &str) -> Option<Value> {
        self.gemini.iter().any(|known| known == name).then(|| gemini(name))
    }

    /// `GET /api/tags` of Ollama.
    pub(super) fn ollama(&self) -> Value {
        let models: Vec<Value> = self.ollama.iter().map(|name| ollama(name)).collect();
        json!({"models": models})
    }
}

fn anthropic(id: &str) -> Value {
    let words = id.trim_start_matches("claude-").replace('-', " ");
    let mut letters = words.chars();
    let name = letters.next().map(|first| first.to_uppercase().to_string() + letters.as_str());
    json!({
        "type": "model", "id": id, "display_name": name, "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active", "max_input_tokens": 200_000, "max_tokens": 64_000,
    })
}

fn openai(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": 1_767_225_600, "owned_by": "scripted"})
}

fn gemini(name: &str) -> Value {
    json!({
        "name": format!("models/{name}"), "version": "001", "displayName": name,
        "description": "A model that says what a script says.",
        "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
        "temperature": 1, "topP": 0.95, "topK": 64, "maxTemperature": 2, "thinking": true,
    })
}

fn ollama(name: &str) -> Value {
    json!({
        "name": name, "model": name, "modified_at": "2026-01-01T00:00:00Z", "size": 4_000_000_000_u64,
        "digest": "0".repeat(64),
        "details": {
            "parent_model": "", "format": "gguf", "family": "scripted", "families": ["scripted"],
            "parameter_size": "8.0B", "quantization_level": "Q4_K_M",
        },
    })
}

/// `GET /api/version` of Ollama.
pub(super) fn ollama_version() -> Value {
    json!({"version": "0.40.12"})
}
