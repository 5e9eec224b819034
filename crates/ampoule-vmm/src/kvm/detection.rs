//! What was found out about KVM, for those who need to know why it cannot be used, or how it is.

use std::fmt;

use kvm_bindings::{
    KVM_CAP_BINARY_STATS_FD, KVM_CAP_DIRTY_LOG_RING, KVM_CAP_EXT_CPUID, KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_SYNC_REGS,
    KVM_CAP_USER_MEMORY, KVM_CAP_XCRS, KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS,
};

use crate::x86_64::probe::Trials;

use super::dirty_ring::DirtyRing;

/// What was found out about KVM: all of it when KVM could be opened, and otherwise what was found out before that failed.
/// Its `Display` is a list of a few lines.
#[derive(Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub struct Detection {
    /// The version of KVM's interface.
    pub api_version: i32,
    /// The capabilities that this backend asks for, in that order.
    pub extensions: Vec<Extension>,
    /// What guests see of the processor, once that was asked for.
    pub processor: Option<Processor>,
    /// The results of the trial guest, once it has been started.
    pub trials: Option<Trials>,
}

/// One of KVM's capabilities.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub struct Extension {
    /// The kernel's name for it.
    pub name: &'static str,
    /// What [`found`](Extension::found) has to be.
    pub needed: Needed,
    /// The kernel's answer to whether it has the capability: 0 where it is absent; otherwise 1, a set of bits, or a limit.
    pub found: i32,
}

/// How much of a capability this backend needs.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub enum Needed {
    /// The backend can do without it.
    Nothing,
    /// These bits.
    Bits(i32),
    /// At least this much.
    AtLeast(i32),
}

/// What guests see of the processor.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub struct Processor {
    /// Whether there is `rdfsbase` and its kin.
    pub fsgsbase: bool,
    /// Whether there is User-Mode Instruction Prevention.
    pub umip: bool,
    /// The register state that guests may use, as bits of XCR0; 0 when there is no XSAVE.
    pub xcr0: u64,
    /// The register state that KVM offers.
    pub offered_xcr0: u64,
}

impl Detection {
    /// Asks for all capabilities; `answer` is the kernel's answer to a number.
    pub(super) fn begin(api_version: i32, answer: impl Fn(u32) -> i32) -> Detection {
        let extensions = EXTENSIONS.map(|(name, number, needed)| Extension { name, needed, found: answer(number) });
        Detection { api_version, extensions: extensions.into(), processor: None, trials: None }
    }

    /// The first capability that is needed and missing.
    pub(super) fn missing(&self) -> Option<&'static str> {
        self.extensions.iter().find(|extension| !extension.suffices()).map(|extension| extension.name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.extensions.iter().any(|extension| extension.name == name && extension.found > 0)
    }
}

impl Extension {
    /// Whether the kernel has as much of it as this backend needs.
    pub fn suffices(&self) -> bool {
        // An error is a negative number, all of whose upper bits are set.
        match self.needed {
            Needed::Nothing => true,
            Needed::Bits(bits) => self.found > 0 && self.found & bits == bits,
            Needed::AtLeast(least) => self.found >= least,
        }
    }
}

impl fmt::Display for Detection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KVM's API version: {}", self.api_version)?;
        for extension in &self.extensions {
            write!(f, "\n{extension}")?;
        }
        match &self.processor {
            Some(processor) => write!(f, "\n{processor}")?,
            None => f.write_str("\nprocessor: not asked for")?,
        }
        match &self.trials {
            Some(trials) => write!(f, "\n{trials}"),
            None => f.write_str("\ntrial guest: not run"),
        }
    }
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Extension { name, needed, found } = *self;
        match (found, needed) {
            (0, Needed::Nothing) => write!(f, "{name}: absent, not needed"),
            (..=0, _) => write!(f, "{name}: missing"),
            (_, Needed::Bits(bits)) if !self.suffices() => {
                write!(f, "{name}: {found:#x}, of which {bits:#x} is needed")
            }
            (_, Needed::AtLeast(least)) if !self.suffices() => {
                write!(f, "{name}: {found:#x}, and {least:#x} is needed")
            }
            (1, _) => write!(f, "{name}: present"),
            _ => write!(f, "{name}: present ({found:#x})"),
        }
    }
}

impl fmt::Display for Processor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [fsgsbase, umip] = [self.fsgsbase, self.umip].map(|it| if it { "present" } else { "absent" });
        match self.xcr0 {
            0 => write!(f, "XSAVE: absent")?,
            xcr0 => write!(f, "XCR0: {xcr0:#x} of {:#x}", self.offered_xcr0)?,
        }
        write!(f, "\nFSGSBASE: {fsgsbase}\nUMIP: {umip}")
    }
}

/// The name of the capability by which a vCPU's statistics can be read.
pub(super) const STATISTICS: &str = "KVM_CAP_BINARY_STATS_FD";

/// The capabilities that are asked for: name, number, and how much is needed.
const EXTENSIONS: [(&str, u32, Needed); 7] = [
    ("KVM_CAP_USER_MEMORY", KVM_CAP_USER_MEMORY, Needed::Bits(1)),
    ("KVM_CAP_EXT_CPUID", KVM_CAP_EXT_CPUID, Needed::Bits(1)),
    ("KVM_CAP_XCRS", KVM_CAP_XCRS, Needed::Bits(1)),
    ("KVM_CAP_SYNC_REGS", KVM_CAP_SYNC_REGS, Needed::Bits((KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS) as i32)),
    ("KVM_CAP_IMMEDIATE_EXIT", KVM_CAP_IMMEDIATE_EXIT, Needed::Bits(1)),
    // The kernel answers how many bytes a ring can have.
    ("KVM_CAP_DIRTY_LOG_RING", KVM_CAP_DIRTY_LOG_RING, Needed::AtLeast(DirtyRing::BYTES as i32)),
    (STATISTICS, KVM_CAP_BINARY_STATS_FD, Needed::Nothing),
];

#[cfg(test)]
mod tests;
