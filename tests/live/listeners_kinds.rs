//! Listeners that are neither TCP nor a file: abstract names and UDP, end to end.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use serde_json::Value;

use super::support::*;

/// The listeners of all pools, as the verb gives them.
fn listeners(m: &Master) -> Vec<Value> {
    let reply: Value = serde_json::from_str(&m.ok(&["listeners", "--json"])).unwrap();
    reply["listeners"].as_array().unwrap().clone()
}

/// A UDP port that was free a moment ago.
fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Who answers a packet, tried again for as long as packets may get lost.
fn asked_by_udp(m: &Master, port: u16) -> i32 {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    m.log.wait_until("a packet is answered", || {
        client.send_to(b"who?", ("127.0.0.1", port)).unwrap();
        let mut answer = [0; 64];
        let length = client.recv(&mut answer).ok()?;
        std::str::from_utf8(&answer[..length]).unwrap().parse().ok()
    })
}

fn get_by_name(name: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap())?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A name that no other test has.
fn name_for(test: &str) -> String {
    format!("poolmaster-{}-{test}", std::process::id())
}

#[test]
fn an_abstract_name_is_served_kept_at_reload_and_free_at_the_end() {
    let name = name_for("served");
    let pools = |backlog: u32| {
        format!(
            "[pool.web]\ncommand = \"POOLMASTER worker\"\nsettle = \"0s\"\n\
             listen.main = {{ address = \"unix:@{name}\", backlog = {backlog} }}\n"
        )
    };
    let mut m = setup(&pools(11)).start().ready();
    assert!(get_by_name(&name).unwrap().starts_with("HTTP/1.1 200"));
    let before = listeners(&m);
    assert_eq!(
        (&before[0]["address"], &before[0]["queue_limit"]),
        (&Value::from(format!("unix:@{name}")), &Value::from(11)),
        "{before:?}"
    );
    let mut other = setup(&pools(11)).master("bind_retry = 0").start();
    assert_eq!(other.wait().code(), Some(1));
    let told = other.log.wait_for("cannot start", 1);
    assert!(told.contains("the name is in use by"), "{told}");
    m.rewrite(&pools(12));
    m.signal(libc::SIGHUP);
    m.log.wait_for("web all workers replaced", 1);
    let after = listeners(&m);
    assert_eq!((&after[0]["inode"], &after[0]["queue_limit"]), (&before[0]["inode"], &Value::from(12)));
    assert!(get_by_name(&name).unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(m.stop(), 0);
    m.assert_all_gone();
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
}

#[test]
fn packets_of_udp_wait_for_the_next_worker() {
    let port = free_udp_port();
    let pools = |more: &str| {
        format!("[pool.dns]\n{}settle = \"0s\"\nlisten = \"udp://127.0.0.1:{port}\"\n{more}", helper("tell-pid-by-udp"))
    };
    // Ready: seen waiting for packets.
    let mut m = setup(&pools("")).start().ready();
    let first = m.pids("dns")[0];
    assert_eq!(environ(first)["LISTEN_FDS"], "1");
    assert_eq!(asked_by_udp(&m, port), first);
    let shown = listeners(&m);
    assert_eq!(
        [&shown[0]["address"], &shown[0]["backlog"], &shown[0]["queue"], &shown[0]["why"]],
        [&Value::from(format!("udp://127.0.0.1:{port}")), &0.into(), &Value::Null, &Value::Null]
    );
    let table = m.ok(&["listeners"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..3], ["dns", "main", "-"], "{table}");
    // Sent while nobody is there to answer, answered by whoever comes.
    m.ok(&["stop", "dns"]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"who?", ("127.0.0.1", port)).unwrap();
    m.ok(&["start", "dns"]);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [0; 64];
    let length = client.recv(&mut answer).unwrap();
    let second: i32 = std::str::from_utf8(&answer[..length]).unwrap().parse().unwrap();
    assert_ne!(second, first);
    // The socket stays through a reload.
    m.rewrite(&pools("graceful_timeout = \"10s\"\n"));
    m.signal(libc::SIGHUP);
    m.log.wait_for("dns all workers replaced", 1);
    assert_eq!(listeners(&m)[0]["inode"], shown[0]["inode"]);
    assert_ne!(asked_by_udp(&m, port), second);
    assert_eq!(m.stop(), 0);
    m.assert_all_gone();
}

#[test]
fn a_udp_port_in_use_is_told_with_its_holder() {
    let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = theirs.local_addr().unwrap();
    let mut m =
        setup(&format!("[pool.a]\ncommand = \"sleep 1000\"\nlisten = \"udp://{address}\"\n")).master("bind_retry = 0").start();
    assert_eq!(m.wait().code(), Some(1));
    let told = m.log.wait_for("cannot start", 1);
    assert!(told.contains("the port is in use by") && told.contains(&format!("(pid {})", std::process::id())), "{told}");
    assert!(told.contains("; stop that, or choose another port"), "{told}");
}

/// A copy of a descriptor of another process.
pub fn copied(pid: i32, fd: i32) -> std::io::Result<OwnedFd> {
    // SAFETY: takes plain numbers.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    assert!(process >= 0, "no process {pid}");
    // SAFETY: takes plain numbers.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, fd, 0) };
    let e = std::io::Error::last_os_error();
    // SAFETY: ours, not used again.
    unsafe { libc::close(i32::try_from(process).unwrap()) };
    if copy < 0 {
        return Err(e);
    }
    // SAFETY: just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(copy).unwrap()) })
}

/// The value of a numeric option.
pub fn number(socket: &OwnedFd, level: i32, name: i32) -> u32 {
    let (mut value, mut length) = (0_u32, 4);
    // SAFETY: four bytes to write to.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    value
}

#[test]
fn options_of_a_listener_change_on_the_live_socket() {
    let port = free_port();
    let pools = |options: &str| {
        format!(
            "[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = \"0s\"\nlisten.http = {{ address = \"127.0.0.1:{port}\", {options} }}\n"
        )
    };
    let mut m = setup(&pools("freebind = true, fastopen = 6, keepalive = true, device = \"lo\"")).start().ready();
    let shown = listeners(&m);
    let socket = match copied(m.pid(), i32::try_from(shown[0]["fd"].as_i64().unwrap()).unwrap()) {
        Ok(socket) => socket,
        Err(e) => return skip("options_of_a_listener_change_on_the_live_socket", &format!("pidfd_getfd: {e}")),
    };
    let values = || {
        [
            number(&socket, libc::IPPROTO_IP, libc::IP_FREEBIND),
            u32::from(number(&socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT) >= 2),
            number(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN),
            number(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        ]
    };
    assert_eq!(values(), [1, 0, 6, 1]);
    m.rewrite(&pools("defer_accept = \"2s\", fastopen = 7, device = \"lo\""));
    m.signal(libc::SIGHUP);
    m.log.wait_for("config 2 in force", 1);
    assert_eq!(values(), [0, 1, 7, 0]);
    assert_eq!(listeners(&m)[0]["inode"], shown[0]["inode"]);
    assert_eq!(m.log.count("cannot change its"), 0);
    // One that cannot be had is told, and the socket serves on.
    m.rewrite(&pools("device = \"no-such-if\""));
    m.signal(libc::SIGHUP);
    m.log.wait_for("config 3 in force", 1);
    let told = m.log.wait_for("cannot change its device", 1);
    assert!(told.contains("it stays as it was"), "{told}");
    assert_eq!(values(), [0, 0, 0, 0]);
    // At a start it is an error.
    let other = free_port();
    let mut n = setup(&pools("device = \"no-such-if\"").replace(&port.to_string(), &other.to_string())).start();
    assert_eq!(n.wait().code(), Some(1));
    let told = n.log.wait_for("cannot start", 1);
    assert!(
        told.contains("pool a: listener http: ") && told.contains("cannot set device = \"no-such-if\": no such device"),
        "{told}"
    );
}

#[test]
fn a_socket_file_belongs_to_whom_the_config_says() {
    let pools = |options: &str| {
        format!(
            "[pool.a]\ncommand = \"sleep 1000\"\nready = \"exec\"\nsettle = \"0s\"\nlisten.http = {{ address = \"unix:DIR/a.sock\"{options} }}\n"
        )
    };
    let mut unknown = setup(&pools(", owner = \"no-such-user-here\"")).start();
    assert_eq!(unknown.wait().code(), Some(1));
    let told = unknown.log.wait_for("cannot start", 1);
    assert!(told.contains("pool a: listener http: owner = \"no-such-user-here\": this host has no such user"), "{told}");
    if !is_root() {
        return skip("a_socket_file_belongs_to_whom_the_config_says", "only root gives files away");
    }
    let mut m = setup(&pools(", mode = \"0660\", owner = 65533, group = \"root\"")).start().ready();
    let path = m.setup.path("a.sock");
    let is = || std::fs::symlink_metadata(&path).map(|m| (m.uid(), m.gid(), m.mode() & 0o777, m.ino())).unwrap();
    let inode = is().3;
    assert_eq!(is(), (65_533, 0, 0o660, inode));
    m.rewrite(&pools(", mode = \"0600\", owner = \"root\", group = 65532"));
    m.signal(libc::SIGHUP);
    m.log.wait_for("config 2 in force", 1);
    assert_eq!(is(), (0, 65_532, 0o600, inode));
    // A reload with a user that is not there changes nothing.
    m.rewrite(&pools(", owner = \"no-such-user-here\""));
    m.signal(libc::SIGHUP);
    let told = m.log.wait_for("nothing was restarted", 1);
    assert!(told.contains("this host has no such user"), "{told}");
    assert_eq!(is(), (0, 65_532, 0o600, inode));
    assert_eq!(m.stop(), 0);
    assert!(!path.exists());
}

#[test]
fn two_pools_share_one_socket() {
    let port = free_port();
    let web = format!(
        "[pool.web]\ncommand = \"POOLMASTER worker\"\nsettle = \"0s\"\n[pool.web.listen]\nhttp = {{ address = \"127.0.0.1:{port}\", backlog = 33 }}\n"
    );
    // Before its owner in the file, and between listeners of its own.
    let other = |listen: &str| {
        format!(
            "[pool.other]\ncommand = \"POOLMASTER worker\"\nsettle = \"0s\"\n[pool.other.listen]\na = \"unix:DIR/a.sock\"\n{listen}\nz = \"unix:DIR/z.sock\"\n"
        )
    };
    let mut m = setup(&format!("{}{web}", other("public = { share = \"web.http\" }"))).start().ready();
    let shown = listeners(&m);
    let row = |l: &Value| ["pool", "name", "sharing"].map(|key| l[key].as_str().unwrap().to_owned());
    assert_eq!(row(&shown[1]), ["other", "public", "with web.http"]);
    assert_eq!(row(&shown[3]), ["web", "http", "shared"]);
    assert_eq!((&shown[1]["inode"], &shown[1]["queue_limit"]), (&shown[3]["inode"], &Value::from(33)));
    assert_eq!(shown[1]["holders"], 2, "workers of both");
    assert!(m.ok(&["listeners", "other"]).contains("with web.http"));
    assert_eq!(environ(m.pids("other")[0])["LISTEN_FDNAMES"], "a:public:z");
    let socket = format!("socket:[{}]", shown[3]["inode"]);
    for pool in ["web", "other"] {
        assert!(fds(m.pids(pool)[0]).values().any(|f| *f == socket), "{pool} has it");
    }
    m.ok(&["stop", "web"]);
    assert!(get(port, "/").unwrap().contains("other"));
    m.ok(&["start", "web"]);
    m.ok(&["stop", "other"]);
    assert!(get(port, "/").unwrap().contains("web"));
    m.ok(&["start", "other"]);
    // Its owner goes, and the socket stays with whom it is left to.
    m.rewrite(&other(&format!("public = \"127.0.0.1:{port}\"")));
    m.signal(libc::SIGHUP);
    m.log.wait_until("web is gone", || m.pool("web").is_null().then_some(()));
    m.log.wait_until("other serves alone", || (listeners(&m)[1]["holders"] == 1).then_some(()));
    let after = listeners(&m);
    assert_eq!((row(&after[1])[2].as_str(), &after[1]["inode"]), ("shared", &shown[1]["inode"]));
    assert!(get(port, "/").unwrap().contains("other"));
    assert_eq!(m.stop(), 0);
    m.assert_all_gone();
}

#[test]
fn one_that_shares_can_run_alone_and_any_free_port_is_another_one_for_each() {
    let port = free_port();
    let pools = format!(
        "[defaults]\ncommand = \"POOLMASTER worker\"\nsettle = \"0s\"\n\
         [pool.web]\nlisten.http = \"127.0.0.1:{port}\"\nlisten.any = \"127.0.0.1:0\"\n\
         [pool.other]\nlisten.public = {{ share = \"web.http\" }}\nlisten.any = \"127.0.0.1:0\"\n\
         [pool.third]\nlisten.any = {{ share = \"web.any\" }}\n"
    );
    let m = setup(&pools).arg("--only").arg("other").start().ready();
    assert!(get(port, "/").unwrap().contains("other"));
    drop(m);
    let mut m = setup(&pools).start().ready();
    let any = |m: &Master| {
        let of = |pool: &str| listeners(m).iter().find(|l| l["pool"] == pool && l["name"] == "any").unwrap()["address"].clone();
        [of("web"), of("other"), of("third")]
    };
    let before = any(&m);
    assert_ne!(before[0], before[1]);
    assert_eq!(before[0], before[2]);
    m.signal(libc::SIGHUP);
    m.log.wait_for("config 2 in force", 1);
    assert_eq!(any(&m), before, "kept at reload");
    assert_eq!(m.stop(), 0);
}

/// The kernel would give the clients of the old one to the new one while that is only tried.
#[test]
fn an_address_within_one_that_is_open_takes_two_reloads_and_plan_says_so() {
    for (old, new, more) in [("0.0.0.0", "127.0.0.1", ""), ("[::]", "127.0.0.1", ""), ("[::]", "[::]", "v6only = true")] {
        let port = free_port();
        let text = |address: &str, more: &str| {
            format!(
                "[pool.web]\ncommand = \"POOLMASTER worker --fd {{fd}}\"\nsettle = \"50ms\"\n[pool.web.listen.main]\naddress = \"{address}:{port}\"\n{more}\n"
            )
        };
        let mut m = setup(&text(old, "")).start().ready();
        let before = m.pids("web");
        m.rewrite(&text(new, more));
        let said = m.code(11, &["plan"]).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            said.contains("listener main: the reload will be refused: ") && said.contains("take that away by one reload"),
            "{said}"
        );
        let said = m.code(3, &["reload"]).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("which is this master itself"), "{said}");
        assert_eq!(m.pids("web"), before);
        m.rewrite("[pool.web]\ncommand = \"POOLMASTER worker\"\nsettle = \"50ms\"\n");
        m.ok(&["reload"]);
        m.rewrite(&text(new, more));
        assert!(!m.code(11, &["plan"]).contains("refused"));
        m.ok(&["reload"]);
        assert_eq!(m.stop(), 0);
        m.assert_nothing_left();
    }
}
