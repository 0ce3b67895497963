//! Owns what the sample worker says: the texts of its pages and the bytes of a response. Performs no I/O.

use std::io::Write as _;

use super::clock;
use super::request::{Request, Route};

/// The status line's number and words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    ExpectationFailed,
    HeadTooLarge,
    NotImplemented,
    VersionNotSupported,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::ExpectationFailed => "417 Expectation Failed",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::NotImplemented => "501 Not Implemented",
            Status::VersionNotSupported => "505 HTTP Version Not Supported",
        }
    }
}

/// Asks the client that waits for it to send its body.
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What all connections share: the pages, the date, and whether the worker is stopping.
#[derive(Debug)]
pub(super) struct Site {
    hello: Vec<u8>,
    environment: Vec<u8>,
    /// The header fields that every response has; made anew when the second changes.
    fields: Vec<u8>,
    second: u64,
    /// `/crash` is answered by a crash; else it is not found.
    pub(super) allow_crash: bool,
    /// The stop signal came: each connection's next response is its last.
    pub(super) stopping: bool,
    /// Requests answered so far.
    pub(super) answered: u64,
}

impl Site {
    pub(super) fn new(env: &[(String, String)], pid: i32, allow_crash: bool) -> Self {
        let var = |name: &str| env.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str());
        let hello = match (var("POOLMASTER_POOL"), var("POOLMASTER_SLOT"), var("POOLMASTER_GENERATION")) {
            (Some(pool), Some(slot), Some(generation)) => {
                format!("hello from {pool} slot {slot} generation {generation}, pid {pid}\n")
            }
            _ => format!("hello from a worker without a master, pid {pid}\n"),
        };
        let mut site = Site {
            hello: hello.into_bytes(),
            environment: environment(env).into_bytes(),
            fields: Vec::new(),
            second: u64::MAX,
            allow_crash,
            stopping: false,
            answered: 0,
        };
        site.tick(0);
        site
    }

    /// Tells the time, in seconds since 1970.
    pub(super) fn tick(&mut self, second: u64) {
        if second != self.second {
            self.second = second;
            let date = clock::http_date(second);
            let fields = format!("Server: poolmaster-worker\r\nContent-Type: text/plain; charset=utf-8\r\nDate: {date}\r\n");
            self.fields = fields.into_bytes();
        }
    }

    /// Writes the answer to a request, the connection's last one unless `keep`.
    pub(super) fn answer(&mut self, request: &Request, keep: bool, out: &mut Vec<u8>) {
        self.answered += 1;
        let persistence = match (keep, request.http11) {
            (true, true) => "",
            (true, false) => "Connection: keep-alive\r\n",
            (false, _) => "Connection: close\r\n",
        };
        let (status, body) = match request.route {
            Route::Hello => (Status::Ok, self.hello.as_slice()),
            Route::Environment => (Status::Ok, self.environment.as_slice()),
            Route::Health => (Status::Ok, &b"ok\n"[..]),
            Route::Slow(_) => (Status::Ok, &b"slow, but here\n"[..]),
            Route::Crash => (Status::NotFound, &b""[..]),
            Route::Error(status) => (status, &b""[..]),
        };
        self.write(status, persistence, body, request.head_only, out);
    }

    /// Writes the answer to what was no request; the connection ends with it.
    pub(super) fn refuse(&mut self, status: Status, out: &mut Vec<u8>) {
        self.answered += 1;
        self.write(status, "Connection: close\r\n", b"", false, out);
    }

    fn write(&self, status: Status, persistence: &str, body: &[u8], head_only: bool, out: &mut Vec<u8>) {
        let line = status.line();
        let (body, newline) = if body.is_empty() { (line.as_bytes(), "\n") } else { (body, "") };
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.fields);
        if status == Status::MethodNotAllowed {
            out.extend_from_slice(b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n");
        }
        out.extend_from_slice(persistence.as_bytes());
        let _never_fails = write!(out, "Content-Length: {}\r\n\r\n", body.len() + newline.len());
        if !head_only {
            out.extend_from_slice(body);
            out.extend_from_slice(newline.as_bytes());
        }
    }
}

/// The variables that tell a worker what it is, one a line, sorted. `POOLMASTER__*` are settings of a master, which may be
/// secret, and which a worker under a master never has.
fn environment(env: &[(String, String)]) -> String {
    let told = |name: &str| name.starts_with("LISTEN_") || (name.starts_with("POOLMASTER_") && !name.starts_with("POOLMASTER__"));
    let mut lines: Vec<String> = env.iter().filter(|(k, _)| told(k)).map(|(k, v)| format!("{k}={v}\n")).collect();
    lines.sort();
    if lines.is_empty() { "started without a master\n".to_owned() } else { lines.concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn request(route: Route, http11: bool) -> Request {
        Request { route, head_only: false, http11, keep: true, expects_continue: false }
    }

    #[test]
    fn hello_names_pool_slot_generation_and_pid() {
        let env = env(&[("POOLMASTER_POOL", "web"), ("POOLMASTER_SLOT", "2"), ("POOLMASTER_GENERATION", "1")]);
        let mut site = Site::new(&env, 1234, false);
        site.tick(784_111_777);
        let mut out = Vec::new();
        site.answer(&request(Route::Hello, true), true, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 200 OK\r\nServer: poolmaster-worker\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 45\r\n\r\n\
             hello from web slot 2 generation 1, pid 1234\n"
        );
    }

    #[test]
    fn persistence_is_said_where_it_is_not_implied() {
        let mut site = Site::new(&[], 1, false);
        for (http11, keep, want) in
            [(true, true, None), (true, false, Some("close")), (false, true, Some("keep-alive")), (false, false, Some("close"))]
        {
            let mut out = Vec::new();
            site.answer(&request(Route::Health, http11), keep, &mut out);
            let text = String::from_utf8(out).unwrap();
            let said = text.lines().find_map(|l| l.strip_prefix("Connection: "));
            assert_eq!(said, want, "{text}");
        }
    }

    #[test]
    fn only_what_a_worker_is_told_is_shown() {
        let env = env(&[
            ("POOLMASTER_SLOT", "0"),
            ("POOLMASTER__POOL__WEB__ENV", "hush"),
            ("DB_PASSWORD", "hush"),
            ("LISTEN_FDS", "1"),
        ]);
        assert_eq!(environment(&env), "LISTEN_FDS=1\nPOOLMASTER_SLOT=0\n");
    }
}
