//! Real servers, one for each dialect, none of which knows poolmaster: Puma speaks systemd's (sockets, readiness, heartbeat), Starlet that of
//! Server::Starter, php-cgi takes its listener as stdin, uvicorn and Node take a descriptor. What cannot be installed here is skipped, visibly.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "tests start processes, read clocks, and may fail loudly"
)]

#[path = "live/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use support::*;

/// Sees to a program of Debian's; `Err`: why it is not to be had.
fn packages(program: &str, names: &[&str]) -> Result<(), String> {
    // One installation at a time: each takes the package manager's lock.
    static ONCE: Mutex<()> = Mutex::new(());
    let _once = ONCE.lock().unwrap();
    let there =
        || Command::new("sh").args(["-c", &format!("command -v {program}")]).output().is_ok_and(|out| out.status.success());
    if there() {
        return Ok(());
    }
    if !is_root() {
        return Err(format!("{program} is not installed, and only root can install it"));
    }
    let install = || {
        let mut command = Command::new("timeout");
        command.args(["240", "apt-get", "install", "-y", "-qq", "--no-install-recommends"]).args(names);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(std::process::Stdio::null()).output()
    };
    let mut out = install().map_err(|e| format!("apt-get: {e}"))?;
    if !out.status.success() {
        // The lists may be missing or old.
        let _ = Command::new("timeout").args(["120", "apt-get", "update", "-qq"]).output();
        out = install().map_err(|e| format!("apt-get: {e}"))?;
    }
    if out.status.success() && there() { Ok(()) } else { Err(format!("apt-get install {}: {}", names.join(" "), told(&out).1)) }
}

/// The page, by a connection of its own.
fn page(port: u16) -> String {
    get(port, "/").unwrap()
}

#[test]
fn puma_takes_systemds_sockets_and_reports_by_sd_notify() {
    const NAME: &str = "puma_takes_systemds_sockets_and_reports_by_sd_notify";
    if let Err(why) = packages("puma", &["puma", "ruby-sd-notify"]) {
        return skip(NAME, &why);
    }
    let port = free_port();
    let s = setup(&format!(
        "[pool.web]\ncommand = \"puma --bind-to-activated-sockets=only -t 1:1 -C /dev/null DIR/config.ru\"\nlisten = \"127.0.0.1:{port}\"\n\
         ready = \"notify\"\ntimeout = \"2s\"\nworkers = 2\n"
    ));
    std::fs::write(s.path("config.ru"), "run ->(env) { [200, {'Content-Type' => 'text/plain'}, [\"hello from #{$$}\"]] }\n")
        .unwrap();
    let mut m = s.start();
    let seen = m.log.wait_until("ready, or why not", || {
        let text = m.log.text();
        (text.contains("don't have sd_notify gem") || text.contains("ready: 1 pool")).then_some(text)
    });
    if seen.contains("don't have sd_notify gem") {
        return skip(NAME, "Ruby's sd_notify is not installed");
    }
    assert!(page(port).contains("hello from"));
    m.log.wait_until("its heartbeat", || m.worker("web", 0)["beat_ago_ms"].as_u64().map(drop));
    // A restart under it: no connection is lost, as the queue is the master's.
    let before = m.pids("web");
    m.ok(&["restart", "web"]);
    assert!(m.pids("web").iter().all(|pid| !before.contains(pid)));
    assert!(page(port).contains("hello from"));
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

#[test]
fn starlet_takes_its_sockets_as_from_server_starter() {
    const NAME: &str = "starlet_takes_its_sockets_as_from_server_starter";
    if let Err(why) = packages("plackup", &["starlet"]) {
        return skip(NAME, &why);
    }
    let port = free_port();
    let s = setup(&format!(
        "[pool.web]\ncommand = \"plackup -s Starlet --max-workers 2 DIR/app.psgi\"\nlisten = \"127.0.0.1:{port}\"\n\
         protocols = [\"server-starter\"]\nready = \"http://127.0.0.1:{port}/\"\n"
    ));
    std::fs::write(s.path("app.psgi"), "sub { [200, ['Content-Type' => 'text/plain'], [\"hello from $$\"]] }\n").unwrap();
    let mut m = s.start().ready();
    if m.log.text().contains("Can't locate") {
        return skip(NAME, "Starlet is not installed");
    }
    assert!(page(port).contains("hello from"));
    m.ok(&["restart", "web"]);
    assert!(page(port).contains("hello from"));
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

/// One FastCGI request for a script, and all that came back.
fn fastcgi(port: u16, script: &str) -> String {
    // Record: version, type, request id, length of the content, padding, reserved.
    let record = |kind: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[1, kind, 0, 1, length[0], length[1], 0, 0], content].concat()
    };
    let pair = |name: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        [&[length(name), length(value)], name.as_bytes(), value.as_bytes()].concat()
    };
    let parameters = [
        pair("SCRIPT_FILENAME", script),
        pair("REQUEST_METHOD", "GET"),
        pair("REDIRECT_STATUS", "200"),
        pair("GATEWAY_INTERFACE", "CGI/1.1"),
    ];
    // Begin as a responder, the parameters and their end, no input.
    let request =
        [record(1, &[0, 1, 0, 0, 0, 0, 0, 0]), record(4, &parameters.concat()), record(4, &[]), record(5, &[])].concat();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&request).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn php_cgi_takes_its_listener_as_stdin() {
    const NAME: &str = "php_cgi_takes_its_listener_as_stdin";
    if let Err(why) = packages("php-cgi", &["php-cgi"]) {
        return skip(NAME, &why);
    }
    let port = free_port();
    // Each ends by itself after three requests, with 0: that is its way of working.
    let s = setup(&format!(
        "[pool.php]\ncommand = \"php-cgi\"\nprotocols = [\"stdin\"]\nworkers = 2\nenv = {{ PHP_FCGI_MAX_REQUESTS = \"3\" }}\n\
         listen = \"127.0.0.1:{port}\"\n"
    ));
    let script = s.path("x.php").display().to_string();
    std::fs::write(&script, "<?php echo 'hello from ', getmypid();").unwrap();
    let mut m = s.start().ready();
    assert!(m.log.text().contains("ready after") && !m.log.text().contains("never seen accepting"));
    for _ in 0..60 {
        let said = fastcgi(port, &script);
        assert!(said.contains("hello from "), "{said}");
    }
    let restarts = m.pool("php")["restarts"].as_u64().unwrap();
    assert!(restarts >= 15, "{restarts}");
    assert_eq!((m.pool("php")["phase"].as_str(), m.log.count("backing off")), (Some("running"), 0), "{}", m.log.text());
    m.ok(&["restart", "php"]);
    assert!(fastcgi(port, &script).contains("hello from "));
    assert_eq!(m.stop(), 0);
    m.assert_nothing_left();
}

/// An application that says hello.
const ASGI: &str = "async def app(scope, receive, send):\n    \
     assert scope['type'] == 'http'\n    \
     await send({'type': 'http.response.start', 'status': 200, 'headers': [(b'content-length', b'5')]})\n    \
     await send({'type': 'http.response.body', 'body': b'hello'})\n";

/// A server that knows nothing of poolmaster.
struct Server {
    program: &'static str,
    packages: &'static [&'static str],
    /// The command, and one that does not come up.
    command: &'static str,
    broken: &'static str,
    file: (&'static str, &'static str),
    /// At its stop signal it drops what it has accepted and not read.
    drops: bool,
}

const UVICORN: Server = Server {
    program: "uvicorn",
    packages: &["uvicorn"],
    command: "uvicorn --log-level warning --lifespan off --app-dir DIR app:app --fd {fd}",
    broken: "uvicorn --log-level warning --lifespan off --app-dir DIR app:nothing --fd {fd}",
    file: ("app.py", ASGI),
    drops: true,
};

const NODE: Server = Server {
    program: "node",
    packages: &["nodejs"],
    command: "node DIR/app.js {fd}",
    broken: "node DIR/nothing.js {fd}",
    file: ("app.js", HTTP),
    drops: false,
};

/// One that says hello, and at its stop signal takes no more, answers whom it has, and ends.
const HTTP: &str = "const server = require('http').createServer((request, response) => response.end('hello'));\n\
     server.listen({ fd: Number(process.argv[2]) });\n\
     process.on('SIGTERM', () => { server.close(() => process.exit(0)); server.closeIdleConnections(); });\n";

/// Workers of a server replaced under load by reloads, good and bad ones, restarts and scaling.
fn under_load(name: &str, server: &Server, clients: usize, manner: Manner, reloads: u32, listener: &str) {
    if let Err(why) = packages(server.program, server.packages) {
        return skip(name, &why);
    }
    let port = free_port();
    let config = |command: &str, edition: u32| {
        format!(
            "[pool.web]\ncommand = \"{command}\"\nlisten.main = {{ address = \"127.0.0.1:{port}\", {listener} }}\n\
             workers = 2\nscale.max = 8\nsettle = \"20ms\"\nrollout.max_surge = 2\nenv.EDITION = \"{edition}\"\n"
        )
    };
    let s = setup(&config(server.command, 0));
    std::fs::write(s.path(server.file.0), server.file.1).unwrap();
    let mut m = s.start().ready();
    let load = Load::on(&Goal::Port(port), clients, manner, Duration::from_millis(2));
    load.wait_more(clients as u64 * 2);
    for edition in 1..=reloads {
        let before = m.pids("web");
        m.rewrite(&config(server.broken, edition));
        assert!(m.code(3, &["reload", "--timeout", "60s"]).contains("nothing was changed"));
        assert_eq!(m.pids("web"), before, "reload {edition}");
        m.rewrite(&config(server.command, edition));
        m.ok(&["reload", "--timeout", "60s"]);
        assert!(m.pids("web").iter().all(|pid| environ(*pid)["EDITION"] == edition.to_string()), "reload {edition}");
    }
    for _ in 0..reloads {
        m.ok(&["restart", "web", "--timeout", "60s"]);
    }
    m.ok(&["scale", "web", "8", "--timeout", "60s"]);
    load.wait_more(clients as u64 * 5);
    m.ok(&["scale", "web", "2", "--timeout", "60s"]);
    load.wait_more(clients as u64 * 5);
    let toll = load.end();
    eprintln!("{name}: {} answered, {} sent once more", toll.answered, toll.retried);
    // What a server drops of its own account is its own. Nobody was kept from connecting, or got half an answer. With a socket of its own it has
    // served them all before.
    let own = listener.contains("reuseport") || !server.drops;
    let ours: Vec<_> = toll.failures.iter().filter(|why| own || !why.contains("without an answer")).collect();
    assert!(ours.is_empty(), "{} of {}: {ours:?}", ours.len(), toll.answered);
    assert_eq!(m.stop(), 0);
}

/// Each generation has its own sockets: the old workers serve who came to them, and are told to stop when nobody waits there.
#[test]
fn uvicorn_under_load_with_a_socket_for_each_worker() {
    let name = "uvicorn_under_load_with_a_socket_for_each_worker";
    under_load(name, &UVICORN, 20, Manner::Each, 10, "reuseport = true");
}

/// A server closes connections that stay whenever it likes, and at its end uvicorn does: clients send once more what was not answered.
#[test]
fn uvicorn_under_load_with_connections_that_stay() {
    let name = "uvicorn_under_load_with_connections_that_stay";
    under_load(name, &UVICORN, 50, Manner::KeepaliveRetrying, 10, "nodelay = true");
}

#[test]
fn node_under_load_with_a_connection_for_each_request() {
    under_load("node_under_load_with_a_connection_for_each_request", &NODE, 20, Manner::Each, 10, "nodelay = true");
}

#[test]
fn node_under_load_with_connections_that_stay() {
    under_load("node_under_load_with_connections_that_stay", &NODE, 50, Manner::KeepaliveRetrying, 10, "nodelay = true");
}
