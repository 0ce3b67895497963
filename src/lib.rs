//! poolmaster keeps named pools of worker processes alive behind sockets that never close.
//!
//! The folders are the architecture. A module uses only modules above it in this list:
//!
//! | room | what it holds |
//! |---|---|
//! | [`supervisor`] | pure decisions: events in, actions out; no I/O, no clock |
//! | [`protocol`] | control messages and their framing; no I/O |
//! | [`config`] | layers of settings, validated into specs, with the origin of every value |
//! | [`os`] | safe wrappers over the kernel; the only `unsafe` |
//! | [`telemetry`] | the master's log, and relayed worker output |
//! | [`runtime`] | the loop: descriptors become events, actions become system calls |
//! | [`client`] | the command line's side of the control socket |
//! | [`cli`] | one file per verb |

pub mod cli;
pub mod client;
pub mod config;
#[allow(unsafe_code)]
pub mod os;
pub mod protocol;
pub mod runtime;
pub mod supervisor;
pub mod telemetry;
