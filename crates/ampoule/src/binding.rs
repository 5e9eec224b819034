//! A guest's function with the Rust types that it is called with: whether they are the function's, and how values are passed.
//!
//! Names of types are compared when a function is first called or resolved. Where the guest describes its types, so is what
//! they are made of: the type of the result then too, and the types of the arguments by the values that are passed, until all
//! that the guest reads was seen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ampoule_abi::codec::{ERR, OK};
use ampoule_abi::schema::{
    Checker, Content, Coverage, DataType, Observed, Tracer, UNKNOWN, difference, untransferable,
};
use serde::de::DeserializeOwned;

use crate::arguments::Arguments;
use crate::conversation::Returns;
use crate::error::{CallError, FunctionValue, named_path};
use crate::image::{Described, DescribedFunction, Function, Image};
use crate::signature::{Parameters, Type};

/// A function with types that are known to be right, as far as they are known.
#[derive(Debug)]
pub(crate) struct Binding {
    returns: Returns,
    arguments: ArgumentCheck,
    results: ResultCheck,
}

/// Compares results of a type that the guest only writes.
#[derive(Debug)]
struct ResultCheck {
    /// Whether the guest need not describe results any more.
    is_complete: AtomicBool,
    observed: Option<Mutex<Observed>>,
}

#[derive(Debug)]
struct ArgumentCheck {
    /// Whether arguments need not be looked at any more.
    is_complete: AtomicBool,
    coverage: Mutex<Coverage>,
}

impl Binding {
    /// Compares the types of a function with these.
    ///
    /// # Errors
    /// [`CallError::WrongArguments`], [`CallError::WrongResult`], [`CallError::DifferentTypes`],
    /// [`CallError::Untransferable`].
    pub(crate) fn of<A: Arguments, R: DeserializeOwned>(
        image: &Image,
        function: &Function,
    ) -> Result<Arc<Self>, CallError> {
        let types = typeid::of::<(A, R)>();
        let described = image.described().and_then(|all| Some((all, all.function(function.number())?)));
        let Some((all, described)) = described else {
            return Ok(Arc::new(Self::new(compare_names::<A, R>(function)?, true, None)));
        };
        if let Some(found) = all.binding(function.number(), types) {
            return Ok(found);
        }
        let returns = compare_names::<A, R>(function)?;
        refuse_untransferable(function, all.types(), &described.parameters, described.result)?;
        let observed = compare_results::<R>(function, returns, all, described)?;
        let binding = Arc::new(Self::new(returns, described.parameters.is_empty(), observed));
        all.remember(function.number(), types, &binding);
        Ok(binding)
    }

    fn new(returns: Returns, is_complete: bool, observed: Option<Observed>) -> Self {
        let arguments = ArgumentCheck { is_complete: AtomicBool::new(is_complete), coverage: Mutex::default() };
        let is_complete = AtomicBool::new(observed.is_none());
        Self { returns, arguments, results: ResultCheck { is_complete, observed: observed.map(Mutex::new) } }
    }

    /// Whether the guest is to describe the result.
    #[inline]
    pub(crate) fn asks(&self) -> bool {
        !self.results.is_complete.load(Ordering::Relaxed)
    }

    /// Compares what a result has shown of its type with what the host reads.
    ///
    /// # Errors
    /// [`CallError::DifferentTypes`].
    pub(crate) fn observe(&self, function: &Function, shown: Option<&[DataType]>) -> Result<(), CallError> {
        let (Some(shown), Some(observed)) = (shown, &self.results.observed) else { return Ok(()) };
        let mut observed = observed.lock().unwrap_or_else(PoisonError::into_inner);
        let compared = observed.compare(shown, shown.len() as u32 - 1);
        let is_complete = compared.map_err(|difference| CallError::DifferentTypes {
            function: function.name().to_owned(),
            value: FunctionValue::Result,
            difference,
        })?;
        self.results.is_complete.fetch_or(is_complete, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn returns(&self) -> Returns {
        self.returns
    }

    /// Compares arguments with the types that the guest reads, unless all of these were seen before.
    ///
    /// # Errors
    /// [`CallError::DifferentTypes`].
    #[inline]
    pub(crate) fn check(
        &self,
        image: &Image,
        function: &Function,
        arguments: &impl Arguments,
    ) -> Result<(), CallError> {
        if self.arguments.is_complete.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.look(image, function, arguments)
    }

    fn look(&self, image: &Image, function: &Function, arguments: &impl Arguments) -> Result<(), CallError> {
        let Some(all) = image.described() else { return Ok(()) };
        let Some(DescribedFunction { parameters, .. }) = all.function(function.number()) else { return Ok(()) };
        // Code of the application runs within, which may call the same function of another sandbox.
        let mut own = Coverage::new();
        let mut shared = self.arguments.coverage.try_lock();
        let coverage = match &mut shared {
            Ok(shared) => &mut **shared,
            Err(_) => &mut own,
        };
        let mut checker = Checker::new(all.types(), coverage);
        arguments.check(&mut checker, parameters).map_err(|(index, difference)| CallError::DifferentTypes {
            function: function.name().to_owned(),
            value: FunctionValue::Argument(index),
            difference,
        })?;
        checker.finish();
        if let Ok(shared) = shared {
            self.arguments.is_complete.store(shared.is_complete(), Ordering::Relaxed);
        }
        Ok(())
    }
}

/// How the result of a function is to be read, if its types have these names.
fn compare_names<A: Arguments, R>(function: &Function) -> Result<Returns, CallError> {
    let signature = function.signature();
    let parameters = A::types();
    if !signature.accepts_parameters(&parameters) {
        return Err(CallError::WrongArguments {
            function: function.name().to_owned(),
            expected: signature.clone(),
            given: Parameters::new(parameters),
        });
    }
    let result = Type::of::<R>();
    match Type::outcome_of::<R>() {
        Some((value, error)) if signature.gives(&value) && signature.fails_with(&error) => Ok(Returns::Outcome),
        _ if signature.gives(&result) => Ok(Returns::Value),
        _ => Err(CallError::WrongResult {
            function: function.name().to_owned(),
            expected: signature.clone(),
            given: result.to_string(),
        }),
    }
}

/// Refuses types that cannot travel.
///
/// # Errors
/// [`CallError::Untransferable`].
pub(crate) fn refuse_untransferable(
    function: &Function,
    types: &[DataType],
    parameters: &[u32],
    result: u32,
) -> Result<(), CallError> {
    let parameters = parameters.iter().enumerate();
    let values = parameters.map(|(index, parameter)| (FunctionValue::Argument(index), *parameter));
    for (value, data_type) in values.chain([(FunctionValue::Result, result)]) {
        if let Some(path) = untransferable(types, data_type) {
            let path = named_path(path, value, function.signature());
            return Err(CallError::Untransferable { function: function.name().to_owned(), value, path });
        }
    }
    Ok(())
}

/// Compares what the guest returns, where it says so, with what the host reads. Where it does not, the results are to be
/// observed, if their type has a name.
fn compare_results<R: DeserializeOwned>(
    function: &Function,
    returns: Returns,
    all: &Described,
    described: &DescribedFunction,
) -> Result<Option<Observed>, CallError> {
    let mut tracer = Tracer::new();
    let root = tracer.trace::<R>();
    let types = tracer.finish();
    let result = if returns == Returns::Outcome { of_variant(&types, root, OK) } else { root };
    let mut values = vec![(FunctionValue::Result, described.result, result)];
    if returns == Returns::Outcome {
        values.push((FunctionValue::Error, described.error, of_variant(&types, root, ERR)));
    }
    for (value, guest, host) in values {
        if let Some(path) = untransferable(&types, host) {
            let path = named_path(path, value, function.signature());
            return Err(CallError::Untransferable { function: function.name().to_owned(), value, path });
        }
        if let Some(difference) = difference((all.types(), guest), (&types, host)) {
            return Err(CallError::DifferentTypes { function: function.name().to_owned(), value, difference });
        }
    }
    let observed = (described.result == UNKNOWN).then(|| Observed::new(types, result));
    Ok(observed.filter(Observed::is_needed))
}

/// The type that a variant of a `Result` holds.
fn of_variant(types: &[DataType], outcome: u32, variant: u32) -> u32 {
    let DataType::Enum { variants, .. } = &types[outcome as usize] else { return UNKNOWN };
    match variants.get(variant as usize).map(|variant| &variant.content) {
        Some(Content::Unnamed(held)) => held.first().copied().unwrap_or(UNKNOWN),
        _ => UNKNOWN,
    }
}
