//! The functions that a guest exports and imports.

use std::collections::HashMap;
use std::slice;

use crate::signature::Signature;

use super::error::ImageProblem;
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
    #[must_use]
    pub fn number(&self) -> u32 {
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

    pub(super) fn by_number(&self, number: u32) -> Option<&Function> {
        self.position(number).map(|position| self.at(position))
    }

    /// Where among all a function is.
    pub(super) fn position(&self, number: u32) -> Option<usize> {
        self.functions.binary_search_by_key(&number, Function::number).ok()
    }

    /// The function at a [`position`](Self::position).
    pub(super) fn at(&self, position: usize) -> &Function {
        &self.functions[position]
    }

    /// Functions are added in ascending order of their numbers.
    fn push(&mut self, function: Function) {
        self.first_by_name.entry(function.name.clone()).or_insert(self.functions.len());
        self.functions.push(function);
    }
}

/// What the functions section of an image says.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) abi: AbiVersion,
    pub(super) exports: Functions,
    pub(super) imports: Functions,
}

impl Interface {
    /// Reads the version before the functions: what a foreign version's records mean is unknown.
    pub(super) fn read(section: &[u8]) -> Result<Self, ImageProblem> {
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
