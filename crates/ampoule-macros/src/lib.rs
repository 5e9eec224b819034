//! The attributes of [`ampoule-guest`](https://docs.rs/ampoule-guest), which re-exports them: guests do not depend on
//! this crate by themselves.
//!
//! Both attributes describe their function to the host by a record in the section `ampoule_fns` of the guest's image.

mod export;
mod function;
mod import;
mod options;
mod record;
mod spelling;

use proc_macro::TokenStream;

/// Makes a function of the guest callable by the host.
///
/// The function itself stays as it is: it can be called and tested like any other.
///
/// ```
/// use ampoule_guest::export;
///
/// #[export]
/// fn greet(name: &str) -> String {
///     format!("Hello, {name}!")
/// }
///
/// #[export("text.parse")]
/// fn parse(text: &str) -> Result<u32, std::num::ParseIntError> {
///     text.parse()
/// }
///
/// assert_eq!(greet("World"), "Hello, World!");
/// ```
///
/// # Name
///
/// The host calls the function by its identifier, or by the name that the attribute gives, as `#[export("…")]` or
/// `#[export(name = "…")]`: 1 to 255 bytes without control characters. A guest cannot export two functions by one name.
///
/// # Parameters
///
/// A parameter is an identifier and a type that implements `serde::Deserialize`. Strings and byte strings are borrowed
/// from the mailbox and not copied where they are taken as `&str` and `&[u8]`, alone or within another type
/// (`Option<&str>`, a struct with a lifetime). Any other `&T` is decoded as a `T`, and `&[T]` as a `Vec<T>`, and lent to
/// the function. There are at most 32.
///
/// # Result
///
/// The result implements `serde::Serialize`. Its destructor cannot call the host: it runs when the result is on its way.
///
/// Where the return type is a `Result<T, E>`, by that name or by that of an alias, the function can fail. The `T` travels as
/// a value. The error travels as a value too if `E` implements `serde::Serialize`, and the host gets it where it asks for a
/// `Result<T, E>`. As text the host gets in any case what `format!("{error:#}")` gives, or the name of `E` where that
/// implements no `Display`; it implements one of both.
///
/// ```
/// use serde::Serialize;
///
/// #[derive(Serialize)]
/// enum ShopError {
///     SoldOut { left: u32 },
/// }
///
/// #[ampoule_guest::export]
/// fn price(item: &str, pieces: u32) -> Result<u64, ShopError> {
///     if pieces > 2 { Err(ShopError::SoldOut { left: 2 }) } else { Ok(30) }
/// }
/// # assert!(matches!(price("chair", 3), Err(ShopError::SoldOut { left: 2 })));
/// ```
///
/// A panic ends the call and not the guest. The host gets its message and location.
///
/// # Types
///
/// The host checks types before it calls: by their names, and by the names, order and types of their fields and variants. To
/// this end the guest reads made-up values of its own types when it starts, which takes no attribute; a type whose
/// `Deserialize` does more than to read a value should be ready for that. A result that implements no `serde::Deserialize` is
/// compared by what its values show, when they are returned; an error, by its name. These cannot travel, and the host
/// refuses to call a function with them: `flatten`, `untagged` and internally tagged enums, and dynamic types such as
/// `serde_json::Value`. A field that was left out because of its value (`skip_serializing_if`) is an error when that happens.
///
/// # Types by another name
///
/// An alias of a standard type or of a composition of standard
/// types is seen through: `type Bytes = Vec<u8>` counts as `Vec<u8>`. Any other type goes by the name that the signature
/// uses for it. So does an alias in capitals among the arguments of such a type, as `ID` in `HashMap<ID, Report>`: it looks
/// like a constant.
#[proc_macro_attribute]
pub fn export(options: TokenStream, item: TokenStream) -> TokenStream {
    export::expand(options.into(), item.into()).into()
}

/// Declares a function that the host provides.
///
/// ```
/// use ampoule_guest::{HostError, import, testing};
///
/// #[import]
/// fn weekday() -> String;
///
/// #[import("store.lookup")]
/// fn lookup(key: &str) -> Result<u32, HostError>;
///
/// let _weekday = testing::provide("weekday", || "Monday".to_string());
/// assert_eq!(weekday(), "Monday");
/// ```
///
/// The host must provide every function that is imported anywhere in the guest, called or not, before it can start the
/// guest. Several imports may have the same name if they have the same signature.
///
/// # Name
///
/// The host provides the function by its identifier, or by the name that the attribute gives, as `#[import("…")]` or
/// `#[import(name = "…")]`: 1 to 255 bytes without control characters.
///
/// # Parameters and result
///
/// A parameter is an identifier and a type that implements `serde::Serialize`; references are fine. There are at most 32.
/// The result is owned and implements `serde::de::DeserializeOwned`.
///
/// # Failure
///
/// A call fails where the host's function returned an error, or arguments or result are too large for the mailbox. An
/// import whose return type is a `Result<T, E>`, by that name or by that of an alias, gives its caller the error. Any other
/// import panics.
///
/// `E` implements `From<HostError>` or `serde::de::DeserializeOwned`, or both. With the second it is the error that the
/// host's function returned, if that was of the same type. Without the first, an import panics where the call failed in
/// another way.
///
/// # Panics
///
/// Besides that, a call panics outside a sandbox, where `ampoule_guest::testing` does not provide the function, and
/// within the `Serialize`, the `Deserialize` or the destructor of a value that is on its way to or from the host.
#[proc_macro_attribute]
pub fn import(options: TokenStream, item: TokenStream) -> TokenStream {
    import::expand(options.into(), item.into()).into()
}
