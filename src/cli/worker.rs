//! Owns the sample worker's flags and its start. The worker is an ordinary program under poolmaster: it knows no more of its
//! master than the worker contract says, and refuses to use anything of the master's own code but its vocabulary.

use crate::os::without_numbers;
use std::io::Write as _;
use std::os::fd::RawFd;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::Context;

mod body;
mod clock;
mod connection;
mod connections;
mod faults;
mod flags;
mod listener;
mod notify;
mod reply;
mod request;
mod server;
mod session;

/// Exit code of a worker that cannot boot (worker contract).
const BOOT_FAILED: u8 = 3;
/// Exit code of a worker whose application cannot be loaded.
const LOAD_FAILED: u8 = 4;

/// The flags of `poolmaster worker`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  poolmaster worker --listen :8000                     without a master
  poolmaster run --listen :8000 -- poolmaster worker   under one
  poolmaster run --listen :8000 -- poolmaster worker --crash-after 5s

Pages: / (hello), /env, /healthz, /slow?ms=N, /crash (with --allow-crash).

Durations: 500ms, 5s, 1m30s. Sizes: 512K, 1M, 2G. Times of misbehaviours count from
the start of the process.")]
pub struct Args {
    #[command(flatten)]
    serving: Serving,
    #[command(flatten)]
    misbehaviour: Misbehaviour,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Serving")]
struct Serving {
    /// Listen here by itself: HOST:PORT, :PORT, unix:/PATH or unix:@NAME. Under a master the listeners come from LISTEN_FDS
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Serve on the listener that is open under this number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    fd: Vec<RawFd>,
    /// How long an idle connection may bring one more request after the stop signal
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = flags::duration)]
    drain: Duration,
    /// Close a connection on which nothing came or went for this long
    #[arg(long, value_name = "DURATION", default_value = "75s", value_parser = flags::positive_duration)]
    idle_timeout: Duration,
    /// Leave further connections in the queue, for other workers, while this many are open
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    max_connections: u32,
    /// Stop after this many requests, as if told to: the master starts a fresh worker
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_requests: Option<u64>,
    /// Report X_POOLMASTER_BUSY=n/M to the master: n requests received and not yet answered
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(1..))]
    report_busy: Option<u32>,
    /// Print a line to stderr this often
    #[arg(long, value_name = "DURATION", value_parser = flags::positive_duration)]
    chatter: Option<Duration>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Misbehaviours, to rehearse failures")]
struct Misbehaviour {
    /// Take this long to boot
    #[arg(long, value_name = "DURATION", value_parser = flags::duration)]
    slow_start: Option<Duration>,
    /// Fail to boot: a cause on stderr and exit 3, after --slow-start if given
    #[arg(long)]
    fail_boot: bool,
    /// Fail to load the application: a cause on stderr and exit 4, after --slow-start if given
    #[arg(long, conflicts_with = "fail_boot")]
    fail_load: bool,
    /// Never get ready: no READY=1, no listening, no heartbeat; stops when told to
    #[arg(long)]
    never_ready: bool,
    /// Exit with this code as soon as ready
    #[arg(long, value_name = "CODE")]
    exit: Option<u8>,
    /// Exit after this time, with code 0 or the one given
    #[arg(long, value_name = "DURATION[:CODE]", value_parser = flags::exit_after)]
    exit_after: Option<(Duration, u8)>,
    /// Crash after this time, by --crash-signal
    #[arg(long, value_name = "DURATION", value_parser = flags::duration)]
    crash_after: Option<Duration>,
    /// The signal that a crash ends with
    #[arg(long, value_name = "SIGNAL", default_value = "SEGV", value_parser = flags::crash_signal)]
    crash_signal: Signal,
    /// Crash on a request for /crash
    #[arg(long)]
    allow_crash: bool,
    /// Hang after this time: alive, but no heartbeat, no answers, and deaf to the stop signal
    #[arg(long, value_name = "DURATION", value_parser = flags::duration)]
    hang_after: Option<Duration>,
    /// Ignore TERM, INT and QUIT
    #[arg(long)]
    ignore_term: bool,
    /// Leak memory at this rate
    #[arg(long, value_name = "SIZE/s", value_parser = flags::rate)]
    leak: Option<u64>,
    /// Shut the shared listeners down once ready: they are dead for all workers, `health` tells, and a reload opens them again
    #[arg(long)]
    shutdown_listener: bool,
    /// Start a child in the same process group and leave it behind; with --ignore-term the child ignores it too
    #[arg(long)]
    spawn_child: bool,
}

/// Runs the worker to its end; the result is its exit code.
pub fn run(args: &Args, ctx: &Context) -> u8 {
    match server::Server::new(args, &ctx.env) {
        Ok(server) => server.run(),
        Err(cause) => {
            say(&format!("failed to boot: {cause}"));
            BOOT_FAILED
        }
    }
}

/// A line on stderr. A stderr that nobody reads or that is closed must not end a worker, so failing is ignored.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("poolmaster worker: {}\n", without_numbers(line)).as_bytes());
}
