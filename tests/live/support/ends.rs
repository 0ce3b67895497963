//! How things end: what is left of a master, the next master in its place, a terminal to press Ctrl-C on, a request under way.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::thread::JoinHandle;

use super::{Lines, Master, PATIENCE, Setup, setup};

/// In the environment of every master here, and so of all that comes from it: wherever it hides, it is found.
pub const MARK: &str = "PM_TEST_MARK";

/// A master without a config file: `run ARGUMENTS -- COMMAND`.
pub fn adhoc(arguments: &[&str], command: &[&str]) -> Setup {
    let mut s = setup("");
    s.no_file = true;
    let run = s.path("run").display().to_string();
    let own = ["--set", "master.name=t", "--log-level", "debug", "--runtime-dir", &run];
    s.args = own.iter().chain(arguments).chain(&["--"]).chain(command).map(|a| (*a).to_owned()).collect();
    s
}

impl Master {
    /// Another master with the same config, and so with the same name, files and addresses.
    pub fn another(&self) -> Master {
        let mut s = setup("");
        s.file = Some(self.config.clone());
        let mut other = s.start();
        other.socket.clone_from(&self.socket);
        other
    }

    /// All living processes that come from this master, itself included.
    pub fn processes(&self) -> Vec<i32> {
        let entries = std::fs::read_dir("/proc").unwrap();
        entries.filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok()).filter(|pid| self.is_ours(*pid)).collect()
    }

    /// Ends all that are left. By pidfd: a number that was used again meanwhile is not ours.
    pub(super) fn kill_all(&self) {
        for pid in self.processes() {
            // SAFETY: no memory is involved.
            let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
            if fd >= 0 && self.is_ours(pid) {
                // SAFETY: no memory is involved.
                unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, 0, 0) };
            }
            if let Ok(fd @ 0..) = i32::try_from(fd) {
                // SAFETY: just opened, not used again.
                unsafe { libc::close(fd) };
            }
        }
    }

    fn is_ours(&self, pid: i32) -> bool {
        let mark = format!("{MARK}={}", self.setup.dir.path().display());
        // Gone meanwhile, or somebody else's: not ours. Of a zombie this is empty.
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|b| *b == 0).any(|entry| entry == mark.as_bytes())
    }

    /// Waits until so many processes come from this master.
    pub fn wait_processes(&self, n: usize) -> Vec<i32> {
        self.log.wait_until(&format!("{n} processes"), || Some(self.processes()).filter(|p| p.len() == n))
    }

    /// After its end: no process, no file of its own, in the runtime directory or where its listeners were.
    pub fn assert_all_gone(&self) {
        let left = self.processes();
        let told: Vec<String> =
            left.iter().map(|p| std::fs::read_to_string(format!("/proc/{p}/cmdline")).unwrap_or_default()).collect();
        assert!(left.is_empty(), "processes left: {left:?} {told:?}\n{}", self.log.text());
        let mut files = Vec::new();
        for dir in [self.setup.path(""), self.setup.path("run")] {
            files.extend(std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()));
        }
        files.retain(|f| !["run", "pools.toml", "trace"].contains(&f.as_str()));
        assert_eq!(files, Vec::<String>::new(), "files left");
    }
}

/// A request that takes this long, in the hands of a worker: the connection is accepted already when this returns. The thread gives all
/// that came.
pub fn slow_request(port: u16, ms: u32) -> JoinHandle<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let mut answer = vec![0; 4096];
    let n = stream.read(&mut answer).unwrap();
    answer.truncate(n);
    stream.write_all(format!("GET /slow?ms={ms} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    std::thread::spawn(move || {
        // However it ends: what came counts.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    })
}

/// A terminal, as a person has it: the other end of a pty.
pub struct Terminal {
    keyboard: File,
}

impl Terminal {
    pub fn new() -> Terminal {
        // SAFETY: opens a new terminal, owned by nobody else.
        let pty = unsafe { OwnedFd::from_raw_fd(libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC)) };
        // SAFETY: a terminal of our own.
        let ok = unsafe { libc::grantpt(pty.as_raw_fd()) == 0 && libc::unlockpt(pty.as_raw_fd()) == 0 };
        assert!(ok, "{}", io::Error::last_os_error());
        Terminal { keyboard: File::from(pty) }
    }

    /// A master in the foreground of this terminal, with all three of its streams.
    pub fn run(&self, s: Setup) -> Master {
        let mut m = self.run_unread(s);
        m.log = Lines::follow(self.keyboard.try_clone().unwrap());
        m
    }

    /// The same, with nobody before the screen: the terminal goes away with this value.
    pub fn run_unread(&self, s: Setup) -> Master {
        let mut name = [0; 64];
        // SAFETY: a buffer of the size given.
        assert_eq!(unsafe { libc::ptsname_r(self.keyboard.as_raw_fd(), name.as_mut_ptr(), name.len()) }, 0);
        let s = s.pre_exec(move || {
            // SAFETY: async-signal-safe calls, and a name that ends with NUL. The first terminal that the leader of a session opens becomes
            // its own, and the leader is in the foreground.
            unsafe {
                libc::setsid();
                let terminal = libc::open(name.as_ptr(), libc::O_RDWR);
                for stream in 0..3 {
                    if libc::dup2(terminal, stream) < 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
                libc::close(terminal);
            }
            Ok(())
        });
        s.start()
    }

    pub fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    pub const CTRL_C: &[u8] = b"\x03";
    pub const CTRL_BACKSLASH: &[u8] = b"\x1c";
}

/// What another program prints.
pub fn output_of(program: &str, args: &[&str]) -> io::Result<String> {
    Command::new(program).args(args).output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
}
