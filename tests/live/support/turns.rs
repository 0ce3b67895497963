//! What the master does in one turn: holding it still while things pile up, and reading its trace.

use serde_json::Value;

use super::{Master, kill, proc_stat};

impl Master {
    /// Stops the master (SIGSTOP) while `pile_up` runs: it is all there at once when the master goes on.
    /// But TTIN and TTOU: the kernel drops those that wait when SIGCONT comes.
    pub fn held<T>(&self, pile_up: impl FnOnce() -> T) -> T {
        self.signal(libc::SIGSTOP);
        self.log.wait_until("the master is held", || (proc_stat(self.pid())[0] == "T").then_some(()));
        let result = pile_up();
        self.signal(libc::SIGCONT);
        result
    }

    /// Kills a process and waits until it is nothing but a zombie, or reaped.
    pub fn kill_dead(&self, pid: i32) {
        kill(pid, libc::SIGKILL);
        self.log.wait_until(&format!("{pid} is dead"), || (!super::is_alive(pid)).then_some(()));
    }

    /// The turns of `--trace DIR/trace` so far: now, event, actions.
    pub fn turns(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.setup.path("trace")).unwrap();
        // The last line may be half written.
        text.lines().skip(1).filter_map(|l| serde_json::from_str(l).ok()).collect()
    }

    /// Waits until the log has each of these; gives the numbers of the first line with each, in the order given.
    pub fn places(&self, whats: &[&str]) -> Vec<usize> {
        let place = |what: &&str| {
            self.log.wait_for(what, 1);
            self.log.all().iter().position(|l| l.contains(what)).unwrap()
        };
        whats.iter().map(place).collect()
    }
}

/// Do these come in this order?
pub fn rising(places: &[usize]) -> bool {
    places.is_sorted_by(|a, b| a < b)
}
