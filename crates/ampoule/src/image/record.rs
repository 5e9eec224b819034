//! The function records of an image, `docs/abi.md`, section 1.

use std::fmt::{self, Display};

use ampoule_abi::layout::{
    ABI_MAJOR, ABI_MINOR, MAX_NAME_LEN, MAX_SIGNATURE_LEN, RECORD_ALIGN, RECORD_HEADER_LEN, RecordHeader, RecordKind,
};
use ampoule_abi::text::is_printable;

use super::error::ImageProblem;

/// A version of the guest ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AbiVersion {
    /// Guest and host have the same major version.
    pub major: u32,
    /// The guest's minor version is not newer than the host's.
    pub minor: u32,
}

impl AbiVersion {
    /// The version of this host.
    pub const HOST: Self = Self { major: ABI_MAJOR, minor: ABI_MINOR };

    /// Whether a host of the version `host` runs guests of this version.
    pub(super) fn runs_on(self, host: Self) -> bool {
        self.major == host.major && self.minor <= host.minor
    }

    fn from_value(value: u64) -> Self {
        Self { major: (value >> 32) as u32, minor: value as u32 }
    }
}

impl Display for AbiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Why a function record is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordProblem {
    /// The section ends before the smallest record would.
    #[error("only {left} bytes are left for it")]
    Truncated {
        /// Bytes to the end of the section.
        left: usize,
    },
    /// Its size is impossible.
    #[error("its size {size} is not a multiple of {RECORD_ALIGN} from {MIN_LEN} to {left}")]
    Size {
        /// The size that it gives.
        size: u32,
        /// Bytes to the end of the section.
        left: usize,
    },
    /// It is of a kind that this version of the ABI does not know.
    #[error("its kind {kind} is unknown")]
    Kind {
        /// The kind that it gives.
        kind: u16,
    },
    /// A field that is kept for later versions is in use.
    #[error("its reserved field is {value}, not 0")]
    Reserved {
        /// The field's value.
        value: u16,
    },
    /// It is an import with a value.
    #[error("it is an import with the value {value:#x}, not 0")]
    ImportValue {
        /// The value.
        value: u64,
    },
    /// It is an ABI record with a name or a signature.
    #[error("it gives the ABI version and has a name or a signature")]
    AbiText,
    /// Its name is empty or too long.
    #[error("its name has {length} bytes, not 1 to {MAX_NAME_LEN}")]
    NameLength {
        /// Bytes of the name.
        length: u32,
    },
    /// Its signature is too long.
    #[error("its signature has {length} bytes, more than {MAX_SIGNATURE_LEN}")]
    SignatureLength {
        /// Bytes of the signature.
        length: u32,
    },
    /// Its name and signature do not fit into it.
    #[error("its name and signature have {length} bytes and {space} have space")]
    TextLength {
        /// Bytes of both.
        length: usize,
        /// Bytes of the record behind its header.
        space: usize,
    },
    /// Its name is not UTF-8.
    #[error("its name is not UTF-8")]
    NameEncoding,
    /// Its name has a control character, or another one that is not seen or plays with the text around it.
    #[error("its name has the character '{}', which does not show what it is", character.escape_default())]
    NameCharacter {
        /// The character.
        character: char,
    },
    /// Its signature is not UTF-8.
    #[error("its signature is not UTF-8")]
    SignatureEncoding,
    /// The bytes behind its text are not all zero.
    #[error("its padding is not zero")]
    Padding,
}

/// A function that a record describes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'section> {
    pub(super) direction: Direction,
    pub(super) name: &'section str,
    pub(super) signature: &'section str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Export,
    Import,
}

/// A record whose size is right and whose other fields are not yet checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'section> {
    /// From the start of the section.
    pub(super) offset: usize,
    header: RecordHeader,
    text: &'section [u8],
}

impl<'section> Record<'section> {
    /// The version that an ABI record gives.
    pub(super) fn abi_version(&self) -> Option<AbiVersion> {
        (self.header.kind == RecordKind::Abi as u16).then(|| AbiVersion::from_value(self.header.value))
    }

    /// The function that the record describes; `None` for the ABI record.
    pub(super) fn entry(&self) -> Result<Option<Entry<'section>>, ImageProblem> {
        self.check().map_err(|problem| ImageProblem::Record { offset: self.offset, problem })
    }

    fn check(&self) -> Result<Option<Entry<'section>>, RecordProblem> {
        let RecordHeader { kind, reserved, value, name_len, signature_len, .. } = self.header;
        let kind = RecordKind::from_u16(kind).ok_or(RecordProblem::Kind { kind })?;
        if reserved != 0 {
            return Err(RecordProblem::Reserved { value: reserved });
        }
        let direction = match kind {
            RecordKind::Abi if name_len != 0 || signature_len != 0 => {
                return Err(RecordProblem::AbiText);
            }
            RecordKind::Import if value != 0 => {
                return Err(RecordProblem::ImportValue { value });
            }
            RecordKind::Abi => return check_padding(self.text).map(|()| None),
            RecordKind::Export => Direction::Export,
            RecordKind::Import => Direction::Import,
        };
        let text = self.split_text()?;
        let name = str::from_utf8(text.name).map_err(|_| RecordProblem::NameEncoding)?;
        if let Some(character) = name.chars().find(|character| !is_printable(*character)) {
            return Err(RecordProblem::NameCharacter { character });
        }
        let signature = str::from_utf8(text.signature).map_err(|_| RecordProblem::SignatureEncoding)?;
        check_padding(text.padding)?;
        Ok(Some(Entry { direction, name, signature }))
    }

    fn split_text(&self) -> Result<Text<'section>, RecordProblem> {
        let RecordHeader { name_len, signature_len, .. } = self.header;
        let (name, signature) = (name_len as usize, signature_len as usize);
        if name == 0 || name > MAX_NAME_LEN {
            return Err(RecordProblem::NameLength { length: name_len });
        }
        if signature > MAX_SIGNATURE_LEN {
            return Err(RecordProblem::SignatureLength { length: signature_len });
        }
        if name + signature > self.text.len() {
            return Err(RecordProblem::TextLength { length: name + signature, space: self.text.len() });
        }
        let (name, rest) = self.text.split_at(name);
        let (signature, padding) = rest.split_at(signature);
        Ok(Text { name, signature, padding })
    }
}

/// The parts of a record's text.
struct Text<'section> {
    name: &'section [u8],
    signature: &'section [u8],
    padding: &'section [u8],
}

fn check_padding(padding: &[u8]) -> Result<(), RecordProblem> {
    if padding.iter().any(|byte| *byte != 0) {
        return Err(RecordProblem::Padding);
    }
    Ok(())
}

/// The records of a section, in order.
pub(super) fn records(section: &[u8]) -> Result<Vec<Record<'_>>, ImageProblem> {
    let mut records = Vec::new();
    let mut rest = section;
    while !rest.is_empty() {
        if records.len() == MAX_RECORDS {
            return Err(ImageProblem::TooManyFunctions { limit: MAX_RECORDS });
        }
        let offset = section.len() - rest.len();
        let (header, text, after) = split_record(rest).map_err(|problem| ImageProblem::Record { offset, problem })?;
        records.push(Record { offset, header, text });
        rest = after;
    }
    Ok(records)
}

/// The header and the text of the first record, and the bytes behind it.
fn split_record(rest: &[u8]) -> Result<(RecordHeader, &[u8], &[u8]), RecordProblem> {
    let left = rest.len();
    let (header, _) = rest
        .split_first_chunk::<RECORD_HEADER_LEN>()
        .filter(|_| left >= MIN_LEN)
        .ok_or(RecordProblem::Truncated { left })?;
    let header = RecordHeader::from_bytes(header);
    let size = header.size as usize;
    if !size.is_multiple_of(RECORD_ALIGN) || size < MIN_LEN || size > left {
        let size = header.size;
        return Err(RecordProblem::Size { size, left });
    }
    let (record, after) = rest.split_at(size);
    Ok((header, &record[RECORD_HEADER_LEN..], after))
}

/// The smallest record has a header and eight bytes of text or padding.
const MIN_LEN: usize = RECORD_HEADER_LEN + RECORD_ALIGN;

/// The most records that an image may have.
const MAX_RECORDS: usize = 4096;
