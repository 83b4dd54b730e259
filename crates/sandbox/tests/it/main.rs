//! Attacks on cages: each case runs against the real program, as root and as an ordinary user.
//!
//! A case goes into the file of what it attacks, inside of `for_both!`. It connects to loopback
//! alone, opens settings of the host at most, and has a positive control: the same attempt where
//! nothing stands in its way. Needs `posthouse-probe`: `cargo build -p posthouse-testkit`.

#![expect(clippy::unwrap_used, reason = "a test that fails here says where")]

mod driver;
mod place;

mod bombs;
mod clients;
mod deaths;
mod files_of_the_host;
mod helper;
mod interrupts;
mod journal;
mod neighbours;
mod network;
mod outputs;
mod probes;
mod programs;
mod recipe;
mod secrets;
mod trees;
mod trust;
mod uploads;
