//! Owns what can go wrong between a client and a master, each with the exit code that it means.

use crate::protocol::Failure;

/// Why a question has no answer. The text names the attempt, the object, the cause and the next step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No master was found.
    #[error("{0}")]
    NoMaster(String),
    /// More than one was found, and which one is meant was not said.
    #[error("{0}")]
    Several(String),
    /// The socket may not be used by this user.
    #[error("{0}")]
    NotPermitted(String),
    /// The config given does not tell where the socket is.
    #[error("{0}")]
    BadConfig(String),
    /// No answer in time.
    #[error("{0}")]
    TimedOut(String),
    /// The connection broke before the answer was complete.
    #[error("{0}")]
    Lost(String),
    /// Somebody at the terminal does not wait any longer.
    #[error("{0}")]
    Interrupted(String),
    /// What came is no answer.
    #[error("{0}")]
    Garbled(String),
    /// The master's own answer.
    #[error("{0}")]
    Answered(Failure),
}

impl ClientError {
    /// The exit code of the verb (design: exit codes).
    pub fn code(&self) -> u8 {
        match self {
            ClientError::NoMaster(_) | ClientError::Several(_) => 4,
            ClientError::NotPermitted(_) => 6,
            ClientError::BadConfig(_) => 2,
            ClientError::TimedOut(_) | ClientError::Interrupted(_) => 5,
            ClientError::Lost(_) | ClientError::Garbled(_) => 1,
            ClientError::Answered(failure) => failure.code,
        }
    }

    /// The name for programs, as in a reply of the master.
    pub fn name(&self) -> &str {
        match self {
            ClientError::NoMaster(_) | ClientError::Several(_) => "org.poolmaster.NoMaster",
            ClientError::NotPermitted(_) => "org.poolmaster.NotPermitted",
            ClientError::BadConfig(_) => "org.poolmaster.BadConfig",
            ClientError::TimedOut(_) => "org.poolmaster.TimedOut",
            ClientError::Interrupted(_) => "org.poolmaster.Interrupted",
            ClientError::Lost(_) => "org.poolmaster.Lost",
            ClientError::Garbled(_) => "org.poolmaster.Garbled",
            ClientError::Answered(failure) => &failure.error,
        }
    }
}
