//! Tests of this room with real processes and sockets. The harness runs them in many threads of one process: nobody waits for "any child",
//! and what would change the whole process runs in one of its own ([`support::in_own_process`]).
#![allow(clippy::disallowed_methods)]

mod accepting;
mod attributes;
mod control;
mod entry;
mod group;
mod identity;
mod listener;
mod lockfile;
mod notify;
mod spawn;
mod support;
mod whole_process;
