//! What an agent may ask of a model, answered from the configured providers and the catalogue.

use posthouse_model::{Effort as ModelEffort, Providers};
use posthouse_protocol::agent::{Effort, ModelRules};

/// The rules for the providers of this server.
#[derive(Debug, Clone)]
pub struct ProviderRules(pub Providers);

impl ModelRules for ProviderRules {
    fn exists(&self, model: &str) -> Result<(), String> {
        self.0.resolve(model).map(drop).map_err(|unavailable| unavailable.to_string())
    }

    fn default_effort(&self, model: &str) -> Option<Effort> {
        self.0.resolve(model).ok()?.spec.default_effort.map(to_wire)
    }

    fn supports_effort(&self, model: &str, effort: Effort) -> bool {
        self.0
            .resolve(model)
            .is_ok_and(|resolved| resolved.spec.efforts.iter().any(|one| to_wire(*one) == effort))
    }

    fn supports_fast(&self, model: &str) -> bool {
        self.0.resolve(model).is_ok_and(|resolved| resolved.spec.fast)
    }

    fn supports_geo(&self, model: &str) -> bool {
        self.0.resolve(model).is_ok_and(|resolved| resolved.spec.inference_geo)
    }
}

/// The catalogue's word for an effort as the wire's.
fn to_wire(effort: ModelEffort) -> Effort {
    match effort {
        ModelEffort::Low => Effort::Low,
        ModelEffort::Medium => Effort::Medium,
        ModelEffort::High => Effort::High,
        ModelEffort::Xhigh => Effort::Xhigh,
        ModelEffort::Max => Effort::Max,
    }
}
