//! Owns the parsers of single values: text in, a typed value or an error in words out. Each is a pure function.

pub(super) mod address;
pub(super) mod capability;
pub(super) mod scalar;
pub(super) mod start;
