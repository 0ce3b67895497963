//! Owns the methods: which there are, and how a line becomes one of them or an answer that says what is wrong with it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    AbortParameters, ErrorName, Failure, HealthParameters, KillParameters, ListenersParameters, Patience, PlanParameters,
    PoolsParameters, PsParameters, ReloadParameters, RestartParameters, RetryParameters, RollbackParameters, ScaleParameters,
    ShutdownParameters, StatusParameters, UpgradeParameters, WaitParameters,
};

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "method", content = "parameters", rename_all = "kebab-case")]
pub enum Request {
    /// Who is there. Reply: [`super::InfoReply`].
    Info,
    /// Pools, and workers if wanted. Reply: [`super::StatusReply`].
    Status(StatusParameters),
    /// All processes. Reply: [`super::PsReply`].
    Ps(PsParameters),
    /// Is everything well. Reply: [`super::HealthReply`].
    Health(HealthParameters),
    /// The sockets. Reply: [`super::ListenersReply`].
    Listeners(ListenersParameters),
    /// Which signal does what. Reply: [`super::SignalsReply`].
    Signals,
    /// What a reload would do. Reply: [`super::PlanReply`].
    Plan(PlanParameters),
    /// The last configs: when, by whom, what changed, how it ended. Reply: [`super::HistoryReply`].
    History,
    /// Change a pool's count. Reply, as to all below: [`super::OutcomeReply`].
    Scale(ScaleParameters),
    /// Stop pools and keep them stopped.
    Stop(PoolsParameters),
    /// Start pools.
    Start(PoolsParameters),
    /// Replace workers a few at a time.
    Restart(RestartParameters),
    /// Signal workers. Answered as soon as it is sent.
    Kill(KillParameters),
    /// Wait for a condition.
    Wait(WaitParameters),
    /// Clear a pool's back-off and try now.
    Retry(RetryParameters),
    /// Read the config again and put it in force, as one transaction.
    Reload(ReloadParameters),
    /// Undo what is ordered and not in force yet.
    Abort(AbortParameters),
    /// Put the last good config before the one in force in force again.
    Rollback(RollbackParameters),
    /// Put another program in the place of the master's, in the same process.
    Upgrade(UpgradeParameters),
    /// Reopen log files. Answered at once.
    Reopen,
    /// End the master.
    Shutdown(ShutdownParameters),
}

/// The names of all methods.
pub const METHODS: [&str; 21] = [
    "info",
    "status",
    "ps",
    "health",
    "listeners",
    "signals",
    "scale",
    "stop",
    "start",
    "restart",
    "kill",
    "wait",
    "retry",
    "plan",
    "reload",
    "abort",
    "rollback",
    "history",
    "upgrade",
    "reopen",
    "shutdown",
];

impl Request {
    /// How long the client waits for the effect. Questions are answered at once and have no bound.
    pub fn patience(&self) -> Patience {
        match self {
            Request::Scale(p) => Patience::of(p.wait, p.timeout_ms),
            Request::Stop(p) | Request::Start(p) => Patience::of(p.wait, p.timeout_ms),
            Request::Restart(p) => Patience::of(p.wait, p.timeout_ms),
            Request::Wait(p) => Patience::of(true, p.timeout_ms),
            Request::Retry(p) => Patience::of(p.wait, p.timeout_ms),
            Request::Reload(p) => Patience::of(p.wait, p.timeout_ms),
            Request::Abort(p) => Patience::of(p.wait, p.timeout_ms),
            Request::Rollback(p) => Patience::of(p.wait, p.timeout_ms),
            Request::Shutdown(p) => Patience::of(p.wait, p.timeout_ms),
            Request::Upgrade(p) => Patience::of(true, p.timeout_ms),
            Request::Info
            | Request::Status(_)
            | Request::Ps(_)
            | Request::Health(_)
            | Request::Listeners(_)
            | Request::Signals
            | Request::Plan(_)
            | Request::History
            | Request::Kill(_)
            | Request::Reopen => Patience::UNBOUNDED,
        }
    }

    /// It changes something: an audit event is due.
    pub fn changes(&self) -> bool {
        match self {
            Request::Info
            | Request::Status(_)
            | Request::Ps(_)
            | Request::Health(_)
            | Request::Listeners(_)
            | Request::Signals
            | Request::Plan(_)
            | Request::History
            | Request::Wait(_) => false,
            Request::Scale(_)
            | Request::Stop(_)
            | Request::Start(_)
            | Request::Restart(_)
            | Request::Kill(_)
            | Request::Retry(_)
            | Request::Reload(_)
            | Request::Abort(_)
            | Request::Rollback(_)
            | Request::Upgrade(_)
            | Request::Reopen
            | Request::Shutdown(_) => true,
        }
    }
}

/// A request as it stands on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// Method and parameters.
    #[serde(flatten)]
    pub request: Request,
    /// The client takes several replies: of an order that replaces workers (`restart`, `reload`, `rollback`), one for each step, a
    /// [`super::ProgressReply`], before the last.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

impl Call {
    /// A call that takes one reply.
    pub fn new(request: Request) -> Call {
        Call { request, more: false }
    }

    /// One line, newline included.
    pub fn encode(&self) -> Result<Vec<u8>, Failure> {
        let mut line = serde_json::to_vec(self)
            .map_err(|e| Failure::new(ErrorName::Internal, format!("cannot write a request as JSON: {e}")))?;
        line.push(b'\n');
        Ok(line)
    }

    /// Reads one line (without its end). The error is the reply to send; the connection is still good.
    pub fn parse(frame: &[u8]) -> Result<Call, Failure> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Envelope<'a> {
            method: String,
            #[serde(borrow, default)]
            parameters: Option<&'a RawValue>,
            #[serde(default)]
            more: bool,
        }
        if frame.trim_ascii_start().first() != Some(&b'{') {
            return Err(Failure::new(
                ErrorName::BadMessage,
                "not a request: not a JSON object; one looks like {\"method\":\"status\"}",
            ));
        }
        let Envelope { method, parameters, more } = serde_json::from_slice(frame).map_err(|e| {
            Failure::new(ErrorName::BadMessage, format!("not a request: {e}; one looks like {{\"method\":\"status\"}}"))
        })?;
        let parameters = parameters.map_or("{}", RawValue::get);
        let request = match method.as_str() {
            "info" => none(&method, parameters).map(|()| Request::Info),
            "status" => read(&method, parameters).map(Request::Status),
            "ps" => read(&method, parameters).map(Request::Ps),
            "health" => read(&method, parameters).map(Request::Health),
            "listeners" => read(&method, parameters).map(Request::Listeners),
            "signals" => none(&method, parameters).map(|()| Request::Signals),
            "scale" => read(&method, parameters).map(Request::Scale),
            "stop" => read(&method, parameters).map(Request::Stop),
            "start" => read(&method, parameters).map(Request::Start),
            "restart" => restart(&method, parameters),
            "kill" => read(&method, parameters).map(Request::Kill),
            "wait" => read(&method, parameters).map(Request::Wait),
            "retry" => read(&method, parameters).map(Request::Retry),
            "plan" => read(&method, parameters).map(Request::Plan),
            "reload" => read(&method, parameters).map(Request::Reload),
            "abort" => read(&method, parameters).map(Request::Abort),
            "rollback" => read(&method, parameters).map(Request::Rollback),
            "upgrade" => read(&method, parameters).map(Request::Upgrade),
            "history" => none(&method, parameters).map(|()| Request::History),
            "reopen" => none(&method, parameters).map(|()| Request::Reopen),
            "shutdown" => read(&method, parameters).map(Request::Shutdown),
            _ => Err(unknown(&method)),
        }?;
        Ok(Call { request, more })
    }
}

fn read<T: DeserializeOwned>(method: &str, parameters: &str) -> Result<T, Failure> {
    // serde would take a list as a struct's fields in order.
    if !parameters.starts_with('{') {
        return Err(Failure::new(ErrorName::InvalidParameter, format!("{method}: `parameters` must be an object")));
    }
    serde_json::from_str(parameters).map_err(|e| {
        // The position is one within `parameters`, which nobody typed as a line of its own.
        let words = e.to_string();
        let words = words.rsplit_once(" at line ").map_or(words.as_str(), |(w, _)| w);
        Failure::new(ErrorName::InvalidParameter, format!("{method}: {words}"))
    })
}

fn none(method: &str, parameters: &str) -> Result<(), Failure> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    read::<Nothing>(method, parameters).map(|_| ())
}

fn restart(method: &str, parameters: &str) -> Result<Request, Failure> {
    let parameters: RestartParameters = read(method, parameters)?;
    if parameters.targets.is_empty() {
        return Err(Failure::new(ErrorName::InvalidParameter, "restart: `targets` is empty; name pools or slots, or `all`"));
    }
    Ok(Request::Restart(parameters))
}

fn unknown(method: &str) -> Failure {
    let shown: String = method.chars().take(40).collect();
    Failure::new(ErrorName::UnknownMethod, format!("there is no method {shown:?}; there are: {}", METHODS.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Pools, Selector};
    use crate::supervisor::{Condition, ScaleChange};
    use proptest::prelude::*;

    fn samples() -> Vec<Request> {
        let web = || "web".to_owned();
        vec![
            Request::Info,
            Request::Status(StatusParameters::default()),
            Request::Status(StatusParameters { pool: Some(web()), workers: true }),
            Request::Ps(PsParameters { pool: None }),
            Request::Health(HealthParameters { pool: Some(web()) }),
            Request::Listeners(ListenersParameters::default()),
            Request::Signals,
            Request::Scale(ScaleParameters { pool: web(), change: ScaleChange::By(-2), wait: true, timeout_ms: Some(500) }),
            Request::Stop(PoolsParameters { pools: Pools::All, wait: false, timeout_ms: None }),
            Request::Start(PoolsParameters { pools: Pools::Named(vec![web()]), wait: true, timeout_ms: None }),
            Request::Restart(RestartParameters {
                targets: vec![Selector::Slot { pool: web(), slot: 3 }, Selector::Pool(web())],
                wait: true,
                timeout_ms: None,
            }),
            Request::Kill(KillParameters { target: Selector::Pool(web()), signal: 35 }),
            Request::Wait(WaitParameters { pool: web(), until: Condition::Count(3), timeout_ms: Some(1) }),
            Request::Retry(RetryParameters { pool: web(), wait: true, timeout_ms: None }),
            Request::Plan(PlanParameters { config: Some("/etc/x.toml".to_owned()), restart: true, pools: vec![web()] }),
            Request::Reload(ReloadParameters { restart: true, pools: vec![web()], wait: true, timeout_ms: None }),
            Request::Abort(AbortParameters { wait: true, timeout_ms: None }),
            Request::Upgrade(UpgradeParameters {
                binary: Some("/opt/2/poolmaster".to_owned()),
                wait_for_rest: true,
                timeout_ms: Some(9),
            }),
            Request::Rollback(RollbackParameters { wait: false, timeout_ms: Some(3) }),
            Request::History,
            Request::Reopen,
            Request::Shutdown(ShutdownParameters { now: true, wait: true, timeout_ms: None }),
        ]
    }

    #[test]
    fn every_request_reads_back_as_it_was_written() {
        for request in samples() {
            for more in [false, true] {
                let call = Call { request: request.clone(), more };
                assert_eq!(Call::parse(&call.encode().unwrap()), Ok(call));
            }
        }
    }

    #[test]
    fn the_list_of_methods_is_the_list_of_methods() {
        for method in METHODS {
            let answer = Call::parse(format!("{{\"method\":\"{method}\"}}").as_bytes());
            assert!(!matches!(&answer, Err(f) if f.error == ErrorName::UnknownMethod.as_str()), "{method}: {answer:?}");
            assert!(samples().iter().any(|r| serde_json::to_value(r).unwrap()["method"] == method), "{method} has no sample");
        }
    }

    #[test]
    fn the_wire_is_what_the_design_says() {
        let line = |i: usize| String::from_utf8(Call::new(samples()[i].clone()).encode().unwrap()).unwrap();
        assert_eq!(line(0), "{\"method\":\"info\"}\n");
        assert_eq!(line(7), "{\"method\":\"scale\",\"parameters\":{\"pool\":\"web\",\"change\":\"-2\",\"timeout_ms\":500}}\n");
        assert_eq!(line(8), "{\"method\":\"stop\",\"parameters\":{\"pools\":[\"all\"],\"wait\":false}}\n");
        assert_eq!(line(10), "{\"method\":\"restart\",\"parameters\":{\"targets\":[\"web:3\",\"web\"]}}\n");
        assert_eq!(line(11), "{\"method\":\"kill\",\"parameters\":{\"target\":\"web\",\"signal\":\"SIGRTMIN+1\"}}\n");
        assert_eq!(line(12), "{\"method\":\"wait\",\"parameters\":{\"pool\":\"web\",\"for\":\"count=3\",\"timeout_ms\":1}}\n");
    }

    #[test]
    fn parameters_may_be_left_out_where_none_is_needed() {
        for text in [
            r#"{"method":"status"}"#,
            r#"{"method":"status","parameters":{},"more":false}"#,
            r#"{"method":"status","parameters":null}"#,
        ] {
            assert_eq!(Call::parse(text.as_bytes()), Ok(Call::new(Request::Status(StatusParameters::default()))), "{text}");
        }
        assert_eq!(
            Call::parse(br#"{"method":"reload"}"#).map(|c| c.request.patience()),
            Ok(Patience::UNBOUNDED),
            "waits by default"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, error, part) in [
            ("", ErrorName::BadMessage, "not a request"),
            ("{", ErrorName::BadMessage, "not a request"),
            ("[]", ErrorName::BadMessage, "not a request"),
            (r#"["status"]"#, ErrorName::BadMessage, "not a JSON object"),
            ("{}", ErrorName::BadMessage, "missing field `method`"),
            (r#"{"method":"status","extra":1}"#, ErrorName::BadMessage, "unknown field `extra`"),
            (r#"{"method":"fly"}"#, ErrorName::UnknownMethod, "there are: info, status, ps"),
            (
                r#"{"method":"status","parameters":{"pol":"web"}}"#,
                ErrorName::InvalidParameter,
                "status: unknown field `pol`, expected",
            ),
            (r#"{"method":"status","parameters":[]}"#, ErrorName::InvalidParameter, "status: `parameters` must be an object"),
            (r#"{"method":"info","parameters":{"a":1}}"#, ErrorName::InvalidParameter, "info: unknown field `a`"),
            (r#"{"method":"scale"}"#, ErrorName::InvalidParameter, "scale: missing field `pool`"),
            (r#"{"method":"scale","parameters":{"pool":"web","change":"lots"}}"#, ErrorName::InvalidParameter, "use +1, -2"),
            (r#"{"method":"stop","parameters":{"pools":[]}}"#, ErrorName::InvalidParameter, "no pool is named"),
            (r#"{"method":"restart","parameters":{"targets":[]}}"#, ErrorName::InvalidParameter, "`targets` is empty"),
            (
                r#"{"method":"kill","parameters":{"target":"web","signal":"NOPE"}}"#,
                ErrorName::InvalidParameter,
                "is not a signal",
            ),
            (r#"{"method":"wait","parameters":{"pool":"web","for":"rain"}}"#, ErrorName::InvalidParameter, "one can wait for"),
            (r#"{"method":"retry","parameters":{"pool":"web","timeout_ms":-1}}"#, ErrorName::InvalidParameter, "retry: "),
        ] {
            let failure = Call::parse(text.as_bytes()).unwrap_err();
            assert_eq!((failure.error.as_str(), failure.code), (error.as_str(), 2), "{text}: {failure}");
            assert!(failure.message.contains(part), "{text}: {failure}");
            assert!(!failure.message.contains('\n'), "{text}: {failure}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_without_harm() {
        let deep = format!("{{\"method\":\"status\",\"parameters\":{}}}", "[".repeat(60_000));
        assert!(Call::parse(deep.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Call::parse(&junk);
        }

        #[test]
        fn near_misses_never_panic(
            method in proptest::sample::select(METHODS.to_vec()),
            key in "[a-z_]{1,8}",
            value in proptest::sample::select(vec!["1", "-1", "1e99", "null", "\"web\"", "[\"web\",1]", "{}", "true", "\"\\ud800\""]),
        ) {
            let _ = Call::parse(format!("{{\"method\":\"{method}\",\"parameters\":{{\"{key}\":{value}}}}}").as_bytes());
        }
    }
}
