//! Allocation records: what a guest allocates and frees, as it travels in the output area.

use super::message::wire_enum;

wire_enum! {
    /// What an allocation record says.
    AllocationKind {
        /// A block was allocated.
        Allocated = 1,
        /// A block was freed.
        Freed = 2,
    }
}

/// The beginning of the content of a record of the output area that is an allocation record
/// ([`OutputKind::Allocation`](super::OutputKind::Allocation)).
///
/// The rest are the return addresses of the calls that led to an allocation, innermost first, at most [`MAX_CALLERS`], each a
/// `u64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocationHeader {
    /// An [`AllocationKind`]. A plain number here: what a guest wrote is not to be trusted before it is converted.
    pub kind: u32,
    /// [`CALLERS_MISSING`], or 0.
    pub flags: u32,
    /// Where the block begins.
    pub address: u64,
    /// How many bytes were asked for; 0 of a block that was freed.
    pub size: u64,
}

impl AllocationHeader {
    /// The header as it stands in memory.
    pub fn to_bytes(self) -> [u8; ALLOCATION_HEADER_LEN] {
        let words = [u64::from(self.flags) << 32 | u64::from(self.kind), self.address, self.size];
        let mut bytes = [0; ALLOCATION_HEADER_LEN];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads a header from a copy of its bytes.
    pub fn from_bytes(bytes: &[u8; ALLOCATION_HEADER_LEN]) -> Self {
        let (words, _) = bytes.as_chunks();
        let word = |index: usize| u64::from_le_bytes(words[index]);
        Self { kind: word(0) as u32, flags: (word(0) >> 32) as u32, address: word(1), size: word(2) }
    }
}

/// An allocation record, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocationRecord<'a> {
    /// A block was allocated.
    Allocated {
        /// Where it begins.
        address: u64,
        /// How many bytes were asked for.
        size: u64,
        /// What has allocated it.
        callers: Callers<'a>,
    },
    /// A block was freed.
    Freed {
        /// Where it began.
        address: u64,
    },
}

impl<'a> AllocationRecord<'a> {
    /// Reads a record from a copy of its content, if it is one. Addresses and size may be any numbers.
    pub fn from_bytes(content: &'a [u8]) -> Option<Self> {
        let (header, rest) = content.split_first_chunk()?;
        let AllocationHeader { kind, flags, address, size } = AllocationHeader::from_bytes(header);
        let (addresses, []) = rest.as_chunks() else { return None };
        match AllocationKind::from_u32(kind)? {
            AllocationKind::Allocated => {
                let is_sound = flags & !CALLERS_MISSING == 0 && addresses.len() <= MAX_CALLERS;
                let callers = Callers { addresses, are_missing: flags & CALLERS_MISSING != 0 };
                is_sound.then_some(Self::Allocated { address, size, callers })
            }
            AllocationKind::Freed => {
                (flags == 0 && size == 0 && addresses.is_empty()).then_some(Self::Freed { address })
            }
        }
    }
}

/// The calls that led to an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callers<'a> {
    addresses: &'a [[u8; 8]],
    are_missing: bool,
}

impl Callers<'_> {
    /// Their return addresses, innermost first: at most [`MAX_CALLERS`].
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = u64> {
        self.addresses.iter().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// Whether there were more.
    pub fn are_missing(&self) -> bool {
        self.are_missing
    }
}

/// Bytes of an [`AllocationHeader`].
pub const ALLOCATION_HEADER_LEN: usize = 24;

/// The most return addresses of an allocation record.
pub const MAX_CALLERS: usize = 128;

/// A flag of an allocation record: there were more calls than it has return addresses.
pub const CALLERS_MISSING: u32 = 1;

/// What a host asks for in the status of a call, and in [`InfoPage::asked`](super::InfoPage::asked) until the first: a record of
/// each allocation.
pub const RECORD_ALLOCATIONS: u32 = 4;

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_header_survives_the_way_through_its_bytes() {
        let header = AllocationHeader { kind: 2, flags: CALLERS_MISSING, address: 0x0102_0304_0506_0708, size: 9 };
        let bytes = header.to_bytes();
        assert_eq!(bytes[..16], [2, 0, 0, 0, 1, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(bytes[16..], 9u64.to_le_bytes());
        assert_eq!(AllocationHeader::from_bytes(&bytes), header);
    }

    fn content(kind: u32, flags: u32, size: u64, callers: &[u64]) -> Vec<u8> {
        let header = AllocationHeader { kind, flags, address: 0x1000, size };
        header.to_bytes().into_iter().chain(callers.iter().flat_map(|caller| caller.to_le_bytes())).collect()
    }

    #[test]
    fn a_record_has_its_callers_in_order() {
        let bytes = content(1, CALLERS_MISSING, 24, &[7, u64::MAX]);
        let Some(AllocationRecord::Allocated { address: 0x1000, size: 24, callers }) =
            AllocationRecord::from_bytes(&bytes)
        else {
            panic!("{bytes:?} are a record");
        };
        assert_eq!(callers.addresses().collect::<Vec<_>>(), [7, u64::MAX]);
        assert!(callers.are_missing());
        assert_eq!(
            AllocationRecord::from_bytes(&content(2, 0, 0, &[])),
            Some(AllocationRecord::Freed { address: 0x1000 })
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        assert!(AllocationRecord::from_bytes(&content(1, 0, u64::MAX, &[0; MAX_CALLERS])).is_some());
        for malformed in [
            content(1, 0, 8, &[0; MAX_CALLERS + 1]),
            content(1, 2, 8, &[]),
            content(2, CALLERS_MISSING, 0, &[]),
            content(2, 0, 8, &[]),
            content(2, 0, 0, &[1]),
            content(0, 0, 0, &[]),
            content(3, 0, 0, &[]),
            content(1, 0, 8, &[1])[..ALLOCATION_HEADER_LEN + 7].to_vec(),
            content(2, 0, 0, &[])[..ALLOCATION_HEADER_LEN - 1].to_vec(),
            Vec::new(),
        ] {
            assert_eq!(AllocationRecord::from_bytes(&malformed), None, "{malformed:?}");
        }
    }

    #[test]
    fn kinds_without_a_meaning_are_refused() {
        for kind in [AllocationKind::Allocated, AllocationKind::Freed] {
            assert_eq!(AllocationKind::from_u32(kind as u32), Some(kind));
        }
        assert_eq!((AllocationKind::from_u32(0), AllocationKind::from_u32(3)), (None, None));
    }
}
