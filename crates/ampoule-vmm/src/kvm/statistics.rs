//! What the kernel has counted for a vCPU, read from its binary statistics.
//!
//! The file begins with a header, which says where the names and types of all statistics lie and where their values
//! (`struct kvm_stats_header` and `struct kvm_stats_desc` in `linux/kvm.h`). Statistics are found by their names; kernels
//! differ in which they have.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::hypervisor::{HypervisorError, Operation, Statistics, StatisticsReader};
use crate::linux::uninterrupted::uninterrupted;

use super::vm::Machine;

/// The statistics of a vCPU.
#[derive(Debug)]
pub(super) struct KvmStatistics {
    file: File,
    /// Keeps the virtual machine and its vCPUs, which not every kernel does for this file alone.
    _machine: Arc<Machine>,
}

impl KvmStatistics {
    /// Opens the statistics of `vcpu`, which belongs to `machine`. To be called only where there is
    /// `KVM_CAP_BINARY_STATS_FD`.
    pub(super) fn open(vcpu: BorrowedFd<'_>, machine: Arc<Machine>) -> Result<KvmStatistics, HypervisorError> {
        let open = || {
            // SAFETY: the request has no argument, and makes a new descriptor without touching memory.
            let fd = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_GET_STATS_FD, 0) };
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(fd) }
        };
        let fd = uninterrupted(open).map_err(refused)?;
        // SAFETY: the descriptor is new, so nobody else owns it.
        let file = unsafe { File::from_raw_fd(fd) };
        Ok(KvmStatistics { file, _machine: machine })
    }
}

impl StatisticsReader for KvmStatistics {
    fn read(&self) -> Result<Statistics, HypervisorError> {
        parse(&self.file).map_err(refused)
    }
}

fn refused(reason: io::Error) -> HypervisorError {
    HypervisorError::Refused { operation: Operation::ReadStatistics, reason }
}

fn parse(file: &impl FileExt) -> io::Result<Statistics> {
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)?;
    let [name_size, count, descriptors, data] = [4, 8, 16, 20].map(|at| word(&header, at));
    if name_size > LONGEST_NAME || count > MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let size = DESCRIPTOR + name_size as usize;
    let mut table = vec![0; size * count as usize];
    file.read_exact_at(&mut table, descriptors.into())?;

    let value = |wanted: &str| {
        let found = table.chunks_exact(size).find(|entry| name(entry) == wanted.as_bytes());
        let counts = found.filter(|entry| word(entry, 0) & TYPE == CUMULATIVE);
        counts.map(|entry| {
            let mut value = [0; size_of::<u64>()];
            let at = u64::from(data) + u64::from(word(entry, 8));
            file.read_exact_at(&mut value, at).map(|()| u64::from_ne_bytes(value))
        })
    };
    Ok(Statistics {
        exits: value("exits").transpose()?,
        io_exits: value("io_exits").transpose()?,
        mmio_exits: value("mmio_exits").transpose()?,
        signal_exits: value("signal_exits").transpose()?,
        interrupt_exits: value("irq_exits").transpose()?,
        page_faults: value("pf_taken").transpose()?,
    })
}

fn name(entry: &[u8]) -> &[u8] {
    let name = &entry[DESCRIPTOR..];
    name.split(|byte| *byte == 0).next().unwrap_or(name)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// `_IO(KVMIO, 0xce)` in `linux/kvm.h`.
const KVM_GET_STATS_FD: libc::c_ulong = 0xaece;

/// The size of a header.
const HEADER: usize = 24;

/// The size of a descriptor without its name.
const DESCRIPTOR: usize = 16;

/// The part of a statistic's flags that is its type, and the type of one that only grows.
const TYPE: u32 = 0xf;
const CUMULATIVE: u32 = 0;

// Far beyond what any kernel has.
const LONGEST_NAME: u32 = 1 << 10;
const MOST: u32 = 1 << 12;

#[cfg(test)]
mod tests;
