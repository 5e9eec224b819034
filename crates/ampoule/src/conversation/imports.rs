//! The host functions of one sandbox, matched with what its image imports.

use crate::error::BuildError;
use crate::host_function::HostFunctionEntry;
use crate::image::Image;

/// Host functions by the function numbers under which the guest calls them.
#[derive(Debug)]
pub(crate) struct Imports {
    entries: Vec<HostFunctionEntry>,
    /// In ascending order of the function numbers. An import that a guest declares in several places has several numbers.
    numbers: Vec<Import>,
    /// Whether code of the application has panicked while the guest waited for it: a host function, or the writer of an
    /// output. Its own data may be half changed since then, whatever state the guest
    /// is restored to.
    has_panicked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Import {
    number: u32,
    /// Index of the host function.
    entry: usize,
    /// Whether the guest declares the errors of the host function as the type that they have.
    takes_errors: bool,
}

impl Imports {
    /// Finds a host function of the right type for every import of the image.
    pub(crate) fn resolve(image: &Image, entries: Vec<HostFunctionEntry>) -> Result<Self, BuildError> {
        for (index, entry) in entries.iter().enumerate() {
            if entries[..index].iter().any(|earlier| earlier.name == entry.name) {
                return Err(BuildError::DuplicateHostFunction { function: entry.name.clone() });
            }
        }
        let mut numbers = Vec::new();
        for import in image.imports() {
            let Some(index) = entries.iter().position(|entry| entry.name == import.name()) else {
                return Err(BuildError::MissingHostFunction {
                    image: image.name().to_owned(),
                    function: import.name().to_owned(),
                    signature: import.signature().clone(),
                });
            };
            if !import.signature().same_types(&entries[index].signature) {
                return Err(BuildError::HostFunctionMismatch {
                    function: import.name().to_owned(),
                    expected: import.signature().clone(),
                    given: entries[index].signature.clone(),
                });
            }
            let given = &entries[index];
            let takes_errors =
                given.gives_errors && given.signature.error().is_some_and(|error| import.signature().fails_with(error));
            numbers.push(Import { number: import.number(), entry: index, takes_errors });
        }
        numbers.sort_unstable_by_key(|import| import.number);
        Ok(Self { entries, numbers, has_panicked: false })
    }

    /// Whether code of the application has panicked while the guest waited for it.
    pub(crate) fn has_panicked(&self) -> bool {
        self.has_panicked
    }

    pub(crate) fn mark_panicked(&mut self) {
        self.has_panicked = true;
    }

    /// The host function that the guest calls by this number, and whether the guest takes its errors as values.
    pub(super) fn by_number(&mut self, number: u32) -> Option<(&mut HostFunctionEntry, bool)> {
        let found = self.numbers.binary_search_by_key(&number, |import| import.number).ok()?;
        let Import { entry, takes_errors, .. } = self.numbers[found];
        Some((&mut self.entries[entry], takes_errors))
    }
}
