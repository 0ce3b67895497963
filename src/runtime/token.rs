//! Owns what the epoll tokens mean: which kind of descriptor, and whose.

/// A descriptor in epoll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// The signalfd.
    Signals,
    /// The control socket's listener.
    Control,
    /// A control client.
    Client(u64),
    /// A worker's exec pipe.
    Exec(u64),
    /// A worker's notify socket.
    Notify(u64),
    /// A worker's captured stdout.
    Stdout(u64),
    /// A worker's captured stderr.
    Stderr(u64),
    /// The pipe on which a worker says that it is ready.
    Ready(u64),
    /// A look from outside at a worker.
    Look(u64),
    /// A pool's socket for acknowledgements.
    Acks(u64),
    /// A worker that connected to it.
    Ack(u64),
    /// A descriptor that a worker left with us.
    Stored(u64),
    /// The output of a hook.
    Hook(u64),
    /// The set of all captured pipes.
    Outputs,
    /// A config has been read.
    Config,
    /// The first master, when this is a second one.
    First,
    /// What a program says that is to take the place of this one.
    Upgrade,
}

const KIND_BITS: u32 = 56;

impl From<Token> for u64 {
    fn from(token: Token) -> u64 {
        let (kind, number) = match token {
            Token::Signals => (0u64, 0),
            Token::Control => (1, 0),
            Token::Client(n) => (2, n),
            Token::Exec(n) => (3, n),
            Token::Notify(n) => (4, n),
            Token::Stdout(n) => (5, n),
            Token::Stderr(n) => (6, n),
            Token::Ready(n) => (7, n),
            Token::Look(n) => (8, n),
            Token::Acks(n) => (9, n),
            Token::Ack(n) => (10, n),
            Token::Stored(n) => (11, n),
            Token::Hook(n) => (12, n),
            Token::Outputs => (13, 0),
            Token::Config => (14, 0),
            Token::First => (15, 0),
            Token::Upgrade => (16, 0),
        };
        kind << KIND_BITS | number
    }
}

impl Token {
    /// What a number from epoll stands for. Numbers are never used twice, so a stale one finds nobody.
    pub(super) fn read(raw: u64) -> Option<Token> {
        let number = raw & ((1 << KIND_BITS) - 1);
        Some(match raw >> KIND_BITS {
            0 => Token::Signals,
            1 => Token::Control,
            2 => Token::Client(number),
            3 => Token::Exec(number),
            4 => Token::Notify(number),
            5 => Token::Stdout(number),
            6 => Token::Stderr(number),
            7 => Token::Ready(number),
            8 => Token::Look(number),
            9 => Token::Acks(number),
            10 => Token::Ack(number),
            11 => Token::Stored(number),
            12 => Token::Hook(number),
            13 => Token::Outputs,
            14 => Token::Config,
            15 => Token::First,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_way_through_epoll() {
        for token in [
            Token::Signals,
            Token::Control,
            Token::Client(7),
            Token::Exec(1),
            Token::Notify(2),
            Token::Stdout(3),
            Token::Stderr(4),
            Token::Ready(5),
            Token::Look(6),
            Token::Acks(8),
            Token::Ack(9),
            Token::Stored(10),
            Token::Hook(11),
            Token::Outputs,
            Token::Config,
            Token::First,
        ] {
            assert_eq!(Token::read(token.into()), Some(token));
        }
        assert_eq!(Token::read(u64::MAX), None);
    }
}
