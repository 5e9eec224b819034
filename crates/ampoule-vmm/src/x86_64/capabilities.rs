//! How guests behave on the hypervisor and processor at hand.

use std::fmt;

use super::baseline::Baseline;

/// What a guest can count on, found out by trying.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub struct Capabilities {
    /// What makes a ring-3 `out` leave the guest.
    pub ports: PortAccess,
    /// Where the `syscall` instruction arrives.
    pub syscall: SyscallRing,
    /// Whether the hypervisor lets guests enable `wrfsbase` and its kin, and `cpuid` announces them.
    pub fsgsbase: bool,
    /// Whether these instructions work in ring 3, announced or not.
    pub base_instructions: bool,
    /// Whether the hypervisor lets guests enable User-Mode Instruction Prevention, with which `sgdt`, `sidt`, `sldt`, `smsw` and
    /// `str` fault in ring 3, and `cpuid` announces it.
    pub umip: bool,
    /// Who walks the guest's page tables.
    pub paging: Paging,
    /// Whether ring 3 can use protection keys, and so take from itself what its page tables allow, although the guest's CR4 does
    /// not enable them.
    pub protection_keys: bool,
    /// Whether ring 3 reads the host's time-stamp counter, and the host's own clocks go by that.
    pub counter: bool,
    /// The register state that guests may use, as bits of XCR0; 0 when the processor has no XSAVE.
    pub xcr0: u64,
    /// What guests find of the processor, where that is not all that they can use.
    pub baseline: Option<Baseline>,
}

/// How ring 3 is given the two ports that it may write.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[non_exhaustive]
pub enum PortAccess {
    /// By the I/O permission bitmap of the task state segment, as the manuals say.
    Bitmap,
    /// By that bitmap, which is honoured only while the segment is marked available instead of busy.
    BitmapOfAvailableTask,
    /// By I/O privilege level 3 in the guest's flags, because no bitmap is honoured. The guest can write any port then, so
    /// that telling allowed ports from others is the host's business alone.
    PrivilegeLevel,
}

/// Who walks the guest's page tables, as far as it makes a difference: whether a table that was put to another use is seen
/// ([`PageTables`](crate::x86_64::paging::PageTables)).
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[non_exhaustive]
pub enum Paging {
    /// The processor. It sees such a table once the page of the table has been [revoked](crate::Region::revoke).
    Nested,
    /// The hypervisor, which shadows them. It sees such a table once it has forgotten the memory slot of the tables.
    Shadowed,
}

/// The ring that `syscall` enters.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[non_exhaustive]
pub enum SyscallRing {
    /// Ring 0, as the manuals say.
    Ring0,
    /// The instruction only changes the instruction pointer, RCX, R11 and the flags, and stays in ring 3.
    Ring3,
}

impl Capabilities {
    /// The flags that user code needs in addition to its own.
    pub(crate) fn user_flags(&self) -> u64 {
        match self.ports {
            PortAccess::Bitmap | PortAccess::BitmapOfAvailableTask => 0,
            PortAccess::PrivilegeLevel => IOPL_3,
        }
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Capabilities {
            ports,
            syscall,
            fsgsbase,
            base_instructions,
            umip,
            paging,
            protection_keys,
            counter,
            xcr0,
            baseline,
        } = self;
        let fsgsbase = match (fsgsbase, base_instructions) {
            (true, true) => "with FSGSBASE",
            (true, false) => "with FSGSBASE that does not work",
            (false, true) => "with FSGSBASE that is not announced",
            (false, false) => "without FSGSBASE",
        };
        let umip = if *umip { "with" } else { "without" };
        let keys = if *protection_keys { "with" } else { "without" };
        let counter = if *counter { "with" } else { "without" };
        write!(
            f,
            "ring 3 reaches its ports through {ports}; syscall {syscall}; {fsgsbase}; {umip} UMIP; {paging}; \
             {keys} protection keys; {counter} a clock; XCR0 {xcr0:#x}"
        )?;
        baseline.map_or(Ok(()), |baseline| write!(f, "; no more than {baseline}"))
    }
}

impl fmt::Display for PortAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PortAccess::Bitmap => "the I/O bitmap",
            PortAccess::BitmapOfAvailableTask => "the I/O bitmap of an available task",
            PortAccess::PrivilegeLevel => "I/O privilege level 3",
        })
    }
}

impl fmt::Display for Paging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Paging::Nested => "nested paging",
            Paging::Shadowed => "shadowed page tables",
        })
    }
}

impl fmt::Display for SyscallRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SyscallRing::Ring0 => "enters ring 0",
            SyscallRing::Ring3 => "stays in ring 3",
        })
    }
}

/// RFLAGS.IOPL = 3 (AMD64 Architecture Programmer's Manual, volume 2, section 3.1.6).
const IOPL_3: u64 = 3 << 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_written_for_people() {
        let capabilities = Capabilities {
            ports: PortAccess::BitmapOfAvailableTask,
            syscall: SyscallRing::Ring0,
            fsgsbase: true,
            base_instructions: true,
            umip: true,
            paging: Paging::Nested,
            protection_keys: false,
            counter: true,
            xcr0: 7,
            baseline: Some("x86-64-v3".parse().unwrap()),
        };
        assert_eq!(
            capabilities.to_string(),
            "ring 3 reaches its ports through the I/O bitmap of an available task; syscall enters ring 0; with FSGSBASE; \
             with UMIP; nested paging; without protection keys; with a clock; XCR0 0x7; no more than x86-64-v3"
        );
    }

    #[test]
    fn only_the_last_resort_gives_the_guest_io_privilege() {
        for (ports, flags) in
            [(PortAccess::Bitmap, 0), (PortAccess::BitmapOfAvailableTask, 0), (PortAccess::PrivilegeLevel, 0x3000)]
        {
            let syscall = SyscallRing::Ring0;
            let capabilities = Capabilities {
                ports,
                syscall,
                fsgsbase: true,
                base_instructions: true,
                umip: false,
                paging: Paging::Nested,
                protection_keys: false,
                counter: true,
                xcr0: 7,
                baseline: None,
            };
            assert_eq!(capabilities.user_flags(), flags);
        }
    }
}
