//! Owns the sums: descriptors, processes and signals that a config needs, against what there may be.

use super::Found;
use crate::config::spec::{Output, Pool};
use crate::os::budget::Bounds;
use crate::supervisor::Share;

/// Descriptors of the master itself: its log, its sockets, what it keeps for clients and for the next start.
const OWN_DESCRIPTORS: u64 = 40;
/// Below this, a burst of scale signals may be merged by the kernel.
const SIGNALS_WANTED: u64 = 4096;

pub(super) fn check(bounds: &Bounds, found: &mut Found<'_>) {
    let pools = &found.loaded.config.pools;
    let Some(largest) = pools.iter().max_by_key(|pool| at_most(pool)) else { return };
    let place = |key: &str| found.pool(&largest.spec.name, key);
    let workers: u64 = pools.iter().map(at_most).sum();
    let listeners: u64 = pools.iter().map(sockets).sum();
    let descriptors = pools.iter().map(|pool| at_most(pool) * of_worker(pool)).sum::<u64>() + listeners + OWN_DESCRIPTORS;
    let counted = format!("{workers} workers (those beside them during a rollout included)");
    let mut list = Vec::new();
    if let Some(most) = bounds.descriptors.filter(|most| descriptors > *most) {
        let what = format!(
            "the master needs about {descriptors} descriptors for {counted} and {listeners} listening sockets; its hard limit is {most}"
        );
        let help =
            "raise the limit (ulimit -Hn, LimitNOFILE=); without log.stdout and log.stderr = \"capture\" a worker needs fewer";
        list.push((place("workers"), what, help));
    }
    let tightest = bounds.processes.iter().min_by_key(|(_, most, used)| most.saturating_sub(*used));
    if let Some((name, most, used)) = tightest.filter(|(_, most, used)| workers > most.saturating_sub(*used)) {
        let what = format!("{counted} are more processes than there may be: {name} is {most}, {used} are there already");
        list.push((place("workers"), what, "raise it, or start fewer; threads of the workers count as well"));
    }
    let scaled = pools.iter().find(|pool| pool.signals.up.or(pool.signals.down).is_some());
    if let (Some(pool), Some(most)) = (scaled, bounds.signals.filter(|most| *most < SIGNALS_WANTED)) {
        let what =
            format!("only {most} signals can wait for this user's processes: a larger burst of scale signals would be merged");
        let help = "raise RLIMIT_SIGPENDING (ulimit -i, LimitSIGPENDING=), or use `poolmaster scale`";
        list.push((found.pool(&pool.spec.name, "scale"), what, help));
    }
    for (place, what, help) in list {
        found.warn(place, what, help);
    }
}

/// Workers of a pool at once, at most.
fn at_most(pool: &Pool) -> u64 {
    let workers = u64::from(pool.spec.workers);
    let surge = match pool.spec.rollout.max_surge {
        Share::Count(n) => u64::from(n),
        Share::Percent(percent) => (workers * u64::from(percent)).div_ceil(100),
    };
    workers + surge
}

/// The sockets that its listeners need: one each, or one for each slot.
fn sockets(pool: &Pool) -> u64 {
    let of = |reuseport: bool| if reuseport { u64::from(pool.spec.workers) } else { 1 };
    pool.listeners.iter().filter(|listener| listener.shared.is_none()).map(|listener| of(listener.reuseport)).sum()
}

/// Descriptors of the master for one worker: its pipes and the socket that it reports to.
fn of_worker(pool: &Pool) -> u64 {
    let pipes =
        [&pool.launch.stdout, &pool.launch.stderr].into_iter().filter(|output| **output == Output::Capture).count() as u64;
    pipes + u64::from(pool.launch.protocols.systemd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Loaded, Sources, explain};

    fn loaded(text: &str) -> Loaded {
        explain(&Sources { text: Some(text.to_owned()), ..Sources::default() }).expect("valid")
    }

    fn said(text: &str, bounds: &Bounds) -> Vec<String> {
        let loaded = loaded(text);
        let mut found = Found { loaded: &loaded, list: Vec::new() };
        check(bounds, &mut found);
        found.list.iter().map(crate::config::diagnostics::Diagnostic::line).collect()
    }

    #[test]
    fn each_slot_of_a_reuseport_listener_has_its_socket() {
        let text = "[pool.web]\ncommand='x'\nworkers=9\nlisten.a={address=':80',reuseport=true}\nlisten.b=':81'\n\
                    [pool.other]\ncommand='x'\nlisten.b={share='web.b'}\n";
        assert_eq!(loaded(text).config.pools.iter().map(sockets).collect::<Vec<_>>(), [10, 0]);
    }

    #[test]
    fn descriptors_are_counted() {
        let text = "[pool.web]\ncommand='x'\nworkers=100\nrollout.max_surge=1\nlisten=':80'\nlog.stdout='capture'\n[pool.job]\ncommand='x'\nprotocols=[]\n";
        // 101 workers with two pipes and a socket each, 2 with a pipe each, one listener.
        let needs = 101 * 3 + 2 + 1 + OWN_DESCRIPTORS;
        let bounds = |most| Bounds { descriptors: Some(most), ..Bounds::default() };
        assert_eq!(said(text, &bounds(needs)), Vec::<String>::new());
        let said = said(text, &bounds(needs - 1));
        assert_eq!(
            said,
            [format!(
                "the master needs about {needs} descriptors for 103 workers (those beside them during a rollout included) and 1 \
                 listening sockets; its hard limit is {} ((text):3:9)",
                needs - 1
            )]
        );
    }

    #[test]
    fn the_tightest_bound_of_processes_counts() {
        let text = "[pool.web]\ncommand='x'\nworkers=100\nrollout.max_surge='10%'\n";
        let bounds = |left: u64| Bounds {
            processes: vec![
                ("kernel.threads-max".to_owned(), 9000, 300),
                ("pids.max of the cgroup /a".to_owned(), 200, 200 - left),
            ],
            ..Bounds::default()
        };
        assert_eq!(said(text, &bounds(110)), Vec::<String>::new());
        let said = said(text, &bounds(109));
        assert!(said.len() == 1 && said[0].contains("pids.max of the cgroup /a is 200, 91 are there already"), "{said:?}");
    }

    #[test]
    fn few_waiting_signals_matter_to_scale_signals_only() {
        let bounds = Bounds { signals: Some(100), ..Bounds::default() };
        assert_eq!(said("[pool.web]\ncommand='x'\n", &bounds), Vec::<String>::new());
        let said = said("[pool.web]\ncommand='x'\nscale.up_signal='RTMIN+1'\n", &bounds);
        assert!(said.len() == 1 && said[0].starts_with("only 100 signals can wait"), "{said:?}");
    }
}
