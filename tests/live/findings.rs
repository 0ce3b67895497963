//! What a running master says of a host that does not have what the config asks for: once in full, and never as a refusal.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use super::support::*;

#[test]
fn where_a_missing_program_was_looked_for_is_told_once() {
    let m = setup(
        "[pool.web]\ncommand = \"no-such-program\"\nboot = \"retry\"\nworkers = 2\n[pool.other]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\n",
    )
    .start();
    m.log.wait_for("web backing off", 1);
    m.log.wait_for("other 1 of 1 worker ready", 1);
    assert!(m.log.count("cannot execute \"no-such-program\": not found in PATH") >= 5);
    assert_eq!(m.log.count("\"no-such-program\" is in no folder of the workers' PATH: "), 1);
    // Before the first try, with the place in the config.
    assert_eq!(m.log.count("pool.web.command: there is no program \"no-such-program\" in the workers' PATH ("), 1);
    let path = std::env::var("PATH").unwrap();
    assert_eq!(m.log.count(&path), 1, "the folders are listed once");
}

#[test]
fn a_reload_is_not_refused_for_what_is_suspicious_on_the_host() {
    let pool = "[pool.web]\ncommand = \"sleep 1000\"\nsettle = \"0s\"\n";
    let mut m = setup(pool).start().ready();
    let secret = m.setup.path("token");
    std::fs::write(&secret, "XYZZY").unwrap();
    std::fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
    m.rewrite(&format!("{pool}[pool.web.secrets]\nTOKEN = \"file:{}\"\n", secret.display()));
    m.ok(&["reload"]);
    m.log.wait_for("pool.web.secrets.TOKEN: every user of this host can read", 1);
    assert_eq!(m.log.count("XYZZY"), 0);
}
