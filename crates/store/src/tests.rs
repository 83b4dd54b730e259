//! Tests of the store, and of rules that its source must keep.

mod contract;
mod files;
mod source;
