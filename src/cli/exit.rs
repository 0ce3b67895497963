//! Owns the exit codes and what they mean in words.

/// How a verb ended. The numbers are a promise to scripts.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// The effect is real, or the question is answered.
    Done = 0,
    /// It was tried and failed.
    Failed = 1,
    /// Wrong usage, or an error in the config.
    Usage = 2,
    /// Undone; from `run`: a worker could not boot.
    RolledBack = 3,
    /// No master reachable; from `run`: a worker could not load its app.
    NoMaster = 4,
    /// Not done in time; the work goes on.
    TimedOut = 5,
    /// Not permitted.
    NotPermitted = 6,
    /// Refused by an invariant.
    Refused = 7,
    /// From `plan`: some settings would change, and no worker.
    PlanLive = 10,
    /// From `plan`: workers would be replaced, started or stopped.
    PlanWorkers = 11,
    /// From `plan`: some of it needs a new master.
    PlanMaster = 12,
    /// A fault of poolmaster itself.
    Internal = 70,
}

impl Exit {
    /// Every code there is.
    pub const ALL: [Exit; 12] = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::RolledBack,
        Exit::NoMaster,
        Exit::TimedOut,
        Exit::NotPermitted,
        Exit::Refused,
        Exit::PlanLive,
        Exit::PlanWorkers,
        Exit::PlanMaster,
        Exit::Internal,
    ];

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The code that a number stands for; one that is not ours (from a newer master) counts as a failure.
    pub fn of(code: u8) -> Exit {
        Exit::ALL.into_iter().find(|e| e.code() == code).unwrap_or(Exit::Failed)
    }

    /// What it means after a verb that talks to a master.
    pub fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Failed => "failed",
            Exit::Usage => "usage or config error, nothing was changed",
            Exit::RolledBack => "rolled back, or superseded by a newer order",
            Exit::NoMaster => "no master was reached",
            Exit::TimedOut => "timed out, the work goes on",
            Exit::NotPermitted => "not permitted",
            Exit::Refused => "refused, nothing was changed",
            Exit::PlanLive => "only live changes, no worker would be touched",
            Exit::PlanWorkers => "workers would be replaced, started or stopped",
            Exit::PlanMaster => "some changes need a new master",
            Exit::Internal => "internal error, please report it",
        }
    }

    /// What it means after a verb that only looks at a config.
    pub fn meaning_of_look(self) -> &'static str {
        match self {
            Exit::Usage => "usage or config error",
            Exit::Done
            | Exit::Failed
            | Exit::RolledBack
            | Exit::NoMaster
            | Exit::TimedOut
            | Exit::NotPermitted
            | Exit::Refused
            | Exit::PlanLive
            | Exit::PlanWorkers
            | Exit::PlanMaster
            | Exit::Internal => self.meaning(),
        }
    }

    /// What it means after `run`.
    pub fn meaning_of_run(self) -> &'static str {
        match self {
            Exit::Usage => "usage or config error, nothing was started",
            Exit::RolledBack => "a worker could not boot",
            Exit::NoMaster => "a worker could not load its app",
            Exit::Done
            | Exit::Failed
            | Exit::TimedOut
            | Exit::NotPermitted
            | Exit::Refused
            | Exit::PlanLive
            | Exit::PlanWorkers
            | Exit::PlanMaster
            | Exit::Internal => self.meaning(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 70]);
        for exit in Exit::ALL {
            assert_eq!(Exit::of(exit.code()), exit);
        }
        assert_eq!(Exit::of(99), Exit::Failed);
    }
}
