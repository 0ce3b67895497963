//! Owns the answer to "who has this port?", for an error message: a best effort through /proc, in bounds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::os::procfs::{command, numbers, read, socket_inode};

const MOST_PROCESSES: usize = 4096;
const MOST_DESCRIPTORS: usize = 4096;

/// `nginx (pid 812)`. `None`: not found, or not ours to see.
pub(super) fn of_port(wanted: SocketAddr) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inode = tables.into_iter().filter_map(read).find_map(|table| conflicting(&table, wanted))?;
    let pid = numbers("/proc").take(MOST_PROCESSES).find(|&pid| {
        numbers(&format!("/proc/{pid}/fd"))
            .take(MOST_DESCRIPTORS)
            .filter_map(|fd| u64::try_from(fd).ok())
            .any(|fd| socket_inode(pid, fd) == Some(inode))
    })?;
    Some(format!("{} (pid {pid})", command(pid)?))
}

/// The inode of a listening socket that stands in the way of `wanted`.
fn conflicting(table: &str, wanted: SocketAddr) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let listening = fields.nth(1)? == "0A";
        let inode = fields.nth(5)?.parse().ok()?;
        let there = parse_address(local)?;
        let overlap = there.ip() == wanted.ip() || there.ip().is_unspecified() || wanted.ip().is_unspecified();
        (listening && overlap && there.port() == wanted.port()).then_some(inode)
    })
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
        assert_eq!(conflicting(table, "0.0.0.0:8080".parse().unwrap()), Some(22));
        assert_eq!(conflicting(table, "127.0.0.2:8080".parse().unwrap()), None);
        assert_eq!(conflicting(table, "127.0.0.1:8081".parse().unwrap()), None);
    }
}
