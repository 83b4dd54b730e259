//! What a model call used, in tokens.

use serde::{Deserialize, Serialize};

/// Token counts of one model call, or a sum of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Input tokens that were neither read from nor written to a cache.
    pub input_tokens: u64,
    /// Output tokens, thinking included.
    pub output_tokens: u64,
    /// Input tokens read from the provider's cache.
    pub cache_read_input_tokens: u64,
    /// Input tokens written to the provider's five-minute cache.
    pub cache_write_5m_tokens: u64,
    /// Input tokens written to the provider's one-hour cache.
    pub cache_write_1h_tokens: u64,
}

impl Usage {
    /// Tokens written to any cache.
    #[must_use]
    pub fn cache_creation_input_tokens(&self) -> u64 {
        self.cache_write_5m_tokens.saturating_add(self.cache_write_1h_tokens)
    }

    /// How much of the window the call filled, its answer included.
    #[must_use]
    pub fn window_tokens(&self) -> u64 {
        self.input_tokens
            .saturating_add(self.cache_read_input_tokens)
            .saturating_add(self.cache_creation_input_tokens())
            .saturating_add(self.output_tokens)
    }

    /// Adds another call's counts.
    pub fn add(&mut self, other: &Self) {
        // A provider may report anything.
        let add = |count: &mut u64, more: u64| *count = count.saturating_add(more);
        add(&mut self.input_tokens, other.input_tokens);
        add(&mut self.output_tokens, other.output_tokens);
        add(&mut self.cache_read_input_tokens, other.cache_read_input_tokens);
        add(&mut self.cache_write_5m_tokens, other.cache_write_5m_tokens);
        add(&mut self.cache_write_1h_tokens, other.cache_write_1h_tokens);
    }
}
