//! `epoll`: waiting for some of many files, by what has happened to them.
//!
//! An instance has a list of *watches*, each for a file by a number of it, and a queue of those whose files something has
//! happened to. A wait goes through the queue and looks what the files are ready for: a watch that is triggered by the level
//! is put at its end again, one that is triggered by the edge only when the next thing happens. This is how Linux does it
//! (`fs/eventpoll.c`), so that the order and the number of events are its own too.

mod stored;

use std::collections::VecDeque;
use std::time::Duration;

use ampoule_vmm::GuestVirt;
use linux_raw_sys::general::{
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLERR, EPOLLET, EPOLLEXCLUSIVE, EPOLLHUP, EPOLLIN,
    EPOLLONESHOT, EPOLLOUT, EPOLLRDNORM, EPOLLWAKEUP, O_RDWR, epoll_event,
};

use crate::address_space::AddressSpace;
use crate::personality::Outcome;

use super::clocks::Clocks;
use super::descriptors::{Descriptors, FileId, FileSet, Object, OpenFile};
use super::errno::Errno;
use super::signals::Signals;
use super::structure::{read_fields, to_bytes};
use super::{int, poll, time, uint};

pub(super) use stored::EpollRecord;

/// An instance of `epoll`.
#[derive(Clone, Debug, Default)]
pub(super) struct Epoll {
    watches: Vec<Watch>,
    /// The watches whose files something has happened to, each once.
    queue: VecDeque<Key>,
}

/// What tells watches apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    file: FileId,
    number: u32,
}

#[derive(Clone, Copy, Debug)]
struct Watch {
    key: Key,
    /// What it waits for, and how.
    events: u32,
    /// What the process is told.
    data: u64,
}

/// `epoll_create`, whose argument has to be positive and says nothing.
pub(super) fn create_sized(descriptors: &mut Descriptors, size: u64) -> Result<u64, Errno> {
    if int(size) <= 0 { Err(Errno::EINVAL) } else { create(descriptors, 0) }
}

/// `epoll_create1`.
pub(super) fn create(descriptors: &mut Descriptors, flags: u64) -> Result<u64, Errno> {
    if uint(flags) & !EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let file = OpenFile { object: Object::Epoll, flags: O_RDWR, position: 0 };
    descriptors.open_epoll(file, flags != 0)
}

/// `epoll_ctl`.
pub(super) fn control(
    descriptors: &mut Descriptors,
    space: &AddressSpace,
    [instance, operation, number, event]: [u64; 4],
) -> Result<u64, Errno> {
    let operation = uint(operation);
    let (events, data) = match operation {
        EPOLL_CTL_DEL => (0, 0),
        _ => read_fields!(space, event, epoll_event { events, data })?,
    };
    let (own, file) = (descriptors.id(instance)?, descriptors.id(number)?);
    let target = descriptors.file(file).object;
    if !target.can_be_waited_for() {
        return Err(Errno::EPERM);
    }
    if own == file || descriptors.file(own).object != Object::Epoll {
        return Err(Errno::EINVAL);
    }
    if events & EPOLLEXCLUSIVE != 0 {
        let is_allowed = operation == EPOLL_CTL_ADD && target != Object::Epoll && events & !WITH_EXCLUSIVE == 0;
        if !is_allowed && matches!(operation, EPOLL_CTL_ADD | EPOLL_CTL_MOD) {
            return Err(Errno::EINVAL);
        }
    }
    if operation == EPOLL_CTL_ADD && target == Object::Epoll {
        check_nesting(descriptors, own, file)?;
    }
    let has_room = descriptors.epolls().map(|(_, epoll)| epoll.watches.len()).sum::<usize>() < MOST_WATCHES;
    let watch = Watch { key: Key { file, number: uint(number) }, events: events | ALWAYS, data };
    let epoll = descriptors.epoll_mut(own).ok_or(Errno::EINVAL)?;
    let known = epoll.watches.iter().position(|other| other.key == watch.key);
    match (operation, known) {
        (EPOLL_CTL_ADD, None) if !has_room => return Err(Errno::ENOSPC),
        (EPOLL_CTL_ADD, None) => epoll.watches.push(watch),
        (EPOLL_CTL_ADD, Some(_)) => return Err(Errno::EEXIST),
        (EPOLL_CTL_MOD, Some(at)) if epoll.watches[at].events & EPOLLEXCLUSIVE != 0 => return Err(Errno::EINVAL),
        (EPOLL_CTL_MOD, Some(at)) => epoll.watches[at] = watch,
        (EPOLL_CTL_DEL, Some(at)) => {
            epoll.watches.remove(at);
            epoll.queue.retain(|key| *key != watch.key);
            return Ok(0);
        }
        (EPOLL_CTL_MOD | EPOLL_CTL_DEL, None) => return Err(Errno::ENOENT),
        _ => return Err(Errno::EINVAL),
    }
    if descriptors.readiness(file) & watch.events != 0
        && let Some(epoll) = descriptors.epoll_mut(own)
        && epoll.enqueue(watch.key)
    {
        descriptors.wake(own, EPOLLIN);
    }
    Ok(0)
}

/// `epoll_wait`: `timeout` is in milliseconds; a negative one never ends.
pub(super) fn wait(
    descriptors: &mut Descriptors,
    clocks: &mut Clocks,
    space: &mut AddressSpace,
    [instance, into, most, timeout]: [u64; 4],
) -> Result<Outcome, Errno> {
    let timeout = u64::try_from(int(timeout)).ok().map(Duration::from_millis);
    wait_for(descriptors, clocks, space, [instance, into, most], timeout)
}

/// `epoll_pwait`: also a set of signals that are blocked meanwhile, and its size.
pub(super) fn wait_masked(
    (descriptors, signals): (&mut Descriptors, &mut Signals),
    clocks: &mut Clocks,
    space: &mut AddressSpace,
    [instance, into, most, timeout, mask, mask_size]: [u64; 6],
) -> Result<Outcome, Errno> {
    if mask != 0 {
        signals.block_meanwhile(clocks, space, mask, mask_size)?;
    }
    wait(descriptors, clocks, space, [instance, into, most, timeout])
}

/// `epoll_pwait2`: the timeout is a `struct timespec`, and none never ends.
pub(super) fn wait_precisely(
    (descriptors, signals): (&mut Descriptors, &mut Signals),
    clocks: &mut Clocks,
    space: &mut AddressSpace,
    [instance, into, most, timeout, mask, mask_size]: [u64; 6],
) -> Result<Outcome, Errno> {
    let timeout = if timeout == 0 { None } else { Some(time::read_timespec(space, timeout)?) };
    if mask != 0 {
        signals.block_meanwhile(clocks, space, mask, mask_size)?;
    }
    wait_for(descriptors, clocks, space, [instance, into, most], timeout)
}

/// Where nothing is ready, the process waits.
fn wait_for(
    descriptors: &mut Descriptors,
    clocks: &mut Clocks,
    space: &mut AddressSpace,
    [instance, into, most]: [u64; 3],
    timeout: Option<Duration>,
) -> Result<Outcome, Errno> {
    let most = u32::try_from(int(most)).ok().filter(|most| (1..=MOST_EVENTS).contains(most)).ok_or(Errno::EINVAL)?;
    let own = descriptors.id(instance)?;
    if descriptors.file(own).object != Object::Epoll {
        return Err(Errno::EINVAL);
    }
    let found = report(descriptors, space, own, into, most as usize)?;
    let input = (found == 0 && descriptors.leads_to_input(own)).then(|| descriptors.input().behind);
    Ok(poll::outcome(clocks, found, timeout, input))
}

/// Writes the events of at most so many watches, in the order of the queue, and says how many there were.
fn report(
    descriptors: &mut Descriptors,
    space: &mut AddressSpace,
    own: FileId,
    into: u64,
    most: usize,
) -> Result<u64, Errno> {
    let mut queue = descriptors.epoll_mut(own).map(|epoll| std::mem::take(&mut epoll.queue)).unwrap_or_default();
    let mut again = VecDeque::new();
    let mut found = 0;
    let mut fault = None;
    while found < most
        && let Some(key) = queue.pop_front()
    {
        let ready = descriptors.readiness(key.file);
        let Some(watch) = descriptors.epoll_mut(own).and_then(|epoll| epoll.watch_mut(key)) else { continue };
        let events = ready & watch.events;
        if events == 0 {
            continue;
        }
        let event = to_bytes!(epoll_event { events: events, data: watch.data });
        let written = GuestVirt(into).checked_add((found * event.len()) as u64).map(|at| space.write(at, &event));
        if written != Some(Ok(())) {
            queue.push_front(key);
            fault = (found == 0).then_some(Errno::EFAULT);
            break;
        }
        found += 1;
        if watch.events & EPOLLONESHOT != 0 {
            watch.events &= HOW;
        } else if watch.events & EPOLLET == 0 {
            again.push_back(key);
        }
    }
    queue.append(&mut again);
    if let Some(epoll) = descriptors.epoll_mut(own) {
        epoll.queue = queue;
    }
    fault.map_or(Ok(found as u64), Err)
}

/// Fails where an instance would come to wait for itself, or for one in one in one, and so on.
fn check_nesting(descriptors: &Descriptors, own: FileId, file: FileId) -> Result<(), Errno> {
    let nested = |of: FileSet| {
        let watching = descriptors.epolls().filter(|(instance, _)| of.has(*instance));
        let watched = watching.flat_map(|(_, epoll)| epoll.watches.iter().map(|watch| watch.key.file));
        watched.filter(|file| descriptors.file(*file).object == Object::Epoll).collect()
    };
    let watching = |of: FileSet| {
        let has_one = |epoll: &Epoll| epoll.watches.iter().any(|watch| of.has(watch.key.file));
        descriptors.epolls().filter(|(_, epoll)| has_one(epoll)).map(|(instance, _)| instance).collect()
    };
    let (below, reached) = depth(file, nested);
    let (above, _) = depth(own, watching);
    if reached.has(own) || below + 1 + above > MOST_NESTED { Err(Errno::ELOOP) } else { Ok(()) }
}

/// How many steps lead on from a file, and where to. Many ways may lead to one file, but none goes round.
fn depth(from: FileId, next: impl Fn(FileSet) -> FileSet) -> (usize, FileSet) {
    let mut level: FileSet = [from].into_iter().collect();
    let mut reached = level;
    let mut depth = 0;
    loop {
        level = next(level);
        if level.is_empty() {
            return (depth, reached);
        }
        reached = reached.with(level);
        depth += 1;
    }
}

impl Epoll {
    /// Takes note that something has happened to a file, by its events, or by 0 for anything; and says whether that is
    /// waited for.
    pub(super) fn wake(&mut self, file: FileId, events: u32) -> bool {
        let is_woken = |watch: &&Watch| {
            watch.key.file == file && watch.events & !HOW != 0 && (events == 0 || events & watch.events != 0)
        };
        let woken: Vec<Key> = self.watches.iter().filter(is_woken).map(|watch| watch.key).collect();
        for key in &woken {
            self.enqueue(*key);
        }
        !woken.is_empty()
    }

    /// Forgets a file that is closed.
    pub(super) fn forget(&mut self, file: FileId) {
        self.watches.retain(|watch| watch.key.file != file);
        self.queue.retain(|key| key.file != file);
    }

    /// Whether a wait would find something; `readiness` says what files are ready for.
    pub(super) fn has_events(&self, mut readiness: impl FnMut(FileId) -> u32) -> bool {
        let mut queued = self.queue.iter().filter_map(|key| self.watches.iter().find(|watch| watch.key == *key));
        queued.any(|watch| readiness(watch.key.file) & watch.events != 0)
    }

    /// The files of which a wait is to find out that there is something to read.
    pub(super) fn awaited_to_read(&self) -> impl Iterator<Item = FileId> {
        self.watches.iter().filter(|watch| watch.events & (EPOLLIN | EPOLLRDNORM) != 0).map(|watch| watch.key.file)
    }

    fn watch_mut(&mut self, key: Key) -> Option<&mut Watch> {
        self.watches.iter_mut().find(|watch| watch.key == key)
    }

    /// Puts a watch at the end of the queue, unless it is there.
    fn enqueue(&mut self, key: Key) -> bool {
        let is_new = !self.queue.contains(&key);
        if is_new {
            self.queue.push_back(key);
        }
        is_new
    }
}

/// What every watch waits for.
const ALWAYS: u32 = EPOLLERR | EPOLLHUP;

/// Bits that say how a watch waits.
const HOW: u32 = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE;

/// What may go with `EPOLLEXCLUSIVE`.
const WITH_EXCLUSIVE: u32 = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;

/// How many watches a process can have. Linux says how much memory they may take, and refuses more with the same error.
const MOST_WATCHES: usize = 1024;

/// How deep instances may wait for each other (Linux's `fs/eventpoll.c`, `EP_MAX_NESTS`).
const MOST_NESTED: usize = 4;

/// The most events that one wait may ask for (the same, `EP_MAX_EVENTS`).
const MOST_EVENTS: u32 = i32::MAX as u32 / size_of::<epoll_event>() as u32;
