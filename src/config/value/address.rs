//! Owns the spellings of listener addresses. Addresses are literals: nothing here asks a name server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::super::spec::Address;

/// Longest path of a Unix socket: `sun_path` has 108 bytes, the last of them zero (unix(7)).
pub(crate) const SUN_PATH_MAX: usize = 107;

/// Reads an address. Relative Unix paths are taken from `cwd`. `Err`: what is wrong, then what to write.
pub(crate) fn parse(text: &str, cwd: &Path) -> Result<Address, (String, String)> {
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path, cwd);
    }
    if let Some(name) = text.strip_prefix("inherit:") {
        let wrong = |what: &str| Err((what.to_owned(), "write \"inherit:NAME\", the name as in LISTEN_FDNAMES".to_owned()));
        return match name {
            "" => wrong("the name of the socket is missing"),
            _ if name.contains([':', '\0']) => wrong("the name of a socket has no colon"),
            name => Ok(Address::Inherit(name.to_owned())),
        };
    }
    if let Some(rest) = text.strip_prefix("udp://") {
        return tcp(rest, Family::Any).map(|(addr, dual)| Address::Udp { addr, dual });
    }
    let (rest, family) = match (text.strip_prefix("tcp://"), text.strip_prefix("tcp6://")) {
        (Some(rest), _) => (rest, Family::Any),
        (_, Some(rest)) => (rest, Family::V6),
        (None, None) => (text, Family::Any),
    };
    if let Some((scheme, _)) = rest.split_once("://") {
        return Err((format!("{scheme:?} is no kind of address"), SPELLINGS.to_owned()));
    }
    if rest.starts_with(['/', '.', '~']) {
        return Err(("this looks like a path".to_owned(), format!("a Unix socket is written \"unix:{rest}\"")));
    }
    tcp(rest, family).map(|(addr, dual)| Address::Tcp { addr, dual })
}

/// What is allowed, for error texts.
pub(crate) const SPELLINGS: &str = "write an address as \"tcp://0.0.0.0:8000\", \"127.0.0.1:8000\", \"[::1]:8000\", \":8000\" (all \
                                    interfaces), \"tcp6://[::]:8000\" (IPv6 only), \"udp://127.0.0.1:53\", \"unix:/path\", \"unix:@name\" or \"inherit:NAME\"";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Any,
    V6,
}

/// An address with its port, and whether an IPv6 socket takes IPv4 as well.
fn tcp(text: &str, family: Family) -> Result<(SocketAddr, bool), (String, String)> {
    let wrong = |what: String| (what, SPELLINGS.to_owned());
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(match text.parse::<u16>() {
            Ok(port) => ("this is a port without its colon".to_owned(), format!("write \":{port}\" for all interfaces")),
            Err(_) => wrong("the port is missing".to_owned()),
        });
    };
    let port: u16 = match port.parse() {
        Ok(port) if !port_is_signed(text) => port,
        _ => return Err(wrong(format!("{port:?} is no port (0 to 65535)"))),
    };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let ip: IpAddr = match (host, bare, family) {
        ("", ..) => Ipv6Addr::UNSPECIFIED.into(),
        ("localhost", _, Family::Any) => Ipv4Addr::LOCALHOST.into(),
        ("localhost", _, Family::V6) => Ipv6Addr::LOCALHOST.into(),
        (_, Some(_), _) => match text.parse::<SocketAddr>() {
            // With its scope, as in [fe80::1%2]:80.
            Ok(addr) => return Ok((addr, addr.ip().is_unspecified() && family == Family::Any)),
            Err(_) => return Err(wrong(format!("{host:?} is no IPv6 address"))),
        },
        (_, None, _) if host.parse::<Ipv6Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok() => {
            return Err(("an IPv6 address needs brackets".to_owned(), format!("write \"[{host}]:{port}\"")));
        }
        (_, None, _) => match host.parse::<Ipv4Addr>() {
            Ok(ip) => ip.into(),
            Err(_) => {
                let help =
                    "names are not looked up: write the IP address, or localhost, or nothing before the colon for all interfaces";
                return Err((format!("{host:?} is no IP address"), help.to_owned()));
            }
        },
    };
    if ip.is_ipv4() && family == Family::V6 {
        return Err(wrong("tcp6:// takes an IPv6 address".to_owned()));
    }
    Ok((SocketAddr::new(ip, port), ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && family == Family::Any))
}

/// `u16::from_str` takes a leading plus.
fn port_is_signed(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(_, port)| port.starts_with('+'))
}

fn unix(path: &str, cwd: &Path) -> Result<Address, (String, String)> {
    let help = || "write \"unix:/run/shop/web.sock\"".to_owned();
    let name_help = || "write \"unix:@shop-web\"".to_owned();
    if let Some(name) = path.strip_prefix('@') {
        return match name.len() {
            0 => Err(("the name is missing".to_owned(), name_help())),
            _ if name.contains('\0') => Err(("a name has no NUL byte".to_owned(), name_help())),
            1..=SUN_PATH_MAX => Ok(Address::Abstract(name.to_owned())),
            n => Err((
                format!("the socket's name is {n} bytes long, the kernel takes at most {SUN_PATH_MAX}"),
                "choose a shorter name".to_owned(),
            )),
        };
    }
    // "unix:///path" is what Docker and others write.
    let path = if path.starts_with("///") { &path[2..] } else { path };
    if path.is_empty() || path.ends_with('/') {
        return Err(("the path of the socket is missing".to_owned(), help()));
    }
    if path.contains('\0') {
        return Err(("a path has no NUL byte".to_owned(), help()));
    }
    let full = absolute(path, cwd);
    match full.as_os_str().len() {
        0..=SUN_PATH_MAX => Ok(Address::Unix(full)),
        n => Err((
            format!("the socket's path is {n} bytes long, the kernel takes at most {SUN_PATH_MAX}"),
            "choose a shorter path, for instance below /run".to_owned(),
        )),
    }
}

/// A path made absolute. `..` stays in it: after a symbolic link only the kernel knows where that leads.
pub(crate) fn absolute(path: &str, cwd: &Path) -> PathBuf {
    cwd.join(path).components().collect()
}

/// True when both cannot be bound at once: the same path or name, or the same port with overlapping addresses.
pub(crate) fn clash(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Tcp { addr: a, dual: a_dual }, Address::Tcp { addr: b, dual: b_dual })
        | (Address::Udp { addr: a, dual: a_dual }, Address::Udp { addr: b, dual: b_dual }) => {
            let same_family = a.is_ipv4() == b.is_ipv4();
            let covers = |ip: IpAddr, dual: bool| ip.is_unspecified() && (same_family || dual);
            a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || covers(a.ip(), *a_dual) || covers(b.ip(), *b_dual))
        }
        // Whatever way leads there.
        (Address::Unix(a), Address::Unix(b)) => {
            let folder = |path: &Path| std::fs::canonicalize(path.parent().unwrap_or(path)).ok();
            a == b || a.file_name() == b.file_name() && folder(a).is_some() && folder(a) == folder(b)
        }
        // A path and a name that look alike are two things, and so are a port of TCP and one of UDP.
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Address, String> {
        parse(text, Path::new("/srv/shop")).map_err(|(what, _)| what)
    }

    fn tcp_at(addr: &str, dual: bool) -> Result<Address, String> {
        Ok(Address::Tcp { addr: addr.parse().expect("an address"), dual })
    }

    fn udp_at(addr: &str, dual: bool) -> Result<Address, String> {
        Ok(Address::Udp { addr: addr.parse().expect("an address"), dual })
    }

    fn abstract_at(name: &str) -> Result<Address, String> {
        Ok(Address::Abstract(name.to_owned()))
    }

    fn unix_at(path: &str) -> Result<Address, String> {
        Ok(Address::Unix(path.into()))
    }

    #[test]
    fn every_spelling_is_read() {
        for (text, want) in [
            ("tcp://0.0.0.0:8000", tcp_at("0.0.0.0:8000", false)),
            ("0.0.0.0:8000", tcp_at("0.0.0.0:8000", false)),
            ("127.0.0.1:0", tcp_at("127.0.0.1:0", false)),
            (":8000", tcp_at("[::]:8000", true)),
            ("tcp://:8000", tcp_at("[::]:8000", true)),
            ("[::]:8000", tcp_at("[::]:8000", true)),
            ("tcp://[::]:8000", tcp_at("[::]:8000", true)),
            ("tcp6://[::]:8000", tcp_at("[::]:8000", false)),
            ("tcp6://:8000", tcp_at("[::]:8000", false)),
            ("[::1]:80", tcp_at("[::1]:80", false)),
            ("[fe80::1%2]:80", tcp_at("[fe80::1%2]:80", false)),
            ("localhost:8000", tcp_at("127.0.0.1:8000", false)),
            ("tcp6://localhost:8000", tcp_at("[::1]:8000", false)),
            ("unix:/run/a.sock", unix_at("/run/a.sock")),
            ("unix:///run/a.sock", unix_at("/run/a.sock")),
            ("unix:run/./a.sock", unix_at("/srv/shop/run/a.sock")),
            ("unix:../a.sock", unix_at("/srv/shop/../a.sock")),
            ("unix:./x//y/./a.sock", unix_at("/srv/shop/x/y/a.sock")),
            ("unix:@name", abstract_at("name")),
            ("unix:@a/b c", abstract_at("a/b c")),
            ("udp://0.0.0.0:53", udp_at("0.0.0.0:53", false)),
            ("udp://:53", udp_at("[::]:53", true)),
            ("udp://[::1]:53", udp_at("[::1]:53", false)),
            ("udp://localhost:53", udp_at("127.0.0.1:53", false)),
            ("inherit:web", Ok(Address::Inherit("web".to_owned()))),
        ] {
            assert_eq!(read(text), want, "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("8000", "without its colon"),
            ("", "port is missing"),
            ("0.0.0.0", "port is missing"),
            (":80000", "no port"),
            (":+80", "no port"),
            (":", "no port"),
            ("::1:8000", "needs brackets"),
            ("db.local:80", "no IP address"),
            ("256.0.0.1:80", "no IP address"),
            ("[zz]:80", "no IPv6 address"),
            ("tcp6://127.0.0.1:80", "takes an IPv6"),
            ("http://x:80", "no kind of address"),
            ("/run/a.sock", "looks like a path"),
            ("unix:", "path of the socket is missing"),
            ("unix:@", "name is missing"),
            ("unix:@a\0b", "no NUL byte"),
            ("udp://53", "without its colon"),
            ("udp://db.local:53", "no IP address"),
            ("unix:/run/", "path of the socket is missing"),
            ("inherit:", "name of the socket is missing"),
            ("inherit:a:b", "no colon"),
        ] {
            let got = read(text).expect_err(text);
            assert!(got.contains(part), "{text:?}: {got}");
        }
        assert!(read(&format!("unix:/{}", "x".repeat(107))).is_err());
        assert!(read(&format!("unix:/{}", "x".repeat(106))).is_ok());
        assert!(read(&format!("unix:@{}", "x".repeat(108))).is_err());
        assert!(read(&format!("unix:@{}", "x".repeat(107))).is_ok());
    }

    #[test]
    fn overlapping_addresses_clash() {
        let at = |text: &str| match read(text) {
            Ok(address) => address,
            other => panic!("{text}: {other:?}"),
        };
        for (a, b, want) in [
            (":80", "0.0.0.0:80", true),
            (":80", "127.0.0.1:80", true),
            ("tcp6://:80", "0.0.0.0:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("[::1]:80", ":80", true),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "unix:/b", false),
            ("unix:@a", "unix:@a", true),
            ("unix:@a", "unix:/a", false),
            ("udp://:53", "udp://127.0.0.1:53", true),
            ("udp://:53", "udp://:54", false),
            ("udp://127.0.0.1:0", "udp://127.0.0.1:0", false),
            ("udp://:53", ":53", false),
            ("inherit:a", "inherit:a", true),
            ("inherit:a", "inherit:b", false),
        ] {
            assert_eq!((clash(&at(a), &at(b)), clash(&at(b), &at(a))), (want, want), "{a} {b}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text in r#"(tcp://|tcp6://|unix:|udp://|inherit:)?[\[\]:./@0-9a-f%+]{0,30}"#) {
            let _ = read(&text);
        }
    }
}
