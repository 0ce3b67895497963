//! Owns what a simulated process will do in its life. A script is drawn per spawn, from a stream that belongs to that
//! worker alone: noise elsewhere cannot change it.

use std::time::Duration;

use poolmaster::supervisor::{ExitStatus, Notification, PoolSpec, ReadyKind, Time, WorkerId};

use crate::rng::Rng;

/// How a fork ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Birth {
    /// exec succeeds.
    Good,
    /// fork(2) says EAGAIN.
    NoFork,
    /// A step before exec fails (chdir).
    NoSetup,
    /// exec says ENOENT.
    NoExec,
    /// The child is killed by a stranger between fork and exec.
    DiesBefore,
}

/// The story of one process.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) birth: Birth,
    /// From fork to exec, or to the failure.
    pub(crate) exec_after: Duration,
    /// From exec to READY=1 or to the first accept. `None`: never.
    pub(crate) ready_after: Option<Duration>,
    /// From exec to an end of its own. `None`: lives until it is stopped.
    pub(crate) life: Option<Duration>,
    pub(crate) status: ExitStatus,
    /// How long it takes to end after a stop signal. `None`: ignores them.
    pub(crate) obeys_after: Option<Duration>,
    /// ABRT ends it.
    pub(crate) abrt_ends: bool,
    /// From KILL to the end (state D: long).
    pub(crate) kill_takes: Duration,
    /// From the end to the notice.
    pub(crate) notice_after: Duration,
    /// Beats this often.
    pub(crate) beat: Option<Duration>,
    /// Stops beating this long after exec.
    pub(crate) hangs_after: Option<Duration>,
    /// Leaves processes behind that live this long.
    pub(crate) leaves: Option<Duration>,
    /// Other things it says, so long after exec.
    pub(crate) says: Vec<(Duration, Notification)>,
    /// Asks for this much more time to stop, when told to stop.
    pub(crate) extends_stop: Option<Duration>,
    /// SIGKILL before exec is reported as a failed spawn (else as a spawn and an exit).
    pub(crate) early_kill_is_failure: bool,
    /// Signals cannot be sent to it (EPERM), KILL excepted.
    pub(crate) untouchable: bool,
}

/// How the weather is: which faults scripts are drawn with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Bad scripts in a thousand, on a mixed day.
    pub(crate) bad: u64,
    /// Epochs in a thousand in which a pool is wholly broken.
    pub(crate) outages: u64,
    /// Forks in a thousand that fail for want of resources.
    pub(crate) no_fork: u64,
    /// Status messages per life, at most.
    pub(crate) chatter: u64,
}

impl Weather {
    pub(crate) const CALM: Weather = Weather { bad: 0, outages: 0, no_fork: 0, chatter: 0 };
    pub(crate) const STORM: Weather = Weather { bad: 350, outages: 200, no_fork: 20, chatter: 3 };
    pub(crate) const DOOM: Weather = Weather { bad: 700, outages: 600, no_fork: 20, chatter: 0 };
    pub(crate) const BREEZE: Weather = Weather { bad: 60, outages: 30, no_fork: 5, chatter: 30 };
}

/// An epoch in which a pool may be wholly broken.
const EPOCH_NS: u64 = 45_000_000_000;

impl Script {
    /// The script of a process that does everything right.
    fn good(rng: &mut Rng, spec: &PoolSpec) -> Script {
        let beat = spec.timeout.map(|t| t / 2);
        Script {
            name: "good",
            birth: Birth::Good,
            exec_after: rng.ms(0, 4),
            ready_after: Some(rng.ms(1, 400)),
            life: None,
            status: ExitStatus::Code(0),
            obeys_after: Some(rng.ms(0, 300)),
            abrt_ends: true,
            kill_takes: rng.ms(0, 2),
            notice_after: Duration::ZERO,
            beat,
            hangs_after: None,
            leaves: None,
            says: Vec::new(),
            extends_stop: None,
            early_kill_is_failure: rng.permille(500),
            untouchable: false,
        }
    }

    pub(crate) fn draw(seed: u64, now: Time, w: WorkerId, spec: &PoolSpec, weather: Weather) -> Script {
        let mut rng = Rng::of_worker(seed, w);
        let mut s = Script::good(&mut rng, spec);
        for _ in 0..rng.below(weather.chatter + 1) {
            let word = rng.pick(&[
                Notification::Status("busy".to_owned()),
                Notification::Status("busy".to_owned()),
                Notification::Busy { busy: 3, of: 8 },
                Notification::RestartReset,
                Notification::MainPid(4242),
            ]);
            s.says.push((rng.ms(0, 5_000), word));
        }
        if rng.permille(weather.no_fork) {
            s.name = "no-fork";
            s.birth = Birth::NoFork;
            s.exec_after = Duration::ZERO;
            return s;
        }
        let mut epoch = Rng::keyed(seed, (now.0 / EPOCH_NS) << 8 | u64::from(w.pool.0));
        if epoch.permille(weather.outages) {
            let kind = epoch.below(6);
            s.breaks(&mut rng, [3, 4, 9, 2, 12, 13][kind as usize]);
        } else if rng.permille(weather.bad) {
            let kind = rng.below(25);
            s.breaks(&mut rng, kind);
        }
        if spec.ready == ReadyKind::Exec && s.name == "never-ready" {
            s.name = "good";
        }
        s
    }

    /// Makes it misbehave in one of many ways.
    fn breaks(&mut self, rng: &mut Rng, kind: u64) {
        let code = |rng: &mut Rng| rng.pick(&[1, 1, 1, 2, 0, 127]);
        self.name = match kind {
            0 => {
                self.ready_after = Some(rng.ms(900, 9_000));
                "boots-late"
            }
            1 => {
                self.ready_after = None;
                "never-ready"
            }
            2 | 3 => {
                self.life = Some(self.ready_after.unwrap_or_default() / 2);
                self.ready_after = None;
                self.status = ExitStatus::Code(code(rng));
                "crashes-before-ready"
            }
            4 => {
                self.life = self.ready_after.map(|r| r + rng.ms(0, 150));
                self.status = ExitStatus::Signal { signal: 11, core: true };
                "crashes-early"
            }
            5 | 6 => {
                self.life = Some(rng.ms(4_000, 120_000));
                self.status = ExitStatus::Signal { signal: rng.pick(&[9, 6, 11, 37]), core: false };
                "crashes-late"
            }
            7 => {
                self.obeys_after = None;
                "ignores-term"
            }
            8 => {
                self.hangs_after = Some(rng.ms(0, 20_000));
                self.obeys_after = None;
                self.abrt_ends = rng.permille(500);
                "hangs"
            }
            9 => {
                self.birth = Birth::NoExec;
                "no-exec"
            }
            10 => {
                self.birth = Birth::NoSetup;
                self.exec_after = rng.pick(&[Duration::from_micros(301), Duration::from_secs(7)]);
                "no-setup"
            }
            11 => {
                self.life = Some(rng.ms(0, 8_000));
                self.status = ExitStatus::Code(0);
                "job-done"
            }
            12 => {
                self.life = Some(rng.ms(1, 300));
                self.ready_after = None;
                self.status = ExitStatus::Code(3);
                "exit-3"
            }
            13 => {
                self.life = Some(rng.ms(1, 300));
                self.ready_after = None;
                self.status = ExitStatus::Code(4);
                "exit-4"
            }
            14 => {
                self.notice_after = rng.ms(1, 3_000);
                self.life = Some(rng.ms(100, 20_000));
                self.status = ExitStatus::Code(1);
                "noticed-late"
            }
            15 => {
                self.leaves = Some(rng.ms(10, 90_000));
                self.life = rng.permille(500).then(|| rng.ms(20, 30_000));
                self.ready_after = self.ready_after.filter(|_| rng.permille(700));
                self.status = ExitStatus::Code(1);
                "leaves-stragglers"
            }
            16 => {
                self.birth = Birth::DiesBefore;
                "dies-before-exec"
            }
            17 => {
                for _ in 0..200 {
                    self.says.push((rng.ms(0, 2_000), Notification::Status("storm".to_owned())));
                }
                "notify-storm"
            }
            18 => {
                self.ready_after = Some(rng.ms(3_000, 20_000));
                for i in 0..10 {
                    self.says.push((Duration::from_secs(2 * i) + rng.ms(0, 9), Notification::Extend(Duration::from_secs(4))));
                }
                "extends-start"
            }
            19 => {
                self.obeys_after = Some(rng.ms(500, 15_000));
                self.extends_stop = Some(rng.ms(200, 12_000));
                "extends-stop"
            }
            20 => {
                let at = rng.ms(1_500, 20_000);
                self.says.push((at, Notification::Stopping));
                self.life = rng.permille(800).then(|| at + rng.ms(0, 4_000));
                "says-stopping"
            }
            21 => {
                self.says.push((rng.ms(1_500, 20_000), Notification::Trigger));
                "triggers"
            }
            22 => {
                self.says.push((rng.ms(10, 3_000), Notification::Timeout(rng.pick(&[Duration::ZERO, Duration::from_secs(3)]))));
                self.says.push((rng.ms(3_000, 9_000), Notification::Reloading));
                self.beat = Some(Duration::from_millis(1_100));
                "sets-timeout"
            }
            23 => {
                self.kill_takes = rng.ms(1_000, 20_000);
                self.obeys_after = None;
                "hard-to-kill"
            }
            _ => {
                self.untouchable = true;
                "untouchable"
            }
        };
    }
}
