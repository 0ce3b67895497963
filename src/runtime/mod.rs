//! The loop: descriptors become events, actions become system calls. Nothing is decided here; what needs a *why* is in
//! [`crate::supervisor`].

mod acks;
mod actions;
mod answers;
mod attributes;
mod bind;
mod clients;
pub mod daemon;
mod dialects;
mod environment;
mod fdstore;
mod files;
mod guard;
mod handed;
mod hooks;
mod identity;
mod janitor;
mod launch;
mod linger;
mod looks;
mod master;
mod notify;
mod outlook;
mod output;
mod plan;
mod pools;
mod processes;
mod progress;
mod reap;
mod relay;
mod requests;
mod sabotage;
mod service;
mod signals;
mod sockets;
mod staging;
mod start;
mod steer;
mod throttle;
mod token;
mod trace;
mod turn;

pub use files::FilesError;
pub use outlook::{Hindrance, Outlook, outlook};
pub use start::{Reader, Settings, StartError, run};
