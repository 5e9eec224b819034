//! `#[export]`: the function as it is, and next to it a record and a shim that decodes, calls and encodes.

#[cfg(test)]
mod tests;

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{ItemFn, Type};

use crate::function::{Function, Parameter, bare, conditions};
use crate::options::Options;
use crate::{record, spelling};

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    let function = match syn::parse2::<ItemFn>(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let error = syn::Error::new(error.span(), format!("#[export] stands before a function: {error}"));
            return error.into_compile_error();
        }
    };
    let exported = export(options, &function).unwrap_or_else(syn::Error::into_compile_error);
    quote! {
        #item
        #exported
    }
}

fn export(options: TokenStream, item: &ItemFn) -> syn::Result<TokenStream> {
    let name = Options::parse(options)?.name_of(&item.sig.ident);
    let function = Function::new(&item.sig)?;
    let conditions = conditions(&item.attrs);
    let types = function.parameters.iter().map(|parameter| readable(&parameter.ty));
    let describe = quote!(#(__ampoule_description.parameter::<#types>();)*);
    // Backtraces show the function by this name where the compiler leaves nothing else of it.
    let shim = format_ident!("__ampoule_shim_{}", item.sig.ident);
    let record =
        record::items(quote!(__ampoule::Shim), format_ident!("export"), &name, &function, quote!(#shim), &describe);
    let shim = definition(&shim, &item.sig.ident, &function);
    Ok(quote! {
        #(#conditions)*
        #[allow(deprecated, reason = "the host, not the guest, decides whether to call a deprecated function")]
        const _: () = {
            #record
            #shim
        };
    })
}

fn definition(shim: &Ident, ident: &Ident, function: &Function) -> TokenStream {
    let values: Vec<_> = (0..function.parameters.len()).map(|index| format_ident!("__ampoule_value_{index}")).collect();
    let decoded = function.parameters.iter().map(decoded);
    let passed = function.parameters.iter().zip(&values).map(|(parameter, value)| match lent(&parameter.ty) {
        Some(_) => quote!(&#value),
        None => quote!(#value),
    });
    let call = quote!(#ident(#(#passed),*));
    let answer = match function.output.written() {
        None => quote! {
            #call;
            ::core::result::Result::Ok(__ampoule_call.done(&()))
        },
        Some(ty) => answer(&call, ty),
    };
    quote! {
        #[allow(non_snake_case, reason = "it is named like the function")]
        fn #shim<'__ampoule>(
            __ampoule_call: &__ampoule::Call<'__ampoule>,
        ) -> ::core::result::Result<__ampoule::Return<'__ampoule>, __ampoule::BadArguments> {
            let mut __ampoule_arguments = __ampoule_call.arguments();
            #(let #values = #decoded;)*
            __ampoule_arguments.end()?;
            #answer
        }
    }
}

/// Statements that call the function and answer with what it returns.
fn answer(call: &TokenStream, ty: &Type) -> TokenStream {
    let result = Ident::new("__ampoule_result", of(ty));
    // Where the error cannot travel, the compiler points at the type.
    let failed = quote_spanned!(of(ty)=> (&&&&__ampoule::Failed::new(#result)).answer(__ampoule_call));
    quote! {
        use __ampoule::{AnswerBoth as _, AnswerDisplay as _, AnswerText as _, AnswerValue as _, CanFail as _, CannotFail as _};
        let #result = (&&__ampoule::Returned::new(#call)).outcome();
        ::core::result::Result::Ok(match #result {
            ::core::result::Result::Ok(#result) => __ampoule_call.done(&#result),
            ::core::result::Result::Err(#result) => #failed,
        })
    }
}

/// An expression that decodes what a parameter needs.
fn decoded(parameter: &Parameter) -> TokenStream {
    let name = parameter.ident.to_string();
    let ty = readable(&parameter.ty);
    quote_spanned!(of(&parameter.ty)=> __ampoule_arguments.next::<#ty>(#name)?)
}

/// The type of the value that a parameter is made from.
pub(crate) fn readable(ty: &Type) -> Type {
    lent(ty).unwrap_or_else(|| spelling::without_lifetimes(ty))
}

/// The type to decode and lend where a parameter is a reference that cannot point into the mailbox.
fn lent(ty: &Type) -> Option<Type> {
    let Type::Reference(reference) = bare(ty) else { return None };
    match bare(&reference.elem) {
        Type::Path(path) if path.path.is_ident("str") => None,
        Type::Slice(slice) if is_u8(&slice.elem) => None,
        Type::Slice(slice) => {
            let element = spelling::without_lifetimes(&slice.elem);
            Some(Type::Verbatim(quote!(::std::vec::Vec<#element>)))
        }
        target => Some(spelling::without_lifetimes(target)),
    }
}

fn is_u8(ty: &Type) -> bool {
    matches!(bare(ty), Type::Path(path) if path.path.is_ident("u8"))
}

/// Where the user sees an error about this type, in code that stays the macro's own.
fn of(ty: &Type) -> Span {
    Span::call_site().located_at(ty.span())
}
