//! The reference is made from the definitions in the code: command line, keys of a config, control messages. What is checked in must be
//! what they give; `BLESS=1 cargo test --test reference` writes it anew.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod completions;
mod control;
mod drift;
mod keys;
mod man;
mod roff;
mod schema;
mod validator;
