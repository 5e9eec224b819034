//! Memory of the host's that a guest finds beside its own, and how a value says where it is.

use serde::{Deserialize, Serialize};

/// Where the addresses begin at which a host maps its own memory into a guest.
pub const MAPPED_START: u64 = 0x7ff0_0000_0000;

/// The end of these addresses.
pub const MAPPED_END: u64 = 0x7fff_ffe0_0000;

/// Bytes of the host's, as a value of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mapped<'data> {
    /// They are mapped.
    At {
        /// The first of them, within [`MAPPED_START`] to [`MAPPED_END`]; anything where there are none.
        address: u64,
        /// How many there are.
        len: u64,
    },
    /// They are in the value itself.
    Copy(&'data [u8]),
}

impl Mapped<'_> {
    /// Whether bytes that are mapped lie where they can.
    pub fn lies_within(&self) -> bool {
        match *self {
            Self::At { len: 0, .. } | Self::Copy(_) => true,
            Self::At { address, len } => {
                address >= MAPPED_START && address.checked_add(len).is_some_and(|end| end <= MAPPED_END)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_among_the_hosts_addresses_is_mapped() {
        let lies_within = |address, len| Mapped::At { address, len }.lies_within();
        assert!(lies_within(MAPPED_START, MAPPED_END - MAPPED_START));
        assert!(lies_within(0, 0));
        for (address, len) in
            [(MAPPED_START - 1, 1), (MAPPED_END - 1, 2), (u64::MAX, 1), (MAPPED_START, u64::MAX), (0, 1)]
        {
            assert!(!lies_within(address, len), "{address:#x} {len}");
        }
    }
}
