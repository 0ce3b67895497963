//! Live tests: a real master, real processes, real sockets. Nothing sleeps; every wait is for an event, with a deadline.

#![allow(unsafe_code, unreachable_pub, clippy::unwrap_used, reason = "tests")]

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
