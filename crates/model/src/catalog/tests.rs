//! Tests of the table of models.

use super::{About, Catalog, Lifecycle, ModelSpec, Thinking, nanodollars};
use crate::{Effort, Usage, WireKind};

/// The models that the Managed Agents API names (`BetaManagedAgentsModel` of the official SDK).
const NAMED: &[&str] = &[
    "claude-fable-5-2",
    "claude-haiku-5-5",
    "claude-sonnet-5-5",
    "claude-opus-5-5",
    "claude-fable-5-1",
    "claude-sonnet-5",
    "claude-fable-5",
    "claude-opus-5",
    "claude-opus-4-8",
    "claude-opus-4-7",
    "claude-opus-4-6",
    "claude-sonnet-4-6",
    "claude-haiku-4-5",
    "claude-haiku-4-5-20251001",
    "claude-opus-4-5",
    "claude-opus-4-5-20251101",
    "claude-sonnet-4-5",
    "claude-sonnet-4-5-20250929",
];

#[test]
fn the_built_in_table_parses_and_knows_every_named_model() {
    let catalog = Catalog::parse(super::BUILT_IN).unwrap();
    for name in NAMED {
        let spec = catalog.spec(name).unwrap();
        assert!(spec.max_output.unwrap() < spec.window, "{name}");
        assert!(spec.prices.is_some(), "{name}");
        assert!(spec.efforts.is_sorted(), "{name}");
        assert!(spec.default_effort.is_none_or(|effort| spec.efforts.contains(&effort)), "{name}");
        assert!(!spec.thinking_bound || spec.thinking == Thinking::Adaptive, "{name}");
    }
    assert!(Catalog::built_in().names().count() >= 15);
}

#[test]
fn every_entry_agrees_with_itself() {
    let catalog = Catalog::built_in();
    for name in catalog.names() {
        let spec = catalog.spec(name).unwrap();
        assert!(spec.max_output.is_none_or(|most| most < spec.window), "{name}");
        assert!(spec.efforts.is_sorted(), "{name}");
        assert!(spec.default_effort.is_none_or(|effort| spec.efforts.contains(&effort)), "{name}");
        assert!(spec.fast || spec.fast_percent.is_none(), "{name}");
        assert!(spec.long_prompt.is_none_or(|long| long.over < spec.window), "{name}");
        assert!(spec.long_prompt.is_none() || spec.prices.is_some(), "{name}");
        let ends = spec.about.deprecated.is_some() || spec.about.retires.is_some();
        assert_eq!(spec.about.lifecycle != Lifecycle::Active, ends, "{name}");
    }
}

#[test]
fn a_dated_name_means_its_base_entry() {
    let catalog = Catalog::built_in();
    let dated = catalog.spec("claude-haiku-4-5-20251001").unwrap();
    assert_eq!(dated, catalog.spec("claude-haiku-4-5").unwrap());
    assert_eq!((dated.window, dated.max_output), (200_000, Some(64_000)));
    assert_eq!(dated.thinking, Thinking::Budget);
    assert_eq!(catalog.spec("gpt-5.5-2026-04-23").unwrap(), catalog.spec("gpt-5.5").unwrap());
    assert!(catalog.spec("gpt-5.5-2026-4-23").is_none());
    assert!(catalog.spec("claude-haiku-4-5-2025100").is_none());
    assert!(catalog.spec("claude-haiku-4-5-latest").is_none());
}

#[test]
fn an_unknown_model_gets_the_stated_defaults() {
    assert!(Catalog::built_in().spec("llama-9").is_none());
    let spec = ModelSpec::unknown(WireKind::OpenaiChat);
    assert_eq!((spec.window, spec.max_output), (200_000, None));
    assert!(!spec.fast && !spec.inference_geo);
    assert_eq!(spec.thinking, Thinking::None);
    assert_eq!(spec.cost_nanodollars(&Usage::default()), None);
}

#[test]
fn unknown_keys_and_bad_prices_are_refused_by_name() {
    let error = |text: &str| Catalog::parse(text).unwrap_err().to_string();
    let base = "window = 1\nmax_output = 1\nthinking = \"none\"\n";
    assert!(error("[model.x]\n").contains("model"));
    assert!(error(&format!("[models.x]\n{base}windows = 1")).contains("windows"));
    assert!(error("[models.x]\nwindow = 1").contains("thinking"));
    for price in ["", "1.", ".5", "1.2345", "-1", "1e3", "99999999999999999999"] {
        let text = format!(
            "[models.x]\n{base}prices = {{ input = \"{price}\", output = \"1\", cache_read = \"1\", cache_write_5m = \"1\", cache_write_1h = \"1\" }}"
        );
        assert!(error(&text).contains("is not a price"), "{price}: {}", error(&text));
    }
}

#[test]
fn an_operators_entry_replaces_the_built_in_one() {
    let text = "[models.claude-opus-5]\nwindow = 9\nmax_output = 3\nthinking = \"none\"\n[models.mine]\nwindow = 7\nmax_output = 2\nthinking = \"budget\"\n";
    let catalog = Catalog::with_overrides(text).unwrap();
    assert_eq!(catalog.spec("claude-opus-5").unwrap().window, 9);
    assert_eq!(catalog.spec("mine-20260101").unwrap().window, 7);
    assert_eq!(catalog.spec("claude-opus-4-8").unwrap().window, 1_000_000);
}

#[test]
fn prices_are_whole_nanodollars_per_token() {
    assert_eq!(nanodollars("0.125"), Some(125));
    assert_eq!(nanodollars("6.25"), Some(6_250));
    assert_eq!(nanodollars("10"), Some(10_000));
    assert_eq!(nanodollars("0.01"), Some(10));
}

#[test]
fn a_call_costs_the_sum_of_its_parts() {
    let usage = Usage {
        input_tokens: 1_000_000,
        output_tokens: 100_000,
        cache_read_input_tokens: 2_000_000,
        cache_write_5m_tokens: 10,
        cache_write_1h_tokens: 1,
    };
    let spec = Catalog::built_in().spec("claude-opus-5").unwrap();
    let dollars = 1_000_000_000;
    let cost = 5 * dollars + 5 * dollars / 2 + dollars + 62_500 + 10_000;
    assert_eq!(spec.cost_nanodollars(&usage), Some(cost));
    assert_eq!(spec.cost_nanodollars_with(&usage, true, None), Some(2 * cost));
    assert_eq!(spec.cost_nanodollars_with(&usage, false, Some("us")), Some(cost / 10 * 11));
    assert_eq!(spec.cost_nanodollars_with(&usage, false, Some("global")), Some(cost));
    let silent = Catalog::built_in().spec("claude-sonnet-5").unwrap();
    assert_eq!(silent.cost_nanodollars_with(&usage, true, None), None);
    let endless = Usage { output_tokens: u64::MAX, ..Usage::default() };
    assert_eq!(spec.cost_nanodollars(&endless), None);
}

#[test]
fn long_prompts_can_cost_more() {
    let spec = Catalog::built_in().spec("claude-haiku-5-5").unwrap();
    let prompt = |read, output| Usage {
        cache_read_input_tokens: read,
        output_tokens: output,
        ..Usage::default()
    };
    assert_eq!(spec.cost_nanodollars(&prompt(100_000, 1)), Some(100_000 * 10 + 500));
    assert_eq!(spec.cost_nanodollars(&prompt(100_001, 1)), Some(100_001 * 50 + 2_500));
}

#[test]
fn an_effort_that_a_model_lacks_falls_to_the_next_lower_one() {
    let spec = Catalog::built_in().spec("claude-opus-4-6").unwrap();
    assert_eq!(spec.nearest_effort(Effort::Max), Some(Effort::Max));
    assert_eq!(spec.nearest_effort(Effort::Xhigh), Some(Effort::High));
    assert_eq!(
        Catalog::built_in().spec("claude-haiku-4-5").unwrap().nearest_effort(Effort::Low),
        None
    );
}

#[test]
fn what_is_told_to_people_is_read_and_days_are_checked() {
    let spec = Catalog::built_in().spec("claude-sonnet-4-5-20250929").unwrap();
    assert_eq!(spec.about.name.as_deref(), Some("Claude Sonnet 4.5"));
    assert_eq!(spec.about.line.as_deref(), Some("sonnet"));
    assert_eq!(spec.about.lifecycle, Lifecycle::Deprecated);
    assert_eq!(spec.about.released, Some(1_759_104_000));
    assert_eq!(spec.about.retires, Some(1_795_996_800));
    assert_eq!(ModelSpec::unknown(WireKind::Gemini).about, About::default());
    let base = "[models.x]\nwindow = 2\nthinking = \"none\"\n";
    for (about, word) in [
        ("released = \"2026-13-01\"", "month"),
        ("released = \"yesterday\"", "year"),
        ("lifecycle = \"old\"", "old"),
        ("colour = \"red\"", "colour"),
    ] {
        let error = Catalog::parse(&format!("{base}about = {{ {about} }}")).unwrap_err();
        assert!(error.to_string().contains(word), "{about}: {error}");
    }
}
