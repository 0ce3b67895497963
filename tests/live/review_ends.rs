//! What is told of a worker's end.

use super::support::*;

/// A signal that is no stop signal does not make the later end of the worker one that was asked for.
#[test]
fn the_last_lines_are_told_also_after_a_signal_that_stops_nothing() {
    let m = setup("[pool.web]\ncommand = ['sh', '-c', \"trap 'echo heard >&2' USR1; while :; do sleep 0.05; done\"]\nready = \"delay:100ms\"\n")
        .start()
        .ready();
    let old = m.pids("web")[0];
    m.ok(&["kill", "-s", "USR1", "web:0"]);
    m.log.wait_for("heard", 1);
    kill(old, libc::SIGKILL);
    m.log.wait_for("its last line of output", 1);
}
