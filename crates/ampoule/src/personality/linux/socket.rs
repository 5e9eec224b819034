//! Pairs of connected sockets: two streams of bytes, one in each direction. There are no others.

use std::collections::VecDeque;
use std::sync::Arc;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDBAND, EPOLLRDHUP, EPOLLRDNORM, EPOLLWRBAND, EPOLLWRNORM,
    O_CLOEXEC, O_NONBLOCK, O_RDWR,
};
use linux_raw_sys::net::{
    AF_UNIX, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_OOB, MSG_PEEK, MSG_WAITALL, SHUT_RD, SHUT_RDWR, SHUT_WR, SO_DOMAIN,
    SO_ERROR, SO_PROTOCOL, SO_TYPE, SOCK_STREAM, SOL_SOCKET, msghdr,
};
use serde::{Deserialize, Serialize};

use crate::address_space::AddressSpace;
use crate::bad_record::BadRecord;
use crate::personality::{Outcome, SystemCall};

use super::descriptors::{Descriptors, Object, OpenFile, PairId};
use super::errno::Errno;
use super::files::{self, MAX_TRANSFER, Place, total};
use super::pipe::CAPACITY;
use super::queues::{broken, gather, scatter, would_wait};
use super::signals::Signals;
use super::structure::{read_fields, to_bytes};
use super::{numbers as nr, uint};

/// Two sockets that are connected to each other.
#[derive(Clone, Debug, Default)]
pub(super) struct SocketPair {
    sockets: [Socket; 2],
}

/// One of a pair, by its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketEnd {
    pub(super) pair: PairId,
    pub(super) side: usize,
}

#[derive(Clone, Debug, Default)]
struct Socket {
    /// What has come from the other one, shared with snapshots until it changes.
    received: Arc<VecDeque<u8>>,
    /// How many of these bytes each write has sent, from the first on.
    parts: VecDeque<usize>,
    is_closed: bool,
    /// Nothing comes any more.
    input_ended: bool,
    /// Nothing can be sent any more.
    output_ended: bool,
    /// The other one was closed before it has read all.
    was_reset: bool,
}

/// A pair of a stored snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SocketPairRecord {
    sockets: [SocketRecord; 2],
}

#[derive(Debug, Serialize, Deserialize)]
struct SocketRecord {
    received: Vec<u8>,
    parts: Vec<u32>,
    is_closed: bool,
    input_ended: bool,
    output_ended: bool,
    was_reset: bool,
}

impl SocketEnd {
    pub(super) fn peer(self) -> Self {
        Self { side: 1 - self.side, ..self }
    }
}

/// `socketpair`
pub(super) fn socketpair(
    descriptors: &mut Descriptors,
    space: &mut AddressSpace,
    [domain, kind, protocol, into]: [u64; 4],
) -> Result<u64, Errno> {
    let kind = kind as u32;
    let flags = kind & !SOCKET_TYPE;
    match (uint(domain), kind & SOCKET_TYPE, uint(protocol)) {
        _ if flags & !(O_CLOEXEC | O_NONBLOCK) != 0 => return Err(Errno::EINVAL),
        (AF_UNIX, SOCK_STREAM, 0 | AF_UNIX) => {}
        (AF_UNIX, SOCK_STREAM, _) => return Err(Errno::EPROTONOSUPPORT),
        (AF_UNIX, ..) => return Err(Errno::ESOCKTNOSUPPORT),
        _ => return Err(Errno::EAFNOSUPPORT),
    }
    let pair = descriptors.add_sockets(SocketPair::default());
    let mut open = |side| {
        let object = Object::Socket(SocketEnd { pair, side });
        let file = OpenFile { object, flags: O_RDWR | flags & O_NONBLOCK, position: 0 };
        descriptors.open(file, flags & O_CLOEXEC != 0)
    };
    let numbers = match (open(0), open(1)) {
        (Ok(one), Ok(other)) => [one, other],
        (Ok(one), Err(errno)) => {
            descriptors.close(one)?;
            descriptors.remove_sockets(pair);
            return Err(errno);
        }
        (Err(errno), _) => {
            descriptors.remove_sockets(pair);
            return Err(errno);
        }
    };
    let bytes = numbers.map(|number| (number as u32).to_le_bytes()).concat();
    if let Err(bad) = space.write(GuestVirt(into), &bytes) {
        numbers.into_iter().try_for_each(|number| descriptors.close(number).map(drop))?;
        return Err(bad.into());
    }
    Ok(0)
}

/// `sendto`. Nobody is there but the other one, so an address is out of place.
pub(super) fn sendto(
    descriptors: &mut Descriptors,
    signals: &mut Signals,
    space: &AddressSpace,
    [number, at, len, flags, _, address_len]: [u64; 6],
) -> Result<Outcome, Errno> {
    let socket = socket(descriptors, number)?;
    if uint(address_len) > 0 {
        return Err(Errno::EISCONN);
    }
    send(descriptors, signals, space, socket, &[Place { at, len }], uint(flags))
}

/// Whether a C library looks for the daemon that caches names: glibc's `nscd/nscd_helper.c` asks for this very socket.
pub(super) fn looks_for_names(call: &SystemCall) -> bool {
    let [family, kind, protocol, ..] = call.arguments;
    let kind_of_nscd = SOCK_STREAM | O_CLOEXEC | O_NONBLOCK;
    call.number == nr::SOCKET && (uint(family), uint(kind), uint(protocol)) == (AF_UNIX, kind_of_nscd, 0)
}

/// `sendmsg`. What would go with the bytes, such as descriptors, is refused.
pub(super) fn sendmsg(
    descriptors: &mut Descriptors,
    signals: &mut Signals,
    space: &AddressSpace,
    [number, message, flags]: [u64; 3],
) -> Result<Outcome, Errno> {
    let socket = socket(descriptors, number)?;
    let (vector, count, control_len, address_len) =
        read_fields!(space, message, msghdr { msg_iov, msg_iovlen, msg_controllen, msg_namelen })?;
    if control_len > 0 {
        return Err(Errno::EINVAL);
    }
    if address_len > 0 {
        return Err(Errno::EISCONN);
    }
    let places = files::places(space, vector, count)?;
    send(descriptors, signals, space, socket, &places, uint(flags))
}

/// `recvfrom`. Sockets of a pair have no address to tell.
pub(super) fn recvfrom(
    descriptors: &mut Descriptors,
    space: &mut AddressSpace,
    [number, at, len, flags, address, address_len]: [u64; 6],
) -> Result<Outcome, Errno> {
    let socket = socket(descriptors, number)?;
    let outcome = receive(descriptors, space, socket, &[Place { at, len }], uint(flags))?;
    if address != 0 && matches!(outcome, Outcome::Return(_)) {
        space.write(GuestVirt(address_len), &0_u32.to_le_bytes())?;
    }
    Ok(outcome)
}

/// `recvmsg`
pub(super) fn recvmsg(
    descriptors: &mut Descriptors,
    space: &mut AddressSpace,
    [number, message, flags]: [u64; 3],
) -> Result<Outcome, Errno> {
    let socket = socket(descriptors, number)?;
    let (address, vector, count, control) =
        read_fields!(space, message, msghdr { msg_name, msg_iov, msg_iovlen, msg_control })?;
    let places = files::places(space, vector, count)?;
    let outcome = receive(descriptors, space, socket, &places, uint(flags))?;
    if matches!(outcome, Outcome::Return(_)) {
        let header = to_bytes!(msghdr { msg_name: address, msg_iov: vector, msg_iovlen: count, msg_control: control });
        space.write(GuestVirt(message), &header)?;
    }
    Ok(outcome)
}

/// Sends as much as there is room for.
pub(super) fn send(
    descriptors: &mut Descriptors,
    signals: &mut Signals,
    space: &AddressSpace,
    (file, end): (OpenFile, SocketEnd),
    places: &[Place],
    flags: u32,
) -> Result<Outcome, Errno> {
    if flags & MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if descriptors.sockets_mut(end.pair).sockets[end.side].output_ended {
        return match flags & MSG_NOSIGNAL {
            0 => broken(signals),
            _ => Err(Errno::EPIPE),
        };
    }
    if total(places) == 0 {
        return Ok(Outcome::Return(0));
    }
    let bytes = gather(space, places)?;
    let done = descriptors.sockets_mut(end.pair).sockets[end.peer().side].put(&bytes);
    if done > 0 {
        let events = EPOLLIN | EPOLLPRI | EPOLLRDNORM | EPOLLRDBAND;
        descriptors.wake_object(Object::Socket(end.peer()), events);
    }
    let never_waits = file.is_non_blocking() || flags & MSG_DONTWAIT != 0;
    match done {
        _ if done == bytes.len() || done > 0 && never_waits => Ok(Outcome::Return(done as u64)),
        _ => would_wait(never_waits),
    }
}

/// Takes what has come, or looks at it.
pub(super) fn receive(
    descriptors: &mut Descriptors,
    space: &mut AddressSpace,
    (file, end): (OpenFile, SocketEnd),
    places: &[Place],
    flags: u32,
) -> Result<Outcome, Errno> {
    if flags & MSG_OOB != 0 {
        return Err(Errno::EINVAL);
    }
    let wanted = total(places).min(MAX_TRANSFER) as usize;
    let never_waits = file.is_non_blocking() || flags & MSG_DONTWAIT != 0;
    let socket = &mut descriptors.sockets_mut(end.pair).sockets[end.side];
    if wanted == 0 {
        return Ok(Outcome::Return(0));
    }
    let held = socket.received.len();
    let waits_for_all = flags & MSG_WAITALL != 0 && held < wanted && !never_waits;
    if (held == 0 || waits_for_all) && !socket.input_ended {
        return would_wait(never_waits);
    }
    if held == 0 {
        return if std::mem::take(&mut socket.was_reset) { Err(Errno::ECONNRESET) } else { Ok(Outcome::Return(0)) };
    }
    let bytes: Vec<u8> = socket.received.iter().take(wanted).copied().collect();
    let done = scatter(space, places, &bytes)?;
    if flags & MSG_PEEK == 0 && descriptors.sockets_mut(end.pair).sockets[end.side].take(done) {
        descriptors.wake_object(Object::Socket(end.peer()), EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
    }
    Ok(Outcome::Return(done as u64))
}

/// `shutdown`
pub(super) fn shutdown(descriptors: &mut Descriptors, number: u64, how: u64) -> Result<u64, Errno> {
    let (_, end) = socket(descriptors, number)?;
    let (input, output) = match uint(how) {
        SHUT_RD => (true, false),
        SHUT_WR => (false, true),
        SHUT_RDWR => (true, true),
        _ => return Err(Errno::EINVAL),
    };
    descriptors.sockets_mut(end.pair).end(end.side, input, output);
    [end.peer(), end].into_iter().for_each(|end| descriptors.wake_object(Object::Socket(end), 0));
    Ok(0)
}

/// `getsockopt`: what a socket is, and its error, which is forgotten then.
pub(super) fn getsockopt(
    descriptors: &mut Descriptors,
    space: &mut AddressSpace,
    [number, level, option, into, len]: [u64; 5],
) -> Result<u64, Errno> {
    let (_, end) = socket(descriptors, number)?;
    let value = match (uint(level), uint(option)) {
        (SOL_SOCKET, SO_TYPE) => SOCK_STREAM,
        (SOL_SOCKET, SO_DOMAIN) => AF_UNIX,
        (SOL_SOCKET, SO_PROTOCOL) => 0,
        (SOL_SOCKET, SO_ERROR) => {
            let was_reset = std::mem::take(&mut descriptors.sockets_mut(end.pair).sockets[end.side].was_reset);
            if was_reset { linux_raw_sys::errno::ECONNRESET } else { 0 }
        }
        _ => return Err(Errno::ENOPROTOOPT),
    };
    write_with_len(space, into, len, &value.to_le_bytes())
}

/// `getsockname` and `getpeername`: both have no name.
pub(super) fn name(
    descriptors: &Descriptors,
    space: &mut AddressSpace,
    [number, into, len]: [u64; 3],
) -> Result<u64, Errno> {
    socket(descriptors, number)?;
    write_with_len(space, into, len, &(AF_UNIX as u16).to_le_bytes())
}

/// For calls that nothing supports that a socket can be asked for.
pub(super) fn refuse(descriptors: &Descriptors, number: u64, errno: Errno) -> Result<u64, Errno> {
    socket(descriptors, number)?;
    Err(errno)
}

/// Writes as much as fits, and how much there is.
fn write_with_len(space: &mut AddressSpace, into: u64, len: u64, bytes: &[u8]) -> Result<u64, Errno> {
    let room = usize::try_from(space.read_u32(GuestVirt(len))? as i32).map_err(|_| Errno::EINVAL)?;
    space.write(GuestVirt(into), &bytes[..bytes.len().min(room)])?;
    space.write(GuestVirt(len), &(bytes.len() as u32).to_le_bytes())?;
    Ok(0)
}

fn socket(descriptors: &Descriptors, number: u64) -> Result<(OpenFile, SocketEnd), Errno> {
    let file = descriptors.get(number)?;
    match file.object {
        Object::Socket(end) => Ok((file, end)),
        _ => Err(Errno::ENOTSOCK),
    }
}

impl SocketPair {
    pub(super) fn record(&self) -> SocketPairRecord {
        let record = |socket: &Socket| SocketRecord {
            received: socket.received.iter().copied().collect(),
            parts: socket.parts.iter().map(|part| *part as u32).collect(),
            is_closed: socket.is_closed,
            input_ended: socket.input_ended,
            output_ended: socket.output_ended,
            was_reset: socket.was_reset,
        };
        SocketPairRecord { sockets: self.sockets.each_ref().map(record) }
    }

    pub(super) fn of_record(record: &SocketPairRecord) -> Result<Self, BadRecord> {
        let socket = |record: &SocketRecord| {
            let held: u64 = record.parts.iter().map(|part| u64::from(*part)).sum();
            let fits = record.received.len() <= CAPACITY
                && record.parts.len() <= MOST_PARTS
                && record.parts.iter().all(|part| *part > 0)
                && held == record.received.len() as u64;
            BadRecord::unless(fits, "socket", "its bytes are not those of what was sent")?;
            Ok(Socket {
                received: Arc::new(record.received.iter().copied().collect()),
                parts: record.parts.iter().map(|part| *part as usize).collect(),
                is_closed: record.is_closed,
                input_ended: record.input_ended,
                output_ended: record.output_ended,
                was_reset: record.was_reset,
            })
        };
        let [first, second] = &record.sockets;
        Ok(Self { sockets: [socket(first)?, socket(second)?] })
    }

    pub(super) fn is_closed(&self, side: usize) -> bool {
        self.sockets[side].is_closed
    }

    /// What a socket is ready for.
    pub(super) fn events(&self, side: usize) -> u32 {
        let (own, peer) = (&self.sockets[side], &self.sockets[1 - side]);
        let events = [
            (own.was_reset, EPOLLERR),
            (own.input_ended && own.output_ended, EPOLLHUP),
            (own.input_ended, EPOLLRDHUP | EPOLLIN | EPOLLRDNORM),
            (!own.received.is_empty(), EPOLLIN | EPOLLRDNORM),
            (peer.is_closed || peer.has_room(), EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND),
        ];
        events.into_iter().filter(|(is_so, _)| *is_so).fold(0, |all, (_, events)| all | events)
    }

    /// How many bytes wait to be read.
    pub(super) fn held(&self, side: usize) -> usize {
        self.sockets[side].received.len()
    }

    /// Closes a socket, and says whether the other one is still open.
    pub(super) fn close(&mut self, side: usize) -> bool {
        self.end(side, true, true);
        let has_unread = !self.sockets[side].received.is_empty();
        self.sockets[1 - side].was_reset |= has_unread;
        self.sockets[side] = Socket { is_closed: true, ..Socket::default() };
        !self.sockets[1 - side].is_closed
    }

    /// Ends what comes to a socket, or goes from it.
    fn end(&mut self, side: usize, input: bool, output: bool) {
        let [first, second] = &mut self.sockets;
        let (own, peer) = if side == 0 { (first, second) } else { (second, first) };
        own.input_ended |= input;
        own.output_ended |= output;
        peer.input_ended |= output;
        peer.output_ended |= input;
    }
}

impl Socket {
    /// Adds what the other one sends, as much as there is room for.
    fn put(&mut self, bytes: &[u8]) -> usize {
        let done = if self.has_room() { bytes.len().min(CAPACITY - self.received.len()) } else { 0 };
        if done > 0 {
            Arc::make_mut(&mut self.received).extend(&bytes[..done]);
            self.parts.push_back(done);
        }
        done
    }

    fn has_room(&self) -> bool {
        self.received.len() < CAPACITY && self.parts.len() < MOST_PARTS
    }

    /// Takes bytes away, and says whether a whole write was read.
    fn take(&mut self, len: usize) -> bool {
        Arc::make_mut(&mut self.received).drain(..len);
        let mut left = len;
        let mut is_whole = false;
        while let Some(part) = self.parts.front_mut().filter(|_| left > 0) {
            let taken = left.min(*part);
            *part -= taken;
            left -= taken;
            if *part == 0 {
                self.parts.pop_front();
                is_whole = true;
            }
        }
        is_whole
    }
}

/// How many writes a socket holds, however small. By default Linux gives a socket 212,992 bytes for what it has sent
/// (`net/core/sock.c`, `SK_WMEM_MAX`), of which a small write takes 768, and the last one may go beyond.
const MOST_PARTS: usize = 278;

/// The bits of a socket's type that are none of its flags (Linux's `include/linux/net.h`).
const SOCKET_TYPE: u32 = 0xf;
