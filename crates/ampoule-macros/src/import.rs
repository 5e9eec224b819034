//! `#[import]`: a record, and a function whose body calls the host.

#[cfg(test)]
mod tests;

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Lifetime, Signature, Token, Type, TypeReference, Visibility, parse_quote, token};

use crate::export::readable;
use crate::function::Function;
use crate::options::Options;
use crate::record;

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    syn::parse2(item)
        .and_then(|declaration| import(options, &declaration))
        .unwrap_or_else(syn::Error::into_compile_error)
}

/// A function without a body.
struct Declaration {
    attributes: Vec<Attribute>,
    visibility: Visibility,
    signature: Signature,
}

impl Parse for Declaration {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attributes = input.call(Attribute::parse_outer)?;
        let visibility = input.parse()?;
        let signature = input.parse()?;
        if input.peek(token::Brace) {
            return Err(input.error("the host provides the body: put `;` in its place, or use #[export]"));
        }
        input.parse::<Token![;]>()?;
        Ok(Self { attributes, visibility, signature })
    }
}

fn import(options: TokenStream, declaration: &Declaration) -> syn::Result<TokenStream> {
    let Declaration { attributes, visibility, signature } = declaration;
    let name = Options::parse(options)?.name_of(&signature.ident);
    let function = Function::new(signature)?;
    function.output.value().map_or(Ok(()), refuse_borrowed)?;

    let types = function.parameters.iter().map(|parameter| readable(&parameter.ty));
    let describe = quote! {
        #(__ampoule_description.parameter_if(|__ampoule_tracer| {
            (&&__ampoule::Traceable::<#types>::NEW).trace(__ampoule_tracer)
        });)*
    };
    let record = record::items(
        quote!(__ampoule::Imported),
        format_ident!("import"),
        &name,
        &function,
        TokenStream::new(),
        &describe,
    );
    let arguments = function.parameters.iter().map(|parameter| &parameter.ident);
    let call = quote! {
        __AMPOULE_RECORD.call(#name, |__ampoule_arguments| {
            #(__ampoule_arguments.put(&#arguments)?;)*
            ::core::result::Result::Ok(())
        })
    };
    let unit: Type = parse_quote!(());
    let expected = function.output.written().unwrap_or(&unit);
    // Where the error cannot be made, the compiler points at the type.
    let at = Span::call_site().located_at(expected.span());
    let refused = quote_spanned!(at=> (&&&__ampoule_kind.refused(__ampoule_reason)).error());
    Ok(quote! {
        #(#attributes)*
        #[track_caller]
        #visibility #signature {
            #record
            use __ampoule::{
                ErrorOfBoth as _, ErrorOfFailure as _, ErrorOfValue as _, ExpectFailure as _, ExpectSuccess as _,
            };
            let __ampoule_kind = (&&__ampoule::Expected::<#expected>::NEW).kind();
            __ampoule_kind.returned(match #call {
                ::core::result::Result::Ok(__ampoule_value) => ::core::result::Result::Ok(__ampoule_value),
                ::core::result::Result::Err(__ampoule_reason) => {
                    ::core::result::Result::Err(#refused)
                }
            })
        }
    })
}

/// The result is decoded from memory that the next message overwrites.
fn refuse_borrowed(value: &Type) -> syn::Result<()> {
    struct Borrows(Option<syn::Error>);

    impl<'ast> Visit<'ast> for Borrows {
        fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
            self.0.get_or_insert_with(|| syn::Error::new(reference.span(), REASON));
        }

        fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
            if lifetime.ident != "static" {
                self.0.get_or_insert_with(|| syn::Error::new(lifetime.span(), REASON));
            }
            visit::visit_lifetime(self, lifetime);
        }
    }

    const REASON: &str = "an import returns a value of its own, such as `String` or `Vec<u8>`: there is nothing that it could borrow from";
    let mut borrows = Borrows(None);
    borrows.visit_type(value);
    borrows.0.map_or(Ok(()), Err)
}
