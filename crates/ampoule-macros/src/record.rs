//! The record that describes a function to the host.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use crate::spelling::{self, Piece};

/// A static `__AMPOULE_RECORD` and what it is made of, for a scope of its own.
///
/// `constructor` is a function of `ampoule_guest::rt::Record`; besides the name and the signature it gets `arguments`.
pub(crate) fn items(
    value: TokenStream,
    constructor: Ident,
    name: &str,
    spelling: &[Piece],
    arguments: TokenStream,
) -> TokenStream {
    let parts = spelling::parts(spelling);
    quote! {
        use ::ampoule_guest::rt as __ampoule;
        use __ampoule::{OrdinaryReturn as _, Unnamed as _};

        const __AMPOULE_PARTS: &[__ampoule::Part] = &[#parts];
        const __AMPOULE_TEXT: [u8; __ampoule::text_len(__AMPOULE_PARTS)] = __ampoule::text(__AMPOULE_PARTS);
        const __AMPOULE_SIGNATURE: &str = __ampoule::as_str(&__AMPOULE_TEXT);

        #[used]
        #[unsafe(link_section = "ampoule_fns")]
        static __AMPOULE_RECORD: __ampoule::Record<#value, { __ampoule::padded_text_len(#name, __AMPOULE_SIGNATURE) }> =
            __ampoule::Record::#constructor(#name, __AMPOULE_SIGNATURE, #arguments);
    }
}
