//! The scripted model, driven over raw HTTP.
//!
//! Holds no test of a client; the official SDKs are run against it in `conformance`.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

mod chat;
mod checking;
mod client;
mod gemini;
mod playing;
mod responses;
mod wires;
