//! The record that describes a function to the host.

use proc_macro2::{Ident, TokenStream};
use quote::quote;

use crate::function::Function;
use crate::spelling;

/// A static `__AMPOULE_RECORD` and what it is made of, for a scope of its own.
///
/// `constructor` is a function of `ampoule_guest::rt::Record`; besides the name and the signature it gets `arguments`.
pub(crate) fn items(
    value: TokenStream,
    constructor: Ident,
    name: &str,
    function: &Function,
    arguments: TokenStream,
    describe: &TokenStream,
) -> TokenStream {
    let parts = spelling::parts(&function.spelling);
    let types = types(function, describe);
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

        #types
    }
}

/// A static that says how the function describes its types. `parameters` are the statements that describe those.
fn types(function: &Function, parameters: &TokenStream) -> TokenStream {
    let of_parameters = function.parameters.iter().map(|parameter| {
        let ty = spelling::without_lifetimes(&parameter.ty);
        quote!(__ampoule::Probe::<#ty>::NAME.is_none())
    });
    let (of_result, result) = match function.output.written().map(spelling::without_lifetimes) {
        Some(ty) => (
            quote! {
                __ampoule::is_described(
                    __ampoule::ReturnProbe::<#ty>::CAN_FAIL,
                    __ampoule::Probe::<#ty>::NAME,
                    __ampoule::ReturnProbe::<#ty>::VALUE,
                    __ampoule::ReturnProbe::<#ty>::HAS_NAMED_ERROR,
                    __ampoule::ReturnProbe::<#ty>::HAS_READ_ERROR,
                )
            },
            quote! {
                let __ampoule_kind = (&&__ampoule::Expected::<#ty>::NEW).kind();
                __ampoule_description.returns(
                    |__ampoule_tracer| (&&__ampoule_kind.value()).trace(__ampoule_tracer),
                    |__ampoule_tracer| (&&__ampoule_kind.error()).trace(__ampoule_tracer),
                );
            },
        ),
        None => (quote!(false), TokenStream::new()),
    };
    quote! {
        fn __ampoule_describe(__ampoule_description: &mut __ampoule::Description<'_>) {
            use __ampoule::{ExpectFailure as _, ExpectSuccess as _, TraceRead as _, TraceUnread as _};
            #parameters
            #result
        }

        #[used]
        #[unsafe(link_section = "ampoule_types")]
        static __AMPOULE_TYPES: __ampoule::Types =
            __ampoule::Types::of(&__AMPOULE_RECORD, #(#of_parameters ||)* #of_result, __ampoule_describe);
    }
}
