//! A constant load on an HTTP listener: clients that keep their connections or make one for each request. Whatever goes wrong for one of them
//! is kept, in words.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::PATIENCE;

/// Where the clients go.
#[derive(Clone, Debug)]
pub enum Goal {
    Port(u16),
    Path(PathBuf),
}

/// How the clients use connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As long as the server lets them.
    Keepalive,
    /// One for each request.
    Each,
    /// As long as the server lets them; a request that comes to a connection which the server has just closed unasked is sent once more, as RFC 9110
    /// (9.2.2) has it for those that are safe.
    KeepaliveRetrying,
}

#[derive(Default)]
struct Tally {
    over: AtomicBool,
    answered: AtomicU64,
    retried: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// The clients at work.
pub struct Load {
    tally: Arc<Tally>,
    clients: Vec<JoinHandle<()>>,
}

/// What came of it.
#[derive(Debug)]
pub struct Toll {
    pub answered: u64,
    pub retried: u64,
    pub failures: Vec<String>,
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

type Connection = BufReader<Box<dyn Stream>>;

impl Goal {
    fn connect(&self) -> std::io::Result<Connection> {
        let stream: Box<dyn Stream> = match self {
            Goal::Port(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            Goal::Path(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        };
        Ok(BufReader::new(stream))
    }
}

/// Why there was no answer.
enum Lack {
    /// The connection ended before any of it.
    Ended(String),
    Broken(String),
}

/// One request and its whole answer. True: the connection stays.
fn ask(connection: &mut Connection, manner: Manner) -> Result<bool, Lack> {
    let request: &[u8] = match manner {
        Manner::Each => b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
        Manner::Keepalive | Manner::KeepaliveRetrying => b"GET / HTTP/1.1\r\nHost: t\r\n\r\n",
    };
    connection.get_mut().write_all(request).map_err(|e| Lack::Ended(format!("write: {e}")))?;
    let mut line = String::new();
    match connection.read_line(&mut line) {
        Ok(0) => return Err(Lack::Ended("closed without an answer".to_owned())),
        Err(e) if e.kind() == ErrorKind::ConnectionReset => return Err(Lack::Ended("reset without an answer".to_owned())),
        Err(e) => return Err(Lack::Broken(format!("read: {e}"))),
        Ok(_) if !line.starts_with("HTTP/1.1 200") => return Err(Lack::Broken(format!("answer {line:?}"))),
        Ok(_) => {}
    }
    let broken = |e: std::io::Error| Lack::Broken(format!("half an answer: {e}"));
    let (mut length, mut stays) = (None, manner != Manner::Each);
    loop {
        line.clear();
        if connection.read_line(&mut line).map_err(broken)? == 0 {
            return Err(Lack::Broken("closed within the head of the answer".to_owned()));
        }
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(n) = header.strip_prefix("content-length:") {
            length = n.trim().parse::<usize>().ok();
        }
        stays &= header != "connection: close";
    }
    let mut body = vec![0; length.ok_or_else(|| Lack::Broken("no length".to_owned()))?];
    connection.read_exact(&mut body).map_err(broken)?;
    Ok(stays)
}

impl Tally {
    fn fail(&self, words: String) {
        self.failures.lock().unwrap().push(words);
    }

    /// One client's life.
    fn client(&self, goal: &Goal, manner: Manner, pace: Duration) {
        let (mut kept, mut again): (Option<Connection>, bool) = (None, false);
        while !self.over.load(Ordering::Relaxed) {
            let old = kept.is_some();
            let mut connection = match kept.take().map_or_else(|| goal.connect(), Ok) {
                Ok(connection) => connection,
                Err(e) => {
                    self.fail(format!("connect: {e}"));
                    return;
                }
            };
            match ask(&mut connection, manner) {
                Ok(stays) => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    again = false;
                    kept = stays.then_some(connection);
                    std::thread::park_timeout(pace);
                }
                Err(Lack::Ended(_)) if old && !again && manner == Manner::KeepaliveRetrying => {
                    again = true;
                    self.retried.fetch_add(1, Ordering::Relaxed);
                }
                Err(Lack::Ended(why) | Lack::Broken(why)) => {
                    self.fail(format!("{why} (on {} connection)", if old { "a kept" } else { "a new" }));
                    return;
                }
            }
        }
    }
}

impl Load {
    /// So many clients, each of which waits so long between an answer and the next request.
    pub fn on(goal: &Goal, clients: usize, manner: Manner, pace: Duration) -> Load {
        let tally = Arc::new(Tally::default());
        let client = |_| {
            let (tally, goal) = (Arc::clone(&tally), goal.clone());
            // Two hundred of them need no megabytes.
            std::thread::Builder::new().stack_size(128 * 1024).spawn(move || tally.client(&goal, manner, pace)).unwrap()
        };
        let clients = (0..clients).map(client).collect();
        Load { tally, clients }
    }

    /// Requests answered so far.
    pub fn answered(&self) -> u64 {
        self.tally.answered.load(Ordering::Relaxed)
    }

    /// Waits until this is so, or something failed.
    pub fn wait_until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let until = std::time::Instant::now() + PATIENCE;
        while !is() && self.tally.failures.lock().unwrap().is_empty() {
            assert!(std::time::Instant::now() < until, "never came true: {what}; {} requests answered", self.answered());
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Waits until so many more are answered, or something failed.
    pub fn wait_more(&self, n: u64) {
        let from = self.answered();
        self.wait_until("more answers", || self.answered() >= from + n);
    }

    /// Ends it.
    pub fn end(self) -> Toll {
        self.tally.over.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.thread().unpark();
            client.join().unwrap();
        }
        let failures = std::mem::take(&mut *self.tally.failures.lock().unwrap());
        Toll {
            answered: self.tally.answered.load(Ordering::Relaxed),
            retried: self.tally.retried.load(Ordering::Relaxed),
            failures,
        }
    }
}
