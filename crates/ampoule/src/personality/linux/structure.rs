//! The structures of the kernel's ABI in a guest's memory, written and read by the names of their fields.
//!
//! A structure never exists as a value of its type, only as bytes: what no field covers is zero, and the guest's numbers do
//! not become pointers.

use linux_raw_sys::general::kernel_sigset_t;
use linux_raw_sys::net::iovec;

/// The bytes of a structure: zero except for the fields that are given.
macro_rules! to_bytes {
    ($type:ty { $($($field:ident).+: $value:expr),* $(,)? }) => {{
        let mut bytes = [0; size_of::<$type>()];
        $(
            $crate::personality::linux::structure::put(
                &mut bytes,
                std::mem::offset_of!($type, $($field).+),
                |structure: &$type| &raw const structure.$($field).+,
                $value,
            );
        )*
        bytes
    }};
}

/// Fields of the structure in these bytes, as a tuple.
macro_rules! from_bytes {
    ($bytes:expr, $type:ty { $($field:ident),* $(,)? }) => {
        ($(
            $crate::personality::linux::structure::get(
                $bytes,
                std::mem::offset_of!($type, $field),
                |structure: &$type| &raw const structure.$field,
            ),
        )*)
    };
}

/// Fields of a structure in a guest's memory, as a tuple; an error where the guest could not read it.
macro_rules! read_fields {
    ($space:expr, $at:expr, $type:ty { $($field:ident),* $(,)? }) => {
        $space
            .read_array::<{ size_of::<$type>() }>(ampoule_vmm::GuestVirt($at))
            .map(|bytes| $crate::personality::linux::structure::from_bytes!(&bytes, $type { $($field),* }))
    };
}

pub(crate) use to_bytes;
pub(super) use {from_bytes, read_fields};

/// A type that a field can have, as it lies in memory.
pub(crate) trait Field {
    /// What its bytes mean to the host.
    type Value;

    fn put(value: Self::Value, into: &mut [u8]);

    fn get(from: &[u8]) -> Self::Value;
}

/// Sets a field; of `_field` only the type matters.
pub(crate) fn put<S, F: Field>(bytes: &mut [u8], offset: usize, _field: impl Fn(&S) -> *const F, value: F::Value) {
    F::put(value, &mut bytes[offset..offset + size_of::<F>()]);
}

/// Reads a field; of `_field` only the type matters.
pub(super) fn get<S, F: Field>(bytes: &[u8], offset: usize, _field: impl Fn(&S) -> *const F) -> F::Value {
    F::get(&bytes[offset..offset + size_of::<F>()])
}

macro_rules! integers {
    ($($type:ty)*) => {
        $(impl Field for $type {
            type Value = Self;

            fn put(value: Self, into: &mut [u8]) {
                into.copy_from_slice(&value.to_le_bytes());
            }

            fn get(from: &[u8]) -> Self {
                let mut bytes = [0; size_of::<Self>()];
                bytes.copy_from_slice(from);
                Self::from_le_bytes(bytes)
            }
        })*
    };
}

integers!(i8 u8 i16 u16 i32 u32 i64 u64);

impl<F: Field, const N: usize> Field for [F; N] {
    type Value = [F::Value; N];

    fn put(value: Self::Value, into: &mut [u8]) {
        for (value, into) in value.into_iter().zip(into.chunks_exact_mut(size_of::<F>())) {
            F::put(value, into);
        }
    }

    fn get(from: &[u8]) -> Self::Value {
        std::array::from_fn(|index| F::get(&from[index * size_of::<F>()..(index + 1) * size_of::<F>()]))
    }
}

/// A guest's pointers and sizes are numbers to its host, and so are its sets of signals.
macro_rules! words {
    ($($type:ty)*) => {
        $(impl Field for $type {
            type Value = u64;

            fn put(value: u64, into: &mut [u8]) {
                u64::put(value, into);
            }

            fn get(from: &[u8]) -> u64 {
                u64::get(from)
            }
        })*
    };
}

words!(usize kernel_sigset_t *mut std::ffi::c_void *mut iovec Option<unsafe extern "C" fn()> Option<unsafe extern "C" fn(i32)>);

#[cfg(test)]
mod tests {
    use linux_raw_sys::general::stack_t;

    #[test]
    fn fields_have_their_places_and_what_lies_between_them_is_zero() {
        let bytes = to_bytes!(stack_t { ss_size: u64::MAX, ss_flags: -2, ss_sp: 0x1234 });
        assert_eq!(bytes[..12], [0x34, 0x12, 0, 0, 0, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff]);
        assert_eq!(bytes[12..], [[0; 4].as_slice(), &[0xff; 8]].concat());
        assert_eq!(from_bytes!(&bytes, stack_t { ss_flags, ss_sp, ss_size }), (-2, 0x1234, u64::MAX));
    }
}
