//! Owns the form of replies on the wire: encoding for the master, decoding for the client.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::failure::FailureParameters;
use super::{ErrorName, Failure};
use crate::supervisor::Outcome;

/// Reply to everything that changes something, and to `wait`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeReply {
    /// The exit code of the verb; 0 in a reply that is no error.
    pub code: u8,
    /// What is now true, in words.
    pub message: String,
}

/// One line, newline included: `{"parameters":...}`.
pub fn encode_reply<T: Serialize>(parameters: &T, continues: bool) -> Result<Vec<u8>, Failure> {
    #[derive(Serialize)]
    struct Envelope<'a, T> {
        parameters: &'a T,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        continues: bool,
    }
    line(&Envelope { parameters, continues })
        .map_err(|e| Failure::new(ErrorName::Internal, format!("cannot write a reply as JSON: {e}")))
}

/// One line, newline included: `{"error":...,"parameters":{"code":...,"message":...}}`.
pub fn encode_failure(failure: &Failure) -> Vec<u8> {
    #[derive(Serialize)]
    struct Envelope<'a> {
        error: &'a str,
        parameters: FailureParameters,
    }
    let parameters = FailureParameters { code: failure.code, message: failure.message.clone() };
    line(&Envelope { error: &failure.error, parameters })
        .unwrap_or_else(|_| b"{\"error\":\"org.poolmaster.Internal\",\"parameters\":{\"code\":70,\"message\":\"\"}}\n".to_vec())
}

/// One line, newline included, for the core's answer to a command: an [`OutcomeReply`], or the error that it means.
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    let failure = match outcome {
        Outcome::Done(message) => {
            return encode_reply(&OutcomeReply { code: 0, message: message.clone() }, false)
                .unwrap_or_else(|f| encode_failure(&f));
        }
        Outcome::Failed(message) => Failure::new(ErrorName::Failed, message),
        Outcome::Invalid(message) => Failure::new(ErrorName::BadConfig, message),
        Outcome::RolledBack(message) => Failure::new(ErrorName::RolledBack, message),
        Outcome::TimedOut(message) => Failure::new(ErrorName::TimedOut, message),
        Outcome::Refused(message) => Failure::new(ErrorName::Refused, message),
    };
    encode_failure(&failure)
}

fn line<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// A reply as it came: `parameters` are kept as their own text until their type is known.
#[derive(Debug)]
pub struct Reply {
    parameters: Option<Box<RawValue>>,
    /// More replies follow.
    pub continues: bool,
}

/// What came is no reply of this protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadReply(String);

impl fmt::Display for BadReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadReply {}

impl Reply {
    /// Reads one line (without its end). The inner error is the master's own answer.
    pub fn parse(frame: &[u8]) -> Result<Result<Reply, Failure>, BadReply> {
        #[derive(Deserialize)]
        struct Envelope {
            error: Option<String>,
            parameters: Option<Box<RawValue>>,
            #[serde(default)]
            continues: bool,
        }
        let bad = |e: &dyn fmt::Display| BadReply(format!("not a reply: {e}: {}", excerpt(frame)));
        let envelope: Envelope = serde_json::from_slice(frame).map_err(|e| bad(&e))?;
        match (envelope.error, envelope.parameters) {
            (None, None) => Err(bad(&"neither `parameters` nor `error` in it")),
            (None, parameters) => Ok(Ok(Reply { parameters, continues: envelope.continues })),
            (Some(error), parameters) => {
                let text = parameters.as_ref().map_or("{}", |p| p.get());
                let FailureParameters { code, message } = serde_json::from_str(text).map_err(|e| bad(&e))?;
                // An error with code 0 would end the verb as a success.
                Ok(Err(Failure { error, code: code.max(1), message }))
            }
        }
    }

    /// The parameters, as the method's reply type. Fields that this version does not know are ignored.
    pub fn parameters<T: DeserializeOwned>(&self) -> Result<T, BadReply> {
        serde_json::from_str(self.json())
            .map_err(|e| BadReply(format!("a reply without the expected content: {e}: {}", excerpt(self.json().as_bytes()))))
    }

    /// The parameters as the master wrote them.
    pub fn json(&self) -> &str {
        self.parameters.as_ref().map_or("{}", |p| p.get())
    }
}

/// The first bytes of something unexpected, printable.
fn excerpt(bytes: &[u8]) -> String {
    let end = bytes.len().min(60);
    let more = if bytes.len() > end { " ..." } else { "" };
    format!("\"{}\"{more}", bytes[..end].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: Vec<u8>) -> String {
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn replies_look_as_documented() {
        let done = encode_outcome(&Outcome::Done("web: 4 workers".to_owned()));
        assert_eq!(text(done), "{\"parameters\":{\"code\":0,\"message\":\"web: 4 workers\"}}\n");
        let refused = encode_outcome(&Outcome::Refused("max".to_owned()));
        assert_eq!(text(refused), "{\"error\":\"org.poolmaster.Refused\",\"parameters\":{\"code\":7,\"message\":\"max\"}}\n");
        let stream = encode_reply(&1, true).unwrap();
        assert_eq!(text(stream), "{\"parameters\":1,\"continues\":true}\n");
    }

    #[test]
    fn every_outcome_comes_back_with_its_code() {
        let m = || "words".to_owned();
        for (outcome, code) in
            [(Outcome::Failed(m()), 1), (Outcome::RolledBack(m()), 3), (Outcome::TimedOut(m()), 5), (Outcome::Refused(m()), 7)]
        {
            let failure = Reply::parse(&encode_outcome(&outcome)).unwrap().unwrap_err();
            assert_eq!((failure.code, failure.message.as_str()), (code, "words"));
        }
        let reply = Reply::parse(&encode_outcome(&Outcome::Done(m()))).unwrap().unwrap();
        assert_eq!(reply.parameters(), Ok(OutcomeReply { code: 0, message: m() }));
    }

    #[test]
    fn junk_is_told_as_junk() {
        for junk in ["", "{", "[]", "7", "{}", "HTTP/1.1 400 Bad Request", "{\"error\":5}", "{\"parameters\":", "\u{0}\u{7}"] {
            let error = Reply::parse(junk.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("not a reply: "), "{junk:?}: {error}");
        }
        let reply = Reply::parse(b"{\"parameters\":{\"other\":1}}").unwrap().unwrap();
        let error = reply.parameters::<OutcomeReply>().unwrap_err().to_string();
        assert!(error.contains("missing field `code`") && error.contains("other"), "{error}");
    }

    #[test]
    fn an_error_never_counts_as_success() {
        let failure = Reply::parse(b"{\"error\":\"org.varlink.service.MethodNotFound\"}").unwrap().unwrap_err();
        assert_eq!((failure.code, failure.to_string().as_str()), (1, "org.varlink.service.MethodNotFound"));
        let failure = Reply::parse(b"{\"error\":\"x\",\"parameters\":{\"code\":0}}").unwrap().unwrap_err();
        assert_eq!(failure.code, 1);
    }
}
