//! Ten thousand workers in a hundred pools: started, killed by the thousand, stopped. Where the host has no room for them it is skipped,
//! visibly. How long it takes is printed, and judged by nobody (see README, "How far it goes").

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests start processes, read clocks, and may fail loudly"
)]

#[path = "live/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use support::*;

const POOLS: usize = 100;
const EACH: usize = 100;
/// Longer than any single wait elsewhere: this one is for ten thousand programs on two cores.
const LONG: Duration = Duration::from_secs(120);

fn number_in(path: &str) -> usize {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Ready workers of all pools.
fn ready(m: &Master) -> u64 {
    m.request(r#"{"method":"status","parameters":{"workers":false}}"#)["parameters"]["pools"]
        .as_array()
        .map(|pools| pools.iter().filter_map(|pool| pool["ready"].as_u64()).sum())
        .unwrap_or(0)
}

/// Waits until so many are ready.
fn all_ready(m: &Master, wanted: u64) {
    let until = Instant::now() + LONG;
    loop {
        let now = ready(m);
        if now == wanted {
            return;
        }
        assert!(Instant::now() < until, "{now} of {wanted} are ready after {LONG:?}");
        watch_for(m.pid(), Duration::from_millis(100));
    }
}

#[test]
fn ten_thousand_workers_start_come_back_and_stop() {
    const NAME: &str = "ten_thousand_workers_start_come_back_and_stop";
    let workers = POOLS * EACH;
    // One descriptor for each worker (its notify socket), and some for the master.
    let descriptors = usize::try_from(nofile().1).unwrap_or(usize::MAX);
    let processes = number_in("/proc/sys/kernel/pid_max").min(number_in("/proc/sys/kernel/threads-max"));
    if descriptors < workers + 500 || processes < workers + 4000 {
        let why = format!("room for {descriptors} descriptors and {processes} processes only");
        return skip(NAME, &why);
    }
    let pools: String = (0..POOLS).map(|n| format!("[pool.p{n}]\n")).collect();
    let defaults =
        format!("[defaults]\ncommand = \"sleep 100000\"\nworkers = {EACH}\nlog.stderr = \"inherit\"\nready = \"exec\"\n");
    let start = Instant::now();
    let mut m = setup(&(defaults + &pools)).master("log = { level = \"warn\" }").start().answering();
    let wanted = u64::try_from(workers).unwrap();
    all_ready(&m, wanted);
    println!("{workers} workers ready after {:?}; the master has {} KiB", start.elapsed(), rss_kib(m.pid()));
    let victims: Vec<i32> = children(m.pid()).into_iter().take(1000).collect();
    assert_eq!(victims.len(), 1000);
    let start = Instant::now();
    for pid in &victims {
        kill(*pid, libc::SIGKILL);
    }
    let until = Instant::now() + LONG;
    for pid in victims {
        wait_gone(pid, until);
    }
    all_ready(&m, wanted);
    println!("1000 killed and back after {:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(m.stop(), 0);
    println!("all stopped after {:?}", start.elapsed());
    m.assert_nothing_left();
}
