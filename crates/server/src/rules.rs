//! What an agent may ask for, answered from the configuration: of a model, from the providers and the
//! catalogue, and of the tools of the web.

use posthouse_model::{Effort as ModelEffort, Providers, WireKind};
use posthouse_protocol::agent::{Effort, ModelRules};

/// The rules of this server.
#[derive(Debug, Clone)]
pub struct ProviderRules {
    /// Who serves models.
    pub providers: Providers,
    /// Whether a search back end is configured.
    pub search: bool,
}

impl ModelRules for ProviderRules {
    fn exists(&self, model: &str) -> Result<(), String> {
        self.providers.admit(model).map(drop).map_err(|unavailable| unavailable.to_string())
    }

    fn default_effort(&self, model: &str) -> Option<Effort> {
        self.providers.resolve(model).ok()?.spec.default_effort.map(to_wire)
    }

    fn supports_effort(&self, model: &str, effort: Effort) -> bool {
        self.providers
            .resolve(model)
            .is_ok_and(|resolved| resolved.spec.efforts.iter().any(|one| to_wire(*one) == effort))
    }

    fn is_same(&self, one: &str, other: &str) -> bool {
        let of = |name: &str| {
            let resolved = self.providers.resolve(name).ok()?;
            Some((resolved.provider.name().to_owned(), resolved.model))
        };
        one == other || of(one).is_some_and(|one| of(other) == Some(one))
    }

    fn supports_fast(&self, model: &str) -> bool {
        // Gemini's dialect has no word for it, whoever's model is spoken to.
        self.providers.resolve(model).is_ok_and(|resolved| {
            resolved.spec.fast && resolved.provider.wire() != WireKind::Gemini
        })
    }

    fn supports_geo(&self, model: &str) -> bool {
        self.providers.resolve(model).is_ok_and(|resolved| {
            resolved.spec.inference_geo && resolved.provider.wire().has_regions()
        })
    }

    fn has_search(&self) -> bool {
        self.search
    }

    fn is_of_a_registry(&self, name: &str) -> bool {
        posthouse_web::domains::is_of_a_registry(name)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use posthouse_model::{Catalog, Provider, Remote, Settings};

    use super::*;

    #[test]
    fn names_of_registries_are_known() {
        assert!(rules().is_of_a_registry("co.uk"));
        assert!(!rules().is_of_a_registry("example.co.uk"));
    }

    fn rules() -> ProviderRules {
        let providers = WireKind::ALL.map(|wire| {
            let settings = Settings::new(wire.as_str(), wire, None);
            Arc::new(Remote::new(settings).unwrap()) as Arc<dyn Provider>
        });
        let providers = Providers::new(providers.into(), Catalog::built_in());
        ProviderRules { providers, search: false }
    }

    #[test]
    fn a_model_is_the_same_under_each_of_its_names() {
        let rules = rules();
        assert!(rules.is_same("claude-opus-5", "anthropic/claude-opus-5"));
        assert!(rules.is_same("openai_chat/x", "openai_chat/x"));
        assert!(!rules.is_same("claude-opus-5", "openai_chat/claude-opus-5"));
        assert!(!rules.is_same("unheard-of", "claude-opus-5"));
    }

    #[test]
    fn what_a_wire_has_no_words_for_is_refused_whatever_the_model() {
        let rules = rules();
        for (model, fast, geo) in [
            ("claude-opus-5", true, true),
            ("claude-opus-4-6", false, true),
            ("anthropic/house", true, true),
            ("openai_responses/house", false, false),
            ("openai_chat/house", false, false),
            ("openai_chat/claude-opus-5", true, false),
            ("gemini/house", false, false),
            ("gemini/claude-opus-5", false, false),
            ("nobody/house", false, false),
        ] {
            assert_eq!(rules.supports_fast(model), fast, "{model}");
            assert_eq!(rules.supports_geo(model), geo, "{model}");
        }
    }

    #[test]
    fn efforts_are_those_of_the_model_and_all_where_it_is_not_known() {
        let rules = rules();
        for (model, effort, supported) in [
            ("claude-opus-4-6", Effort::Max, true),
            ("claude-opus-4-6", Effort::Xhigh, false),
            ("claude-haiku-4-5", Effort::Low, false),
            ("openai_chat/house", Effort::Max, true),
            ("nobody/house", Effort::Low, false),
        ] {
            assert_eq!(rules.supports_effort(model, effort), supported, "{model}");
        }
        assert_eq!(rules.default_effort("claude-opus-5-5"), Some(Effort::Medium));
        assert_eq!(rules.default_effort("openai_chat/house"), None);
        assert!(rules.exists("nobody/house").unwrap_err().contains("configured: anthropic"));
    }
}
