//! The text of signatures, put together by the compiler.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use serde::Deserialize;

use crate::stream::{Reader, Writer};

/// A part of a signature.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// Text as it is.
    Text(&'static str),
    /// A number in decimal.
    Number(usize),
    /// A type, which has parts itself.
    Type(&'static [Part]),
}

impl Part {
    /// A type by its name, if it has one, or else as it was written.
    pub const fn of_type(name: Option<&'static [Self]>, written: &'static [Self]) -> Self {
        match name {
            Some(name) => Self::Type(name),
            None => Self::Type(written),
        }
    }

    /// The type that a function returns: as a result if it is one, or else as any type.
    pub const fn of_return(can_fail: bool, result: &'static [Self], other: &'static [Self]) -> Self {
        Self::Type(if can_fail { result } else { other })
    }
}

/// A type whose name on the wire does not depend on how it is written in the source.
///
/// The standard library's types that `docs/abi.md` knows have it, and streams; a signature sees through their aliases.
pub trait WireName {
    /// The name.
    const PARTS: &'static [Part];
}

/// Asks for the name of `T`: `Probe::<T>::NAME`.
///
/// For a type with a [`WireName`] that is the constant of the inherent implementation below. The compiler prefers it to
/// the constant of [`Unnamed`], which it takes for every other type.
#[derive(Debug)]
pub struct Probe<T: ?Sized>(PhantomData<T>);

impl<T: WireName + ?Sized> Probe<T> {
    /// The name of `T`.
    pub const NAME: Option<&'static [Part]> = Some(T::PARTS);
}

/// The answer of a [`Probe`] for a type without a name of its own.
pub trait Unnamed {
    /// No name.
    const NAME: Option<&'static [Part]> = None;
}

impl<T: ?Sized> Unnamed for Probe<T> {}

/// Asks whether a function that returns `T` can fail, however `T` is written, and for the name of its value.
///
/// The answer is made as that of a [`Probe`].
#[derive(Debug)]
pub struct ReturnProbe<T: ?Sized>(PhantomData<T>);

impl<T, E> ReturnProbe<Result<T, E>> {
    /// `T` is a `Result`.
    pub const CAN_FAIL: bool = true;
}

impl<T: WireName, E> ReturnProbe<Result<T, E>> {
    /// The name of the value.
    pub const VALUE: Option<&'static [Part]> = Some(T::PARTS);
}

impl<T, E: WireName> ReturnProbe<Result<T, E>> {
    /// The error is of the standard library.
    pub const HAS_NAMED_ERROR: bool = true;
}

impl<T, E: Deserialize<'static>> ReturnProbe<Result<T, E>> {
    /// The error can be read.
    pub const HAS_READ_ERROR: bool = true;
}

/// Whether there is something to describe of a type that a function returns, of which a probe says these.
pub const fn is_described(
    can_fail: bool,
    name: Option<&[Part]>,
    value: Option<&[Part]>,
    error_is_named: bool,
    error_is_read: bool,
) -> bool {
    match can_fail {
        true => value.is_none() || error_is_read && !error_is_named,
        false => name.is_none(),
    }
}

/// The answer of a [`ReturnProbe`] for a type that is no `Result`, and for the name of a value that has none.
pub trait OrdinaryReturn {
    /// It cannot fail.
    const CAN_FAIL: bool = false;

    /// No name.
    const VALUE: Option<&'static [Part]> = None;

    /// The error is no type of the standard library.
    const HAS_NAMED_ERROR: bool = false;

    /// The error cannot be read.
    const HAS_READ_ERROR: bool = false;
}

impl<T: ?Sized> OrdinaryReturn for ReturnProbe<T> {}

/// Bytes of the text that the parts make.
pub const fn text_len(parts: &[Part]) -> usize {
    let mut len = 0;
    let mut index = 0;
    while index < parts.len() {
        len += match parts[index] {
            Part::Text(text) => text.len(),
            Part::Number(number) => digits(number),
            Part::Type(parts) => text_len(parts),
        };
        index += 1;
    }
    len
}

/// The text that the parts make.
///
/// # Panics
/// Where `N` is less than [`text_len`] of the parts.
pub const fn text<const N: usize>(parts: &[Part]) -> [u8; N] {
    let mut text = [0; N];
    write(parts, &mut text, 0);
    text
}

/// Text of the parts as a string.
///
/// # Panics
/// Where the bytes are not UTF-8, which [`text`] never gives.
pub const fn as_str(text: &[u8]) -> &str {
    match str::from_utf8(text) {
        Ok(text) => text,
        Err(_) => panic!("a signature is made of strings"),
    }
}

/// Writes the parts from `at` on and returns where they end.
const fn write(parts: &[Part], text: &mut [u8], mut at: usize) -> usize {
    let mut index = 0;
    while index < parts.len() {
        at = match parts[index] {
            Part::Text(part) => {
                text.split_at_mut(at).1.split_at_mut(part.len()).0.copy_from_slice(part.as_bytes());
                at + part.len()
            }
            Part::Number(number) => write_number(number, text, at),
            Part::Type(parts) => write(parts, text, at),
        };
        index += 1;
    }
    at
}

const fn write_number(mut number: usize, text: &mut [u8], at: usize) -> usize {
    let end = at + digits(number);
    let mut position = end;
    while position > at {
        position -= 1;
        text[position] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    end
}

const fn digits(number: usize) -> usize {
    match number.checked_ilog10() {
        Some(log) => log as usize + 1,
        None => 1,
    }
}

/// Names types after themselves.
macro_rules! simple {
    ($($name:ident)*) => {
        $(impl WireName for $name {
            const PARTS: &'static [Part] = &[Part::Text(stringify!($name))];
        })*
    };
}

/// Streams are types that the host knows by their names.
macro_rules! streams {
    ($($name:ident)*) => {
        $(impl WireName for $name<'_> {
            const PARTS: &'static [Part] = &[Part::Text(stringify!($name))];
        })*
    };
}

/// Names types after themselves and the arguments that count.
macro_rules! generic {
    ($($name:ident<$first:ident $(: $maybe:tt Sized)? $(, $second:ident)?> $(+ $uncounted:ident)?;)*) => {
        $(impl<$first: WireName $(+ $maybe Sized)? $(, $second: WireName)? $(, $uncounted)?> WireName
            for $name<$first $(, $second)? $(, $uncounted)?>
        {
            const PARTS: &'static [Part] = &[
                Part::Text(concat!(stringify!($name), "<")),
                Part::Type($first::PARTS),
                $(Part::Text(", "), Part::Type($second::PARTS),)?
                Part::Text(">"),
            ];
        })*
    };
}

macro_rules! tuples {
    ($(($first:ident $(, $other:ident)*))*) => {
        $(impl<$first: WireName, $($other: WireName),*> WireName for ($first, $($other,)*) {
            const PARTS: &'static [Part] = &[
                Part::Text("("),
                Part::Type($first::PARTS),
                $(Part::Text(", "), Part::Type($other::PARTS),)*
                Part::Text(tuple_end([$(stringify!($other)),*])),
            ];
        })*
    };
}

/// A tuple of one field ends with a comma.
const fn tuple_end<const N: usize>(others: [&str; N]) -> &'static str {
    if others.is_empty() { ",)" } else { ")" }
}

simple! { bool char str String u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 }

streams! { Reader Writer }

generic! {
    Option<T>;
    Box<T: ?Sized>;
    Rc<T: ?Sized>;
    Arc<T: ?Sized>;
    Vec<T>;
    VecDeque<T>;
    LinkedList<T>;
    BinaryHeap<T>;
    BTreeSet<T>;
    HashSet<T> + S;
    BTreeMap<K, V>;
    HashMap<K, V> + S;
}

tuples! {
    (A)
    (A, B)
    (A, B, C)
    (A, B, C, D)
    (A, B, C, D, E)
    (A, B, C, D, E, F)
    (A, B, C, D, E, F, G)
    (A, B, C, D, E, F, G, H)
}

impl WireName for () {
    const PARTS: &'static [Part] = &[Part::Text("()")];
}

impl<T: WireName + ?Sized> WireName for &T {
    const PARTS: &'static [Part] = &[Part::Text("&"), Part::Type(T::PARTS)];
}

impl<T: WireName + ToOwned + ?Sized> WireName for Cow<'_, T> {
    const PARTS: &'static [Part] = &[Part::Text("Cow<"), Part::Type(T::PARTS), Part::Text(">")];
}

impl<T: WireName> WireName for [T] {
    const PARTS: &'static [Part] = &[Part::Text("["), Part::Type(T::PARTS), Part::Text("]")];
}

impl<T: WireName, const N: usize> WireName for [T; N] {
    const PARTS: &'static [Part] =
        &[Part::Text("["), Part::Type(T::PARTS), Part::Text("; "), Part::Number(N), Part::Text("]")];
}
