//! Starts that fail, and what they may leave behind in the master: nothing.

use std::time::Duration;

use super::support::*;

/// A child tells of its failure a moment before it has left the master's memory, so its pipe is kept a little longer. Nobody waits for that
/// pipe any more: its end must not wake the loop. The moment is made long by a tracer that holds up each exit.
#[test]
fn a_start_that_failed_leaves_an_idle_master() {
    let slow_exits = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=exit_group:delay_enter=300000"];
    if let Err(e) = output_of("strace", &["-qq", "-o", "/dev/null", "true"]) {
        return skip("a_start_that_failed_leaves_an_idle_master", &format!("cannot trace: {e}"));
    }
    let m = setup(
        "[pool.ok]\ncommand = \"sleep 1000\"\nready = \"exec\"\n\n[pool.lost]\ncommand = \"/nonexistent/program\"\nafter = [\"ok\"]\n",
    )
    .under(&slow_exits)
    .start();
    m.log.wait_for("cannot execute", 1);
    m.log.wait_until("the other pool is good", || {
        let reply = m.request(r#"{"method":"status","parameters":{"pool":"ok","workers":true}}"#);
        (reply["parameters"]["pools"][0]["workers"][0]["state"] == "good").then_some(())
    });
    let before = cpu_ticks(m.pid());
    watch_for(m.pid(), Duration::from_secs(1));
    let used = cpu_ticks(m.pid()) - before;
    assert!(used <= 5, "the loop spins: {used} ticks of the processor in a second of rest");
}

/// What was made for a worker that then could not be started goes again: its notify socket is a file.
#[test]
fn a_start_that_failed_leaves_no_notify_socket() {
    let m = setup("[pool.many]\ncommand = \"sleep 1000\"\nworkers = 100\nready = \"exec\"\n")
        .under(&["prlimit", "--nofile=80:80"])
        .start();
    // Each wait between attempts is longer than the one before.
    m.log.wait_for("descriptors are kept for orders to the master", 12);
    let living = children(m.pid()).len();
    let home = std::path::PathBuf::from(m.setup.notify_home());
    let home = if std::fs::exists(&home).unwrap() { home } else { m.setup.path("run/t.d") };
    let files = std::fs::read_dir(home.join(".n/many")).unwrap().count();
    assert!(files <= living + 1, "{files} sockets for {living} workers");
}

/// Opening the file for a worker's output must not stop the loop: with a FIFO that nobody reads, it would for ever.
#[test]
fn an_output_file_that_cannot_be_opened_at_once_stops_nobody() {
    let s = setup(
        "[pool.ok]\ncommand = \"sleep 1000\"\nready = \"exec\"\n\n[pool.fifo]\ncommand = \"echo heard\"\nready = \"exec\"\nafter = [\"ok\"]\n[pool.fifo.log]\nstdout = \"file:DIR/fifo\"\n",
    );
    gate(&s.path("fifo"));
    let m = s.start();
    m.log.wait_for("ok:0 ready", 1);
    m.log.wait_for("cannot open its output file", 1);
    m.ok(&["status"]);
}

/// A master that cannot start leaves nothing behind but its runtime directory.
#[test]
fn a_master_without_its_control_socket_leaves_no_file() {
    let mut m = setup("[pool.web]\ncommand = \"sleep 1000\"\n").master("socket = \"DIR/missing/t.sock\"").start();
    assert_eq!(m.wait().code(), Some(1));
    assert!(m.log.text().contains("cannot open the control socket"), "{}", m.log.text());
    let left: Vec<_> = std::fs::read_dir(m.setup.path("run")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}
