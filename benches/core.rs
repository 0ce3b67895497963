//! The core's own figures: events per second at 10, 1,000 and 10,000 workers, for the mixes a master sees, and how the cost of
//! one event grows with the number of workers. `cargo bench --bench core`; it takes about ten seconds.
//!
//! | mix | one round |
//! |---|---|
//! | beat | a heartbeat of each worker |
//! | crash | a worker dies, its successor is spawned, runs and gets ready |
//! | scale | one worker more, ready; one fewer, gone |
//! | tick | the earliest deadline (a heartbeat is armed for each worker), with the beats that push the others on |
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use poolmaster::supervisor::{
    Action, Backoff, Budget, Event, ExitStatus, ExitWhen, KillMode, MasterSpec, Notification, OnBootFailure, OnHup,
    OnRollFailure, PoolId, PoolSpec, ReadyKind, Remove, Restart, RestartPolicy, Rollout, Sender, Share, StopStep, Supervisor,
    Time, TimeoutFrom, WorkerId,
};

const SIZES: [u32; 3] = [10, 1_000, 10_000];
/// Wall clock for one figure.
const SPAN: Duration = Duration::from_millis(700);

/// A core with one pool of ready workers, and the clock it is driven by.
struct Load {
    core: Supervisor,
    now: Time,
    out: Vec<Action>,
    live: Vec<WorkerId>,
    /// Where each one is in `live`, so that the driver's own work does not grow with it.
    place: BTreeMap<WorkerId, usize>,
    events: u64,
}

impl Load {
    fn new(workers: u32) -> Load {
        let mut load =
            Load { core: Supervisor::new(1), now: Time(0), out: Vec::new(), live: Vec::new(), place: BTreeMap::new(), events: 0 };
        load.event(Event::Configure {
            revision: 1,
            base: 0,
            master: master(),
            pools: vec![pool(workers)],
            roll: Vec::new(),
            changes: Vec::new(),
        });
        load.follow();
        load.pass(Duration::from_secs(2));
        load
    }

    fn event(&mut self, event: Event) {
        self.core.handle(self.now, event, &mut self.out);
        self.events += 1;
    }

    /// Plays the driver: what was spawned runs and gets ready, what was told to stop stops.
    fn follow(&mut self) {
        while !self.out.is_empty() {
            for action in std::mem::take(&mut self.out) {
                match action {
                    Action::Spawn { worker, .. } => {
                        self.place.insert(worker, self.live.len());
                        self.live.push(worker);
                        self.event(Event::Spawned { worker });
                        self.event(Event::Notified { worker, message: Notification::Ready });
                    }
                    Action::Signal { worker, signal, .. } => {
                        self.event(Event::Signalled { worker, signal });
                        self.forget(worker);
                        self.event(Event::Exited { worker, status: ExitStatus::Code(0), stragglers: false });
                    }
                    _ => {}
                }
            }
        }
    }

    fn forget(&mut self, worker: WorkerId) {
        if let Some(at) = self.place.remove(&worker) {
            self.live.swap_remove(at);
            if let Some(moved) = self.live.get(at) {
                self.place.insert(*moved, at);
            }
        }
    }

    /// Lets time pass, with a tick at each deadline.
    fn pass(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(at) = self.core.next_deadline().filter(|at| *at <= until) {
            self.now = at;
            self.event(Event::Tick);
            self.follow();
        }
        self.now = until;
    }

    fn beat(&mut self, round: usize) {
        self.now = self.now + Duration::from_micros(10);
        let worker = self.live[round % self.live.len()];
        self.event(Event::Notified { worker, message: Notification::Beat });
        self.out.clear();
    }

    fn crash(&mut self, round: usize) {
        // Later than `settle` after the last death of the same slot, so that it is no early death.
        self.now = self.now + Duration::from_millis(300);
        let at = round.wrapping_mul(7919) % self.live.len();
        let worker = self.live[at];
        self.forget(worker);
        self.event(Event::Exited { worker, status: ExitStatus::Code(1), stragglers: false });
        self.follow();
        self.pass(Duration::from_secs(2));
    }

    fn scale(&mut self) {
        self.now = self.now + Duration::from_secs(2);
        for by in [1, -1] {
            self.event(Event::ScaleSignals { pool: PoolId(0), by, sender: Sender::default() });
            self.follow();
        }
    }

    /// Every worker beats in turn, just in time; the clock moves so that one deadline is always near.
    fn tick(&mut self, round: usize) {
        self.now = self.now + Duration::from_nanos(500);
        let worker = self.live[round % self.live.len()];
        self.event(Event::Notified { worker, message: Notification::Beat });
        self.event(Event::Tick);
        self.out.clear();
    }
}

fn master() -> MasterSpec {
    MasterSpec {
        default_pool: None,
        graceful_timeout: Duration::from_secs(60),
        exit_when: ExitWhen::Never,
        winch_parks: true,
        hup: OnHup::Restart,
        linger: Duration::ZERO,
    }
}

fn pool(workers: u32) -> PoolSpec {
    PoolSpec {
        id: PoolId(0),
        name: "web".to_owned(),
        workers,
        min: 1,
        max: None,
        remove: Remove::Oldest,
        required: false,
        boot: OnBootFailure::Retry,
        after: Vec::new(),
        autostart: true,
        ready: ReadyKind::Notify,
        prepares: false,
        prepare: None,
        pre_start: false,
        start_timeout: Duration::from_secs(60),
        settle: Duration::from_secs(1),
        boot_error_codes: vec![3, 4],
        max_starting: None,
        spawn_interval: Duration::ZERO,
        // Far away: the bench counts the cost of keeping it armed, and never wants it to pass.
        timeout: Some(Duration::from_secs(1_000_000)),
        timeout_from: TimeoutFrom::FirstBeat,
        abort_grace: Duration::from_secs(5),
        release: None,
        farewell: None,
        stop: vec![StopStep { signal: 15, wait: Duration::from_secs(30) }],
        quick_signal: 15,
        quick_timeout: Duration::from_secs(5),
        kill_mode: KillMode::Mixed,
        reopen_signal: None,
        min_ready: 1,
        restart: Restart {
            policy: RestartPolicy::Always,
            success_codes: vec![0],
            backoff: Backoff {
                first: Duration::ZERO,
                base: Duration::from_millis(500),
                factor: 2.0,
                max: Duration::from_secs(30),
                jitter: 0.2,
                reset_after: Duration::from_secs(60),
            },
            budget: Budget { failures: 5, within: Duration::from_secs(60) },
            give_up_after: 0,
        },
        rollout: Rollout {
            max_surge: Share::Count(1),
            max_unavailable: Share::Count(0),
            canary: 1,
            failures: 3,
            on_failure: OnRollFailure::Rollback,
            bake: Duration::ZERO,
            max_old_generations: 2,
        },
    }
}

/// Nanoseconds per event of one mix at one size.
fn measure(workers: u32, mix: &str) -> f64 {
    let mut load = Load::new(workers);
    let mut round = 0;
    let mut run = |load: &mut Load, span: Duration| {
        let (start, first) = (Instant::now(), load.events);
        while start.elapsed() < span {
            for _ in 0..64 {
                match mix {
                    "beat" => load.beat(round),
                    "crash" => load.crash(round),
                    "scale" => load.scale(),
                    _ => load.tick(round),
                }
                round += 1;
            }
        }
        start.elapsed().as_nanos() as f64 / (load.events - first) as f64
    };
    run(&mut load, SPAN / 7);
    run(&mut load, SPAN)
}

fn main() {
    println!("{:8}{:>16}{:>16}{:>16}{:>24}", "mix", "10", "1,000", "10,000", "10,000 / 1,000");
    let logs = f64::from(SIZES[2]).ln() / f64::from(SIZES[1]).ln();
    for mix in ["beat", "crash", "scale", "tick"] {
        let cost: Vec<f64> = SIZES.iter().map(|n| measure(*n, mix)).collect();
        print!("{mix:8}");
        cost.iter().for_each(|c| print!("{:>12.0} /s  ", 1e9 / c));
        println!("{:>12.2} (log n: {logs:.2})", cost[2] / cost[1]);
        print!("{:8}", "");
        cost.iter().for_each(|c| print!("{c:>12.0} ns  "));
        println!();
    }
}
