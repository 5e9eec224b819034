//! Why memory of the host's could not be mapped into a guest, or unmapped.

use std::io;
use std::sync::Arc;

use ampoule_vmm::address_map::{MAPPED_BASE, MAPPED_END};
use ampoule_vmm::{HypervisorError, PAGE_SIZE, WithAdvice};
use thiserror::Error;

/// Why memory of the host's could not be mapped into a guest, or unmapped. Nothing has changed then.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum MapMemoryError {
    /// There are no bytes in the range.
    #[error("there is nothing to map: the range has no bytes")]
    Empty,
    /// Something is not at the beginning of a page.
    #[error("the {what}, {value:#x}, is not a multiple of {PAGE_SIZE}, the size of a page; round it down and map more")]
    Unaligned {
        /// What it is.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// The file ends before the range does.
    #[error("the range ends at byte {end}, and the file has {size}; map what it has")]
    BehindFile {
        /// The end of the range.
        end: u64,
        /// The size of the file.
        size: u64,
    },
    /// A pipe, a directory or a device cannot be mapped.
    #[error("only regular files can be mapped; read this one into a `HostMemory` and map that")]
    NotAFile,
    /// Memory at an address cannot be mapped copy-on-write.
    #[error("memory at an address cannot be mapped copy-on-write; put it into a `HostMemory`")]
    NoCopy,
    /// The address is not one at which memory of the host's can lie.
    #[error(
        "{len} bytes at {address:#x} do not lie among the addresses for memory of the host's, {} to {}; leave the address \
         open",
        MAPPED_BASE,
        MAPPED_END
    )]
    OutsideOfAddresses {
        /// The address.
        address: u64,
        /// How many bytes were to lie there.
        len: u64,
    },
    /// Something else is mapped at the address.
    #[error(
        "{len} bytes at {address:#x} overlap the mapping of {name} at {start:#x}; unmap that, or leave the address open"
    )]
    Overlaps {
        /// The address.
        address: u64,
        /// How many bytes were to lie there.
        len: u64,
        /// What the other mapping is called.
        name: String,
        /// Where it begins.
        start: u64,
    },
    /// The name is none that a file can have.
    #[error("`{}` cannot be the name of a file; give one of 1 to 255 bytes without `/` and zeros", .name.escape_debug())]
    InvalidName {
        /// The name.
        name: String,
    },
    /// The guest has a mapping of this name.
    #[error("the guest has a mapping that is called `{name}`; give another name, or unmap that")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// The guest has as many mappings as it may have.
    #[error("the guest has {limit} mappings of memory of the host's, which is the most that it may have; unmap one")]
    TooMany {
        /// How many there are.
        limit: usize,
    },
    /// There is no room for the page tables of so much: more than [`Builder::mapped_limit`](crate::Builder::mapped_limit), or than
    /// any guest can have.
    #[error(
        "{len} bytes and the {mapped} that are mapped are more than the {limit} that this guest can have; map less, or let a \
         sandbox have more with `Builder::mapped_limit`, which goes up to 32 GiB"
    )]
    TooMuch {
        /// How many bytes were to be mapped.
        len: u64,
        /// How many are.
        mapped: u64,
        /// The limit.
        limit: u64,
    },
    /// The mapping is none of this sandbox, or not any more.
    #[error("the sandbox does not have this mapping, or no longer; `Sandbox::mappings` shows those that it has")]
    NotMapped,
    /// The guest has ended, so that nothing can be mapped before it is restored.
    #[error("the sandbox is poisoned, as `Sandbox::poisoned` says; restore a snapshot or reset it first")]
    Poisoned,
    /// The host cannot map it.
    #[error("the host cannot map the memory: {}", WithAdvice(.0))]
    Host(Arc<io::Error>),
    /// The hypervisor refused.
    #[error("the hypervisor cannot show the memory to the guest: {0}")]
    Hypervisor(Arc<HypervisorError>),
}

impl From<io::Error> for MapMemoryError {
    fn from(error: io::Error) -> Self {
        Self::Host(Arc::new(error))
    }
}

impl From<HypervisorError> for MapMemoryError {
    fn from(error: HypervisorError) -> Self {
        Self::Hypervisor(Arc::new(error))
    }
}
