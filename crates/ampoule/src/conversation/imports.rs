//! The host functions of one sandbox, matched with what its image imports.

use std::ops::Range;
use std::sync::Arc;

use ampoule_abi::codec::Source;
use ampoule_abi::schema::{DataType, Observed, Tracer, UNKNOWN, difference, untransferable};
use ampoule_abi::text::printable_name;
use tracing::Span;

use super::mailbox::{PayloadArea, PayloadSource};
use crate::dynamic::{FunctionTypes, line};
use crate::error::{BuildError, CallError, FunctionValue, HostFunctionSetting, named_path};
use crate::host_function::{CallData, CallDataType, HostFunctionEntry, HostFunctionFailure, ResultCheck};
use crate::image::Image;
use crate::nearest::nearest;
use crate::spans;

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
    /// Whether the types were compared with what the guest says of its own.
    are_compared: bool,
    /// Whether the guest is to describe what it passes to host functions.
    asks: bool,
    /// The data that calls are to bring, and the first of the host functions that work with it.
    data: Option<(usize, CallDataType)>,
    image: Image,
}

#[derive(Debug)]
struct Import {
    number: u32,
    /// Index of the host function.
    entry: usize,
    /// Whether the guest declares the errors of the host function as the type that they have.
    takes_errors: bool,
    /// How its results are compared with the guest's types, where the guest describes these.
    check: Option<ResultCheck>,
    /// What was seen of each argument whose type the guest only writes, until that is all.
    observed: Vec<Option<Observed>>,
    /// What a trace needs to show calls of it, once there is one.
    shown: Option<Box<ShownTypes>>,
}

/// The types of an import, as a trace shows its arguments, results and errors.
#[derive(Debug)]
struct ShownTypes {
    /// As the host reads them, or as the guest says where the host has no types of its own.
    arguments: (Arc<[DataType]>, Box<[u32]>),
    /// As the guest says that it reads them.
    guest: FunctionTypes,
}

/// How many bytes of a result a host function has given, or why there are none.
pub(super) type Given = Result<usize, HostFunctionFailure>;

/// A host function that the guest calls.
pub(super) struct CalledImport<'a> {
    entry: &'a mut HostFunctionEntry,
    import: &'a mut Import,
    image: &'a Image,
}

impl CalledImport<'_> {
    /// Calls it: the length of its result.
    pub(super) fn call(
        &mut self,
        arguments: PayloadSource<'_>,
        result: PayloadArea<'_>,
        data: Option<&mut CallData<'_>>,
    ) -> Given {
        self.entry.call(arguments, result, self.import.check.as_mut(), data)
    }

    /// The span of a call of it that is given this many bytes.
    pub(super) fn span(&self, length: usize) -> Span {
        spans::host_function(&self.entry.name, length)
    }

    /// Its name, and its arguments in this payload.
    pub(super) fn shown(&mut self, mut payload: PayloadSource<'_>) -> String {
        let length = payload.length();
        let name = printable_name(&self.entry.name).to_string();
        match self.shown_types() {
            Some(ShownTypes { arguments: (types, places), .. }) => {
                format!("{name}({})", line::values(types, places, &payload.block(0, length)))
            }
            None => format!("{name}({length} bytes)"),
        }
    }

    /// What it has given, in a payload that begins with the result, or the text of an error and its value.
    pub(super) fn shown_result(&mut self, given: &Given, mut payload: PayloadSource<'_>) -> String {
        let mut part = |range: Range<usize>| payload.block(range.start, range.len());
        let guest = self.shown_types().map(|types| &types.guest);
        match (given, guest) {
            (Ok(length), Some(guest)) => line::values(&guest.types, &[guest.result], &part(0..*length)),
            (Ok(length), None) => format!("{length} bytes"),
            (Err(HostFunctionFailure::Error { text, value }), Some(guest)) if *value > 0 => {
                let value = part(*text..text + value);
                format!("Err({})", line::values(&guest.types, &[guest.error], &value))
            }
            (Err(HostFunctionFailure::Error { text, .. }), _) => {
                format!("Err({})", line::values(&[DataType::String], &[0], &part(0..*text)))
            }
            (Err(HostFunctionFailure::Function(text)), _) => format!("Err({})", line::quoted(text)),
            (Err(HostFunctionFailure::Arguments(_) | HostFunctionFailure::ArgumentTypes { .. }), _) => {
                "the arguments could not be read".to_owned()
            }
            (Err(HostFunctionFailure::Result(_) | HostFunctionFailure::Types(_)), _) => {
                "the result could not be sent".to_owned()
            }
        }
    }

    /// They are found out once.
    fn shown_types(&mut self) -> Option<&ShownTypes> {
        let Import { number, shown, .. } = &mut *self.import;
        if shown.is_none() {
            let guest = FunctionTypes::of(self.image, self.image.imports().find(|import| import.number() == *number)?);
            let mut tracer = Tracer::new();
            let places = (self.entry.trace_parameters)(&mut tracer);
            let arguments = match places.len() == guest.parameters.len() {
                true => (tracer.finish().into(), places.into()),
                false => (Arc::clone(&guest.types), guest.parameters.clone()),
            };
            *shown = Some(Box::new(ShownTypes { arguments, guest }));
        }
        shown.as_deref()
    }

    /// Whether the guest takes its errors as values.
    pub(super) fn takes_errors(&self) -> bool {
        self.import.takes_errors
    }
}

impl Imports {
    /// Finds a host function of the right type for every import of the image.
    pub(crate) fn resolve(
        image: &Image,
        entries: Vec<HostFunctionEntry>,
        setting: HostFunctionSetting,
    ) -> Result<Self, BuildError> {
        for (index, entry) in entries.iter().enumerate() {
            if entries[..index].iter().any(|earlier| earlier.name == entry.name) {
                return Err(BuildError::DuplicateHostFunction { function: entry.name.clone() });
            }
        }
        let mut numbers = Vec::new();
        for import in image.imports() {
            let Some(index) = entries.iter().position(|entry| entry.name == import.name()) else {
                let unused = entries.iter().map(|entry| entry.name.as_str());
                let unused = unused.filter(|name| image.imports().all(|import| import.name() != *name));
                return Err(BuildError::MissingHostFunction {
                    image: image.name().to_owned(),
                    function: import.name().to_owned(),
                    signature: import.signature().clone(),
                    setting,
                    similar: nearest(import.name(), unused).map(str::to_owned),
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
            numbers.push(Import {
                number: import.number(),
                entry: index,
                takes_errors,
                check: None,
                observed: Vec::new(),
                shown: None,
            });
        }
        numbers.sort_unstable_by_key(|import| import.number);
        let data = common_data(&entries, &numbers)?;
        let mut imports = Self {
            entries,
            numbers,
            has_panicked: false,
            are_compared: false,
            asks: false,
            data,
            image: image.clone(),
        };
        imports.compare_types(image)?;
        Ok(imports)
    }

    /// Compares what the types of the host functions are made of with what the guest says of its own, once it has said so.
    pub(crate) fn compare_types(&mut self, image: &Image) -> Result<(), BuildError> {
        let Some(all) = image.described().filter(|_| !self.are_compared) else { return Ok(()) };
        self.are_compared = true;
        for import in &mut self.numbers {
            let Some(function) = all.function(import.number) else { continue };
            let entry = &self.entries[import.entry];
            let mut tracer = Tracer::new();
            let hosts = (entry.trace_parameters)(&mut tracer);
            let types = tracer.finish();
            let name = || entry.name.clone();
            let parameters = function.parameters.iter().zip(hosts.iter().copied()).enumerate();
            let guests = parameters.clone().map(|(index, (guest, _))| (FunctionValue::Argument(index), *guest));
            for (value, guest) in guests.chain([(FunctionValue::Result, function.result)]) {
                if let Some(path) = untransferable(all.types(), guest) {
                    let path = named_path(path, value, &entry.signature);
                    return Err(BuildError::Untransferable { function: name(), value, path });
                }
            }
            for (index, (guest, host)) in parameters {
                let value = FunctionValue::Argument(index);
                if let Some(path) = untransferable(&types, host) {
                    let path = named_path(path, value, &entry.signature);
                    return Err(BuildError::Untransferable { function: name(), value, path });
                }
                if let Some(difference) = difference((all.types(), *guest), (&types, host)) {
                    return Err(BuildError::DifferentTypes { function: name(), value, difference });
                }
            }
            let unknown = function.parameters.iter().zip(&hosts).map(|(guest, host)| {
                let observed = (*guest == UNKNOWN).then(|| Observed::new(types.clone(), *host));
                observed.filter(Observed::is_needed)
            });
            import.observed = unknown.collect();
            self.asks |= import.observed.iter().any(Option::is_some);
            import.takes_errors &= function.error != UNKNOWN;
            import.check = Some(ResultCheck::new(image.clone(), import.number));
        }
        Ok(())
    }

    /// Refuses a call of this function without the data that host functions work with.
    #[inline]
    pub(crate) fn check_data(&self, function: &str, given: Option<&CallData<'_>>) -> Result<(), CallError> {
        let Some((entry, expected)) = self.data else { return Ok(()) };
        let given = match given {
            Some(data) if data.is(expected) => return Ok(()),
            Some(data) => Some(data.type_name()),
            None => None,
        };
        let host_function = self.entries[entry].name.clone();
        Err(CallError::WrongData { function: function.to_owned(), host_function, expected: expected.name, given })
    }

    /// Whether the guest is to describe what it passes to host functions.
    pub(super) fn asks(&self) -> bool {
        self.asks
    }

    /// Compares what the arguments of a host call show of their types, one after another, with what the host reads.
    pub(super) fn compare_arguments(
        &mut self,
        number: u32,
        shown: &[Vec<DataType>],
    ) -> Result<(), HostFunctionFailure> {
        let Ok(found) = self.numbers.binary_search_by_key(&number, |import| import.number) else { return Ok(()) };
        let mut has_changed = false;
        for (index, (types, observed)) in shown.iter().zip(&mut self.numbers[found].observed).enumerate() {
            let (Some(known), false) = (observed.as_mut(), types.is_empty()) else { continue };
            match known.compare(types, types.len() as u32 - 1) {
                Ok(is_complete) => {
                    has_changed |= is_complete;
                    observed.take_if(|_| is_complete);
                }
                Err(difference) => {
                    let difference = Box::new(difference);
                    return Err(HostFunctionFailure::ArgumentTypes { index, difference });
                }
            }
        }
        if has_changed {
            self.asks = self.numbers.iter().any(|import| import.observed.iter().any(Option::is_some));
        }
        Ok(())
    }

    /// Whether code of the application has panicked while the guest waited for it.
    pub(crate) fn has_panicked(&self) -> bool {
        self.has_panicked
    }

    pub(crate) fn mark_panicked(&mut self) {
        self.has_panicked = true;
    }

    /// The host function that the guest calls by this number.
    pub(super) fn by_number(&mut self, number: u32) -> Option<CalledImport<'_>> {
        let found = self.numbers.binary_search_by_key(&number, |import| import.number).ok()?;
        let import = &mut self.numbers[found];
        Some(CalledImport { entry: &mut self.entries[import.entry], import, image: &self.image })
    }
}

/// The data with which all of the imported host functions work that work with any, and one of these.
fn common_data(entries: &[HostFunctionEntry], imports: &[Import]) -> Result<Option<(usize, CallDataType)>, BuildError> {
    let mut common: Option<(usize, CallDataType)> = None;
    for index in imports.iter().map(|import| import.entry) {
        let Some(data) = entries[index].data else { continue };
        match common {
            Some((_, known)) if known == data => {}
            Some((earlier, known)) => {
                return Err(BuildError::DifferentData {
                    functions: [entries[earlier].name.clone(), entries[index].name.clone()],
                    types: [known.name, data.name],
                });
            }
            None => common = Some((index, data)),
        }
    }
    Ok(common)
}
