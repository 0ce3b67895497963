//! Owns listeners that share one port, each with a queue of its own, as the kernel keeps them: in an array, which a program of ours picks from.
//! Refuses to decide who takes part: callers name the members by numbers of their own.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::rc::Rc;

use nix::sys::socket::{setsockopt, sockopt};

use super::{ListenAddress, ListenError, ListenSpec, Listening, Place};
use crate::os::errno::check;
use crate::os::handover::{GroupState, ListeningState, Taken};

/// Most instructions of a classic filter (BPF_MAXINSNS of linux/bpf_common.h).
const LONGEST: usize = 4096;

/// Sockets with one address between them (SO_REUSEPORT). Dropping it closes our descriptors.
#[derive(Debug)]
pub struct PortGroup {
    /// Where all of them listen, with the real port.
    address: ListenAddress,
    /// The member whose port the kernel chose. It is lost by whoever is shut down, and the next one is another (inet_csk_get_port).
    loose: Option<u32>,
    /// In the order of the kernel's array: one that comes is the last, and the last takes the place of one that goes
    /// (reuseport_add_sock, __reuseport_detach_sock in net/core/sock_reuseport.c).
    members: Vec<(u32, Rc<Listening>)>,
    /// Those that somebody who holds them has shut down: out of the kernel's array.
    lost: Vec<(u32, Rc<Listening>)>,
    /// Several were at once: the order of the others is not known any more, and the kernel picks.
    disordered: bool,
    /// Indexes that the attached program picks from; `None`: no program, the kernel picks by address.
    picks: Option<Vec<usize>>,
    /// Others may join (SO_REUSEPORT is set).
    open: bool,
}

impl PortGroup {
    /// Opens the first member. The port must be nobody else's, not even another group's of ours.
    pub fn found(spec: &ListenSpec, number: u32) -> Result<PortGroup, ListenError> {
        let first = Listening::open_as(spec, Place::Founder, None)?;
        let address = first.local_addr().clone();
        let loose = match spec.address {
            ListenAddress::Tcp { addr, .. } | ListenAddress::Udp { addr, .. } => (addr.port() == 0).then_some(number),
            _ => None,
        };
        let members = vec![(number, Rc::new(first))];
        Ok(PortGroup { address, loose, members, lost: Vec::new(), disordered: false, picks: None, open: true })
    }

    /// Makes an open listener, which is alone on its port, the first member: others may join it from now on. Nothing changes for it. `loose`:
    /// the kernel chose its port.
    pub fn around(first: Rc<Listening>, number: u32, loose: bool) -> Result<PortGroup, ListenError> {
        let failed = |e: nix::Error| ListenError::kernel(first.local_addr(), "set SO_REUSEPORT", &e.into());
        setsockopt(&first.as_fd(), sockopt::ReusePort, &true).map_err(failed)?;
        let address = first.local_addr().clone();
        let members = vec![(number, first)];
        Ok(PortGroup {
            address,
            loose: loose.then_some(number),
            members,
            lost: Vec::new(),
            disordered: false,
            picks: None,
            open: true,
        })
    }

    /// For the next image of this process: the kernel keeps the array, and the program. `own`: the member that stays with the listener.
    pub fn state(&self, own: &Rc<Listening>) -> io::Result<GroupState> {
        let one = |(number, listening): &(u32, Rc<Listening>)| {
            let state = (!Rc::ptr_eq(listening, own)).then(|| listening.state()).transpose()?;
            Ok((*number, state))
        };
        Ok(GroupState {
            address: self.address.clone(),
            loose: self.loose,
            members: self.members.iter().map(one).collect::<io::Result<_>>()?,
            lost: self.lost.iter().map(one).collect::<io::Result<_>>()?,
            disordered: self.disordered,
            picks: self.picks.clone(),
            open: self.open,
        })
    }

    /// As the image before this one has left it.
    pub fn restore(state: GroupState, own: &Rc<Listening>, taken: &mut Taken) -> io::Result<PortGroup> {
        let mut locks = Vec::new();
        let mut one = |(number, state): (u32, Option<ListeningState>)| {
            let listening = match state {
                None => Rc::clone(own),
                Some(state) => Rc::new(Listening::restore(state, taken, &mut locks)?),
            };
            Ok((number, listening))
        };
        Ok(PortGroup {
            members: state.members.into_iter().map(&mut one).collect::<io::Result<_>>()?,
            lost: state.lost.into_iter().map(&mut one).collect::<io::Result<_>>()?,
            address: state.address,
            loose: state.loose,
            disordered: state.disordered,
            picks: state.picks,
            open: state.open,
        })
    }

    /// Where they listen.
    pub fn local_addr(&self) -> &ListenAddress {
        &self.address
    }

    /// How many connections wait at a member. `None`: there is no such member, or the kernel does not tell.
    pub fn waiting(&self, number: u32) -> Option<u32> {
        self.get(number)?.queue().map(|(waiting, _)| waiting)
    }

    /// Do new connections go to this member?
    pub fn takes(&self, number: u32) -> bool {
        let at = self.members.iter().position(|(n, _)| *n == number);
        at.is_some_and(|at| self.picks.as_ref().is_none_or(|picks| picks.binary_search(&at).is_ok()))
    }

    /// A member.
    pub fn get(&self, number: u32) -> Option<&Rc<Listening>> {
        self.members().find(|(n, _)| *n == number).map(|(_, listening)| listening)
    }

    /// All members, in no order that matters.
    pub fn members(&self) -> impl Iterator<Item = (u32, &Rc<Listening>)> {
        self.members.iter().chain(&self.lost).map(|(number, listening)| (*number, listening))
    }

    /// Looks which of these somebody who holds them has shut down: the kernel's array has become another.
    pub fn notice(&mut self, suspected: impl Fn(u32) -> bool) {
        // Of UDP such a socket stays where it is.
        if matches!(self.address, ListenAddress::Udp { .. }) {
            return;
        }
        let here = (0..).zip(&self.members);
        let gone: Vec<usize> = here.filter(|(_, (n, l))| suspected(*n) && !l.state_listening()).map(|(at, _)| at).collect();
        if gone.is_empty() {
            return;
        }
        // Those at the end leave no gap for others, whichever of them went first.
        let left = self.members.len() - gone.len();
        self.disordered |= gone.len() > 1 && gone.iter().any(|at| *at < left);
        for at in gone.into_iter().rev() {
            let member = self.members.swap_remove(at);
            self.lost.push(member);
        }
        self.disordered &= left > 1;
        // What is attached is meant for other indexes; with the last one the program went as well.
        self.picks = if left == 0 { None } else { Some(Vec::new()) };
    }

    /// Opens the queue of a member that was shut down anew. It is not picked before the next [`PortGroup::direct`].
    pub fn revive(&mut self, number: u32, backlog: u32) -> io::Result<()> {
        let Some(at) = self.lost.iter().position(|(n, _)| *n == number) else { return Ok(()) };
        if self.loose == Some(number) {
            return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL));
        }
        self.keep_to_members();
        let (_, listening) = self.lost.swap_remove(at);
        let opened = listening.set_backlog(backlog);
        let to = if opened.is_ok() { &mut self.members } else { &mut self.lost };
        to.push((number, listening));
        opened
    }

    /// Without a program the kernel would pick one that comes from the moment that it listens. Where that cannot be helped, it is told of at
    /// the next [`PortGroup::direct`].
    fn keep_to_members(&mut self) {
        if self.picks.is_none() && !self.disordered {
            let _ = self.pick(Some((0..self.members.len()).collect()));
        }
    }

    /// Opens one more. It is not picked before the next [`PortGroup::direct`].
    pub fn join(&mut self, spec: &ListenSpec, number: u32) -> Result<Rc<Listening>, ListenError> {
        // Alone, it would have the port to itself again.
        let place = if self.members.is_empty() { Place::Founder } else { Place::Joiner };
        let spec = ListenSpec { address: self.address.clone(), ..spec.clone() };
        self.open_to_others(true).map_err(|e| ListenError::kernel(&self.address, "set SO_REUSEPORT", &e))?;
        self.keep_to_members();
        let listening = Rc::new(Listening::open_as(&spec, place, None)?);
        self.members.push((number, Rc::clone(&listening)));
        Ok(listening)
    }

    /// Alone on its port again, as long as nobody joins: no other process of this user can put itself beside it.
    pub fn keep_alone(&mut self) {
        if self.members.len() + self.lost.len() == 1 {
            // What fails leaves it as it was, among its like.
            let _ = self.open_to_others(false);
        }
    }

    fn open_to_others(&mut self, open: bool) -> io::Result<()> {
        if self.open != open {
            for (_, listening) in self.members() {
                setsockopt(&listening.as_fd(), sockopt::ReusePort, &open)?;
            }
            self.open = open;
        }
        Ok(())
    }

    /// From now on new connections go to these members only, at random, and packets of UDP by their sender, so that those of one stay together.
    /// Connections that have begun stay where they are. Without any of them, or with all: to all, as the kernel likes.
    pub fn direct(&mut self, takes: impl Fn(u32) -> bool) -> io::Result<()> {
        let some = self.indexes(takes);
        let all = self.disordered || some.is_empty() || some.len() == self.members.len();
        self.pick((!all).then_some(some))
    }

    /// Ends a member, whoever else holds it: what still waits in its queue is refused, or moved to the others where the kernel does that
    /// (net.ipv4.tcp_migrate_req). `takes` as for [`PortGroup::direct`]; nobody else is picked, not even in between.
    pub fn leave(&mut self, number: u32, takes: impl Fn(u32) -> bool) -> io::Result<()> {
        let (_, ended) = self.end(number, &takes);
        ended.and(self.direct(takes))
    }

    /// Refuses those who wait at a member, as [`PortGroup::leave`] does, and opens its queue anew. UDP has none; and where the kernel chose
    /// the port they have to wait.
    pub fn empty(&mut self, number: u32, backlog: u32, takes: impl Fn(u32) -> bool) -> io::Result<()> {
        if self.loose == Some(number) || matches!(self.address, ListenAddress::Udp { .. }) {
            return Ok(());
        }
        let (gone, ended) = self.end(number, &takes);
        let Some(gone) = gone else { return ended };
        self.lost.push((number, gone));
        // As for one that joins: now it is the last one of the kernel's array.
        let kept = self.direct(&takes);
        let opened = self.revive(number, backlog);
        ended.and(kept).and(opened).and(self.direct(takes))
    }

    /// Takes a member out of the kernel's array. The others go on, whatever fails.
    fn end(&mut self, number: u32, takes: impl Fn(u32) -> bool) -> (Option<Rc<Listening>>, io::Result<()>) {
        // Somebody else did it before.
        self.notice(|n| n == number);
        self.lost.retain(|(n, _)| *n != number);
        let Some(at) = self.members.iter().position(|(n, _)| *n == number) else { return (None, Ok(())) };
        let last = self.members.len() - 1;
        let mut steered = Ok(());
        if at != last {
            // The last one's index is about to change: meanwhile only those whose index does not.
            let staying = (0..last).zip(&self.members).filter(|(index, (n, _))| *index != at && takes(*n));
            let staying: Vec<usize> = staying.map(|(index, _)| index).collect();
            if !staying.is_empty() && !self.disordered {
                steered = self.pick(Some(staying));
            }
        }
        let (_, gone) = self.members.swap_remove(at);
        // Not by closing it: workers may hold it still, and for as long the kernel would keep its place.
        // SAFETY: acts on an open socket.
        let ended = match check(unsafe { libc::shutdown(gone.as_fd().as_raw_fd(), libc::SHUT_RDWR) }) {
            // UDP: it is done all the same.
            Err(e) if e.raw_os_error() != Some(libc::ENOTCONN) => Err(e),
            _ => steered,
        };
        self.disordered &= self.members.len() > 1;
        (Some(gone), ended)
    }

    /// Where these are in the array.
    fn indexes(&self, wanted: impl Fn(u32) -> bool) -> Vec<usize> {
        (0..).zip(&self.members).filter(|(_, (number, _))| wanted(*number)).map(|(at, _)| at).collect()
    }

    fn pick(&mut self, picks: Option<Vec<usize>>) -> io::Result<()> {
        let Some((_, any)) = self.members.first() else {
            self.picks = None;
            return Ok(());
        };
        let picks = picks.map(fitting);
        if self.picks == picks {
            return Ok(());
        }
        let Some(some) = &picks else {
            detach(any.as_fd())?;
            self.picks = None;
            return Ok(());
        };
        let number = match self.address {
            ListenAddress::Udp { .. } => by_sender(),
            _ => at_random(),
        };
        let attached = program(number, some).and_then(|mut program| attach(any.as_fd(), &mut program));
        if attached.is_err() {
            // Better all of them than those of before, who may be gone. It fails where there is no program, and then nothing is to be done.
            let _ = detach(any.as_fd());
        }
        self.picks = picks.filter(|_| attached.is_ok());
        attached
    }
}

/// A number that nothing tells in advance.
fn at_random() -> Vec<libc::sock_filter> {
    let random = (libc::SKF_AD_OFF + libc::SKF_AD_RANDOM).cast_unsigned();
    vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, random)]
}

/// A number that is the same for all packets of one sender: of its address (of IPv6 the end of it) and its port.
fn by_sender() -> Vec<libc::sock_filter> {
    let load =
        |size: u32, at: i32| instruction(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, (libc::SKF_NET_OFF + at).cast_unsigned());
    let alu = |operation: u32, k: u32| instruction(libc::BPF_ALU | operation | libc::BPF_K, 0, 0, k);
    vec![
        // The version is the first half byte of the header. Where addresses and ports are: RFC 791, RFC 8200, RFC 768.
        load(libc::BPF_B, 0),
        alu(libc::BPF_RSH, 4),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 4, 0, 6),
        load(libc::BPF_W, 12),
        instruction(libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0),
        load(libc::BPF_H, 20),
        instruction(libc::BPF_JMP | libc::BPF_JA, 0, 0, 3),
        load(libc::BPF_W, 20),
        instruction(libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0),
        load(libc::BPF_H, 40),
        instruction(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0, 0, 0),
        // Fibonacci hashing: neighbours are spread, and the upper half is the better one.
        alu(libc::BPF_MUL, 0x9e37_79b1),
        alu(libc::BPF_RSH, 16),
    ]
}

/// Runs of indexes below the last pick that are not picked: where each begins, and how long it is.
fn gaps(picks: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    let ends = std::iter::once(0).chain(picks.iter().map(|pick| pick + 1));
    ends.zip(picks).filter(|(from, pick)| from < *pick).map(|(from, pick)| (from, pick - from))
}

/// So many of them as a program has room for: those that are left out get nothing new. It takes thousands of members.
fn fitting(mut picks: Vec<usize>) -> Vec<usize> {
    let most = (LONGEST - by_sender().len() - 2) / 2;
    let beyond = gaps(&picks).nth(most).map(|(from, _)| from);
    if let Some(from) = beyond {
        picks.retain(|pick| *pick < from);
    }
    picks
}

/// One of these indexes, which are in rising order: the number counts those that are picked from, and each gap that is not behind it moves
/// it up.
fn program(mut out: Vec<libc::sock_filter>, picks: &[usize]) -> io::Result<Vec<libc::sock_filter>> {
    let too_many = || io::Error::from_raw_os_error(libc::E2BIG);
    let number = |n: usize| u32::try_from(n).map_err(|_| too_many());
    out.push(instruction(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, 0, number(picks.len())?));
    for (from, length) in gaps(picks) {
        out.push(instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, number(from)?));
        out.push(instruction(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K, 0, 0, number(length)?));
    }
    out.push(instruction(libc::BPF_RET | libc::BPF_A, 0, 0, 0));
    if out.len() > LONGEST { Err(too_many()) } else { Ok(out) }
}

const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

fn attach(fd: BorrowedFd<'_>, program: &mut [libc::sock_filter]) -> io::Result<()> {
    let filter = libc::sock_fprog { len: u16::try_from(program.len()).unwrap_or(0), filter: program.as_mut_ptr() };
    let length = libc::socklen_t::try_from(size_of_val(&filter)).unwrap_or(0);
    let option = libc::SO_ATTACH_REUSEPORT_CBPF;
    // SAFETY: the program is valid for reading, for the length that it gives; the kernel copies it.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const filter).cast(), length) }).map(drop)
}

fn detach(fd: BorrowedFd<'_>) -> io::Result<()> {
    let unused = 0_i32;
    let length = libc::socklen_t::try_from(size_of_val(&unused)).unwrap_or(0);
    let option = libc::SO_DETACH_REUSEPORT_BPF;
    // SAFETY: `unused` is valid for reading for its length.
    match check(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const unused).cast(), length) }) {
        // There was none.
        Err(e) if e.raw_os_error() != Some(libc::ENOENT) => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the program gives when the random number is this: the three operations that it uses.
    fn run(program: &[libc::sock_filter], random: u32) -> u32 {
        let (mut a, mut at) = (random, 0);
        loop {
            let libc::sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            match u32::from(code) {
                c if c == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {}
                c if c == libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K => a %= k,
                c if c == libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K => a += k,
                c if c == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => at += usize::from(if a >= k { jt } else { jf }),
                c if c == libc::BPF_RET | libc::BPF_A => return a,
                other => panic!("an operation that is not used: {other}"),
            }
        }
    }

    #[test]
    fn the_program_picks_each_of_those_wanted_equally_and_no_other() {
        for total in 1..7_usize {
            for mask in 1..1_u32 << total {
                let picks: Vec<usize> = (0..total).filter(|at| mask & 1 << at != 0).collect();
                let program = program(at_random(), &picks).unwrap();
                let count = u32::try_from(picks.len()).unwrap();
                let got: Vec<usize> = (0..count).map(|random| run(&program, random + count) as usize).collect();
                assert_eq!(got, picks, "of {total}");
            }
        }
    }

    #[test]
    fn however_many_there_are_a_program_can_be_made() {
        let few = fitting(vec![0, 9_999]);
        assert_eq!((program(at_random(), &few).unwrap().len(), few), (5, vec![0, 9_999]));
        for odd in [0, 1] {
            let many = fitting((0..5_000).map(|at| 2 * at + odd).collect());
            assert!(many.len() > 2_000 && many[0] == odd && program(by_sender(), &many).unwrap().len() <= LONGEST);
        }
    }
}
