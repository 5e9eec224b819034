//! Takes a target's input apart, front to back. What is missing at its end reads as zeros.

/// What is left of an input.
pub struct Input<'data>(pub &'data [u8]);

impl<'data> Input<'data> {
    /// Up to `len` bytes; fewer at the end.
    pub fn bytes(&mut self, len: usize) -> &'data [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.bytes(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    /// A number of eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// Bytes with their number, of two bytes, before them.
    pub fn block(&mut self) -> &'data [u8] {
        let len = u16::from_le_bytes(self.array());
        self.bytes(len.into())
    }
}
