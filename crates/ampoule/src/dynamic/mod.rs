//! Calls without Rust types: arguments from any [`serde`] format, results to any, guided by what the guest says of its types.
//!
//! A host that learns only at run time which functions there are (a command line, a gateway, a test bench) has no Rust types
//! for them. Images list signatures, and guests describe the types that a signature only names; together they say how a value
//! is written. So an argument is read from a [`Deserializer`](serde::Deserializer), a result is a value that can be
//! [serialized](serde::Serialize), and it is up to the application which formats these are:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let image = ampoule::Image::from_file("guest")?;
//! # let mut sandbox = ampoule::Sandbox::builder(&image).build()?;
//! let price = sandbox.dynamic_fn("price")?;
//! let mut call = price.prepare();
//! call.argument(&mut serde_json::Deserializer::from_str("\"lamp\""))?;
//! match call.make(&mut sandbox)? {
//!     Ok(price) => println!("{}", serde_json::to_string(&price)?),
//!     Err(failure) => eprintln!("{failure}"),
//! }
//! # Ok(()) }
//! ```
//!
//! # How values look
//!
//! As `serde_json` shows the same Rust types: a struct is a map by the names of its fields, in any order, of which options may
//! be left out; an enum is the name of its variant, or a map from that to what the variant holds. A newtype struct is what it
//! holds, and a byte string may also be given as text. Types that have one form for people and another one for programs, such
//! as IP addresses, have that for programs. The names of structs and enums are not compared with anything.
//!
//! # What cannot be called so
//!
//! A function with a type of which nothing is known but its name: one of a guest that does not describe its types, or one whose
//! description leaves a part out. One that takes streams ([`Reader`](crate::Reader) and its like), which are no values. And what
//! cannot travel at all.
//!
//! What a guest sends is checked as a whole before any of it is shown: a [`Value`] has the form that its type says, and takes
//! as much memory as the guest's message.

mod error;
mod fields;
mod host_call;
pub(crate) mod line;
mod read;
mod show;
mod types;
mod value;
mod write;

#[cfg(test)]
mod tests;

pub use error::{AnswerError, ArgumentError};
pub use host_call::HostCall;
pub use types::Type;
pub use value::{Failure, Value};

pub(crate) use read::ReadError;
pub(crate) use types::FunctionTypes;
pub(crate) use write::Writer;

pub use crate::sandbox::{DynamicCall, DynamicFn};
