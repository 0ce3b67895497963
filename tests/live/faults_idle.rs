//! Idle means idle: a master whose pools are well makes no system call and is never scheduled.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::support::*;

/// How long nothing may happen. The full 10 s of the requirement with `POOLMASTER_TEST_IDLE=10`.
fn window() -> Duration {
    let seconds = std::env::var("POOLMASTER_TEST_IDLE").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
    Duration::from_secs(seconds)
}

#[test]
fn an_idle_master_makes_no_system_call() {
    let pools: String = (0..10)
        .map(|n| {
            format!(
                "[pool.p{n}]\ncommand = \"sleep 1000\"\nworkers = 10\nready = \"{}\"\n",
                if n < 5 { "exec" } else { "delay:100ms" }
            )
        })
        .collect();
    let m = setup(&pools).start().ready();
    // Until every worker is good: settle is the last thing that time alone decides.
    m.log.wait_until("all 100 are good", || {
        let reply = m.request(r#"{"method":"status","parameters":{"workers":true}}"#);
        let pools = reply["parameters"]["pools"].as_array()?.clone();
        let good = pools
            .iter()
            .flat_map(|p| p["workers"].as_array().cloned().unwrap_or_default())
            .filter(|w| w["state"] == "good")
            .count();
        (good == 100).then_some(())
    });
    m.client().stream.shutdown(std::net::Shutdown::Both).unwrap();

    // The last client is gone and what was logged is written: both threads have come to rest.
    let mut at_rest = switches(m.pid());
    m.log.wait_until("the master is at rest", || {
        watch_for(m.pid(), Duration::from_millis(100));
        let now = switches(m.pid());
        (std::mem::replace(&mut at_rest, now) == now).then_some(())
    });
    let (before, ticks) = (switches(m.pid()), cpu_ticks(m.pid()));
    watch_for(m.pid(), window());
    assert_eq!(switches(m.pid()) - before, 0, "context switches in {:?}", window());
    assert_eq!(cpu_ticks(m.pid()) - ticks, 0, "CPU ticks in {:?}", window());
    traced(&m);
}

/// The second proof, by a debugger's eyes.
fn traced(m: &Master) {
    let strace =
        Command::new("strace").args(["-f", "-p", &m.pid().to_string()]).stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut strace = match strace {
        Ok(strace) => strace,
        Err(e) => return skip("an_idle_master_makes_no_system_call, by strace", &format!("cannot run strace: {e}")),
    };
    let (send, lines) = mpsc::channel();
    let stderr = strace.stderr.take().unwrap();
    let reader = std::thread::spawn(move || BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|l| send.send(l)));
    let mut seen = Vec::new();
    // Attaching interrupts the calls that wait; they are made once more.
    while let Ok(line) = lines.recv_timeout(Duration::from_millis(500)) {
        seen.push(line);
    }
    let attached = seen.iter().any(|l| l.contains("attached"));
    if attached {
        let called = lines.recv_timeout(window());
        assert!(called.is_err(), "a system call: {called:?} after {seen:?}");
        // The tracer does see what the master does.
        m.ok(&["status"]);
        let woken: Vec<String> = std::iter::from_fn(|| lines.recv_timeout(Duration::from_millis(500)).ok()).collect();
        assert!(woken.iter().any(|l| l.contains("accept4")), "{woken:?}");
    } else {
        skip("an_idle_master_makes_no_system_call, by strace", &format!("it cannot attach: {seen:?}"));
    }
    kill(i32::try_from(strace.id()).unwrap(), libc::SIGTERM);
    strace.wait().unwrap();
    let _ = reader.join();
}
