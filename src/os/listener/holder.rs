//! Owns the answer to "who has this address?", for people: a best effort through /proc, in bounds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::os::procfs::{command, numbers, read, socket_inode, stat_field};

const MOST_PROCESSES: usize = 4096;
const MOST_DESCRIPTORS: usize = 4096;

/// A process that has a listening socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: i32,
    /// That of its parent.
    pub parent: i32,
    /// Its name.
    pub command: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (pid {})", self.command, self.pid)
    }
}

/// Who listens where `wanted` would. The inner `None`: somebody who is not ours to see.
pub fn of_port(wanted: SocketAddr) -> Option<Option<Holder>> {
    in_tables(["/proc/net/tcp", "/proc/net/tcp6"], wanted, "0A")
}

/// Who has the UDP port that `wanted` would have.
pub fn of_udp_port(wanted: SocketAddr) -> Option<Option<Holder>> {
    in_tables(["/proc/net/udp", "/proc/net/udp6"], wanted, "07")
}

/// `state`: TCP_LISTEN, or TCP_CLOSE, which is what an unconnected UDP socket is in.
fn in_tables(tables: [&str; 2], wanted: SocketAddr, state: &str) -> Option<Option<Holder>> {
    tables.into_iter().filter_map(read).find_map(|table| conflicting(&table, wanted, state)).map(holder)
}

/// Who listens on the Unix socket of that path, or of that abstract name with an `@` before it.
pub fn of_path(path: &Path) -> Option<Option<Holder>> {
    listening_at(&read("/proc/net/unix")?, path).map(holder)
}

/// A process that has the socket of this inode open.
fn holder(inode: u64) -> Option<Holder> {
    let holds = |pid: i32| {
        let dir = format!("/proc/{pid}/fd");
        numbers(&dir)
            .take(MOST_DESCRIPTORS)
            .filter_map(|fd| u64::try_from(fd).ok())
            .any(|fd| socket_inode(pid, fd) == Some(inode))
    };
    // One that ended meanwhile, a child on its way to its program for instance, is not the one to be named.
    numbers("/proc").take(MOST_PROCESSES).filter(|pid| holds(*pid)).find_map(|pid| {
        let parent = i32::try_from(stat_field(pid, 4)?).ok()?;
        Some(Holder { pid, parent, command: command(pid)? })
    })
}

/// The inode of the stream socket that listens at a path: `Num: RefCount Protocol Flags Type St Inode Path`, where the flag 0x10000 is
/// SO_ACCEPTCON.
fn listening_at(table: &str, path: &Path) -> Option<u64> {
    let path = path.to_str()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, _, _, flags, kind, _, inode, ..] = fields[..] else { return None };
        let accepts = u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & 0x1_0000 != 0);
        // The path may have blanks in it.
        (accepts && kind == "0001" && line.ends_with(&format!(" {path}"))).then(|| inode.parse().ok()).flatten()
    })
}

/// The inode of a socket in this state that stands in the way of `wanted`.
fn conflicting(table: &str, wanted: SocketAddr, state: &str) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let listening = fields.nth(1)? == state;
        let inode = fields.nth(5)?.parse().ok()?;
        let there = parse_address(local)?;
        (listening && there.port() == wanted.port() && overlap(there.ip(), wanted.ip())).then_some(inode)
    })
}

/// Can only one of them be bound? `[::]` mostly means IPv4 as well.
fn overlap(there: IpAddr, wanted: IpAddr) -> bool {
    let everything = |ip: IpAddr| ip.is_unspecified() && ip.is_ipv6();
    let same_family = there.is_ipv4() == wanted.is_ipv4();
    there == wanted
        || everything(there)
        || everything(wanted)
        || same_family && (there.is_unspecified() || wanted.is_unspecified())
}

/// `0100007F:1F90`: each 32-bit word of the address in the machine's own order, the port in hexadecimal.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (index, four) in octets.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(index * 8)?);
            }
            IpAddr::from(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed() {
        assert_eq!(parse_address("0100007F:1F90"), Some("127.0.0.1:8080".parse().unwrap()));
        assert_eq!(parse_address("00000000000000000000000001000000:0050"), Some("[::1]:80".parse().unwrap()));
        assert_eq!(parse_address("01:50"), None);
    }

    #[test]
    fn only_a_listening_socket_in_the_way_counts() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     0: 0100007F:1F90 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0\n\
                     1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 22 1 0 100 0 0 10 0\n";
        assert_eq!(conflicting(table, "0.0.0.0:8080".parse().unwrap(), "0A"), Some(22));
        assert_eq!(conflicting(table, "127.0.0.2:8080".parse().unwrap(), "0A"), None);
        assert_eq!(conflicting(table, "127.0.0.1:8081".parse().unwrap(), "0A"), None);
        assert_eq!(conflicting(table, "[::]:8080".parse().unwrap(), "0A"), Some(22));
        assert_eq!(conflicting(table, "[::1]:8080".parse().unwrap(), "0A"), None);
    }

    #[test]
    fn only_a_listening_stream_socket_at_the_very_path_counts() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 33 /run/a.sock\n\
                     0000000000000000: 00000003 00000000 00000000 0001 03 44 /run/b.sock\n\
                     0000000000000000: 00000002 00000000 00010000 0005 01 55 /run/c.sock\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 66 /run/a b.sock\n\
                     0000000000000000: 00000002 00000000 00010000 0001 01 77\n";
        let at = |path: &str| listening_at(table, Path::new(path));
        assert_eq!((at("/run/a.sock"), at("/run/b.sock"), at("/run/c.sock")), (Some(33), None, None));
        assert_eq!((at("/run/a b.sock"), at("a.sock")), (Some(66), None));
    }
}
