//! Listeners with a socket for each slot: who gets connections, what becomes of a queue, and that scaling down loses none.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;

use super::support::*;

/// A pool of sample workers, or of a command that says how it gets ready itself.
fn slotted(port: u16, pool: &str) -> Setup {
    let ready = if pool.contains("ready = ") { "" } else { "ready = \"notify\"\n" };
    setup(&format!("[pool.web]\n{ready}{pool}\n[pool.web.listen.http]\naddress = \"127.0.0.1:{port}\"\nreuseport = true\n"))
}

impl Master {
    /// The sockets of the first listener, by slot.
    fn slots(&self) -> Vec<Value> {
        let reply = self.request(r#"{"method":"listeners"}"#);
        let listener = &reply["parameters"]["listeners"][0];
        assert_eq!(listener["sharing"], "reuseport", "{reply}");
        listener["slots"].as_array().cloned().unwrap_or_default()
    }

    /// The slots that new connections go to.
    fn takers(&self) -> Vec<u64> {
        self.slots().iter().filter(|slot| slot["takes"] == true).map(|slot| slot["slot"].as_u64().unwrap()).collect()
    }
}

/// Which of these sockets the worker has.
fn has(pid: i32, inodes: &[u64]) -> Vec<u64> {
    let open = fds(pid);
    inodes.iter().copied().filter(|inode| open.values().any(|file| *file == format!("socket:[{inode}]"))).collect()
}

#[test]
fn each_slot_has_its_own_socket_and_keeps_it() {
    let port = free_port();
    let mut m = slotted(port, "command = \"POOLMASTER worker\"\nworkers = 3").start().ready();
    let inodes = |m: &Master| m.slots().iter().map(|slot| slot["inode"].as_u64().unwrap()).collect::<Vec<u64>>();
    let before = inodes(&m);
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 3);
    let of_workers = |m: &Master| (0..3).flat_map(|slot| has(pid_of(m, slot), &before)).collect::<Vec<u64>>();
    assert_eq!(of_workers(&m), before);
    assert_eq!(m.takers(), [0, 1, 2]);
    // One that dies is replaced at the same socket.
    kill(pid_of(&m, 1), libc::SIGKILL);
    m.log.wait_for("web:1 ready", 2);
    assert_eq!((inodes(&m), of_workers(&m)), (before.clone(), before.clone()));
    // Beside a living one each has a fresh one. That of the first slot is kept for its next worker.
    m.ok(&["restart", "web"]);
    m.log.wait_until("the sockets of those that went are closed", || (m.slots().len() == 4).then_some(()));
    let of_takers = |m: &Master| -> Vec<(u64, u64)> {
        let takes = |slot: &&Value| slot["takes"] == true;
        m.slots().iter().filter(takes).map(|slot| (slot["slot"].as_u64().unwrap(), slot["inode"].as_u64().unwrap())).collect()
    };
    let now = of_takers(&m);
    assert_eq!(now.iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(now.iter().enumerate().all(|(at, (_, inode))| !before.contains(inode) && has(pid_of(&m, at), &[*inode]).len() == 1));
    m.ok(&["restart", "web"]);
    m.log.wait_until("the first one is in use again", || (m.slots().len() == 3).then_some(()));
    assert_eq!(of_takers(&m)[0].1, before[0]);
    // Another master, or any other program, is not let in.
    assert!(std::net::TcpListener::bind(("127.0.0.1", port)).is_err());
    m.ok(&["scale", "web", "1"]);
    m.log.wait_until("the sockets of the slots that went are closed", || (inodes(&m) == before[..1]).then_some(()));
    m.ok(&["scale", "web", "2"]);
    assert_eq!((inodes(&m)[0], m.takers()), (before[0], vec![0, 1]));
    // Nobody serves: all wait at the one that stays, for the pool's return.
    m.ok(&["stop", "web"]);
    m.log.wait_until("one socket is left", || (inodes(&m) == before[..1]).then_some(()));
    let waiting: Vec<TcpStream> = (0..4).map(|_| asked(port)).collect();
    m.ok(&["start", "web"]);
    waiting.into_iter().for_each(|stream| assert!(answered(stream).contains("200 OK")));
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

fn pid_of(m: &Master, slot: usize) -> i32 {
    pid(&m.worker("web", slot))
}

fn pid(worker: &Value) -> i32 {
    i32::try_from(worker["pid"].as_i64().unwrap()).unwrap()
}

fn asked(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

fn answered(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// In a roll the old worker serves who came to it before it is told to stop, and the new one who comes then.
#[test]
fn a_roll_leaves_the_old_workers_queue_to_the_old_worker() {
    let port = free_port();
    let mut m = slotted(port, "command = \"POOLMASTER worker\"").start().ready();
    let old = pid_of(&m, 0);
    let frozen = Frozen::new(old);
    let waiting: Vec<TcpStream> = (0..20).map(|_| asked(port)).collect();
    m.log.wait_until("they wait", || (m.slots()[0]["queue"] == 20).then_some(()));
    m.ok(&["restart", "web", "--no-wait"]);
    m.log.wait_until("the old one leaves", || {
        let workers = m.pool("web")["workers"].as_array().unwrap().clone();
        (workers.len() == 2 && workers.iter().any(|w| w["state"] == "leaving")).then_some(())
    });
    // The new one gets all that come, and none of those that wait.
    (0..50).for_each(|_| assert!(answered(asked(port)).contains("200 OK")));
    assert_eq!(m.slots().iter().map(|slot| slot["queue"].as_u64().unwrap()).max(), Some(20));
    assert!(!term_is_pending(old), "who waits comes first");
    frozen.thaw();
    waiting.into_iter().for_each(|stream| assert!(answered(stream).contains("200 OK")));
    wait_gone(old, std::time::Instant::now() + PATIENCE);
    assert_eq!((m.stop(), m.log.count("the slot is gone, and")), (0, 0));
    m.assert_nothing_left();
}

#[test]
fn the_queue_of_a_slot_outlives_its_worker() {
    let port = free_port();
    let mut m = slotted(port, "command = \"POOLMASTER worker\"\nworkers = 2").start().ready();
    let pids = [pid_of(&m, 0), pid_of(&m, 1)];
    pids.iter().for_each(|pid| kill(*pid, libc::SIGSTOP));
    let waiting: Vec<TcpStream> = (0..20).map(|_| asked(port)).collect();
    m.log.wait_until("they wait at both", || {
        let queues: Vec<u64> = m.slots().iter().map(|slot| slot["queue"].as_u64().unwrap()).collect();
        (queues.iter().sum::<u64>() == 20 && queues.iter().all(|waiting| *waiting > 0)).then_some(())
    });
    pids.iter().for_each(|pid| kill(*pid, libc::SIGKILL));
    waiting.into_iter().for_each(|stream| assert!(answered(stream).contains("200 OK")));
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_slot_gets_nothing_before_its_worker_is_ready() {
    let port = free_port();
    let command =
        "command = [\"sh\", \"-c\", \"test {slot} = 1 && never=--never-ready; exec POOLMASTER worker $never\"]\nworkers = 3";
    let mut m = slotted(port, command).start();
    m.log.wait_for("web:0 ready", 1);
    m.log.wait_for("web:2 ready", 1);
    m.log.wait_until("the two that are ready take all", || (m.takers() == [0, 2]).then_some(()));
    for _ in 0..50 {
        assert!(answered(asked(port)).contains("200 OK"));
    }
    assert_eq!(m.slots()[1]["queue"], 0);
    assert_eq!(m.stop(), 0);
}

#[test]
fn scaling_down_under_load_loses_no_connection() {
    let port = free_port();
    let mut m = slotted(port, "command = \"POOLMASTER worker\"\nworkers = 4\nscale.max = 8").start().ready();
    let (done, ok, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (done, ok, lost) = (Arc::clone(&done), Arc::clone(&ok), Arc::clone(&lost));
            std::thread::spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    match get(port, "/") {
                        Ok(text) if text.contains("200 OK") => ok.fetch_add(1, Ordering::Relaxed),
                        other => {
                            eprintln!("lost: {other:?}");
                            lost.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                }
            })
        })
        .collect();
    for number in ["1", "4", "2", "8", "1", "3", "1", "6", "2"] {
        let before = ok.load(Ordering::Relaxed);
        m.ok(&["scale", "web", number]);
        m.log.wait_until("clients were served at this number", || (ok.load(Ordering::Relaxed) >= before + 100).then_some(()));
    }
    m.ok(&["restart", "web"]);
    done.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(lost.load(Ordering::Relaxed), 0, "of {}", ok.load(Ordering::Relaxed));
    assert_eq!((m.stop(), m.log.count("the slot is gone, and")), (0, 0));
    m.assert_nothing_left();
}

#[test]
fn who_waits_at_a_slot_that_goes_is_served_before_its_worker_stops() {
    let port = free_port();
    let mut m = slotted(port, "command = \"POOLMASTER worker\"\nworkers = 2").start().ready();
    let goes = pid_of(&m, 1);
    kill(goes, libc::SIGSTOP);
    let waiting: Vec<TcpStream> = (0..20).map(|_| asked(port)).collect();
    m.log.wait_until("some wait there", || (m.slots()[1]["queue"].as_u64() > Some(0)).then_some(()));
    m.ok(&["scale", "web", "1", "--no-wait"]);
    m.log.wait_until("the slot takes no more", || (m.takers() == [0]).then_some(()));
    (0..20).for_each(|_| assert!(answered(asked(port)).contains("200 OK"), "the other one serves"));
    kill(goes, libc::SIGCONT);
    waiting.into_iter().for_each(|stream| assert!(answered(stream).contains("200 OK")));
    m.log.wait_until("it is gone", || (m.slots().len() == 1).then_some(()));
    assert_eq!((m.stop(), m.log.count("the slot is gone, and")), (0, 0));
}

#[test]
fn a_stop_signal_waits_for_the_slots_queue_but_not_for_ever() {
    let port = free_port();
    let s = slotted(port, "command = \"POOLMASTER worker\"\nworkers = 2\ngraceful_timeout = \"20s\"");
    let mut m = s.master("linger = \"600ms\"").start().ready();
    let stopped = Frozen::new(pid_of(&m, 1));
    let waiting: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    m.log.wait_until("some wait there", || (m.slots()[1]["queue"].as_u64() > Some(0)).then_some(()));
    m.ok(&["scale", "web", "1", "--no-wait"]);
    m.log.wait_until("the slot takes no more", || (m.takers() == [0]).then_some(()));
    // TERM is pending once it was sent.
    m.log.wait_until("its time is over", || term_is_pending(stopped.0).then_some(()));
    stopped.thaw();
    drop(waiting);
    m.log.wait_until("it is gone", || (m.slots().len() == 1).then_some(()));
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_quick_end_waits_for_no_queue_and_nobody_is_killed_unasked() {
    let port = free_port();
    let command = "command = [\"sh\", \"-c\", \"trap 'echo asked >&2; exit 0' TERM; while :; do read -r x < DIR/never; done\"]\nworkers = 2\nready = \"exec\"";
    // Nobody accepts here: whoever waits, waits for good.
    let start = |linger: &str| {
        let s = slotted(port, &format!("{command}\ngraceful_timeout = \"1h\"")).master(&format!("linger = {linger:?}"));
        gate(&s.path("never"));
        s.start().ready()
    };
    let fill = |m: &Master| -> Vec<TcpStream> {
        let waiting = (0..20).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        m.log.wait_until("some wait at each", || m.slots().iter().all(|s| s["queue"].as_u64() > Some(0)).then_some(()));
        waiting
    };
    let mut m = start("1h");
    let waiting = fill(&m);
    m.ok(&["scale", "web", "1", "--no-wait"]);
    m.log.wait_until("the slot takes no more", || (m.takers() == [0]).then_some(()));
    m.signal(libc::SIGINT);
    assert_eq!(m.wait().code(), Some(0));
    assert_eq!((m.log.count("| asked"), m.log.count("SIGKILL")), (2, 0), "{}", m.log.text());
    drop(waiting);
    // Who waits longer than `linger` is not waited for.
    let mut m = start("500ms");
    let _waiting = fill(&m);
    m.ok(&["scale", "web", "1"]);
    assert_eq!((m.log.count("| asked"), m.log.count("SIGKILL")), (1, 0), "{}", m.log.text());
    m.signal(libc::SIGINT);
    assert_eq!(m.wait().code(), Some(0));
}

/// The listener stays open: who comes before, in between or after is served, and each kind is what it is to be.
#[test]
fn a_reload_changes_one_socket_for_all_into_one_for_each_and_back() {
    let port = free_port();
    let mut m = slotted(port, "command = \"POOLMASTER worker\"\nworkers = 2").start().ready();
    let text = |reuseport: bool| {
        format!(
            "[pool.web]\nready = \"notify\"\ncommand = \"POOLMASTER worker\"\nworkers = 2\nsettle = \"20ms\"\n[pool.web.listen.http]\naddress = \"127.0.0.1:{port}\"\nreuseport = {reuseport}\n"
        )
    };
    let listener = |m: &Master| m.request(r#"{"method":"listeners"}"#)["parameters"]["listeners"][0].clone();
    // The listener's sockets that workers have.
    let held = |m: &Master| -> BTreeSet<String> {
        let masters: BTreeSet<String> = fds(m.pid()).into_values().filter(|file| file.starts_with("socket:")).collect();
        m.wait_count("web", 2).into_iter().flat_map(|pid| fds(pid).into_values()).filter(|file| masters.contains(file)).collect()
    };
    assert_eq!(held(&m).len(), 2);
    let first = listener(&m)["inode"].clone();
    for round in 0..3 {
        m.rewrite(&text(false));
        let said = told(&m.cli(&["plan"])).1;
        assert!(said.contains("gets other options, the socket"), "{said}");
        m.ok(&["reload"]);
        let now = listener(&m);
        assert_eq!((&now["sharing"], &now["inode"]), (&Value::from("shared"), &first), "{round}: {now}");
        assert_eq!(held(&m), BTreeSet::from([format!("socket:[{first}]")]), "{round}");
        assert!(get(port, "/").unwrap().contains("200 OK"));
        m.rewrite(&text(true));
        m.ok(&["reload"]);
        assert_eq!(held(&m).len(), 2, "{round}");
        let slots = m.slots();
        let takers: BTreeSet<String> =
            slots.iter().filter(|slot| slot["takes"] == true).map(|slot| format!("socket:[{}]", slot["inode"])).collect();
        assert_eq!(takers, held(&m), "{round}: {slots:?}");
        assert!(get(port, "/").unwrap().contains("200 OK"));
    }
    // One that is not taken leaves it as it was.
    let takers = m.takers();
    m.rewrite(&text(false).replace("worker\"", "worker --fail-boot\""));
    m.code(3, &["reload"]);
    assert_eq!((m.takers(), held(&m).len()), (takers, 2));
    assert!(get(port, "/").unwrap().contains("200 OK"));
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

#[test]
fn packets_of_udp_reach_all_slots() {
    let port = free_port();
    let Some(python) = python() else { return skip("packets_of_udp_reach_all_slots", "needs python3") };
    let echo = "import socket,sys\ns=socket.socket(fileno=3)\ns.setblocking(True)\nwhile 1:\n b,a=s.recvfrom(99)\n s.sendto(sys.argv[1].encode(),a)\n";
    let mut m = setup(&format!(
        "[pool.web]\nready = \"exec\"\ncommand = [\"{python}\", \"DIR/echo.py\", \"{{slot}}\"]\nworkers = 2\n[pool.web.listen.dns]\naddress = \"udp://127.0.0.1:{port}\"\nreuseport = true\n"
    ));
    fs::write(m.path("echo.py"), echo).unwrap();
    m = m.master("linger = \"1s\"");
    let mut m = m.start().ready();
    let mut heard = BTreeSet::new();
    m.log.wait_until("both answer", || {
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(b"?", ("127.0.0.1", port)).unwrap();
        let mut answer = [0; 9];
        let length = client.recv(&mut answer).unwrap();
        heard.insert(answer[..length].to_vec());
        (heard.len() == 2).then_some(())
    });
    m.ok(&["scale", "web", "4"]);
    m.ok(&["scale", "web", "3"]);
    m.log.wait_until("three sockets are left", || (m.slots().len() == 3).then_some(()));
    m.ok(&["scale", "web", "1"]);
    m.log.wait_until("one socket is left", || (m.slots().len() == 1).then_some(()));
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..20 {
        client.send_to(b"?", ("127.0.0.1", port)).unwrap();
        let mut answer = [0; 9];
        assert_eq!(client.recv(&mut answer).unwrap(), 1);
        assert_eq!(answer[0], b'0');
    }
    assert_eq!(m.stop(), 0);
}

/// A worker that stands still whatever it is sent, held by ptrace(2): SIGCONT would wake one that was stopped. KILL alone ends it.
struct Frozen(i32);

impl Frozen {
    fn new(pid: i32) -> Frozen {
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, 0, 0) }, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: no status is asked for.
        assert_eq!(unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) }, pid);
        Frozen(pid)
    }

    /// It goes on.
    fn thaw(&self) {
        // SAFETY: no memory is involved. It may be gone.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, 0, 0) };
    }

    /// Its end is ours to see first: then it is its master's.
    fn let_go(&self) {
        // SAFETY: no status is asked for.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL | libc::WNOHANG) };
    }
}

/// The second of two workers stands still with clients at its socket, and is to go; its stop signal is held back.
fn held_back(pool: &str, master: &str) -> (Master, Frozen, Vec<TcpStream>) {
    let port = free_port();
    let s = slotted(port, &format!("command = \"POOLMASTER worker\"\nworkers = 2\n{pool}"));
    let m = s.master(master).start().ready();
    let stopped = Frozen::new(pid_of(&m, 1));
    let waiting: Vec<TcpStream> = (0..20).map(|_| asked(port)).collect();
    m.log.wait_until("some wait there", || (m.slots()[1]["queue"].as_u64() > Some(0)).then_some(()));
    m.ok(&["scale", "web", "1", "--no-wait"]);
    m.log.wait_until("the slot takes no more", || (m.takers() == [0]).then_some(()));
    assert!(!term_is_pending(stopped.0));
    (m, stopped, waiting)
}

/// It was sent TERM, and has not been awake since. A process that is gone fails the test.
fn term_is_pending(pid: i32) -> bool {
    let pending = u64::from_str_radix(proc_status(pid)["ShdPnd"].trim(), 16).unwrap();
    pending & 1 << (libc::SIGTERM - 1) != 0
}

#[test]
fn a_worker_is_asked_to_stop_before_it_is_killed_however_long_its_queue_is() {
    let (mut m, stopped, waiting) = held_back("graceful_timeout = \"3s\"", "linger = \"10s\"");
    m.log.wait_until("it is asked", || term_is_pending(stopped.0).then_some(()));
    m.log.wait_for("KILL", 1);
    m.log.wait_until("it is gone", || {
        stopped.let_go();
        (m.slots().len() == 1).then_some(())
    });
    drop(waiting);
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_quick_stop_waits_for_no_queue() {
    let (mut m, stopped, waiting) = held_back("quick_timeout = \"20s\"", "linger = \"60s\"\ngraceful_timeout = \"2m\"");
    m.signal(libc::SIGINT);
    m.log.wait_until("it is asked", || term_is_pending(stopped.0).then_some(()));
    drop(waiting);
    stopped.thaw();
    assert_eq!(m.wait().code(), Some(0));
}

#[test]
fn another_signal_does_not_take_the_place_of_the_one_that_is_held_back() {
    let (mut m, stopped, waiting) = held_back("graceful_timeout = \"2m\"", "linger = \"60s\"");
    m.ok(&["kill", "-s", "WINCH", "web:1"]);
    assert!(!term_is_pending(stopped.0));
    stopped.thaw();
    waiting.into_iter().for_each(|stream| assert!(answered(stream).contains("200 OK")));
    m.log.wait_until("it is gone", || (m.slots().len() == 1).then_some(()));
    assert_eq!(m.stop(), 0);
}

#[test]
fn who_waits_at_the_first_slot_is_not_left_there_when_it_goes() {
    let port = free_port();
    let s = slotted(port, "command = \"POOLMASTER worker\"\nworkers = 2\nscale.remove = \"newest\"");
    let mut m = s.master("linger = \"300ms\"").start().ready();
    kill(pid_of(&m, 0), libc::SIGKILL);
    m.log.wait_for("web:0 ready", 2);
    let pid = pid_of(&m, 0);
    let frozen = Frozen::new(pid);
    let waiting: Vec<TcpStream> = (0..20).map(|_| asked(port)).collect();
    m.log.wait_until("some wait there", || (m.slots()[0]["queue"].as_u64() > Some(0)).then_some(()));
    m.ok(&["scale", "web", "1", "--no-wait"]);
    m.log.wait_until("its time is over", || term_is_pending(pid).then_some(()));
    kill(pid, libc::SIGKILL);
    m.log.wait_until("it is gone", || {
        frozen.let_go();
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
    // Nobody comes to serve them: they are told, and not left to wait.
    for mut stream in waiting {
        let mut text = String::new();
        assert!(
            stream.read_to_string(&mut text).is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
                || text.contains("200 OK")
        );
    }
    m.log.wait_for("the slot is gone, and", 1);
    (0..20).for_each(|_| assert!(answered(asked(port)).contains("200 OK")));
    m.ok(&["scale", "web", "2"]);
    assert_eq!(m.takers(), [0, 1]);
    m.ok(&["stop", "web"]);
    let waiting: Vec<TcpStream> = (0..4).map(|_| asked(port)).collect();
    m.ok(&["start", "web"]);
    waiting.into_iter().for_each(|stream| assert!(answered(stream).contains("200 OK")));
    assert_eq!(m.stop(), 0);
}

#[test]
fn a_pool_under_another_name_takes_over_the_port_with_sockets_of_its_own() {
    let port = free_port();
    let mut m = slotted(port, "command = \"POOLMASTER worker\"\nworkers = 3").start().ready();
    let inodes = |m: &Master| m.slots().iter().map(|slot| slot["inode"].as_u64().unwrap()).collect::<Vec<u64>>();
    let before = inodes(&m);
    // The others go first.
    let last = pid_of(&m, 0);
    kill(last, libc::SIGSTOP);
    let text = m.setup.pools().replace("pool.web", "pool.site");
    m.rewrite(&text);
    m.ok(&["reload", "--no-wait"]);
    m.log.wait_for("exited with code 0", 2);
    kill(last, libc::SIGCONT);
    let pools = || m.request(r#"{"method":"status"}"#)["parameters"]["pools"].as_array().map(Vec::len);
    m.log.wait_until("the old one is gone", || (pools() == Some(1)).then_some(()));
    m.log.wait_until("all take", || (m.takers() == [0, 1, 2]).then_some(()));
    // The first one stays with the listener.
    m.log.wait_until("those of the old ones are closed", || (m.slots().len() == 4).then_some(()));
    let now = inodes(&m);
    let of_workers: Vec<u64> = (0..3).flat_map(|slot| has(pid(&m.worker("site", slot)), &now)).collect();
    assert!(of_workers.len() == 3 && of_workers.iter().all(|inode| !before.contains(inode)), "{of_workers:?} {before:?}");
    assert_eq!(m.request(r#"{"method":"listeners"}"#)["parameters"]["listeners"][0]["why"], Value::Null);
    assert_eq!(m.stop(), 0);
}

#[test]
fn an_address_that_is_left_is_served_by_the_workers_that_still_have_it() {
    let (old, new) = (free_port(), free_port());
    let command = |of: &str| {
        format!(
            "command = [\"sh\", \"-c\", \"test {{slot}} = {of} && never=--never-ready; exec POOLMASTER worker $never\"]\nworkers = 3\nstart_timeout = \"5m\""
        )
    };
    let mut m = slotted(old, &command("9")).start().ready();
    // The roll stands still at the second of the three.
    let text = m.setup.pools().replace(&format!(":{old}"), &format!(":{new}")).replace("= 9", "= 1");
    m.rewrite(&text);
    m.ok(&["reload", "--no-wait"]);
    m.log.wait_until("the first one is replaced", || answered_at(new).then_some(()));
    m.log.wait_for("exited", 1);
    for _ in 0..40 {
        assert!(answered(asked(old)).contains("200 OK"));
    }
    m.signal(libc::SIGTERM);
    assert_eq!(m.wait().code(), Some(0));
}

fn answered_at(port: u16) -> bool {
    get(port, "/").is_ok_and(|text| text.contains("200 OK"))
}

#[test]
fn a_socket_that_a_worker_shuts_down_is_open_again_for_the_next_one() {
    let port = free_port();
    let script = "test {slot} = 1 && mkdir DIR/once && wrong=--shutdown-listener; exec POOLMASTER worker $wrong";
    let mut m = slotted(port, &format!("command = [\"sh\", \"-c\", \"{script}\"]\nworkers = 3")).start().ready();
    let why = |m: &Master| m.request(r#"{"method":"listeners"}"#)["parameters"]["listeners"][0]["why"].clone();
    m.log.wait_until("it is shut down", || (!why(&m).is_null()).then_some(()));
    kill(pid_of(&m, 1), libc::SIGKILL);
    m.log.wait_for("web:1 ready", 2);
    assert_eq!((why(&m), m.takers()), (Value::Null, vec![0, 1, 2]));
    let pids = (0..3).map(|slot| pid_of(&m, slot));
    pids.for_each(|pid| kill(pid, libc::SIGSTOP));
    let waiting: Vec<TcpStream> = (0..60).map(|_| asked(port)).collect();
    m.log.wait_until("they wait at all three", || m.slots().iter().all(|s| s["queue"].as_u64() > Some(0)).then_some(()));
    (0..3).for_each(|slot| kill(pid_of(&m, slot), libc::SIGCONT));
    waiting.into_iter().for_each(|stream| assert!(answered(stream).contains("200 OK")));
    assert_eq!(m.stop(), 0);
}
