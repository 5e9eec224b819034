//! The canonical form of types: the six steps of `docs/abi.md`, "Signatures".

use super::parse::Syntax;

/// What a type is to the other side of a call, whatever it was written as.
///
/// References and owning pointers are what they point to, `usize` is [`Shape::U64`], strings are one type, and so are the
/// collections of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// `()`
    Unit,
    /// `bool`
    Bool,
    /// `u8`
    U8,
    /// `u16`
    U16,
    /// `u32`
    U32,
    /// `u64` and `usize`
    U64,
    /// `u128`
    U128,
    /// `i8`
    I8,
    /// `i16`
    I16,
    /// `i32`
    I32,
    /// `i64` and `isize`
    I64,
    /// `i128`
    I128,
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `char`
    Char,
    /// `str` and `String`
    Str,
    /// A sequence of `u8`; never written as [`Shape::Seq`].
    Bytes,
    /// `[T]`, `Vec<T>` and the other collections of single values, whatever their order
    Seq(Box<Shape>),
    /// `[T; N]`
    Array(Box<Shape>, u64),
    /// `(A, B)`, with at least one field
    Tuple(Vec<Shape>),
    /// `Option<T>`
    Option(Box<Shape>),
    /// `HashMap<K, V>` and `BTreeMap<K, V>`
    Map(Box<Shape>, Box<Shape>),
    /// `Result<T, E>`
    Result(Box<Shape>, Box<Shape>),
    /// Every other type.
    Named {
        /// The last segment of the type's path, or all of its text where it is not a path.
        name: String,
        /// Its type arguments and constant arguments.
        arguments: Vec<Shape>,
    },
}

impl Shape {
    pub(super) fn named(name: &str) -> Self {
        Self::Named { name: name.to_owned(), arguments: Vec::new() }
    }

    fn sequence_of(element: &Syntax) -> Self {
        match Self::from(element) {
            Self::U8 => Self::Bytes,
            element => Self::Seq(Box::new(element)),
        }
    }

    /// Allocators and hashers, which follow the arguments that count, do not travel.
    fn of_path(name: &str, arguments: &[Syntax]) -> Self {
        match (name, arguments) {
            ("bool", []) => Self::Bool,
            ("u8", []) => Self::U8,
            ("u16", []) => Self::U16,
            ("u32", []) => Self::U32,
            ("u64" | "usize", []) => Self::U64,
            ("u128", []) => Self::U128,
            ("i8", []) => Self::I8,
            ("i16", []) => Self::I16,
            ("i32", []) => Self::I32,
            ("i64" | "isize", []) => Self::I64,
            ("i128", []) => Self::I128,
            ("f32", []) => Self::F32,
            ("f64", []) => Self::F64,
            ("char", []) => Self::Char,
            ("str" | "String", []) => Self::Str,
            ("Box" | "Rc" | "Arc", [target, ..]) | ("Cow", [target]) => Self::from(target),
            ("Vec" | "VecDeque" | "LinkedList" | "BinaryHeap" | "HashSet" | "BTreeSet", [element, ..]) => {
                Self::sequence_of(element)
            }
            ("HashMap" | "BTreeMap", [key, value, ..]) => {
                Self::Map(Box::new(Self::from(key)), Box::new(Self::from(value)))
            }
            ("Option", [value]) => Self::Option(Box::new(Self::from(value))),
            ("Result", [value]) => Self::Result(Box::new(Self::from(value)), Box::new(Self::named(HIDDEN))),
            ("Result", [value, error]) => Self::Result(Box::new(Self::from(value)), Box::new(Self::from(error))),
            _ => Self::Named { name: name.to_owned(), arguments: arguments.iter().map(Self::from).collect() },
        }
    }
}

impl From<&Syntax> for Shape {
    fn from(syntax: &Syntax) -> Self {
        match syntax {
            Syntax::Reference { target, .. } => Self::from(&**target),
            Syntax::Slice(element) => Self::sequence_of(element),
            Syntax::Array(element, length) => Self::Array(Box::new(Self::from(&**element)), *length),
            Syntax::Tuple(fields) if fields.is_empty() => Self::Unit,
            Syntax::Tuple(fields) => Self::Tuple(fields.iter().map(Self::from).collect()),
            Syntax::Path { name, arguments } => Self::of_path(name, arguments),
            Syntax::Opaque(text) => Self::named(text),
        }
    }
}

/// The name of a type that an alias such as `io::Result<T>` does not show.
pub(super) const HIDDEN: &str = "_";
