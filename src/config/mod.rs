//! Layers of settings, validated into specs that the core and the runtime use.

pub mod spec;
