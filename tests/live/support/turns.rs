//! What the master does in one turn: holding it still while things pile up, and reading its trace. And a terminal for it.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use serde_json::Value;

use super::{Master, Setup, kill, proc_stat};

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

/// Gives the master a controlling terminal, which is there as long as the file is open.
pub fn on_a_terminal(setup: Setup) -> (Setup, File) {
    // SAFETY: system calls; the name is written into a buffer of the size that is told.
    let (file, slave) = unsafe {
        let master = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert!(master >= 0 && libc::grantpt(master) == 0 && libc::unlockpt(master) == 0);
        let mut name = [0; 64];
        assert_eq!(libc::ptsname_r(master, name.as_mut_ptr(), name.len()), 0);
        let slave = libc::open(name.as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert!(slave >= 0, "{:?}", CStr::from_ptr(name.as_ptr()));
        (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    };
    let setup = setup.pre_exec(move || {
        // SAFETY: system calls without memory of ours. The new session is the one that takes the terminal.
        let done = unsafe { libc::setsid() != -1 && libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) == 0 };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    });
    (setup, file)
}
