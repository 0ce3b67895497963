//! Control messages and their framing: what a client may ask of a master, and what it is told.
//!
//! One JSON object per line, over a Unix stream socket; the field names are varlink's. A request is
//! `{"method":"scale","parameters":{"pool":"web","change":"+1"},"more":false}`, its reply `{"parameters":{...}}` or
//! `{"error":"org.poolmaster.Refused","parameters":{"code":7,"message":"..."}}`; `"continues":true` says that more replies
//! follow. This room performs no I/O: bytes come in and go out as slices, and pools are names that the runtime looks up.
//!
//! A server does: [`LineBuffer::push`] what was read, then for each [`LineBuffer::next_frame`] a [`Call::parse`], and sends
//! [`encode_reply`], [`encode_failure`] or [`encode_outcome`]. A client does [`Call::encode`] and [`Reply::parse`].

mod failure;
mod frame;
mod history;
mod insight;
mod parameters;
mod plan;
mod progress;
mod reply;
mod request;
mod selector;
mod status;
mod text;

pub use failure::{ErrorName, Failure};
pub use frame::{FrameError, LineBuffer, MAX_FRAME, MAX_REPLY};
pub use history::{Ended, HistoryEntry, HistoryReply};
pub use insight::{HealthReply, InfoReply, ListenerStatus, ListenersReply, PoolHealth, SignalEntry, SignalsReply, SlotSocket};
pub use parameters::{
    AbortParameters, HealthParameters, KillParameters, ListenersParameters, Patience, PlanParameters, PoolsParameters,
    PsParameters, ReloadParameters, RestartParameters, RetryParameters, RollbackParameters, ScaleParameters, ShutdownParameters,
    StatusParameters, UpgradeParameters, WaitParameters,
};
pub use plan::{ChangeClass, ListenerVerdict, PlanChange, PlanListener, PlanReply, PlanValue, PoolPlan, PoolVerdict};
pub use progress::{PoolProgress, ProgressReply, ReloadFailure, ReloadStage};
pub use reply::{BadReply, OutcomeReply, Reply, encode_failure, encode_outcome, encode_reply};
pub use request::{Call, METHODS, Request};
pub use selector::{Pools, Selector, parse_pool};
pub use status::{MasterPhase, PoolStatus, PsEntry, PsReply, StatusReply, WorkerStatus};
pub use text::{ParseError, condition_text, parse_condition, parse_scale, parse_signal, scale_text};
