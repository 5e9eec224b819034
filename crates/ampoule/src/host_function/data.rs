//! The data of a call: a value of the application's that its host functions work with, and nobody else.

use std::any::{Any, TypeId, type_name};
use std::fmt;

use super::HostFunctionFailure;

/// What the application lends to the host functions of one call.
pub(crate) struct CallData<'call> {
    value: &'call mut dyn Any,
    type_name: &'static str,
}

impl<'call> CallData<'call> {
    pub(crate) fn new<T: 'static>(value: &'call mut T) -> Self {
        Self { value, type_name: type_name::<T>() }
    }

    /// Whether this is what a host function works with.
    pub(crate) fn is(&self, data: CallDataType) -> bool {
        (*self.value).type_id() == data.id
    }

    /// The name of its type.
    pub(crate) fn type_name(&self) -> &'static str {
        self.type_name
    }
}

impl fmt::Debug for CallData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CallData").field(&self.type_name).finish()
    }
}

/// A type of data that a host function works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallDataType {
    id: TypeId,
    pub(crate) name: &'static str,
}

impl CallDataType {
    pub(crate) fn of<T: 'static>() -> Self {
        Self { id: TypeId::of::<T>(), name: type_name::<T>() }
    }
}

/// The data, of which a call has the right type. The start of a guest has none.
pub(super) fn of_call<'data, T: 'static>(
    data: Option<&'data mut CallData<'_>>,
) -> Result<&'data mut T, HostFunctionFailure> {
    data.and_then(|data| data.value.downcast_mut()).ok_or_else(|| {
        HostFunctionFailure::Function(
            "it works with the data of a call, and there is none while the guest starts".to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_data_the_guest_is_told_so() {
        let Err(HostFunctionFailure::Function(message)) = of_call::<u32>(None) else { panic!("there is none") };
        assert!(message.contains("while the guest starts"), "{message}");
        let mut number = 5u32;
        let mut data = CallData::new(&mut number);
        assert!(matches!(of_call::<u32>(Some(&mut data)), Ok(5)));
        assert!(of_call::<i32>(Some(&mut data)).is_err());
    }
}
