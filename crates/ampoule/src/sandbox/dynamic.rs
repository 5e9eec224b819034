//! Calls of functions whose types are known only at run time.

use std::fmt;
use std::sync::Arc;

use ampoule_abi::schema::UNKNOWN;
use serde::Deserializer;

use super::{Callee, Sandbox};
use crate::binding::refuse_untransferable;
use crate::conversation::Copied;
use crate::dynamic::{ArgumentError, Failure, FunctionTypes, ReadError, Type, Value, Writer};
use crate::error::{CallError, FunctionValue};
use crate::host_function::CallData;
use crate::image::{Function, Image};
use crate::limits::Limits;
use crate::signature::{Parameters, Signature};

/// A guest function whose types are known only at run time, resolved by [`Sandbox::dynamic_fn`].
///
/// It can be used with every sandbox of the same [`Image`].
#[derive(Clone)]
pub struct DynamicFn {
    image: Image,
    /// Where it is among the image's exports.
    position: usize,
    types: Arc<FunctionTypes>,
    /// Whether the guest is to describe the results.
    asks: bool,
}

impl DynamicFn {
    /// The function of this number, which `image` exports.
    pub(super) fn new(image: Image, number: u32) -> Result<Self, CallError> {
        let position = image.export_position(number).expect("the function was found in this image");
        let function = image.export_at(position);
        let types = FunctionTypes::of(&image, function);
        refuse_untransferable(function, &types.types, &types.parameters, types.result)?;
        let asks = types.is_result_unknown();
        Ok(Self { image, position, types: Arc::new(types), asks })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.function().name()
    }

    /// Its signature, as the image has it.
    pub fn signature(&self) -> &Signature {
        self.function().signature()
    }

    /// The types of its parameters, in order.
    pub fn parameters(&self) -> impl ExactSizeIterator<Item = Type> {
        self.types.parameters.iter().map(|place| Type::new(&self.types.types, *place))
    }

    /// The type of the value that it returns where it does not fail.
    pub fn result(&self) -> Type {
        Type::new(&self.types.types, self.types.result)
    }

    /// The type of its error, if it can fail.
    pub fn error(&self) -> Option<Type> {
        self.signature().error().map(|_| Type::new(&self.types.types, self.types.error))
    }

    /// A call of it, with no arguments yet and within the sandbox's limits.
    pub fn prepare(&self) -> DynamicCall {
        DynamicCall { function: self.clone(), arguments: Vec::new(), count: 0, limits: Limits::new() }
    }

    /// Checks that the bytes that a guest has sent are values of the function's types.
    fn understand(&self, answer: Copied) -> Result<Result<Value, Failure>, CallError> {
        let types = || Arc::clone(&self.types.types);
        match answer {
            Copied::Result { bytes, shown: Some(shown) } => {
                let last = shown.len() as u32 - 1;
                let value = Value::new(shown.into(), last, bytes);
                value.map(Ok).map_err(|error| self.unreadable(FunctionValue::Result, error))
            }
            Copied::Result { bytes, shown: None } => {
                let value = Value::new(types(), self.types.result, bytes);
                value.map(Ok).map_err(|error| self.unreadable(FunctionValue::Result, error))
            }
            Copied::Error { message, value } if value.is_empty() || self.types.error == UNKNOWN => {
                Ok(Err(Failure::new(message, None)))
            }
            Copied::Error { message, value } => match Value::new(types(), self.types.error, value) {
                Ok(value) => Ok(Err(Failure::new(message, Some(value)))),
                Err(ReadError::Undescribed) => Ok(Err(Failure::new(message, None))),
                Err(error) => Err(self.unreadable(FunctionValue::Error, error)),
            },
        }
    }

    fn unreadable(&self, value: FunctionValue, error: ReadError) -> CallError {
        let function = self.name().to_owned();
        match error {
            ReadError::Malformed(reason) => CallError::Decode { function, reason },
            ReadError::Undescribed => CallError::Undescribed { function, signature: self.signature().clone(), value },
        }
    }

    fn function(&self) -> &Function {
        self.image.export_at(self.position)
    }
}

impl fmt::Debug for DynamicFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamicFn").field("image", &self.image.name()).field("function", self.function()).finish()
    }
}

/// A call of a [`DynamicFn`]; made by [`DynamicFn::prepare`]. It can be carried out any number of times.
#[derive(Clone)]
#[must_use = "a call is carried out by `make`"]
pub struct DynamicCall {
    function: DynamicFn,
    /// As the guest reads them.
    arguments: Vec<u8>,
    count: usize,
    limits: Limits,
}

impl DynamicCall {
    /// Adds the next argument, whatever format it is in.
    ///
    /// # Errors
    /// An [`ArgumentError`] with the place in the argument where it differs from the parameter's type. The call is what it was.
    pub fn argument<'de, D: Deserializer<'de>>(&mut self, argument: D) -> Result<(), ArgumentError> {
        let index = self.count;
        let FunctionTypes { types, parameters, .. } = &*self.function.types;
        let Some(place) = parameters.get(index) else {
            let (function, parameters) = (self.function.name().to_owned(), parameters.len());
            return Err(ArgumentError::TooMany { index, function, parameters });
        };
        let mut writer = Writer::new(types);
        writer.value(*place, argument).map_err(|(path, reason)| ArgumentError::Refused { index, path, reason })?;
        self.arguments.extend(writer.finish());
        self.count += 1;
        Ok(())
    }

    /// Limits of this call; where these set none, the sandbox's apply.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Calls the function in this sandbox and waits for its result, or for the error that it returns.
    ///
    /// # Errors
    /// A [`CallError`]: [`CallError::WrongArguments`] where there are too few arguments, [`CallError::ForeignFunction`] where
    /// the sandbox runs another image, [`CallError::Undescribed`] where there is a result and its type is not known. It is
    /// never [`CallError::Function`].
    pub fn make(&self, sandbox: &mut Sandbox) -> Result<Result<Value, Failure>, CallError> {
        self.carry_out(sandbox, None)
    }

    /// Like [`make`](Self::make), with data for the host functions of this call: see [`Call::data`](crate::Call::data).
    ///
    /// # Errors
    /// As for [`make`](Self::make).
    pub fn make_with_data<T: 'static>(
        &self,
        sandbox: &mut Sandbox,
        data: &mut T,
    ) -> Result<Result<Value, Failure>, CallError> {
        self.carry_out(sandbox, Some(CallData::new(data)))
    }

    fn carry_out(
        &self,
        sandbox: &mut Sandbox,
        data: Option<CallData<'_>>,
    ) -> Result<Result<Value, Failure>, CallError> {
        let function = &self.function;
        if !function.image.is_same(&sandbox.image) {
            return Err(CallError::ForeignFunction { function: function.name().to_owned() });
        }
        let parameters = function.signature().parameters();
        if self.count < parameters.len() {
            return Err(CallError::WrongArguments {
                function: function.name().to_owned(),
                expected: function.signature().clone(),
                given: Parameters::new(&parameters[..self.count]),
            });
        }
        let (_, _, callee) = sandbox.parts();
        function.understand(callee.invoke_dynamic(function, &self.arguments, self.limits, data)?)
    }
}

impl fmt::Debug for DynamicCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamicCall")
            .field("function", &self.function)
            .field("arguments", &self.count)
            .field("bytes", &self.arguments.len())
            .field("limits", &self.limits)
            .finish()
    }
}

impl Callee<'_> {
    /// Calls a function with arguments that are encoded already: what it answers, which is not checked.
    fn invoke_dynamic(
        mut self,
        function: &DynamicFn,
        arguments: &[u8],
        limits: Limits,
        data: Option<CallData<'_>>,
    ) -> Result<Copied, CallError> {
        self.metered(|callee, call| {
            callee.check(function.name(), data.as_ref())?;
            let request = callee.conversation.request_encoded(function.function(), arguments, function.asks)?;
            let reply = callee.exchange(request, limits, data, call)?;
            Ok(callee.conversation.copied(reply))
        })
    }
}
