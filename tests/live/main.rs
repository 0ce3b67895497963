//! Live tests: a real master, real processes, real sockets. Nothing sleeps; every wait is for an event, with a deadline.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::multiple_unsafe_ops_per_block,
    unreachable_pub,
    reason = "tests start processes and threads, read clocks, and may fail loudly"
)]

mod support;

mod basics;
mod control_clients;
mod faults_host;
mod faults_hygiene;
mod faults_idle;
mod faults_log;
mod faults_notify;
mod faults_output;
mod faults_panic;
mod parity_birth;
mod parity_exits;
mod parity_signals;
mod parity_workers;
