//! Owns the spellings of what is looked at from outside to see whether a worker is ready: an address, or a page. Literals only: nothing here
//! asks a name server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::spec::Address;
use super::value::address;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix stream socket.
    Unix(PathBuf),
}

/// A page to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where.
    pub target: Target,
    /// The path of the page, with its leading slash.
    pub path: String,
    /// The value of the Host header.
    pub host: String,
}

/// Reads `127.0.0.1:8000`, `:8000` (this host), `localhost:8000` or `unix:/path`. `Err` says what is wrong.
pub fn target(text: &str) -> Result<Target, String> {
    match address::parse(text, Path::new("/")) {
        Ok(Address::Unix(path)) if text.starts_with("unix:/") => Ok(Target::Unix(path)),
        Ok(Address::Tcp { addr, .. }) if addr.port() != 0 => Ok(Target::Tcp(reachable(addr))),
        Ok(_) => Err(format!("{text:?} is no address to connect to")),
        Err((what, _)) => Err(format!("{what}: {text:?}")),
    }
}

/// "All interfaces" is where one listens; one connects to this host.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        // [::] takes IPv4 as well, as a rule; where it does not, say [::1].
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// Reads what stands behind `http:`: `//127.0.0.1:8000/health`, the same with `http:` before it, `:8000/health`, or
/// `unix:/run/web.sock:/health`. `Err` says what is wrong.
pub fn page(text: &str) -> Result<Page, String> {
    let rest = text.strip_prefix("http:").unwrap_or(text);
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (place, path, host) = if rest.starts_with("unix:") {
        let (place, path) = match rest.split_once(":/").and_then(|(_, after)| after.split_once(":/")) {
            Some((_, path)) => (&rest[..rest.len() - path.len() - 2], format!("/{path}")),
            None => (rest, "/".to_owned()),
        };
        (place, path, "localhost".to_owned())
    } else {
        let at = rest.find('/').unwrap_or(rest.len());
        let (place, path) = rest.split_at(at);
        (place, if path.is_empty() { "/".to_owned() } else { path.to_owned() }, place.to_owned())
    };
    if path.contains(|c: char| c.is_ascii_whitespace() || c.is_control()) || host.contains(|c: char| c.is_control()) {
        return Err(format!("{path:?} is no path of a page"));
    }
    Ok(Page { target: target(place)?, path, host: if host.starts_with(':') { format!("localhost{host}") } else { host } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_connect_to() {
        for (text, want) in [
            ("127.0.0.1:80", Some("127.0.0.1:80")),
            (":80", Some("[::1]:80")),
            ("0.0.0.0:80", Some("127.0.0.1:80")),
            ("localhost:80", Some("127.0.0.1:80")),
            ("127.0.0.1:0", None),
            ("unix:relative", None),
            ("unix:@abstract", None),
            ("udp://127.0.0.1:80", None),
            ("inherit:web", None),
            ("80", None),
            ("db.local:80", None),
        ] {
            let want = want.map(|addr| Target::Tcp(addr.parse().expect("an address")));
            assert_eq!(target(text).ok(), want, "{text}");
        }
        assert_eq!(target("unix:/run/a.sock"), Ok(Target::Unix("/run/a.sock".into())));
    }

    #[test]
    fn pages_to_ask_for() {
        let read = |text: &str| page(text).map(|page| (page.target, page.path, page.host));
        let tcp = Target::Tcp("127.0.0.1:80".parse().expect("an address"));
        let is = |path: &str, host: &str| Ok((tcp.clone(), path.to_owned(), host.to_owned()));
        assert_eq!(read("//127.0.0.1:80/health?x=1"), is("/health?x=1", "127.0.0.1:80"));
        assert_eq!(read("http://127.0.0.1:80"), is("/", "127.0.0.1:80"));
        assert_eq!(read("localhost:80/a/b"), is("/a/b", "localhost:80"));
        let unix = |path: &str| Ok((Target::Unix("/run/w0.sock".into()), path.to_owned(), "localhost".to_owned()));
        assert_eq!(read("unix:/run/w0.sock:/health"), unix("/health"));
        assert_eq!(read("unix:/run/w0.sock"), unix("/"));
        for wrong in ["", "//", "https://x/", "127.0.0.1:80/a b", "//127.0.0.1:80/\r\nX: y", "unix:", "//example.org/"] {
            assert!(page(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(text in r#"(http:|//|unix:)?[/:.@a0\[\]é ]{0,30}"#) {
            let _ = (page(&text), target(&text));
        }
    }
}
