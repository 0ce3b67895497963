//! Owns one connection's conversation: bytes in, responses out, and what is to be done next. Performs no I/O and reads no
//! clock, so that any way of cutting the input can be tested. Refuses to go on after a request it could not frame.

use std::time::Duration;

use super::body::Body;
use super::reply::{CONTINUE, Site};
use super::request::{self, MAX_HEAD, Request, Route};

/// Responses are handed over for writing when there are this many bytes of them: pipelining must not pile them up.
const FULL: usize = 64 * 1024;

/// A connection's place in the protocol.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Bytes that came and were not used yet. Empty between requests, so an idle connection holds no buffer.
    held: Vec<u8>,
    phase: Phase,
}

#[derive(Debug, Default)]
enum Phase {
    /// Between requests, or in a head.
    #[default]
    Head,
    /// In the body that follows this request's head.
    Body(Body, Request),
    /// The request is complete and its answer is due later.
    Waiting(Request),
    /// The last response was given.
    Over,
}

/// What has to happen next, after the responses so far are written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More input.
    Read,
    /// Call again when the output is written; there may be more in what was received.
    Flush,
    /// [`Session::resume`] after this time, and no reading before.
    Wait(Duration),
    /// Close. `linger`: the client may still be sending, so let it see the response and the end before the reset that
    /// closing with unread input would send.
    Close {
        /// Half-close, and wait for the client to close.
        linger: bool,
    },
    /// Crash, as the client asked for and the operator allowed.
    Crash,
}

impl Session {
    /// Uses new input, if any, and writes responses to `out`.
    pub(super) fn advance(&mut self, fresh: &[u8], site: &mut Site, out: &mut Vec<u8>) -> Step {
        if self.held.is_empty() {
            let (used, step) = self.converse(fresh, site, out);
            self.held.extend_from_slice(&fresh[used..]);
            return step;
        }
        // A head that is cut into many small pieces is parsed again only when a line ended or the limit is reached.
        let in_head = matches!(self.phase, Phase::Head) && !fresh.is_empty();
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(fresh);
        if in_head && held.len() < MAX_HEAD && !fresh.contains(&b'\n') {
            self.held = held;
            return Step::Read;
        }
        let (used, step) = self.converse(&held, site, out);
        if used < held.len() {
            held.drain(..used);
            self.held = held;
        }
        step
    }

    /// The time of a [`Step::Wait`] is over: gives the answer and goes on with what was received meanwhile.
    pub(super) fn resume(&mut self, site: &mut Site, out: &mut Vec<u8>) -> Step {
        if let Phase::Waiting(request) = std::mem::take(&mut self.phase) {
            let last = self.held.is_empty();
            if let Some(close) = self.finish(&request, last, site, out) {
                return close;
            }
        }
        self.advance(b"", site, out)
    }

    /// An answer is due later.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting(_))
    }

    fn converse(&mut self, data: &[u8], site: &mut Site, out: &mut Vec<u8>) -> (usize, Step) {
        let mut used = 0;
        loop {
            let rest = &data[used..];
            match &mut self.phase {
                Phase::Over => return (data.len(), Step::Read),
                Phase::Waiting(_) => return (used, Step::Read),
                _ if out.len() >= FULL => return (used, Step::Flush),
                _ if rest.is_empty() => return (used, Step::Read),
                Phase::Head => match request::parse(rest) {
                    Ok(None) => return (used, Step::Read),
                    Ok(Some((request, None, length))) => {
                        used += length;
                        if let Some(step) = self.complete(request, used == data.len(), site, out) {
                            return (used, step);
                        }
                    }
                    Ok(Some((request, Some(body), length))) => {
                        used += length;
                        if request.expects_continue && used == data.len() {
                            out.extend_from_slice(CONTINUE);
                        }
                        self.phase = Phase::Body(body, request);
                    }
                    Err(status) => {
                        site.refuse(status, out);
                        self.phase = Phase::Over;
                        return (data.len(), Step::Close { linger: true });
                    }
                },
                Phase::Body(body, request) => match body.take(rest) {
                    Ok((taken, false)) => return (used + taken, Step::Read),
                    Ok((taken, true)) => {
                        used += taken;
                        let request = request.clone();
                        if let Some(step) = self.complete(request, used == data.len(), site, out) {
                            return (used, step);
                        }
                    }
                    Err(_) => {
                        site.refuse(super::reply::Status::BadRequest, out);
                        self.phase = Phase::Over;
                        return (data.len(), Step::Close { linger: true });
                    }
                },
            }
        }
    }

    /// A request is complete. `last`: nothing was received behind it.
    fn complete(&mut self, request: Request, last: bool, site: &mut Site, out: &mut Vec<u8>) -> Option<Step> {
        match request.route {
            Route::Crash if site.allow_crash => Some(Step::Crash),
            Route::Slow(time) => {
                self.phase = Phase::Waiting(request);
                Some(Step::Wait(time))
            }
            _ => self.finish(&request, last, site, out),
        }
    }

    /// Answers. When the worker is stopping, the last request received is the connection's last: requests that were already
    /// received behind this one are answered first.
    fn finish(&mut self, request: &Request, last: bool, site: &mut Site, out: &mut Vec<u8>) -> Option<Step> {
        let keep = request.keep && !(site.stopping && last);
        site.answer(request, keep, out);
        if keep {
            self.phase = Phase::Head;
            return None;
        }
        self.phase = Phase::Over;
        // A client that asked for the end sends nothing more, so there is nothing to linger for.
        Some(Step::Close { linger: request.keep || !last })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn site() -> Site {
        Site::new(&[], 1, false)
    }

    /// The statuses answered, and the last step, when the input arrives in pieces of the given lengths.
    fn talk(input: &[u8], cuts: &[usize], site: &mut Site) -> (Vec<String>, Step) {
        let (mut session, mut out, mut at, mut step) = (Session::default(), Vec::new(), 0, Step::Read);
        for cut in cuts.iter().copied().cycle() {
            if at == input.len() {
                break;
            }
            let end = (at + cut).min(input.len());
            step = session.advance(&input[at..end], site, &mut out);
            at = end;
            while matches!(step, Step::Wait(_) | Step::Flush) {
                step = match step {
                    Step::Wait(_) => session.resume(site, &mut out),
                    _ => session.advance(b"", site, &mut std::mem::take(&mut out)),
                };
            }
            if matches!(step, Step::Close { .. } | Step::Crash) {
                break;
            }
        }
        let text = String::from_utf8(out).unwrap();
        (text.match_indices("HTTP/1.1 ").map(|(i, _)| text[i + 9..i + 12].to_owned()).collect(), step)
    }

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn pipelined_requests_are_answered_in_order() {
        let input = [GET, b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", GET].concat();
        assert_eq!(talk(&input, &[1000], &mut site()).0, ["200", "404", "200"]);
    }

    #[test]
    fn a_body_is_read_before_the_answer_and_the_next_request_follows_it() {
        let post = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let mut session = Session::default();
        let mut out = Vec::new();
        assert_eq!(session.advance(&post[..60], &mut site(), &mut out), Step::Read);
        assert!(out.is_empty());
        assert_eq!(session.advance(&[&post[60..], GET].concat(), &mut site(), &mut out), Step::Read);
        assert_eq!(String::from_utf8(out).unwrap().matches("200 OK").count(), 2);
    }

    #[test]
    fn a_client_that_waits_for_continue_gets_it() {
        let head = b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
        assert_eq!(talk(head, &[1000], &mut site()).0, ["100"]);
        let impatient = [&head[..], b"x"].concat();
        assert_eq!(talk(&impatient, &[1000], &mut site()).0, ["200"]);
    }

    #[test]
    fn when_stopping_all_that_was_received_is_answered_and_then_the_end_is_announced() {
        let mut site = site();
        site.stopping = true;
        let (mut session, mut out) = (Session::default(), Vec::new());
        let step = session.advance(&[GET, GET].concat(), &mut site, &mut out);
        assert_eq!(step, Step::Close { linger: true });
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches("200 OK").count(), 2);
        assert_eq!(text.matches("Connection: close").count(), 1);
        assert!(text.rfind("Connection: close") > text.rfind("200 OK"));
    }

    #[test]
    fn a_client_that_asked_for_the_end_is_not_waited_for() {
        let close = b"GET / HTTP/1.0\r\n\r\n";
        assert_eq!(talk(close, &[1000], &mut site()), (vec!["200".to_owned()], Step::Close { linger: false }));
        assert_eq!(talk(b"\0\r\n\r\n", &[1000], &mut site()), (vec!["400".to_owned()], Step::Close { linger: true }));
    }

    #[test]
    fn a_crash_needs_leave() {
        let crash = b"GET /crash HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(talk(crash, &[1000], &mut site()).0, ["404"]);
        assert_eq!(talk(crash, &[1000], &mut Site::new(&[], 1, true)).1, Step::Crash);
    }

    #[test]
    fn many_pipelined_requests_are_handed_over_in_portions() {
        let input = GET.repeat(2000);
        let (mut session, mut out, mut answered) = (Session::default(), Vec::new(), 0);
        let mut step = session.advance(&input, &mut site(), &mut out);
        while step == Step::Flush {
            assert!(out.len() < FULL + 1024);
            answered += String::from_utf8(std::mem::take(&mut out)).unwrap().matches("200 OK").count();
            step = session.advance(b"", &mut site(), &mut out);
        }
        answered += String::from_utf8(out).unwrap().matches("200 OK").count();
        assert_eq!((step, answered), (Step::Read, 2000));
    }

    proptest! {
        /// However requests are cut into reads, the same answers come.
        #[test]
        fn cuts_do_not_matter(picks in prop::collection::vec(0_usize..6, 1..8), cuts in prop::collection::vec(1_usize..50, 1..40)) {
            let kinds: [&[u8]; 6] = [
                GET,
                b"HEAD /healthz HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n",
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world",
                b"\r\nPUT /env HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nT: x\r\n\r\n",
                b"GET /slow?ms=1 HTTP/1.1\r\nHost: a\r\n\r\n",
                b"GET /nowhere HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            ];
            let input: Vec<u8> = picks.iter().flat_map(|p| kinds[*p].iter().copied()).collect();
            let (answers, step) = talk(&input, &cuts, &mut site());
            prop_assert_eq!(answers.len(), picks.len());
            prop_assert_eq!(step, Step::Read);
        }

        /// Junk is answered or waited on, and never does harm.
        #[test]
        fn junk_is_harmless(junk in prop::collection::vec(any::<u8>(), 0..400), cuts in prop::collection::vec(1_usize..50, 1..9)) {
            let (answers, step) = talk(&junk, &cuts, &mut site());
            prop_assert!(answers.len() <= 1 || step == Step::Read);
        }
    }
}
