//! Sockets that share a port: who is picked, who may join, and what becomes of those that go.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;

use super::support::soon as soon_ok;
use crate::os::listener::{ListenAddress, ListenSpec, Listening, PortGroup, SocketOptions};

fn spec(address: ListenAddress) -> ListenSpec {
    ListenSpec {
        address,
        backlog: 128,
        nonblocking: true,
        nodelay: true,
        mode: None,
        owner: None,
        group: None,
        options: SocketOptions::default(),
    }
}

fn tcp(addr: &str) -> ListenSpec {
    spec(ListenAddress::Tcp { addr: addr.parse().unwrap(), dual: false })
}

fn group(spec: &ListenSpec, members: u32) -> PortGroup {
    let mut group = PortGroup::found(spec, 0).unwrap();
    (1..members).for_each(|number| drop(group.join(spec, number).unwrap()));
    group
}

/// Loopback of each family that this host has.
fn families() -> impl Iterator<Item = &'static str> {
    ["127.0.0.1:0", "[::1]:0"].into_iter().filter(|at| TcpListener::bind(at).is_ok())
}

fn place(group: &PortGroup) -> SocketAddr {
    match group.local_addr() {
        ListenAddress::Tcp { addr, .. } | ListenAddress::Udp { addr, .. } => *addr,
        other => panic!("no port: {other}"),
    }
}

fn queues(group: &PortGroup, members: u32) -> Vec<u32> {
    (0..members).map(|number| group.waiting(number).unwrap_or(0)).collect()
}

fn soon(mut check: impl FnMut() -> bool) -> bool {
    soon_ok(|| if check() { Ok(true) } else { Err("not yet") })
}

/// Accepts all that wait.
fn empty(listening: &Rc<Listening>) -> Vec<TcpStream> {
    let listener = TcpListener::from(listening.as_fd().try_clone_to_owned().unwrap());
    std::iter::from_fn(|| listener.accept().ok()).map(|(stream, _)| stream).collect()
}

#[test]
fn connections_go_to_those_that_take_and_to_no_other() {
    for at in families() {
        let mut group = group(&tcp(at), 4);
        let place = place(&group);
        for takers in [BTreeSet::from([2]), BTreeSet::from([0, 3]), BTreeSet::from([0, 1, 2, 3]), BTreeSet::from([1])] {
            group.direct(|number| takers.contains(&number)).unwrap();
            let clients: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(place).unwrap()).collect();
            assert!(soon(|| queues(&group, 4).iter().sum::<u32>() == 40));
            for (number, waiting) in (0..).zip(queues(&group, 4)) {
                assert_eq!(waiting > 0, takers.contains(&number), "{takers:?}: {:?}", queues(&group, 4));
                assert_eq!(group.takes(number), takers.contains(&number));
                empty(group.get(number).unwrap());
            }
            drop(clients);
        }
    }
}

#[test]
fn without_a_taker_all_take() {
    let mut group = group(&tcp("127.0.0.1:0"), 2);
    group.direct(|_| false).unwrap();
    assert!(group.takes(0) && group.takes(1) && !group.takes(2));
}

#[test]
fn one_that_leaves_takes_nobody_elses_connections_with_it() {
    let mut group = group(&tcp("127.0.0.1:0"), 4);
    let place = place(&group);
    // Not the last one of the kernel's array: the last takes its place.
    let takes = |number: u32| number != 1;
    group.direct(takes).unwrap();
    let before: Vec<TcpStream> = (0..30).map(|_| TcpStream::connect(place).unwrap()).collect();
    assert!(soon(|| queues(&group, 4).iter().sum::<u32>() == 30));
    assert_eq!(group.waiting(1), Some(0));
    group.leave(1, takes).unwrap();
    group.leave(1, takes).unwrap();
    assert_eq!((group.get(1).is_none(), group.members().count(), queues(&group, 4).iter().sum::<u32>()), (true, 3, 30));
    // One more at the same number is a new one, and takes when it is told to.
    group.direct(|number| number == 3).unwrap();
    group.join(&tcp("127.0.0.1:0"), 1).unwrap();
    let after: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(place).unwrap()).collect();
    assert!(soon(|| queues(&group, 4).iter().sum::<u32>() == 40));
    assert_eq!(group.waiting(1), Some(0));
    drop((before, after));
}

#[test]
fn one_that_joins_takes_nothing_before_it_is_told_to() {
    let mut group = group(&tcp("127.0.0.1:0"), 1);
    let mut clients = Vec::new();
    for number in 1..4 {
        group.direct(|_| true).unwrap();
        group.join(&tcp("127.0.0.1:0"), number).unwrap();
        clients.extend((0..30).map(|_| TcpStream::connect(place(&group)).unwrap()));
        assert!(soon(|| queues(&group, 4).iter().sum::<u32>() == 30 * number));
        assert_eq!((group.waiting(number), group.takes(number)), (Some(0), false));
    }
}

#[test]
fn one_that_is_emptied_refuses_who_waits_there_and_takes_anew() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut group = group(&tcp(&free.to_string()), 3);
    let place = place(&group);
    let waits = |group: &mut PortGroup, at: u32| {
        group.direct(|number| number == at).unwrap();
        let client = TcpStream::connect(place).unwrap();
        assert!(soon(|| group.waiting(at) == Some(1)));
        client
    };
    let mut clients: Vec<TcpStream> = (0..3).map(|at| waits(&mut group, at)).collect();
    group.empty(0, 128, |number| number != 0).unwrap();
    let end = clients[0].read(&mut [0; 1]);
    assert!(end.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset) || queues(&group, 3).iter().sum::<u32>() == 3);
    group.members().for_each(|(_, listening)| drop(empty(listening)));
    for at in [0, 2, 1, 0] {
        let client = waits(&mut group, at);
        assert_eq!(queues(&group, 3).iter().sum::<u32>(), 1);
        assert!(!empty(group.get(at).unwrap()).is_empty());
        drop(client);
    }
}

fn shut(group: &PortGroup, number: u32) {
    let worker = TcpListener::from(group.get(number).unwrap().as_fd().try_clone_to_owned().unwrap());
    nix::sys::socket::shutdown(worker.as_fd().as_raw_fd(), nix::sys::socket::Shutdown::Both).unwrap();
}

#[test]
fn one_that_a_worker_shuts_down_misleads_nobody_and_comes_back() {
    let mut group = group(&tcp("127.0.0.1:0"), 5);
    let place = place(&group);
    let only = |group: &mut PortGroup, at: u32| {
        group.direct(|number| number == at).unwrap();
        let clients: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(place).unwrap()).collect();
        assert!(soon(|| queues(group, 5).iter().sum::<u32>() == 8));
        assert_eq!(group.waiting(at), Some(8), "{:?}", queues(group, 5));
        assert_eq!(empty(group.get(at).unwrap()).len(), clients.len());
    };
    group.direct(|number| number > 1).unwrap();
    shut(&group, 1);
    group.notice(|_| true);
    assert!(!group.takes(1) && group.get(1).is_some());
    [0, 2, 3, 4].into_iter().for_each(|at| only(&mut group, at));
    group.revive(1, 128).unwrap();
    (0..5).for_each(|at| only(&mut group, at));
    // One that leaves after it was shut down is gone as any other.
    shut(&group, 2);
    group.leave(2, |_| true).unwrap();
    assert!(group.get(2).is_none());
    [0, 1, 3, 4].into_iter().for_each(|at| only(&mut group, at));
    // Two at once: who is where is not known, and all take.
    shut(&group, 0);
    shut(&group, 3);
    group.notice(|_| true);
    group.direct(|number| number == 1).unwrap();
    assert!(group.takes(1) && group.takes(4));
    group.leave(4, |_| true).unwrap();
    group.join(&tcp("127.0.0.1:0"), 4).unwrap();
    group.revive(3, 128).unwrap();
    [1, 3, 4].into_iter().for_each(|at| only(&mut group, at));
}

#[test]
fn who_waits_at_one_that_leaves_is_told_at_once() {
    let mut group = group(&tcp("127.0.0.1:0"), 2);
    group.direct(|number| number == 1).unwrap();
    let mut client = TcpStream::connect(place(&group)).unwrap();
    assert!(soon(|| group.waiting(1) == Some(1)));
    let held_by_a_worker = group.get(1).unwrap().as_fd().try_clone_to_owned().unwrap();
    group.leave(1, |number| number == 0).unwrap();
    let end = client.read(&mut [0; 1]);
    // Where the kernel moves it (net.ipv4.tcp_migrate_req), it waits at the other.
    assert!(end.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset) || group.waiting(0) == Some(1));
    drop(held_by_a_worker);
}

#[test]
fn nobody_else_joins_and_a_second_group_neither() {
    let first = group(&tcp("127.0.0.1:0"), 2);
    let again = tcp(&place(&first).to_string());
    assert_eq!(PortGroup::found(&again, 0).unwrap_err().errno, Some(libc::EADDRINUSE));
    assert_eq!(Listening::open(&again).unwrap_err().errno, Some(libc::EADDRINUSE));
}

#[test]
fn packets_of_one_sender_stay_together() {
    for at in families() {
        let mut group = group(&spec(ListenAddress::Udp { addr: at.parse().unwrap(), dual: false }), 4);
        let place = place(&group);
        let sockets: Vec<UdpSocket> =
            group.members().map(|(_, l)| UdpSocket::from(l.as_fd().try_clone_to_owned().unwrap())).collect();
        group.direct(|number| number != 1).unwrap();
        let mut heard = BTreeSet::new();
        for _ in 0..60 {
            let client = UdpSocket::bind(at).unwrap();
            (0..5).for_each(|_| assert_eq!(client.send_to(b"x", place).unwrap(), 1));
            let counts: Vec<usize> =
                sockets.iter().map(|socket| std::iter::from_fn(|| socket.recv(&mut [0; 8]).ok()).count()).collect();
            assert_eq!((counts.iter().sum::<usize>(), counts.iter().filter(|n| **n > 0).count()), (5, 1), "{counts:?}");
            heard.extend(counts.iter().position(|n| *n == 5));
        }
        assert_eq!(heard, BTreeSet::from([0, 2, 3]), "{at}");
    }
}

#[test]
fn an_open_listener_becomes_the_first_of_a_group_and_is_alone_again() {
    for at in families() {
        let alone = Rc::new(Listening::open(&tcp(at)).unwrap());
        let mut group = PortGroup::around(Rc::clone(&alone), 0, true).unwrap();
        let (there, spec) = (place(&group), tcp(at));
        let mut clients: Vec<TcpStream> = (0..10).map(|_| TcpStream::connect(there).unwrap()).collect();
        assert!(soon(|| queues(&group, 1) == [10]));
        // Those that wait stay, whoever comes is another one's.
        group.join(&spec, 1).unwrap();
        group.direct(|number| number == 1).unwrap();
        clients.extend((0..10).map(|_| TcpStream::connect(there).unwrap()));
        assert!(soon(|| queues(&group, 2) == [10, 10]), "{at}: {:?}", queues(&group, 2));
        // And back.
        group.direct(|number| number == 0).unwrap();
        assert_eq!(empty(group.get(1).unwrap()).len(), 10);
        group.leave(1, |number| number == 0).unwrap();
        clients.extend((0..10).map(|_| TcpStream::connect(there).unwrap()));
        assert!(soon(|| queues(&group, 1) == [20]), "{at}: {:?}", queues(&group, 1));
        // Nobody else joins it, until it is one of several again.
        group.keep_alone();
        let addr = ListenAddress::Tcp { addr: there, dual: false };
        let stranger = PortGroup::found(&ListenSpec { address: addr.clone(), ..spec.clone() }, 0);
        assert!(stranger.is_err(), "{at}");
        group.join(&spec, 1).unwrap();
        group.direct(|number| number == 1).unwrap();
        clients.push(TcpStream::connect(there).unwrap());
        assert!(soon(|| queues(&group, 2) == [20, 1]), "{at}: {:?}", queues(&group, 2));
    }
}
