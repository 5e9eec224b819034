//! What was tried on a hypervisor, and how it ended.

use std::fmt;

use crate::hypervisor::Exit;
use crate::x86_64::capabilities::{Paging, PortAccess, SyscallRing};
use crate::x86_64::shim::Trap;

/// All that was tried so far.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Trials {
    /// Ways to let ring 3 reach its ports, in the order in which they were tried. The first that works is taken.
    pub ports: Vec<Trial>,
    /// The instruction `syscall`, once it was tried.
    pub syscall: Option<SyscallTrial>,
    /// How setting a segment's base in ring 3 ended, once it was tried.
    pub base_instructions: Option<Outcome>,
    /// Who was found to walk the guest's page tables, once that was tried.
    pub paging: Option<Paging>,
    /// How reading protection keys in ring 3 ended, once it was tried.
    pub protection_keys: Option<Outcome>,
    /// What ring 3 found in the time-stamp counter. It is looked at only where the host's clocks go by that.
    pub counter: Option<CounterTrial>,
}

/// One way to let ring 3 reach its ports.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub struct Trial {
    /// The way.
    pub ports: PortAccess,
    /// How a guest's `out` ended. `None` when the guest could not be run.
    pub outcome: Option<Outcome>,
}

/// A system call, there and back.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub struct SyscallTrial {
    /// How the instruction ended.
    pub outcome: Outcome,
    /// The ring in which it arrived, if it did.
    pub ring: Option<SyscallRing>,
    /// How the guest went on behind it, if it did: [`Left`](Outcome::Left) by its next `out`.
    pub back: Option<Outcome>,
}

/// A look at the time-stamp counter.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub struct CounterTrial {
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the guest found what the host finds.
    pub shared: bool,
}

/// How an instruction of the trial guest ended.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The guest left as it should.
    Left,
    /// It got an exception with this vector.
    Exception(u8),
    /// It wrote to another port than it should.
    OtherPort(u16),
    /// It went on at another place than it should.
    Elsewhere {
        /// Where.
        rip: u64,
    },
    /// It ran into a triple fault.
    Shutdown,
    /// The processor refused to enter it.
    FailEntry {
        /// The processor's reason.
        reason: u64,
    },
    /// The hypervisor could not emulate it.
    InternalError {
        /// The hypervisor's reason.
        suberror: u32,
    },
    /// The host interrupted it.
    Interrupted,
    /// It left in a way in which the trial guest has no reason to.
    Other,
}

impl Trials {
    pub(crate) fn begin(&mut self, ports: PortAccess) {
        self.ports.push(Trial { ports, outcome: None });
    }

    pub(crate) fn end(&mut self, outcome: Outcome) {
        let trial = self.ports.last_mut().expect("a trial that ends has begun");
        trial.outcome = Some(outcome);
    }

    pub(crate) fn syscall(&mut self, outcome: Outcome) -> &mut SyscallTrial {
        self.syscall.insert(SyscallTrial { outcome, ring: None, back: None })
    }
}

impl Outcome {
    /// What an exit means that should be an `out` to `port`.
    pub(super) fn of(exit: &Exit<'_>, port: u16) -> Outcome {
        match *exit {
            Exit::IoOut { port: found, .. } if found == port => Outcome::Left,
            Exit::IoOut { port: found, .. } => match Trap::from_port(found) {
                Some(Trap::Exception(vector)) => Outcome::Exception(vector),
                _ => Outcome::OtherPort(found),
            },
            Exit::Shutdown => Outcome::Shutdown,
            Exit::FailEntry { reason } => Outcome::FailEntry { reason },
            Exit::InternalError { suberror } => Outcome::InternalError { suberror },
            Exit::Interrupted => Outcome::Interrupted,
            _ => Outcome::Other,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Left => f.write_str("exit"),
            Outcome::Exception(6) => f.write_str("#UD"),
            Outcome::Exception(8) => f.write_str("#DF"),
            Outcome::Exception(13) => f.write_str("#GP"),
            Outcome::Exception(14) => f.write_str("#PF"),
            Outcome::Exception(vector) => write!(f, "exception {vector}"),
            Outcome::OtherPort(port) => write!(f, "exit on port {port:#x}"),
            Outcome::Elsewhere { rip } => write!(f, "jump to {rip:#x}"),
            Outcome::Shutdown => f.write_str("triple fault"),
            Outcome::FailEntry { reason } => write!(f, "the processor refused to enter the guest (reason {reason:#x})"),
            Outcome::InternalError { suberror } => {
                write!(f, "the hypervisor could not emulate the instruction (suberror {suberror})")
            }
            Outcome::Interrupted => f.write_str("interrupted by the host"),
            Outcome::Other => f.write_str("an exit of another kind"),
        }
    }
}

impl fmt::Display for Trials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`out` in ring 3: ")?;
        for (index, ports) in WAYS.into_iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            match self.ports.iter().find(|trial| trial.ports == ports) {
                Some(Trial { outcome: Some(outcome), .. }) => write!(f, "{separator}{ports}: {outcome}")?,
                Some(Trial { outcome: None, .. }) => write!(f, "{separator}{ports}: the guest could not be run")?,
                None => write!(f, "{separator}{ports}: not tried")?,
            }
        }
        match &self.syscall {
            Some(trial) => write!(f, "\n`syscall`: {trial}")?,
            None => f.write_str("\n`syscall`: not tried")?,
        }
        match &self.base_instructions {
            Some(outcome) => write!(f, "\n`wrfsbase` in ring 3: {outcome}")?,
            None => f.write_str("\n`wrfsbase` in ring 3: not tried")?,
        }
        match &self.paging {
            Some(paging) => write!(f, "\na page table that serves other addresses than before: {paging}")?,
            None => f.write_str("\na page table that serves other addresses than before: not tried")?,
        }
        match &self.protection_keys {
            Some(outcome) => write!(f, "\n`rdpkru` in ring 3: {outcome}")?,
            None => f.write_str("\n`rdpkru` in ring 3: not tried")?,
        }
        match &self.counter {
            Some(CounterTrial { outcome: Outcome::Left, shared: true }) => {
                f.write_str("\n`rdtsc` in ring 3: the host's")
            }
            Some(CounterTrial { outcome: Outcome::Left, .. }) => f.write_str("\n`rdtsc` in ring 3: not the host's"),
            Some(CounterTrial { outcome, .. }) => write!(f, "\n`rdtsc` in ring 3: {outcome}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SyscallTrial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ring {
            Some(ring) => write!(f, "{ring}")?,
            None => write!(f, "{}", self.outcome)?,
        }
        match self.back {
            Some(Outcome::Left) => f.write_str(" and returns"),
            Some(outcome) => write!(f, "; its return: {outcome}"),
            None => Ok(()),
        }
    }
}

/// What can be tried, in the order of preference.
pub(super) const WAYS: [PortAccess; 3] =
    [PortAccess::Bitmap, PortAccess::BitmapOfAvailableTask, PortAccess::PrivilegeLevel];
