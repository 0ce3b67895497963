//! Owns the specs that runs are made of: the design's defaults, and random ones.

use std::time::Duration;

use poolmaster::supervisor::{
    Backoff, Budget, ExitWhen, KillMode, MasterSpec, OnBootFailure, OnHup, OnRollFailure, PoolId, PoolSpec, ReadyKind, Remove,
    Restart, RestartPolicy, Rollout, Share, StopStep, TimeoutFrom,
};

use crate::rng::Rng;

pub(crate) const TERM: i32 = 15;
pub(crate) const QUIT: i32 = 3;
pub(crate) const INT: i32 = 2;
pub(crate) const USR1: i32 = 10;

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Pool number `id` with the defaults of the design, section 5. Its name is `a`, `b`, ...
pub(crate) fn pool(id: u32, workers: u32) -> PoolSpec {
    PoolSpec {
        id: PoolId(id),
        name: pool_name(id),
        workers,
        min: 1,
        max: None,
        remove: Remove::Oldest,
        required: false,
        boot: OnBootFailure::Fail,
        after: Vec::new(),
        autostart: true,
        ready: ReadyKind::Notify,
        prepares: false,
        prepare: None,
        pre_start: false,
        start_timeout: secs(60),
        settle: secs(1),
        boot_error_codes: vec![3, 4],
        max_starting: None,
        spawn_interval: Duration::ZERO,
        timeout: None,
        timeout_from: TimeoutFrom::FirstBeat,
        abort_grace: secs(5),
        release: None,
        farewell: None,
        stop: vec![StopStep { signal: TERM, wait: secs(30) }],
        quick_signal: TERM,
        quick_timeout: secs(5),
        kill_mode: KillMode::Group,
        reopen_signal: None,
        min_ready: 1,
        restart: Restart {
            policy: RestartPolicy::Always,
            success_codes: vec![0],
            backoff: Backoff {
                first: Duration::ZERO,
                base: ms(500),
                factor: 2.0,
                max: secs(30),
                jitter: 0.0,
                reset_after: secs(60),
            },
            budget: Budget { failures: 5, within: secs(60) },
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

/// The letter that stands for a pool in traces and tables.
pub(crate) fn pool_name(id: u32) -> String {
    char::from_u32(u32::from(b'a') + id % 26).unwrap_or('?').to_string()
}

pub(crate) fn master() -> MasterSpec {
    MasterSpec {
        default_pool: None,
        graceful_timeout: secs(60),
        exit_when: ExitWhen::AllDown,
        winch_parks: true,
        hup: OnHup::Restart,
        linger: Duration::ZERO,
    }
}

/// A pool of random shape. `after` names pools that may be waited for.
pub(crate) fn random_pool(rng: &mut Rng, id: u32, after: &[PoolId]) -> PoolSpec {
    let workers = rng.pick(&[1, 1, 2, 2, 3, 3, 4, 5, 6, 8]);
    let mut spec = pool(id, workers);
    spec.min = rng.pick(&[0, 1, 1, 1, 2]).min(workers);
    spec.max = rng.pick(&[None, Some(workers), Some(workers + 2), Some(12), Some(10)]);
    spec.remove = rng.pick(&[Remove::Oldest, Remove::Oldest, Remove::Newest, Remove::HighestSlot]);
    spec.boot = rng.pick(&[OnBootFailure::Fail, OnBootFailure::Retry, OnBootFailure::Retry]);
    spec.after = after.iter().copied().filter(|_| rng.permille(350)).collect();
    spec.autostart = !rng.permille(60);
    spec.ready = rng.pick(&[
        ReadyKind::Exec,
        ReadyKind::Accepting,
        ReadyKind::Notify,
        ReadyKind::Notify,
        ReadyKind::Notify,
        ReadyKind::NotifyOrAccepting,
        ReadyKind::NotifyOrAccepting,
        ReadyKind::Delay(ms(700)),
    ]);
    spec.start_timeout = rng.pick(&[secs(2), secs(5), secs(10), secs(60)]);
    spec.settle = rng.pick(&[Duration::ZERO, ms(200), secs(1), secs(1), secs(3)]);
    spec.max_starting = rng.pick(&[None, None, Some(1), Some(2), Some(4)]);
    spec.spawn_interval = rng.pick(&[Duration::ZERO, Duration::ZERO, ms(20), ms(300)]);
    spec.timeout = rng.pick(&[None, Some(secs(2)), Some(secs(5)), Some(secs(30))]);
    spec.timeout_from = rng.pick(&[TimeoutFrom::FirstBeat, TimeoutFrom::FirstBeat, TimeoutFrom::Ready]);
    spec.abort_grace = rng.pick(&[ms(100), secs(1), secs(5)]);
    spec.stop = rng.pick(&[
        vec![StopStep { signal: TERM, wait: secs(30) }],
        vec![StopStep { signal: TERM, wait: secs(2) }],
        vec![StopStep { signal: QUIT, wait: secs(10) }],
        vec![StopStep { signal: QUIT, wait: secs(4) }, StopStep { signal: TERM, wait: secs(2) }],
        vec![
            StopStep { signal: INT, wait: secs(1) },
            StopStep { signal: QUIT, wait: secs(1) },
            StopStep { signal: TERM, wait: ms(500) },
        ],
        vec![StopStep { signal: TERM, wait: Duration::ZERO }],
    ]);
    spec.quick_signal = rng.pick(&[spec.stop[0].signal, spec.stop[0].signal, QUIT, INT]);
    spec.quick_timeout = rng.pick(&[ms(200), secs(5), secs(5)]);
    spec.kill_mode = rng.pick(&[KillMode::Process, KillMode::Mixed, KillMode::Mixed, KillMode::Group, KillMode::Group]);
    spec.reopen_signal = rng.pick(&[None, Some(USR1)]);
    spec.restart.policy = rng.pick(&[
        RestartPolicy::Always,
        RestartPolicy::Always,
        RestartPolicy::Always,
        RestartPolicy::Always,
        RestartPolicy::OnFailure,
        RestartPolicy::Never,
    ]);
    spec.restart.backoff.jitter = rng.pick(&[0.0, 0.2, 0.2, 0.5]);
    spec.restart.backoff.max = rng.pick(&[secs(2), secs(30), secs(30)]);
    spec.restart.backoff.first = rng.pick(&[Duration::ZERO, Duration::ZERO, ms(100)]);
    spec.restart.backoff.reset_after = rng.pick(&[secs(5), secs(60)]);
    spec.restart.budget.failures = rng.pick(&[2, 3, 5, 5]);
    spec.restart.budget.within = rng.pick(&[secs(10), secs(60)]);
    spec.restart.give_up_after = rng.pick(&[0, 0, 0, 0, 4]);
    spec.rollout.max_surge = rng.pick(&[Share::Count(1), Share::Count(1), Share::Count(2), Share::Percent(50), Share::Count(0)]);
    spec.rollout.max_unavailable = match spec.rollout.max_surge {
        Share::Count(0) => rng.pick(&[Share::Count(1), Share::Percent(25)]),
        Share::Count(_) | Share::Percent(_) => rng.pick(&[Share::Count(0), Share::Count(0), Share::Count(1)]),
    };
    spec.rollout.canary = rng.pick(&[0, 1, 1, 1, 1, 2, 3]);
    spec.rollout.bake = rng.pick(&[Duration::ZERO, Duration::ZERO, Duration::ZERO, ms(400), secs(5)]);
    spec.rollout.on_failure = rng.pick(&[OnRollFailure::Rollback, OnRollFailure::Rollback, OnRollFailure::Halt]);
    spec.rollout.failures = rng.pick(&[1, 3, 3]);
    spec.rollout.max_old_generations = rng.pick(&[1, 2, 2, 5]);
    spec.prepares = rng.permille(150);
    spec.pre_start = spec.prepares;
    spec.prepare = spec.prepares.then_some(spec.start_timeout);
    spec.release = rng.pick(&[None, None, None, Some(ms(250)), Some(secs(2)), Some(secs(30))]);
    // No draw of its own: it would make all other runs other ones.
    spec.farewell = match (spec.remove, spec.abort_grace.as_secs()) {
        (Remove::HighestSlot, 5) => Some(secs(2)),
        (Remove::Newest, 1) => Some(ms(250)),
        _ => None,
    };
    spec
}

/// A random master over these pools.
pub(crate) fn random_master(rng: &mut Rng, pools: &[PoolSpec]) -> MasterSpec {
    let mut spec = master();
    spec.default_pool = (!pools.is_empty() && rng.permille(700)).then(|| rng.pick(pools).id);
    spec.graceful_timeout = rng.pick(&[secs(3), secs(20), secs(60)]);
    spec.exit_when = rng.pick(&[ExitWhen::Never, ExitWhen::Never, ExitWhen::Never, ExitWhen::AllDown, ExitWhen::RequiredFailed]);
    spec.winch_parks = !rng.permille(200);
    spec.hup = rng.pick(&[OnHup::Restart, OnHup::Restart, OnHup::Restart, OnHup::Reload, OnHup::Reload, OnHup::Ignore]);
    // Not one more draw: it would make all other runs other ones.
    spec.linger = match (spec.winch_parks, spec.graceful_timeout.as_secs()) {
        (true, 3) => ms(300),
        (true, 20) => secs(2),
        (false, 60) => secs(30),
        _ => Duration::ZERO,
    };
    spec
}
