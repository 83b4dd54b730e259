//! The pure parts of the harness, played without a database, a model or a clock.
//!
//! Records in, plan out: each table says what a client and a model do, what the session shows
//! then, and what is in flight. [`play::Play`] joins the parts as `drive` does, and checks the
//! rules of every log on every record.

mod approvals;
mod failures;
mod interleavings;
mod interrupts;
mod networking;
mod opening;
mod play;
mod rules;
mod script;
mod servers;
mod settling;
mod substitutes;
mod summaries;
mod trace;
mod turns;
mod views;
mod window;
