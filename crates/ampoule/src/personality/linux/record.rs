//! Structures of the kernel's ABI.

/// A structure of `N` bytes: zero but for the fields that are set.
pub(super) struct Record<const N: usize>([u8; N]);

impl<const N: usize> Record<N> {
    pub(super) fn new() -> Self {
        Self([0; N])
    }

    pub(super) fn u16(self, offset: usize, value: u16) -> Self {
        self.bytes(offset, &value.to_le_bytes())
    }

    pub(super) fn u32(self, offset: usize, value: u32) -> Self {
        self.bytes(offset, &value.to_le_bytes())
    }

    pub(super) fn u64(self, offset: usize, value: u64) -> Self {
        self.bytes(offset, &value.to_le_bytes())
    }

    /// Sets a field. Offsets are constants of the ABI, within the structure.
    pub(super) fn bytes(mut self, offset: usize, value: &[u8]) -> Self {
        self.0[offset..offset + value.len()].copy_from_slice(value);
        self
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The little-endian word `index` of a structure that was read from the guest.
pub(super) fn word(structure: &[u8], index: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&structure[8 * index..8 * index + 8]);
    u64::from_le_bytes(word)
}
