//! Where a guest finds memory of the host's, as a value that travels in a call.

use ampoule_abi::mapped;
use ampoule_vmm::GuestVirt;
use ampoule_vmm::address_map::{MAPPED_BASE, MAPPED_END};
use serde::{Serialize, Serializer};

/// Memory of the host's as an argument of a call, which a guest takes as its own `Mapped<'_>`.
///
/// It is a part of a [`HostMapping`](crate::HostMapping), or what a call [lends](crate::Sandbox::call_lending). A guest that is
/// given one that is no longer mapped, or was of another sandbox, faults when it uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped<'data>(mapped::Mapped<'data>);

impl<'data> Mapped<'data> {
    pub(crate) fn at(address: GuestVirt, len: u64) -> Self {
        Self(mapped::Mapped::At { address: address.0, len })
    }

    pub(crate) fn copy(bytes: &'data [u8]) -> Self {
        Self(mapped::Mapped::Copy(bytes))
    }

    /// How many bytes there are.
    pub fn len(&self) -> u64 {
        match self.0 {
            mapped::Mapped::At { len, .. } => len,
            mapped::Mapped::Copy(bytes) => bytes.len() as u64,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the guest finds the first byte, for a guest that takes a number; `None` where the bytes travel with the arguments.
    pub fn address(&self) -> Option<u64> {
        match self.0 {
            mapped::Mapped::At { address, .. } => Some(address),
            mapped::Mapped::Copy(_) => None,
        }
    }
}

impl Serialize for Mapped<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

// The addresses are a part of the ABI.
const _: () = assert!(MAPPED_BASE.0 == mapped::MAPPED_START && MAPPED_END.0 == mapped::MAPPED_END);
