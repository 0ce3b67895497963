//! Safe wrappers over the kernel; the only `unsafe` of the crate.
//!
//! Every descriptor is owned or borrowed, close-on-exec from its birth, and every interrupted call is taken up again. Raw
//! libc is used where a library lacks the call or gets it wrong (the reasons stand at the places). Nothing here knows of
//! pools, slots or workers, and nothing here decides: callers say what, this room says how.
//!
//! | file | what it does |
//! |---|---|
//! | [`access`] | could that user get at this file? |
//! | [`attributes`] | changes what running processes may use |
//! | [`budget`] | how many descriptors, signals and processes there may be |
//! | [`clock`] | reads the clocks |
//! | [`handover`] | descriptors and memory that one image of this process leaves to the next |
//! | [`inherit`] | takes descriptors that a parent left open |
//! | [`io`] | read, write, pipes, /dev/null |
//! | [`signals`] | blocks, receives and sends signals |
//! | [`epoll`] | waits for descriptors |
//! | [`path`] | finds the candidates for a program |
//! | [`spawn`] | starts a program, exactly as planned, and says exactly why it could not |
//! | [`reap`] | takes the status of ended children |
//! | [`process`] | asks about and adjusts processes, this one first |
//! | [`listener`] | listening sockets: opening, queue figures, removal |
//! | [`accepting`] | is that program accepting connections yet? |
//! | [`notify`] | the socket a worker reports to |
//! | [`unix`] | the control socket, both ends |
//! | [`lockfile`] | one instance, one pid file |
//! | [`dirs`] | directories one may trust |
//! | `entry` | names in folders that were reached safely |
//! | [`connect`] | connecting without waiting |
//! | [`daemon`] | the way into the background |
//! | [`service`] | the word to the service manager |
//! | [`title`] | how this process is listed |
//! | [`users`] | users and groups by name |

pub mod accepting;
pub mod access;
pub mod activation;
pub mod attributes;
pub mod budget;
pub mod clock;
pub mod connect;
pub mod daemon;
pub mod dirs;
mod entry;
pub mod epoll;
mod errno;
pub mod handover;
pub mod inherit;
pub mod io;
pub mod leftovers;
pub mod listener;
pub mod lockfile;
pub mod notify;
pub mod path;
pub mod process;
mod procfs;
pub mod reap;
pub mod service;
pub mod signals;
mod socket_file;
pub mod spawn;
pub mod title;
pub mod unix;
pub mod users;

pub use errno::{reason, without_numbers, words};

#[cfg(test)]
mod tests;
