//! Workers that abuse their notify socket: junk, oversized datagrams, descriptors, other users, floods; and a READY that is all but too
//! late.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::*;

/// A worker that says nothing by itself: what it says is sent from here.
fn silent() -> (Master, i32) {
    let m = setup("[pool.web]\ncommand = \"sleep 1000\"\nready = \"notify\"\n").start();
    m.log.wait_for("web:0 started", 1);
    let pid = m.all_pids("web")[0];
    (m, pid)
}

/// Everything sent so far was heard: this marker was sent last.
fn heard(m: &Master, notifier: &Notifier, marker: &str) {
    notifier.send(format!("STATUS={marker}").as_bytes());
    m.log.wait_until(marker, || (m.worker("web", 0)["status"] == marker).then_some(()));
}

#[test]
fn junk_on_the_notify_socket_is_passed_over() {
    let (m, pid) = silent();
    let notifier = Notifier::of(pid);
    let oversized = format!("READY=1\n{}", "x".repeat(5000));
    let huge = format!("READY=1\n{}", "X_A=1\n".repeat(20_000));
    let many = format!("{}READY=1", "A=1\n".repeat(900));
    let own = format!("MAINPID={pid}");
    for junk in [
        &b""[..],
        b"\n\n\n",
        b"READY",
        b"READY=0",
        b"READY=1 ",
        b" READY=1",
        b"ready=1",
        b"READY=1\0",
        b"\xff\xfe\x00=\x01",
        b"WATCHDOG_USEC=-1\nEXTEND_TIMEOUT_USEC=99999999999999999999999",
        b"FDSTORE=1\nFDNAME=x",
        own.as_bytes(),
        b"MAINPID=1\nBARRIER=1\nERRNO=7\nNOTIFYACCESS=all",
        oversized.as_bytes(),
        huge.as_bytes(),
        many.as_bytes(),
    ] {
        notifier.send(junk);
    }
    heard(&m, &notifier, "after the junk");
    assert_eq!(m.worker("web", 0)["state"], "starting");
    // Of itself it says nothing new.
    assert_eq!(m.log.count("says that process 1 is its main one"), 1, "{}", m.log.text());
    notifier.send(b"STATUS=\x1b[2J\x1b]0;owned\x07 \xff");
    m.log.wait_until("a harmless status", || {
        let status = m.worker("web", 0)["status"].as_str()?.to_owned();
        (status != "after the junk").then(|| assert!(!status.chars().any(char::is_control), "{status:?}"))
    });
    notifier.send(b"STATUS=good\nREADY=1");
    m.log.wait_for("web:0 ready after", 1);
    assert_eq!(m.all_pids("web"), [pid], "it was never restarted");
}

#[test]
fn numbers_at_their_limits_do_no_harm() {
    let (mut m, pid) = silent();
    let notifier = Notifier::of(pid);
    notifier.send(b"EXTEND_TIMEOUT_USEC=18446744073709551615");
    notifier.send(b"EXTEND_TIMEOUT_USEC=0");
    notifier.send(b"WATCHDOG_USEC=18446744073709551615\nWATCHDOG=1");
    notifier.send(b"READY=1");
    m.log.wait_for("web:0 ready after", 1);
    notifier.send(b"EXTEND_TIMEOUT_USEC=18446744073709551615");
    heard(&m, &notifier, "after the numbers");
    assert_eq!(m.all_pids("web"), [pid]);
    assert_eq!(m.stop(), 0);
}

#[test]
fn descriptors_sent_along_are_not_kept_unless_that_is_asked_for() {
    let (m, pid) = silent();
    let notifier = Notifier::of(pid);
    heard(&m, &notifier, "before");
    let held = || fds(m.pid()).values().filter(|f| *f == "/dev/null").count();
    let (before, sockets) = (held(), fds(m.pid()).len());
    let files: Vec<File> = (0..50).map(|_| File::open("/dev/null").unwrap()).collect();
    let numbers: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
    for round in 0..100 {
        notifier.send_with_fds(b"FDSTORE=0\nFDNAME=mine", &numbers);
        notifier.send_with_fds(b"X_JUNK=1", &numbers[..1]);
        if round % 10 == 0 {
            heard(&m, &notifier, &format!("round {round}"));
        }
    }
    heard(&m, &notifier, "after");
    assert_eq!(held(), before);
    // What the message says counts all the same.
    notifier.send_with_fds(b"READY=1", &numbers[..3]);
    m.log.wait_for("web:0 ready after", 1);
    assert_eq!(held(), before);
    m.log.wait_until("no descriptor is left over", || (fds(m.pid()).len() <= sockets).then_some(()));
}

#[test]
fn a_stranger_on_the_notify_socket_is_not_heard() {
    if !is_root() {
        return skip("a_stranger_on_the_notify_socket_is_not_heard", "needs root, to send as another user");
    }
    let (m, pid) = silent();
    let notifier = Notifier::of(pid);
    let path = notifier.path.clone();
    // It cannot reach the socket by its path ...
    let mut connect = Command::new("true");
    let address = path.clone();
    // SAFETY: this child is as good as single-threaded; what it does allocates a little, which glibc's fork allows.
    unsafe {
        connect.pre_exec(move || {
            become_user(65_534)?;
            let socket = std::os::unix::net::UnixDatagram::unbound()?;
            socket.send_to(b"READY=1", &address).map(drop)
        });
    }
    assert_eq!(connect.status().unwrap_err().raw_os_error(), Some(libc::EACCES));
    // ... and with a descriptor that it was given, the kernel still tells who it is.
    let fd = notifier.socket.as_raw_fd();
    let mut send = Command::new("true");
    // SAFETY: system calls only.
    unsafe {
        send.pre_exec(move || {
            become_user(65_534)?;
            let text = b"READY=1";
            // SAFETY: `text` is valid for reading.
            let sent = libc::send(fd, text.as_ptr().cast(), text.len(), 0);
            if sent == 7 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    assert!(send.status().unwrap().success());
    let told = m.log.wait_for("dropped a notify datagram", 1);
    assert!(told.contains("uid=65534"), "{told}");
    heard(&m, &notifier, "after the stranger");
    assert_eq!(m.worker("web", 0)["state"], "starting");
}

#[test]
fn a_flood_on_the_notify_socket_delays_nobody() {
    let m =
        setup("[pool.web]\ncommand = \"sleep 1000\"\nready = \"notify\"\n[pool.other]\ncommand = \"sleep 1000\"\nsettle = 0\n")
            .start();
    m.log.wait_for("web:0 started", 1);
    let notifier = Notifier::of(m.all_pids("web")[0]);
    let before = rss_kib(m.pid());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let mut sent = 0u64;
            while !stop.load(Ordering::Relaxed) {
                // Blocks while the queue is full: the kernel holds back whoever is too fast.
                notifier.send(format!("STATUS=flood {sent}\nWATCHDOG=1\nX_A={}", "x".repeat(200)).as_bytes());
                sent += 1;
            }
            sent
        });
        for n in 0..10 {
            let start = Instant::now();
            m.ok(&["status"]);
            m.ok(&["scale", "other", if n % 2 == 0 { "+1" } else { "-1" }]);
            assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        let sent = flood.join().unwrap();
        assert!(sent > 1000, "{sent} datagrams are no flood");
    });
    heard(&m, &notifier, "after the flood");
    assert!(rss_kib(m.pid()) < before + 8 * 1024, "from {before} to {} KiB", rss_kib(m.pid()));
}

#[test]
fn ready_just_before_the_end_is_not_lost() {
    let mut m = setup(&format!(
        "[pool.brief]\n{}\nworkers = 20\nready = \"notify\"\nsettle = \"0s\"\nrestart = {{ policy = \"never\" }}\n",
        helper("ready-then-exit")
    ))
    .start();
    m.wait();
    let log = m.log.all();
    for slot in 0..20 {
        let line = |what: &str| {
            let wanted = format!("brief:{slot} {what}");
            log.iter().position(|l| l.contains(&wanted)).unwrap_or_else(|| panic!("{wanted:?} is missing"))
        };
        let (started, ready, exited) = (line("started"), line("ready after"), line("exited with code 9"));
        assert!(started < ready && ready < exited, "slot {slot}: {started}, {ready}, {exited}");
    }
}
