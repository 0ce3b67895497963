//! Pure decisions: what should run, what happened, what to do next.
//!
//! This module performs no I/O, reads no clock and draws no randomness but from an injected seed. Its whole contract is
//! [`Supervisor::handle`] (an event in, actions out) and [`Supervisor::next_deadline`] (when to call again if nothing
//! happens). The real runtime, the simulator and the replay of a recorded trace drive the same code.

mod action;
mod backoff;
mod chance;
mod commands;
mod configure;
mod event;
mod forecast;
mod history;
mod id;
mod order;
mod pending;
mod pool;
mod progress;
mod reload;
mod shutdown;
mod signals;
mod snapshot;
mod spec;
mod status;
#[expect(clippy::module_inception, reason = "the room and its one entry point share the name")]
mod supervisor;
mod time;
mod timers;
mod view;
mod wishes;
mod words;
mod worker;

pub use action::{Action, Cause, ConfigSource, Level, Next, Note, Outcome, Reason, Scope, What};
pub use event::{
    Command, CommandId, Condition, Event, MasterSignal, Notification, ScaleChange, Sender, SpawnError, SpawnFault, Target,
};
pub use forecast::{Course, Outlook, forecast};
pub use history::{Ended, REMEMBERED, Record};
pub use id::{PoolId, WorkerId};
pub use spec::{
    Backoff, Budget, ExitWhen, KillMode, MasterSpec, OnBootFailure, OnHup, OnRollFailure, PoolSpec, ReadyKind, Remove, Restart,
    RestartPolicy, Rollout, Share, StopStep, TimeoutFrom,
};
pub use status::{ABRT, ExitStatus, KILL, signal_name, signal_number};
pub use supervisor::Supervisor;
pub use time::Time;
pub use view::{Phase, PoolProgress, PoolView, ReloadStage, WorkerState, WorkerView};
pub use words::{count, human};
