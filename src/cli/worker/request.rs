//! Owns the meaning of a request's head: what is asked for, how its body is framed, whether the connection may go on.
//! Refuses whatever two readers could understand in two ways. Performs no I/O.

use std::mem::MaybeUninit;
use std::time::Duration;

use httparse::{Error, Header, Status as Parsed};

use super::body::Body;
use super::reply::Status;

/// A longer head is refused with 431.
pub(super) const MAX_HEAD: usize = 16 * 1024;
/// So are more header fields than this.
const MAX_FIELDS: usize = 64;
/// The longest time that `/slow?ms=` accepts, in milliseconds.
const MAX_SLOW: u64 = 3_600_000;

/// A request whose head is complete and sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) route: Route,
    /// HEAD: the same answer without its body.
    pub(super) head_only: bool,
    /// HTTP/1.1, where connections persist without a word.
    pub(super) http11: bool,
    /// The client wants to go on with this connection.
    pub(super) keep: bool,
    /// The client waits for `100 Continue` before it sends its body.
    pub(super) expects_continue: bool,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Hello,
    Environment,
    Health,
    Crash,
    Slow(Duration),
    /// The answer is this status and nothing else.
    Error(Status),
}

/// The head at the start of `data`: the request, the body that follows it, and the head's length. `Ok(None)` when it is not
/// complete yet; an error is the status to refuse it with, after which the connection cannot be used.
pub(super) fn parse(data: &[u8]) -> Result<Option<(Request, Option<Body>, usize)>, Status> {
    let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut []);
    let length = match head.parse_with_uninit_headers(data, &mut fields) {
        Ok(Parsed::Complete(length)) if length <= MAX_HEAD => length,
        Ok(Parsed::Partial) if data.len() < MAX_HEAD => return Ok(None),
        Ok(_) | Err(Error::TooManyHeaders) => return Err(Status::HeadTooLarge),
        Err(Error::Version) => return Err(Status::VersionNotSupported),
        Err(_) => return Err(Status::BadRequest),
    };
    let http11 = head.version == Some(1);
    let means = Fields::read(head.headers)?;
    if means.hosts > 1 || (http11 && means.hosts == 0) {
        return Err(Status::BadRequest);
    }
    let body = match (means.encodings, means.length) {
        (0, None | Some(0)) => None,
        (0, Some(length)) => Some(Body::Length(length)),
        (1, None) if !http11 => return Err(Status::BadRequest),
        (1, None) if means.chunked => Some(Body::chunked()),
        (1, None) => return Err(Status::NotImplemented),
        _ => return Err(Status::BadRequest),
    };
    let method = head.method.unwrap_or_default();
    let request = Request {
        route: route(method, head.path),
        head_only: method == "HEAD",
        http11,
        keep: if http11 { !means.close } else { means.keep_alive && !means.close },
        expects_continue: http11 && means.expects_continue && body.is_some(),
    };
    Ok(Some((request, body, length)))
}

/// What the header fields that matter here say together.
#[derive(Default)]
struct Fields {
    hosts: u32,
    length: Option<u64>,
    encodings: u32,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Fields {
    fn read(headers: &[Header<'_>]) -> Result<Self, Status> {
        let mut fields = Fields::default();
        for header in headers {
            fields.add(header.name, header.value)?;
        }
        Ok(fields)
    }

    fn add(&mut self, name: &str, value: &[u8]) -> Result<(), Status> {
        // By length first: most fields of most requests are none of these.
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => self.hosts += 1,
            6 if name.eq_ignore_ascii_case("expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Status::ExpectationFailed);
                }
                self.expects_continue = true;
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                for word in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                    self.close |= word.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                let length = number(value).ok_or(Status::BadRequest)?;
                if self.length.is_some_and(|before| before != length) {
                    return Err(Status::BadRequest);
                }
                self.length = Some(length);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                self.encodings += 1;
                self.chunked = value.trim_ascii().eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
        Ok(())
    }
}

/// Digits and nothing else; no sign, no list.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn route(method: &str, target: Option<&str>) -> Route {
    if !matches!(method, "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") {
        return Route::Error(Status::MethodNotAllowed);
    }
    let target = target.unwrap_or_default();
    // The absolute form, as sent to proxies, which a server must accept (RFC 9112 section 3.2.2).
    let target = match target.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") => {
            rest.find(['/', '?']).map_or("/", |at| &rest[at..])
        }
        _ => target,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match path {
        "/" | "" => Route::Hello,
        "/env" => Route::Environment,
        "/healthz" => Route::Health,
        "/crash" => Route::Crash,
        "/slow" => slow(query),
        _ => Route::Error(Status::NotFound),
    }
}

fn slow(query: &str) -> Route {
    let ms = query.split('&').find_map(|pair| pair.strip_prefix("ms="));
    match ms.map_or(Some(1000), |ms| number(ms.as_bytes())) {
        Some(ms) if ms <= MAX_SLOW => Route::Slow(Duration::from_millis(ms)),
        _ => Route::Error(Status::BadRequest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(text: &str) -> (Request, Option<Body>) {
        let (request, body, length) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(length, text.len());
        (request, body)
    }

    #[test]
    fn persistence_follows_version_and_connection_field() {
        for (text, keep) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: TE, Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
            ("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false),
        ] {
            assert_eq!(get(text).0.keep, keep, "{text:?}");
        }
    }

    #[test]
    fn bodies_are_framed_by_length_or_chunks() {
        assert_eq!(get("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n").1, Some(Body::Length(7)));
        assert_eq!(get("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").1, None);
        assert_eq!(get("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n").1, Some(Body::chunked()));
        let waits = get("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n").0;
        assert!(waits.expects_continue);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for (head, want) in [
            ("GET / HTTP/1.1\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Status::NotImplemented),
            ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", Status::ExpectationFailed),
            ("PRI * HTTP/2.0\r\n\r\n", Status::VersionNotSupported),
            ("\x16\x03\x01\x02\r\n\r\n", Status::BadRequest),
        ] {
            assert_eq!(parse(head.as_bytes()), Err(want), "{head:?}");
        }
    }

    #[test]
    fn a_head_has_bounds() {
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(MAX_HEAD));
        assert_eq!(parse(long.as_bytes()), Err(Status::HeadTooLarge));
        let complete = format!("{long}\r\n\r\n");
        assert_eq!(parse(complete.as_bytes()), Err(Status::HeadTooLarge));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(MAX_FIELDS));
        assert_eq!(parse(many.as_bytes()), Err(Status::HeadTooLarge));
        assert_eq!(parse(b"GET / HT"), Ok(None));
        assert_eq!(parse(b"\r\n"), Ok(None));
    }

    #[test]
    fn routes_are_found_by_path() {
        for (target, want) in [
            ("/", Route::Hello),
            ("/?x=1", Route::Hello),
            ("http://example.org", Route::Hello),
            ("http://example.org/healthz?x", Route::Health),
            ("/env", Route::Environment),
            ("/slow?ms=500", Route::Slow(Duration::from_millis(500))),
            ("/slow", Route::Slow(Duration::from_secs(1))),
            ("/slow?ms=abc", Route::Error(Status::BadRequest)),
            ("/slow?ms=99999999999", Route::Error(Status::BadRequest)),
            ("/env/", Route::Error(Status::NotFound)),
            ("*", Route::Error(Status::NotFound)),
        ] {
            assert_eq!(route("GET", Some(target)), want, "{target}");
        }
        assert_eq!(route("CONNECT", Some("a:1")), Route::Error(Status::MethodNotAllowed));
    }
}
