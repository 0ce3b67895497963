//! Workers that write, and report, more than anybody can read: the master goes on hearing, deciding and answering.

use std::time::{Duration, Instant};

use super::support::*;

/// So many answers, and a worker replaced, within a time in which one turn that reads all there is would not have ended.
fn is_answering(m: &mut Master) {
    let until = Instant::now() + Duration::from_secs(15);
    let mut client = m.client();
    for n in 0..100 {
        client.send(b"{\"method\":\"info\"}\n");
        assert!(client.reply().is_some());
        assert!(Instant::now() < until, "{n} answers");
    }
    let before = m.pids("calm");
    for pid in &before {
        kill(*pid, libc::SIGKILL);
    }
    while m.pids("calm").iter().filter(|pid| !before.contains(pid)).count() < 2 {
        assert!(Instant::now() < until, "no replacement");
    }
    assert_eq!(m.stop(), 0);
    assert!(Instant::now() < until, "no end");
}

#[test]
fn empty_lines_of_40_workers_do_not_make_the_master_deaf() {
    for (format, stream) in [("text", "stderr"), ("json", "stdout")] {
        let to = if stream == "stderr" { ">&2" } else { "" };
        let pools = format!(
            "[pool.flood]\ncommand = [\"sh\", \"-c\", \"exec yes '' {to}\"]\nworkers = 40\nready = \"exec\"\nlog.{stream} = \"capture\"\n\
             [pool.calm]\ncommand = \"sleep 1000\"\nworkers = 2\nready = \"exec\"\n"
        );
        let mut m = setup(&pools).master(&format!("log = {{ file = \"DIR/log\", format = \"{format}\" }}")).start().answering();
        m.wait_count("flood", 40);
        m.wait_count("calm", 2);
        is_answering(&mut m);
    }
}

/// The end of a worker that has filled its pipe is told at once, with its last lines; the rest of what it wrote comes after.
#[test]
fn what_a_worker_has_left_in_its_pipe_delays_nobody_and_is_all_shown() {
    // Written while the master stands still: all of it is in the pipe when the worker has ended.
    let script = "kill -STOP $PPID; i=0; while [ $i -lt 9000 ]; do echo; i=$((i+1)); done >&2; echo the last words >&2; kill -CONT $PPID; exit 9";
    let pools = format!(
        "[pool.a]\ncommand = [\"sh\", \"-c\", {script:?}]\nready = \"exec\"\nboot = \"retry\"\nrestart.backoff.base = \"100s\"\nrestart.backoff.max = \"200s\"\nrestart.budget.failures = 1\n"
    );
    let mut m = setup(&pools).start();
    m.log.wait_for("exited with code 9", 1);
    m.log.wait_for("a:0 | the last words", 1);
    let report = m.log.wait_for("its last 20 lines of output", 1);
    assert!(!report.is_empty());
    assert!(m.log.text().matches("a:0 | ").count() >= 9001, "{}", m.log.text().matches("a:0 | ").count());
    assert_eq!(m.stop(), 0);
}

#[test]
fn reports_of_20_workers_do_not_make_the_master_deaf() {
    let Some(python) = python() else { return skip("reports_of_20_workers_do_not_make_the_master_deaf", "there is no python3") };
    let script = "import os, socket\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\ns.connect(os.environ['NOTIFY_SOCKET'])\nwhile True: s.send(b'WATCHDOG=1\\\\n' * 300)";
    let pools = format!(
        "[pool.flood]\ncommand = [\"{python}\", \"-c\", \"{}\"]\nworkers = 20\nready = \"exec\"\n[pool.calm]\ncommand = \"sleep 1000\"\nworkers = 2\nready = \"exec\"\n",
        script.replace('\n', "\\n")
    );
    let mut m = setup(&pools).start().answering();
    m.wait_count("flood", 20);
    m.wait_count("calm", 2);
    is_answering(&mut m);
}
