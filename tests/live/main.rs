//! Live tests: a real master, real processes, real sockets. Nothing sleeps; every wait is for an event, with a deadline.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::multiple_unsafe_ops_per_block,
    unreachable_pub,
    reason = "tests start processes and threads, read clocks, and may fail loudly"
)]

mod strangers;
mod support;

// What the simulator holds the core to, for runs that are recorded here.
#[path = "../sim/facts.rs"]
mod facts;
#[path = "../sim/invariants.rs"]
#[allow(dead_code, reason = "what only the simulator can ask for")]
mod invariants;
#[path = "../sim/judge.rs"]
mod judge;
#[path = "../replay/recording.rs"]
mod recording;
#[path = "../sim/shadow.rs"]
#[allow(dead_code, reason = "what only the simulator can ask for")]
mod shadow;

mod adhoc;
mod basics;
mod boot;
mod control_clients;
mod dialects;
mod each_edit;
mod environment;
mod every_key;
mod faults_host;
mod faults_hygiene;
mod faults_idle;
mod faults_log;
mod faults_notify;
mod faults_output;
mod faults_panic;
mod field_ends;
mod field_faults;
mod field_orders;
mod field_starts;
mod findings;
mod flood;
mod generations;
mod hooks;
mod host_daemon;
mod host_rows;
mod host_service;
mod identity;
mod linger;
mod listeners;
mod listeners_handed;
mod listeners_kinds;
mod lost_files;
mod order;
mod parity_birth;
mod parity_exits;
mod parity_signals;
mod parity_workers;
mod plan_corpus;
mod readiness;
mod reload_bad;
mod reload_events;
mod reload_orders;
mod reload_rows;
mod reuseport;
mod review_ends;
mod review_reload;
mod review_starts;
mod scaling;
mod scenarios;
mod scenarios_change;
mod scenarios_life;
mod second;
mod shutdown;
mod truth;
mod upgrade;
mod verbs;
