//! Guest functions whose name and types were checked beforehand.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::Sandbox;
use crate::arguments::Parameters;
use crate::binding::Binding;
use crate::error::CallError;
use crate::host_function::CallData;
use crate::image::{Function, Image};
use crate::limits::Limits;
use crate::metrics::CallMeter;

/// A guest function with parameters `P` and result `R`, resolved by [`Sandbox::typed_fn`].
///
/// It can be used with every sandbox of the same [`Image`].
pub struct TypedFn<P, R> {
    image: Image,
    /// Where it is among the image's exports.
    position: usize,
    binding: Arc<Binding>,
    types: PhantomData<fn(P) -> R>,
}

impl<P: Parameters, R: DeserializeOwned> TypedFn<P, R> {
    /// The function of this number, which `image` exports.
    pub(super) fn new(image: Image, number: u32, binding: Arc<Binding>) -> Self {
        let position = image.export_position(number).expect("the function was found in this image");
        Self { image, position, binding, types: PhantomData }
    }

    /// Calls the function in this sandbox and waits for its result.
    ///
    /// # Errors
    /// A [`CallError`]; [`CallError::ForeignFunction`] where the sandbox runs another image.
    pub fn call(&self, sandbox: &mut Sandbox, arguments: P::Values<'_>) -> Result<R, CallError> {
        self.call_with(sandbox, arguments, Limits::new())
    }

    /// Like [`call`](Self::call), with limits for this call; where these set none, the sandbox's apply.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub fn call_with(&self, sandbox: &mut Sandbox, arguments: P::Values<'_>, limits: Limits) -> Result<R, CallError> {
        self.invoke(sandbox, arguments, limits, None)
    }

    /// Like [`call_with`](Self::call_with), with data for the host functions of this call: see
    /// [`Call::data`](crate::Call::data).
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub fn call_with_data<T: 'static>(
        &self,
        sandbox: &mut Sandbox,
        arguments: P::Values<'_>,
        limits: Limits,
        data: &mut T,
    ) -> Result<R, CallError> {
        self.invoke(sandbox, arguments, limits, Some(CallData::new(data)))
    }

    #[inline]
    fn invoke(
        &self,
        sandbox: &mut Sandbox,
        arguments: P::Values<'_>,
        limits: Limits,
        data: Option<CallData<'_>>,
    ) -> Result<R, CallError> {
        if !self.image.is_same(&sandbox.image) {
            let error = CallError::ForeignFunction { function: self.function().name().to_owned() };
            CallMeter::refused(&error);
            return Err(error);
        }
        let (image, _, callee) = sandbox.parts();
        callee.invoke((image, self.function()), &self.binding, &arguments, limits, data)
    }

    fn function(&self) -> &Function {
        self.image.export_at(self.position)
    }
}

impl<P, R> Clone for TypedFn<P, R> {
    fn clone(&self) -> Self {
        Self {
            image: self.image.clone(),
            position: self.position,
            binding: Arc::clone(&self.binding),
            types: PhantomData,
        }
    }
}

impl<P, R> fmt::Debug for TypedFn<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let function = self.image.export_at(self.position);
        f.debug_struct("TypedFn").field("image", &self.image.name()).field("function", function).finish()
    }
}
