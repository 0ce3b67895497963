//! Verbs that go on beside the test.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::{Master, PATIENCE, POOLMASTER, told, wait_gone};

/// A verb under way.
pub struct Order {
    child: Child,
}

impl Master {
    /// Starts a verb and does not wait for it. It has reached the master once this returns, for it is an order that the log tells of.
    pub fn order(&self, args: &[&str]) -> Order {
        let before = self.log.count("asked by");
        let mut command = Command::new(POOLMASTER);
        command.args(args).arg("--socket").arg(&self.socket);
        // A script's jobs ignore SIGINT, whoever runs these tests may be one.
        // SAFETY: signal is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                Ok(())
            })
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        self.log.wait_for("asked by", before + 1);
        Order { child }
    }
}

impl Order {
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Its exit code and all that it said, once it has ended.
    pub fn told(self) -> (i32, String) {
        wait_gone(self.pid(), std::time::Instant::now() + PATIENCE);
        told(&self.child.wait_with_output().unwrap())
    }
}

/// The command line of a process, with spaces between its words.
pub fn cmdline(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}
