//! Recognises sequences of `u8`, which move as one block.
//!
//! To serde, a `Vec<u8>` is a sequence like any other. Its type is known by comparing type ids, which are constants: the
//! comparisons vanish in an optimised build.

use alloc::vec::Vec;
use core::any::TypeId;
use core::fmt::{self, Display};
use core::marker::PhantomData;
use core::mem::{self, ManuallyDrop};
use core::ptr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

/// The bytes of `sequence` if it is a `&[u8]` or a `&Vec<u8>`, which is what `[u8]` and `Vec<u8>` (and the pointers to
/// them) give to `Serializer::collect_seq`.
pub(super) fn as_block<I>(sequence: &I) -> Option<&[u8]> {
    let id = typeid::of::<I>();
    if id == typeid::of::<&[u8]>() {
        // SAFETY: equal ids mean that `I` is `&'a [u8]` with some lifetime `'a`. `sequence` is a valid reference to it,
        // and `'a` outlives that reference, so the slice is valid for the shorter lifetime as well.
        Some(unsafe { *ptr::from_ref(sequence).cast::<&[u8]>() })
    } else if id == typeid::of::<&Vec<u8>>() {
        // SAFETY: as above, `I` being `&'a Vec<u8>`.
        Some(unsafe { *ptr::from_ref(sequence).cast::<&Vec<u8>>() })
    } else {
        None
    }
}

/// Proof that `V` is the visitor with which serde's own implementation reads a `Vec<u8>`.
///
/// Other visitors that produce a `Vec<u8>` do not count: they may make something else of the elements.
pub(super) struct ByteVecVisitor<V>(PhantomData<V>);

impl<'de, V: Visitor<'de>> ByteVecVisitor<V> {
    #[inline]
    pub(super) fn recognise() -> Option<Self> {
        let yields_bytes = typeid::of::<V::Value>() == typeid::of::<Vec<u8>>();
        (yields_bytes && Some(typeid::of::<V>()) == visitor_of_byte_vec()).then_some(Self(PhantomData))
    }

    /// What the visitor makes of a sequence of these bytes.
    #[inline]
    pub(super) fn value(self, bytes: Vec<u8>) -> V::Value {
        let bytes = ManuallyDrop::new(bytes);
        // SAFETY: `self` exists only if `V::Value` has the type id of `Vec<u8>`, a type without lifetimes, so the two are
        // the same type. The original is not dropped, so the vector keeps one owner.
        unsafe { mem::transmute_copy::<ManuallyDrop<Vec<u8>>, V::Value>(&bytes) }
    }
}

/// The type of serde's private visitor, learned by letting it come to a deserializer that reads nothing.
#[inline]
fn visitor_of_byte_vec() -> Option<TypeId> {
    match Vec::<u8>::deserialize(Probe) {
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
