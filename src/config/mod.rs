//! Layers of settings, validated into specs that the core and the runtime use.

pub mod diagnostics;
mod json_text;
mod near;
pub mod node;
pub mod spec;
pub mod template;
mod toml_text;
mod value;
pub mod words;
