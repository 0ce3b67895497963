//! Orders about reloads: one that is taken back, one that is looked back at, a restart that does not go well.

use super::support::*;

fn pool(port: u16, more: &str) -> String {
    format!(
        "[pool.web]\ncommand = \"POOLMASTER worker --fd {{fd}}{more}\"\nworkers = 2\nlisten = \"127.0.0.1:{port}\"\nsettle = \"100ms\"\n\
         start_timeout = \"30s\"\ngraceful_timeout = \"2s\"\n"
    )
}

#[test]
fn an_abort_undoes_the_reload_that_is_tried_and_who_waits_for_it_is_told() {
    let port = free_port();
    let mut m = setup(&pool(port, "")).start().ready();
    m.wait_state("web", 0, "good");
    let before = m.pids("web");
    let (code, said) = told(&m.cli(&["reload", "--abort"]));
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("no reload is under way"), "{said}");

    // It would take 30 s to fail by itself.
    m.rewrite(&pool(port, " --never-ready"));
    let reload = m.order(&["reload"]);
    m.log.wait_for("trying it with a canary in web", 1);
    m.log.wait_until("the canary is there", || (m.all_pids("web").len() == 3).then_some(()));
    let said = m.ok(&["reload", "--abort"]);
    assert!(said.contains("the reload is undone"), "{said}");
    let (code, said) = reload.told();
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("an operator aborted it; nothing was changed, config 1 stays in force"), "{said}");
    assert_eq!((m.pids("web"), m.all_pids("web")), (before.clone(), before.clone()));
    assert_eq!(m.log.count("stopping with SIGTERM: replaced"), 0);

    // What is in force goes back by another verb.
    m.rewrite(&pool(port, " --chatter 1h"));
    m.ok(&["reload"]);
    let (code, said) = told(&m.cli(&["reload", "--abort"]));
    assert_eq!(code, 7, "{said}");
    assert_eq!(m.stop(), 0);
}

#[test]
fn the_history_tells_when_by_whom_what_changed_and_how_it_ended() {
    let port = free_port();
    let mut m = setup(&pool(port, "")).start().ready();
    m.rewrite("[pool.web]\ncommand = = 1\n");
    m.code(2, &["reload"]);
    m.rewrite(&pool(port, " --fail-boot").replace("workers = 2", "workers = 3"));
    m.code(3, &["reload"]);
    m.rewrite(&pool(port, "").replace("workers = 2", "workers = 3"));
    m.ok(&["reload", "--restart"]);
    m.ok(&["rollback"]);
    let text = m.ok(&["history"]);
    let heads: Vec<&str> = text.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(heads.len(), 5, "{text}");
    for (head, words) in heads.iter().zip([
        "config 1: was in force",
        "reload: refused",
        "config 2: undone after",
        "config 3: was in force after",
        "config 4: in force after",
    ]) {
        assert!(head.starts_with("20") && head.contains("Z ") && head.contains(words), "{words:?} is not in {head:?}");
    }
    for words in [
        "by the start\n",
        "by reload, asked by pid ",
        "by reload --restart, asked by pid ",
        "by rollback, asked by pid ",
        "pool.web.workers: 2 -> 3\n",
        "pool.web.workers: 3 -> 2\n",
        "the canary in slot",
        "TOML",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let json: serde_json::Value = serde_json::from_str(&m.ok(&["history", "--json"])).unwrap();
    assert_eq!(json["configs"][4]["ended"], "in-force");
    assert_eq!(json["revision"], 4);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_restart_whose_canary_does_not_get_good_has_touched_nobody_and_says_so() {
    let port = free_port();
    let script = "[ -e DIR/broken ] && exit 3; exec POOLMASTER worker --fd 3";
    let text = pool(port, "").replace("\"POOLMASTER worker --fd {fd}\"", &format!("[\"sh\", \"-c\", \"{script}\"]"));
    let mut m = setup(&text).start().ready();
    m.wait_state("web", 0, "good");
    let before = m.pids("web");
    // The program was replaced by one that does not start.
    std::fs::write(m.setup.path("broken"), "").unwrap();
    let (code, said) = told(&m.cli(&["restart", "web"]));
    assert_eq!(code, 3, "{said}");
    for words in [
        "web: replacing its workers stopped: the canary in slot 0 did not get good: exited with code 3",
        "no old worker was touched",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    assert_eq!((m.pids("web"), m.all_pids("web")), (before.clone(), before.clone()));
    std::fs::remove_file(m.setup.path("broken")).unwrap();
    m.ok(&["restart", "web"]);
    assert!(m.pids("web").iter().all(|pid| !before.contains(pid)));
    assert_eq!(m.stop(), 0);
}

#[test]
fn who_waits_sees_how_far_it_is_and_may_leave_it() {
    let port = free_port();
    let mut m = setup(&pool(port, "")).start().ready();
    m.wait_state("web", 0, "good");
    m.rewrite(&pool(port, " --chatter 1h"));
    let out = m.cli(&["reload"]);
    let (steps, last) = (String::from_utf8(out.stderr).unwrap(), String::from_utf8(out.stdout).unwrap());
    let lines: Vec<&str> = steps.lines().collect();
    assert_eq!(lines.first(), Some(&"web: canary"), "{steps}");
    assert_eq!(lines.iter().filter(|l| **l == "web: rolling, 1/2 replaced").count(), 1, "{steps}");
    // The old ones may be gone at once.
    let through = ["web: draining, 2/2 replaced", "web: done, 2/2 replaced"];
    assert!(lines.last().is_some_and(|line| through.contains(line)), "{steps}");
    assert_eq!(last.lines().count(), 1, "{last}");
    let restarted = m.cli(&["restart", "web"]);
    assert!(String::from_utf8(restarted.stderr).unwrap().contains("web: rolling, 1/2 replaced\n"));
    assert!(m.cli(&["reload", "--json"]).stderr.is_empty(), "programs read the reply");

    m.rewrite(&pool(port, " --never-ready"));
    let order = m.order(&["reload"]);
    m.log.wait_for("trying it with a canary in web", 2);
    kill(order.pid(), libc::SIGINT);
    let (code, said) = order.told();
    assert_eq!(code, -1, "it ends of the signal: {said}");
    for words in [
        "interrupted: the order was given to the master on",
        "goes on",
        "poolmaster status",
        "poolmaster wait POOL --for settled",
        "poolmaster reload --abort",
    ] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    assert!(m.request(r#"{"method":"status"}"#)["parameters"]["reload"].is_object(), "it goes on");
    m.ok(&["reload", "--abort"]);
    assert_eq!(m.stop(), 0);
}
