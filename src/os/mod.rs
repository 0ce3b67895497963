//! Safe wrappers over the kernel; the only `unsafe` of the crate.

pub mod inherit;
