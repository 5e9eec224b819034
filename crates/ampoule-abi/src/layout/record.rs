//! Function records: what a guest exports and imports, readable in its image without running it.

use super::{MAX_NAME_LEN, MAX_SIGNATURE_LEN, RECORD_ALIGN, RECORD_HEADER_LEN};

/// What a record describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum RecordKind {
    /// The version of the ABI that the guest was built for.
    Abi = 1,
    /// A function that the host may call.
    Export = 2,
    /// A function that the host must provide.
    Import = 3,
}

impl RecordKind {
    /// The meaning of a number, if it has one.
    pub const fn from_u16(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Abi),
            2 => Some(Self::Export),
            3 => Some(Self::Import),
            _ => None,
        }
    }
}

/// The fixed part of a record, as a host reads it from an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of the record with its padding.
    pub size: u32,
    /// A [`RecordKind`], not yet checked.
    pub kind: u16,
    /// Zero.
    pub reserved: u16,
    /// The ABI version (major in the high half), or the guest's own.
    pub value: u64,
    /// Bytes of the name.
    pub name_len: u32,
    /// Bytes of the signature.
    pub signature_len: u32,
}

impl RecordHeader {
    /// Reads a header from a copy of its bytes.
    pub fn from_bytes(bytes: &[u8; RECORD_HEADER_LEN]) -> Self {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        Self {
            size: u32_at(0),
            kind: u16_at(4),
            reserved: u16_at(6),
            value: u64::from(u32_at(8)) | u64::from(u32_at(12)) << 32,
            name_len: u32_at(16),
            signature_len: u32_at(20),
        }
    }
}

/// A record as a guest writes it into its functions section. `F` is a pointer-sized value of the guest's own, `N` the
/// padded length of the text.
#[derive(Debug)]
#[repr(C, align(8))]
pub struct Record<F, const N: usize> {
    size: u32,
    kind: u16,
    reserved: u16,
    value: F,
    name_len: u32,
    signature_len: u32,
    text: [u8; N],
}

impl<F: Copy, const N: usize> Record<F, N> {
    /// A record of this kind, with `N` = [`padded_text_len`] of its name and signature.
    ///
    /// # Panics
    /// In constant evaluation, where `N` does not fit the text, or the name or the signature is too long.
    pub const fn new(kind: RecordKind, value: F, name: &str, signature: &str) -> Self {
        assert!(size_of::<F>() == 8, "the value of a record has 8 bytes");
        Self {
            size: (RECORD_HEADER_LEN + N) as u32,
            kind: kind as u16,
            reserved: 0,
            value,
            name_len: name.len() as u32,
            signature_len: signature.len() as u32,
            text: record_text(name, signature),
        }
    }

    /// The guest's own value.
    pub const fn value(&self) -> F {
        self.value
    }
}

/// Bytes that a record's text takes with its padding: at least 8, so that a record has at least 32.
///
/// # Panics
/// Where the name or the signature is longer than the ABI allows.
pub const fn padded_text_len(name: &str, signature: &str) -> usize {
    assert!(name.len() <= MAX_NAME_LEN, "the name of a function may have 255 bytes");
    assert!(signature.len() <= MAX_SIGNATURE_LEN, "the signature of a function may have 4096 bytes");
    let padded = (name.len() + signature.len()).next_multiple_of(RECORD_ALIGN);
    if padded == 0 { RECORD_ALIGN } else { padded }
}

/// The text of a record: name, signature, zeros.
///
/// # Panics
/// Where `N` is not [`padded_text_len`] of the two.
pub const fn record_text<const N: usize>(name: &str, signature: &str) -> [u8; N] {
    assert!(N == padded_text_len(name, signature), "the length of a record's text follows from its name and signature");
    let mut text = [0; N];
    let (head, tail) = text.split_at_mut(name.len());
    head.copy_from_slice(name.as_bytes());
    tail.split_at_mut(signature.len()).0.copy_from_slice(signature.as_bytes());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_from_its_bytes() {
        const NAME: &str = "greet";
        const SIGNATURE: &str = "fn(&str) -> String";
        const LEN: usize = padded_text_len(NAME, SIGNATURE);
        static RECORD: Record<u64, LEN> = Record::new(RecordKind::Export, 7, NAME, SIGNATURE);

        assert_eq!(LEN, 24);
        let text = RECORD.text;
        assert_eq!(&text[..5], NAME.as_bytes());
        assert_eq!(&text[5..23], SIGNATURE.as_bytes());
        assert_eq!(text[23], 0);
        assert_eq!(size_of_val(&RECORD), RECORD_HEADER_LEN + LEN);

        let mut bytes = [0; RECORD_HEADER_LEN];
        bytes[0..4].copy_from_slice(&RECORD.size.to_le_bytes());
        bytes[4..6].copy_from_slice(&RECORD.kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&RECORD.value().to_le_bytes());
        bytes[16..20].copy_from_slice(&RECORD.name_len.to_le_bytes());
        bytes[20..24].copy_from_slice(&RECORD.signature_len.to_le_bytes());
        let header = RecordHeader::from_bytes(&bytes);
        assert_eq!(header, RecordHeader { size: 48, kind: 2, reserved: 0, value: 7, name_len: 5, signature_len: 18 });
        assert_eq!(RecordKind::from_u16(header.kind), Some(RecordKind::Export));
    }

    #[test]
    fn an_empty_text_is_padded_to_the_smallest_record() {
        assert_eq!(RECORD_HEADER_LEN + padded_text_len("", ""), 32);
    }
}
