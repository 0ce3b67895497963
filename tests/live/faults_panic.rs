//! A fault of the master itself: a panic in its loop.

use super::support::*;

const POOLS: &str = r#"
    [defaults]
    graceful_timeout = "2s"
    [pool.web]
    command = "POOLMASTER worker --spawn-child"
    workers = 2
    listen = "unix:DIR/web.sock"
    [pool.polite]
    command = ["sh", "-c", "trap 'echo was told to stop; exit 0' TERM; echo up; while :; do sleep 1; done"]
    [pool.deaf]
    command = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"]
"#;

/// Every process of the master's: workers, and what they started.
fn family(m: &Master) -> Vec<i32> {
    let workers: Vec<i32> = ["web", "polite", "deaf"].iter().flat_map(|p| m.pids(p)).collect();
    assert_eq!(workers.len(), 4);
    let grandchildren: Vec<i32> = workers.iter().flat_map(|w| children(*w)).collect();
    assert!(grandchildren.len() >= 3, "{grandchildren:?}");
    workers.into_iter().chain(grandchildren).collect()
}

fn panicking(order: &str) -> Option<Master> {
    if !cfg!(debug_assertions) {
        skip("panic in the loop", "only builds with debug assertions can be told to panic");
        return None;
    }
    let m = setup(POOLS).env("POOLMASTER_TEST_PANIC", order).start().ready();
    m.out.wait_for("up", 2);
    Some(m)
}

#[test]
fn row_27_a_panic_in_the_loop_stops_the_workers_and_leaves_nothing_behind() {
    let Some(mut m) = panicking("PWR") else { return };
    let family = family(&m);
    m.signal(libc::SIGPWR);
    assert_eq!(m.wait().code(), Some(70));
    m.out.wait_for("was told to stop", 1);
    let told = m.log.wait_for("internal error: ordered by POOLMASTER_TEST_PANIC", 1);
    assert!(told.contains("stopping all workers, exit code 70") && told.contains("please report it"), "{told}");
    assert!(!m.log.text().contains("a second internal error"));
    let until = std::time::Instant::now() + PATIENCE;
    family.iter().for_each(|pid| wait_gone(*pid, until));
    m.assert_nothing_left();
    assert!(!m.setup.path("web.sock").exists());
}

#[test]
fn after_a_panic_each_worker_has_its_own_time_and_no_more() {
    if !cfg!(debug_assertions) {
        return skip(
            "after_a_panic_each_worker_has_its_own_time_and_no_more",
            "only builds with debug assertions can be told to panic",
        );
    }
    // The other one has 30 s, and takes none of it.
    let pools = "[pool.deaf]\ncommand = [\"sh\", \"-c\", \"trap '' TERM; echo up; while :; do sleep 1; done\"]\ngraceful_timeout = \"300ms\"\n\
                 [pool.polite]\ncommand = [\"sh\", \"-c\", \"echo up; exec sleep 1000\"]\n";
    let mut m = setup(pools).env("POOLMASTER_TEST_PANIC", "PWR").start().ready();
    m.out.wait_for("up", 2);
    let begun = std::time::Instant::now();
    m.signal(libc::SIGPWR);
    assert_eq!(m.wait().code(), Some(70));
    assert!(begun.elapsed() < std::time::Duration::from_secs(15), "{:?}", begun.elapsed());
    m.assert_nothing_left();
}

#[test]
fn row_27_a_second_panic_kills_the_workers() {
    let Some(mut m) = panicking("PWR,again") else { return };
    let family = family(&m);
    m.signal(libc::SIGPWR);
    assert_eq!(m.wait().code(), Some(70));
    m.log.wait_for("a second internal error: killing all workers", 1);
    let until = std::time::Instant::now() + PATIENCE;
    family.iter().for_each(|pid| wait_gone(*pid, until));
    m.assert_nothing_left();
    assert!(!m.setup.path("web.sock").exists());
}
