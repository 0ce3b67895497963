//! The command line's side of the control socket: find the master, connect, ask, and say in words what went wrong.
//!
//! Blocking, on one thread. Where to look comes in as an argument ([`Search`]): this room reads no environment.

mod connection;
mod dial;
mod error;
mod locate;
mod places;

pub use connection::Connection;
pub use error::ClientError;
pub use locate::{Search, locate};
pub use places::Places;
pub use places::{own_runtime_dir, runtime_dirs};
