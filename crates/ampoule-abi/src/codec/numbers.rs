//! Recognises sequences of numbers, which move as one block.
//!
//! To serde, a `Vec<u8>` or `Vec<f64>` is a sequence like any other. Its type is known by comparing type ids, which are
//! constants: the comparisons vanish in an optimised build.

use alloc::vec;
use alloc::vec::Vec;
use core::any::TypeId;
use core::fmt::{self, Display};
use core::marker::PhantomData;
use core::mem::{self, ManuallyDrop};
use core::{ptr, slice};

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::decoder::{Decoder, Source};
use super::error::DecodeError;

/// A number whose bytes in the memory of a little-endian processor are those of its encoding.
///
/// # Safety
///
/// Each of its bytes is initialized, and any bytes are a value.
unsafe trait Number: Copy + Default + 'static {}

/// The elements of a sequence, as they are encoded.
pub(super) struct Block<'a> {
    pub(super) count: usize,
    pub(super) bytes: &'a [u8],
}

macro_rules! numbers {
    (u8 $($number:ident)*) => {
        numbers!(@write u8 $($number)*);

        /// Reads a sequence if `V` is the visitor with which serde reads a `Vec` of numbers.
        #[inline]
        pub(super) fn read<'de, V: Visitor<'de>, S: Source<'de>>(
            decoder: &mut Decoder<S>,
        ) -> Option<Result<V::Value, DecodeError>> {
            if let Some(visitor) = VecVisitor::<V, u8>::recognise() {
                return Some(decoder.block().map(|bytes| visitor.value(bytes.into_owned())));
            }
            $(
                if let Some(visitor) = VecVisitor::<V, $number>::recognise() {
                    return Some(vec_of::<$number, S>(decoder).map(|numbers| visitor.value(numbers)));
                }
            )*
            None
        }
    };
    (@write $($number:ident)*) => {
        $(
            // SAFETY: integers and floating-point numbers have no padding and no invalid values.
            unsafe impl Number for $number {}
        )*

        /// The elements of `sequence` if it is a `&[T]` or a `&Vec<T>` of numbers, which is what `[T]` and `Vec<T>` (and the
        /// pointers to them) give to `Serializer::collect_seq`.
        #[inline]
        pub(super) fn as_block<I>(sequence: &I) -> Option<Block<'_>> {
            $(
                if let Some(numbers) = as_slice::<$number, I>(sequence) {
                    return Some(Block { count: numbers.len(), bytes: as_bytes(numbers) });
                }
            )*
            None
        }
    };
}

numbers! { u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 f32 f64 }

#[inline]
fn as_slice<T: Number, I>(sequence: &I) -> Option<&[T]> {
    let id = typeid::of::<I>();
    if !is_encoded_as_stored::<T>() {
        None
    } else if id == typeid::of::<&[T]>() {
        // SAFETY: equal ids mean that `I` is `&'a [T]` with some lifetime `'a`. `sequence` is a valid reference to it,
        // and `'a` outlives that reference, so the slice is valid for the shorter lifetime as well.
        Some(unsafe { *ptr::from_ref(sequence).cast::<&[T]>() })
    } else if id == typeid::of::<&Vec<T>>() {
        // SAFETY: as above, `I` being `&'a Vec<T>`.
        Some(unsafe { *ptr::from_ref(sequence).cast::<&Vec<T>>() })
    } else {
        None
    }
}

#[inline]
fn as_bytes<T: Number>(numbers: &[T]) -> &[u8] {
    // SAFETY: the bytes of a `Number` are initialized, and a byte has no alignment.
    unsafe { slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

#[inline]
fn as_bytes_mut<T: Number>(numbers: &mut [T]) -> &mut [u8] {
    // SAFETY: as for `as_bytes`, and whatever is written to the bytes of a `Number`, it holds a value.
    unsafe { slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}

/// Reads a count and as many numbers.
fn vec_of<'de, T: Number, S: Source<'de>>(decoder: &mut Decoder<S>) -> Result<Vec<T>, DecodeError> {
    let count = decoder.elements(size_of::<T>())?;
    let mut numbers = vec![T::default(); count];
    decoder.fill(as_bytes_mut(&mut numbers));
    Ok(numbers)
}

/// One byte is the same everywhere.
#[inline]
const fn is_encoded_as_stored<T: Number>() -> bool {
    cfg!(target_endian = "little") || size_of::<T>() == 1
}

/// Proof that `V` is the visitor with which serde's own implementation reads a `Vec<T>` whose elements are encoded as they
/// are stored.
///
/// Other visitors that produce a `Vec<T>` do not count: they may make something else of the elements.
struct VecVisitor<V, T>(PhantomData<(V, T)>);

impl<'de, V: Visitor<'de>, T: Number + Deserialize<'static>> VecVisitor<V, T> {
    #[inline]
    fn recognise() -> Option<Self> {
        let yields_numbers = typeid::of::<V::Value>() == typeid::of::<Vec<T>>();
        let is_serdes = || Some(typeid::of::<V>()) == visitor_of_vec::<T>();
        (is_encoded_as_stored::<T>() && yields_numbers && is_serdes()).then_some(Self(PhantomData))
    }

    /// What the visitor makes of a sequence of these numbers.
    #[inline]
    fn value(self, numbers: Vec<T>) -> V::Value {
        let numbers = ManuallyDrop::new(numbers);
        // SAFETY: `self` exists only if `V::Value` has the type id of `Vec<T>`, a type without lifetimes, so the two are
        // the same type. The original is not dropped, so the vector keeps one owner.
        unsafe { mem::transmute_copy::<ManuallyDrop<Vec<T>>, V::Value>(&numbers) }
    }
}

/// The type of serde's private visitor, learned by letting it come to a deserializer that reads nothing.
#[inline]
fn visitor_of_vec<T: Deserialize<'static>>() -> Option<TypeId> {
    match Vec::<T>::deserialize(Probe) {
        Ok(_) => None,
        Err(Caught(visitor)) => visitor,
    }
}

struct Probe;

impl<'de> Deserializer<'de> for Probe {
    type Error = Caught;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Caught> {
        Err(Caught(None))
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Caught> {
        Err(Caught(Some(typeid::of::<V>())))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// The visitor that came, as the error of [`Probe`].
#[derive(Debug)]
struct Caught(Option<TypeId>);

impl de::Error for Caught {
    fn custom<T: Display>(_: T) -> Self {
        Self(None)
    }
}

impl Display for Caught {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a visitor was caught")
    }
}

impl core::error::Error for Caught {}
