//! Tests of the world outside: rules about links by themselves, and sessions with servers on loopback.

mod links;
mod peer;
mod refusals;
mod servers;
mod world;
