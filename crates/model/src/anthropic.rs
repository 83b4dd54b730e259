//! The wire of Anthropic's Messages API: what is sent, what comes back, and the connection.
//!
//! [`render`] and [`Decoder`] write and read it without IO; [`http`] carries bytes between
//! them. Nothing in here retries, and nothing keeps state between two calls but the
//! connection pool.

mod block;
pub mod decoder;
mod failure;
pub mod http;
mod request;

#[cfg(test)]
mod tests;

pub use decoder::Decoder;
pub use http::{Anthropic, Credential, Settings, SetupError};
pub use request::render;
