//! The server: the public API, the command line, and what starts and stops them.
//!
//! The outermost room: nobody uses it but the binary and the tests. What a session is and how
//! it goes on is known further in.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod api;
pub mod cli;
pub mod client;
pub mod config;
mod crash;
pub mod demo;
pub mod egress;
pub mod error;
pub mod keys;
pub mod local;
pub mod openapi;
pub mod process;
pub mod root_keys;
pub mod rules;
pub mod sandbox;
pub mod scope;
pub mod start;
pub mod web;

pub use error::Error;
