//! What workers write to stderr: floods, junk, a closed or a lent pipe, and the last words before an end.

use std::time::{Duration, Instant};

use super::support::*;

#[test]
fn a_flood_of_output_leaves_the_master_responsive_and_its_memory_bounded() {
    let m =
        setup(&format!("[pool.loud]\n{}\nready = \"exec\"\n[pool.web]\ncommand = \"sleep 1000\"\nworkers = 2\n", helper("loud")))
            // The log goes where writing is fast: what is measured is the master.
            .master(r#"log = { file = "/dev/null" }"#)
            .start()
            .answering();
    let mut rounds = 0;
    while m.out.count("wrote it all") == 0 {
        let start = Instant::now();
        m.ok(&["status"]);
        assert!(start.elapsed() < Duration::from_secs(2), "status took {:?}", start.elapsed());
        if rounds < 3 {
            let worker = m.wait_count("web", 2)[0];
            let start = Instant::now();
            kill(worker, libc::SIGKILL);
            m.log.wait_until("its replacement", || (!m.wait_count("web", 2).contains(&worker)).then_some(()));
            assert!(start.elapsed() < Duration::from_secs(2), "a replacement took {:?}", start.elapsed());
        }
        rounds += 1;
    }
    assert!(rounds > 0);
    assert!(peak_kib(m.pid()) < 48 * 1024, "{} KiB at most", peak_kib(m.pid()));
}

#[test]
fn an_unfinished_line_is_a_line_also_when_the_pipe_ends_before_the_worker() {
    let mut m = setup("[pool.a]\ncommand = [\"sh\", \"-c\", \"printf unfinished >&2; exec sleep 1000 2>&-\"]\n").start();
    let line = m.log.wait_for("a:0 | ", 1);
    assert!(line.ends_with("| unfinished"), "{line}");
    assert_eq!(m.stop(), 0);
}

#[test]
fn junk_and_terminal_escapes_come_out_harmless() {
    let m = setup(
        r#"
        [pool.junk]
        command = ["sh", "-c", '''
            printf '\033[31mred\033[0m\007\n\000\001\377\376 binary\n\033]0;title\033\\ \302\233 C1\rover\n' >&2
            head -c 100000 /dev/urandom >&2
            head -c 40000 /dev/zero | tr '\000' z >&2
            echo >&2
            printf 'the last, without an end' >&2
            kill -9 $$''']
        restart = { policy = "never" }
        [pool.other]
        command = "sleep 1000"
        "#,
    )
    .start();
    let end = m.log.wait_for("junk:0 killed by SIGKILL", 1);
    assert!(end.contains("perhaps out of memory"), "{end}");
    // What is much is shown after the news of the end.
    m.log.wait_for("| the last, without an end", 1);
    let log = m.log.all();
    let of_junk: Vec<&String> = log.iter().filter(|l| l.starts_with("junk:0 | ")).collect();
    assert!(of_junk.iter().any(|l| l.contains("\\u{1b}[31mred\\u{1b}[0m\\u{7}")), "{:?}", of_junk.first());
    assert!(of_junk.iter().any(|l| l.contains("\\u{0}\\u{1}\u{fffd}\u{fffd} binary")));
    assert!(of_junk.iter().any(|l| l.contains("\\u{9b} C1\\rover")));
    assert!(of_junk.iter().any(|l| l.ends_with("| the last, without an end")), "an unfinished line is a line");
    let z: Vec<usize> = of_junk.iter().filter(|l| l.ends_with("zzzz")).map(|l| l.matches('z').count()).collect();
    assert!(z.iter().sum::<usize>() >= 40_000 && z.iter().all(|n| *n <= 16 * 1024), "cut at max_line: {z:?}");
    for line in &log {
        assert!(!line.chars().any(|c| c.is_control() && c != '\t'), "{line:?}");
    }
}

#[test]
fn a_worker_that_closes_its_stderr_costs_nothing() {
    let m = setup(
        r#"
        [pool.quiet]
        command = ["sh", "-c", "exec 2>&-; exec sleep 1000"]
        workers = 4
        settle = "0s"
        "#,
    )
    .start()
    .ready();
    let pids = m.wait_count("quiet", 4);
    m.log.wait_until("they run", || pids.iter().all(|p| !fds(*p).contains_key(&2)).then_some(()));
    m.log.wait_until("their pipes are closed here", || (own_pipes(m.pid()) == 0).then_some(()));
    // A pipe at its end that stays in the set would wake the loop without end.
    let ticks = cpu_ticks(m.pid());
    watch_for(m.pid(), Duration::from_millis(500));
    assert!(cpu_ticks(m.pid()) <= ticks + 1);
}

#[test]
fn a_grandchild_that_holds_the_pipe_delays_no_restart() {
    let mut m = setup(
        r#"
        [pool.web]
        command = ["sh", "-c", "setsid sh -c 'echo child $$ >&2; exec sleep 1000' & while :; do sleep 1; done"]
        settle = "0s"
        "#,
    )
    .start()
    .ready();
    let child = |n: usize| -> i32 {
        let line = m.log.wait_for("web:0 | child ", n);
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let mut strays = vec![child(1)];
    for n in 2..5 {
        let worker = m.wait_count("web", 1)[0];
        let start = Instant::now();
        kill(worker, libc::SIGKILL);
        m.log.wait_for("web:0 started", n);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        strays.push(child(n));
    }
    // What the strays would write is nobody's any more, and their pipes are closed here: one is left, of the worker that lives.
    assert!(strays.iter().all(|pid| is_alive(*pid)));
    m.log.wait_until("one pipe is left", || (own_pipes(m.pid()) == 1).then_some(()));
    // They left their group, so only a test ends them.
    assert_eq!(m.stop(), 0);
    strays.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
}

#[test]
fn the_report_of_an_end_has_the_last_20_lines() {
    let m = setup(
        r#"
        [pool.bad]
        command = ["sh", "-c", "i=1; while [ $i -le 30 ]; do echo line-$i- >&2; i=$((i+1)); done; exit 7"]
        restart = { policy = "never" }
        [pool.fine]
        command = ["sh", "-c", "echo all is well >&2; exit 0"]
        restart = { policy = "on-failure" }
        [pool.other]
        command = "sleep 1000"
        "#,
    )
    .start();
    m.log.wait_for("bad:0 exited with code 7", 1);
    m.log.wait_for("fine:0 exited with code 0", 1);
    let log = m.log.all();
    let report = log.iter().position(|l| l.contains("its last 20 lines of output")).unwrap();
    let exit = log.iter().position(|l| l.contains("bad:0 exited with code 7")).unwrap();
    assert!(report < exit);
    let lines: Vec<&str> = log[report + 1..report + 21].iter().map(|l| l.trim()).collect();
    let wanted: Vec<String> = (11..=30).map(|n| format!("line-{n}-")).collect();
    assert_eq!(lines, wanted);
    assert_eq!(m.log.count("of output:"), 1, "a good end needs no report");
}
