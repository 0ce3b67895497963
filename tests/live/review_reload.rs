//! Reloads at awkward moments.

use std::time::Duration;

use super::support::*;

/// A pool comes back into the config, and while that is being read the last worker of its earlier life ends: the end of the old one must not
/// take away what the new one was given.
#[test]
fn a_pool_that_comes_back_while_its_last_worker_ends_is_started_anew() {
    let stays = "[pool.stays]\ncommand = \"sleep 1000\"\nready = \"exec\"\n";
    let both =
        format!("{stays}[pool.back]\ncommand = ['sh', '-c', \"trap '' TERM; exec sleep 1000\"]\nready = \"delay:200ms\"\n");
    let mut m = setup(&both).start().ready();
    let old = m.pids("back")[0];
    m.rewrite(stays);
    m.signal(libc::SIGHUP);
    m.log.wait_for("back:0 stopping", 1);

    // Long to read: there is time for the worker's end.
    let long: String = (0..8_000).map(|n| format!("VARIABLE_{n} = \"a value of some length\"\n")).collect();
    m.rewrite(&format!("{both}[pool.long]\ncommand = \"sleep 1000\"\nautostart = false\n[pool.long.env]\n{long}"));
    m.signal(libc::SIGHUP);
    watch_for(m.pid(), Duration::from_millis(30));
    m.kill_dead(old);
    m.log.wait_for("config 3 in force", 1);
    m.log.wait_for("back:0 ready", 2);
    assert_ne!(m.pids("back")[0], old);
}

/// A listener keeps its options when the config that changes them is rejected because of another one.
#[test]
fn a_rejected_config_changes_no_option_of_a_listener() {
    use std::os::unix::fs::PermissionsExt;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let pools = |mode: &str| {
        format!(
            "[pool.web]\ncommand = \"sleep 1000\"\nready = \"exec\"\n[pool.web.listen.main]\naddress = \"unix:DIR/web.sock\"\nmode = \"{mode}\"\n"
        )
    };
    let mut m = setup(&pools("0600")).start().ready();
    let mode = || std::fs::metadata(m.setup.path("web.sock")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let other = format!("[pool.zoo]\ncommand = \"sleep 1000\"\nlisten = \"{}\"\n", taken.local_addr().unwrap());
    m.rewrite(&format!("{}{other}", pools("0666")));
    m.signal(libc::SIGHUP);
    m.log.wait_for("the new config cannot be used", 1);
    let mode = || std::fs::metadata(m.setup.path("web.sock")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600, "changed by a config that was rejected");
    // And it is changed by one that is not.
    m.rewrite(&pools("0666"));
    m.signal(libc::SIGHUP);
    m.log.wait_for("config 2 in force", 1);
    let mode = std::fs::metadata(m.setup.path("web.sock")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o666);
}
