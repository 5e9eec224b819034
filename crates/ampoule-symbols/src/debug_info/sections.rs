//! The contents of the sections that hold debug information, uncompressed.

use std::borrow::Cow;

use gimli::SectionId;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use object::elf;

use crate::elf::{Compressed, Elf};
use crate::omission::Omission;

/// What is read of an image's debug information.
#[derive(Debug, Default)]
pub(crate) struct Sections<'image> {
    contents: Vec<(SectionId, Cow<'image, [u8]>)>,
    /// Why a section that the image has is not there.
    pub(crate) omission: Option<Omission>,
}

impl<'image> Sections<'image> {
    pub(crate) fn read(elf: &Elf<'image>) -> Self {
        let mut sections = Self::default();
        let mut room = MAX_UNCOMPRESSED;
        for id in READ {
            let Some(section) = elf.section(id.name()) else { continue };
            match section.compressed.map(|compressed| inflate(&compressed, &mut room)) {
                None => sections.contents.push((id, section.data.into())),
                Some(Ok(contents)) => sections.contents.push((id, contents.into())),
                Some(Err(omission)) => sections.omission = Some(omission),
            }
        }
        sections
    }

    /// The contents of a section; nothing if there are none.
    pub(crate) fn get(&self, id: SectionId) -> &[u8] {
        self.contents.iter().find(|(found, _)| *found == id).map_or(&[], |(_, contents)| contents)
    }
}

/// Uncompresses a section, and takes its size from the room that is left.
fn inflate(section: &Compressed<'_>, room: &mut usize) -> Result<Vec<u8>, Omission> {
    if section.method != elf::ELFCOMPRESS_ZLIB.0 {
        return Err(Omission::Compression { method: section.method });
    }
    let size = usize::try_from(section.size).unwrap_or(usize::MAX);
    *room = room.checked_sub(size).ok_or(Omission::TooLarge { limit: MAX_UNCOMPRESSED })?;
    // The memory grows with what is there, not with what the header claims.
    let contents = decompress_to_vec_zlib_with_limit(section.data, size).map_err(|_| Omission::Damaged)?;
    if contents.len() == size { Ok(contents) } else { Err(Omission::Damaged) }
}

/// The sections that are read.
const READ: [SectionId; 9] = [
    SectionId::DebugAbbrev,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugStr,
    SectionId::DebugLineStr,
    SectionId::DebugRanges,
    SectionId::DebugRngLists,
    SectionId::DebugAddr,
    SectionId::DebugStrOffsets,
];

/// The most bytes that all compressed sections may have together, uncompressed: several times what Rust's standard library and
/// a large program have, and a fraction of a second to uncompress.
const MAX_UNCOMPRESSED: usize = 1 << 26;
