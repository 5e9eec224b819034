//! The functions that a guest exports and imports.

use std::collections::HashMap;
use std::slice;

use ampoule_abi::layout::RECORD_ALIGN;
use object::LittleEndian as LE;
use object::elf::SHF_ALLOC;
use object::read::elf::SectionHeader;

use crate::signature::Signature;

use super::elf::{Headers, Role};
use super::error::ImageProblem;
use super::executable::Executable;
use super::record::{self, AbiVersion, Direction, Entry};

/// A function that a guest exports or imports.
#[derive(Clone, Debug)]
pub struct Function {
    number: u32,
    name: Box<str>,
    signature: Signature,
}

impl Function {
    /// What messages call it by: the offset of its record in the image's functions section.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Its name: 1 to 255 bytes, without control characters and such that are not seen or play with the text around them.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its parameters and its result.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }
}

/// The functions that a guest exports, or those that it imports, in ascending order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Functions {
    functions: Vec<Function>,
    first_by_name: HashMap<Box<str>, usize>,
}

impl Functions {
    pub(super) fn iter(&self) -> slice::Iter<'_, Function> {
        self.functions.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.functions.len()
    }

    /// The first function of this name.
    pub(super) fn by_name(&self, name: &str) -> Option<&Function> {
        self.first_by_name.get(name).map(|index| &self.functions[*index])
    }

    /// Where among all a function is.
    pub(super) fn position(&self, number: u32) -> Option<usize> {
        self.functions.binary_search_by_key(&number, Function::number).ok()
    }

    /// The function at a [`position`](Self::position).
    #[inline]
    pub(super) fn at(&self, position: usize) -> &Function {
        &self.functions[position]
    }

    /// Functions are added in ascending order of their numbers.
    fn push(&mut self, function: Function) {
        self.first_by_name.entry(function.name.clone()).or_insert(self.functions.len());
        self.functions.push(function);
    }
}

/// What an executable says of its functions.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) abi: AbiVersion,
    pub(super) exports: Functions,
    pub(super) imports: Functions,
}

impl Interface {
    /// The functions that an executable lists.
    pub(super) fn of(executable: &Executable) -> Result<Self, ImageProblem> {
        Self::read(functions_section(executable)?)
    }

    /// Reads the version before the functions: what a foreign version's records mean is unknown.
    fn read(section: &[u8]) -> Result<Self, ImageProblem> {
        let records = record::records(section)?;
        let mut interface =
            Self { abi: abi_version(&records)?, exports: Functions::default(), imports: Functions::default() };
        for record in &records {
            if let Some(entry) = record.entry()? {
                interface.add(record.offset, entry)?;
            }
        }
        Ok(interface)
    }

    fn add(&mut self, offset: usize, entry: Entry<'_>) -> Result<(), ImageProblem> {
        let function = Function {
            number: u32::try_from(offset).expect("the section's size is bounded"),
            name: entry.name.into(),
            signature: entry.signature.parse().map_err(|reason| ImageProblem::Signature {
                name: entry.name.into(),
                signature: entry.signature.into(),
                reason,
            })?,
        };
        match entry.direction {
            Direction::Export => {
                if self.exports.by_name(entry.name).is_some() {
                    let name = function.name;
                    return Err(ImageProblem::DuplicateExport { name });
                }
                self.exports.push(function);
            }
            Direction::Import => {
                if let Some(first) = self.imports.by_name(entry.name)
                    && first.signature != function.signature
                {
                    return Err(ImageProblem::ConflictingImports {
                        name: function.name,
                        first: first.signature.clone(),
                        second: function.signature,
                    });
                }
                self.imports.push(function);
            }
        }
        Ok(())
    }
}

/// The bytes of the functions section, which the guest finds in its memory as they are in the file.
fn functions_section(executable: &Executable) -> Result<&[u8], ImageProblem> {
    let file = executable.bytes();
    let header = Headers::read(file, Role::Static)?.functions_section()?;
    let address = header.sh_addr(LE);
    let (offset, size) = header
        .file_range(LE)
        .filter(|_| header.sh_flags(LE).contains(SHF_ALLOC))
        .ok_or(ImageProblem::FunctionsNotLoaded)?;
    if size > MAX_FUNCTIONS_SIZE {
        let limit = MAX_FUNCTIONS_SIZE;
        return Err(ImageProblem::FunctionsTooLarge { size, limit });
    }
    let end = offset.saturating_add(size);
    if executable.placements().address_of(&(offset..end)) != Some(address) {
        return Err(ImageProblem::FunctionsNotLoaded);
    }
    if !address.is_multiple_of(RECORD_ALIGN as u64) {
        return Err(ImageProblem::FunctionsMisaligned { address });
    }
    header.data(LE, file).map_err(|_| ImageProblem::FunctionsNotLoaded)
}

fn abi_version(records: &[record::Record<'_>]) -> Result<AbiVersion, ImageProblem> {
    let mut versions = records.iter().filter_map(record::Record::abi_version);
    let image = versions.next().ok_or(ImageProblem::NoAbiRecord)?;
    if versions.next().is_some() {
        return Err(ImageProblem::TwoAbiRecords);
    }
    let host = AbiVersion::HOST;
    if !image.runs_on(host) {
        return Err(ImageProblem::AbiVersion { image, host });
    }
    Ok(image)
}

/// The largest functions section, in bytes. What is read from it takes some dozen times as much of the host's memory.
pub(super) const MAX_FUNCTIONS_SIZE: u64 = 1 << 20;
