//! This test program as a worker: what no shell can do. Not a test; it runs as one when a pool's command says so.

use std::io::Write;
use std::os::unix::net::UnixDatagram;

const JOB: &str = "PM_TEST_HELPER";

/// The command of such a worker, as TOML for a pool: `command = ...` and its job in the environment.
pub fn helper(job: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let program = program.display();
    format!(
        "command = [\"{program}\", \"--exact\", \"support::helper::worker\", \"--nocapture\", \"--quiet\"]\n\
         env = {{ {JOB} = \"{job}\" }}\n"
    )
}

#[test]
fn worker() {
    let Ok(job) = std::env::var(JOB) else { return };
    match job.as_str() {
        // The last thing it does before its end is to get ready.
        "ready-then-exit" => {
            let socket = UnixDatagram::unbound().unwrap();
            socket.send_to(b"STATUS=last words\nREADY=1", std::env::var("NOTIFY_SOCKET").unwrap()).unwrap();
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(9) }
        }
        // 100 MB to stderr, in lines of 100 bytes, then silence.
        "loud" => {
            let lines = format!("{}\n", "y".repeat(99)).repeat(1000);
            let mut stderr = std::io::stderr();
            for _ in 0..1000 {
                stderr.write_all(lines.as_bytes()).unwrap();
            }
            println!("wrote it all");
            std::io::stdout().flush().unwrap();
            loop {
                std::thread::park();
            }
        }
        // Takes one client after the other and tells what the socket to it is like.
        "tell-nodelay" => {
            // SAFETY: the first listener, by the contract; owned by nobody else here.
            let listener = unsafe { std::os::fd::FromRawFd::from_raw_fd(3) };
            let listener: std::net::TcpListener = listener;
            listener.set_nonblocking(false).unwrap();
            loop {
                let (mut client, _) = listener.accept().unwrap();
                client.write_all(format!("nodelay {}", client.nodelay().unwrap()).as_bytes()).unwrap();
            }
        }
        // Answers each packet with its pid.
        "tell-pid-by-udp" => {
            // SAFETY: the first listener, by the contract; owned by nobody else here.
            let socket = unsafe { std::os::fd::FromRawFd::from_raw_fd(3) };
            let socket: std::net::UdpSocket = socket;
            socket.set_nonblocking(false).unwrap();
            loop {
                let (_, client) = socket.recv_from(&mut [0; 64]).unwrap();
                socket.send_to(std::process::id().to_string().as_bytes(), client).unwrap();
            }
        }
        other => panic!("no such job: {other}"),
    }
}
