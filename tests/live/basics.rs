//! The main job, end to end.

use super::support::*;

#[test]
fn three_pools_come_up_scale_and_leave_nothing_behind() {
    let port = free_port();
    let mut m = setup(&format!(
        r#"
        [pool.web]
        command = "POOLMASTER worker"
        workers = 2
        listen = "127.0.0.1:{port}"
        [pool.admin]
        command = "POOLMASTER worker"
        listen = "unix:DIR/admin.sock"
        [pool.jobs]
        command = ["sh", "-c", "while :; do sleep 5; done"]
        after = ["web"]
        "#
    ))
    .start()
    .ready();
    assert!(get(port, "/").unwrap().contains("web"));
    m.ok(&["scale", "web", "+1"]);
    assert_eq!(m.pids("web").len(), 3);
    let status = m.ok(&["status"]);
    assert!(status.contains("web") && status.contains("jobs"), "{status}");
    let all: Vec<i32> = ["web", "admin", "jobs"].iter().flat_map(|p| m.pids(p)).collect();
    m.signal(libc::SIGINT);
    assert_eq!(m.wait().code(), Some(0), "{}", m.log.text());
    assert!(all.iter().all(|pid| !is_alive(*pid)));
    m.assert_nothing_left();
    assert!(!m.setup.path("admin.sock").exists());
}
