//! How types are written in a signature.
//!
//! The text of a signature is put together when the guest is compiled, not when the attribute is expanded: only then is
//! it known whether `Bytes` is another name of `Vec<u8>`. An attribute gives the [`Piece`]s.

#[cfg(test)]
mod tests;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::visit_mut::{self, VisitMut};
use syn::{Expr, GenericArgument, Lifetime, Path, PathArguments, Type, TypeParamBound};

/// A piece of a signature.
pub(crate) enum Piece {
    /// Text as it is.
    Text(String),
    /// The length of an array.
    Length(Expr),
    /// A type by the name that it has on the wire or, if it has none, as it was written.
    Type { ty: Type, written: Vec<Piece> },
    /// The type that a function returns, which may be an alias of a `Result`: what that hides is `_`.
    Return { ty: Type, written: Vec<Piece> },
}

impl Piece {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// The piece as an expression of the type `ampoule_guest::rt::Part`.
    fn to_part(&self) -> TokenStream {
        match self {
            Self::Text(text) => quote!(__ampoule::Part::Text(#text)),
            Self::Length(length) => quote!(__ampoule::Part::Number(#length)),
            Self::Type { ty, written } => {
                let written = parts(written);
                quote!(__ampoule::Part::of_type(__ampoule::Probe::<#ty>::NAME, const { &[#written] }))
            }
            Self::Return { ty, written } => {
                let written = parts(written);
                quote! {
                    __ampoule::Part::of_return(
                        __ampoule::ReturnProbe::<#ty>::CAN_FAIL,
                        const { &[
                            __ampoule::Part::Text("Result<"),
                            __ampoule::Part::of_type(
                                __ampoule::ReturnProbe::<#ty>::VALUE,
                                &[__ampoule::Part::Text("_")],
                            ),
                            __ampoule::Part::Text(", _>"),
                        ] },
                        const { &[#written] },
                    )
                }
            }
        }
    }
}

/// The pieces as the elements of an array of `ampoule_guest::rt::Part`.
pub(crate) fn parts(pieces: &[Piece]) -> TokenStream {
    let parts = pieces.iter().map(Piece::to_part);
    quote!(#(#parts),*)
}

/// The pieces of a type whose values travel.
///
/// # Errors
///
/// Where the type has no values that can travel, or no name.
pub(crate) fn of_value(ty: &Type) -> syn::Result<Vec<Piece>> {
    match ty {
        Type::Group(group) => of_value(&group.elem),
        Type::Paren(paren) => of_value(&paren.elem),
        Type::Reference(reference) if reference.mutability.is_some() => {
            refused(ty, "a mutable reference does not reach the other side: take a value and return the changed one")
        }
        Type::Reference(reference) => Ok(joined("&", [of_value(&reference.elem)?], "")),
        Type::Slice(slice) => Ok(joined("[", [of_value(&slice.elem)?], "]")),
        Type::Array(array) => {
            let mut pieces = joined("[", [of_value(&array.elem)?], "; ");
            pieces.extend([Piece::Length(array.len.clone()), Piece::text("]")]);
            Ok(pieces)
        }
        Type::Tuple(tuple) => {
            let end = if tuple.elems.len() == 1 { ",)" } else { ")" };
            let fields = tuple.elems.iter().map(of_value).collect::<syn::Result<Vec<_>>>()?;
            Ok(joined("(", fields, end))
        }
        Type::Path(path) => {
            let written = of_path(&path.path)?;
            Ok(vec![Piece::Type { ty: without_lifetimes(ty), written }])
        }
        Type::ImplTrait(_) => refused(ty, "a signature names its types: `impl Trait` has no name"),
        Type::Infer(_) => refused(ty, "a signature names its types: `_` has no name"),
        Type::Macro(_) => refused(ty, "a signature names its types: write the type that the macro gives"),
        Type::Never(_) => refused(ty, "`!` has no values"),
        Type::TraitObject(_) => refused(ty, "a trait object does not travel: its type is not known to the other side"),
        Type::FnPtr(_) | Type::Ptr(_) => refused(ty, "a pointer means nothing to the other side"),
        _ => refused(ty, "this type has no name in a signature"),
    }
}

/// The pieces of the type that a function returns, where it is not written as a `Result`.
///
/// # Errors
///
/// As for [`of_value`].
pub(crate) fn of_return(ty: &Type) -> syn::Result<Vec<Piece>> {
    let written = of_value(ty)?;
    Ok(match ty {
        Type::Path(_) => vec![Piece::Return { ty: without_lifetimes(ty), written }],
        _ => written,
    })
}

/// The text of a type whose values do not travel: the error of a function that can fail.
pub(crate) fn of_error(ty: &Type) -> String {
    match ty {
        Type::Group(group) => of_error(&group.elem),
        Type::Paren(paren) => of_error(&paren.elem),
        Type::Reference(reference) => format!("&{}", of_error(&reference.elem)),
        Type::Path(path) => {
            let name = path_name(&path.path);
            let arguments = last_arguments(&path.path).filter_map(|argument| match argument {
                GenericArgument::Lifetime(_) => None,
                GenericArgument::Type(ty) => Some(of_error(ty)),
                other => Some(other.to_token_stream().to_string()),
            });
            match arguments.collect::<Vec<_>>() {
                arguments if arguments.is_empty() => name,
                arguments => format!("{name}<{}>", arguments.join(", ")),
            }
        }
        Type::TraitObject(object) => {
            let bounds = object.bounds.iter().filter_map(|bound| match bound {
                TypeParamBound::Trait(bound) => Some(path_name(&bound.path)),
                _ => None,
            });
            format!("dyn {}", bounds.collect::<Vec<_>>().join(" + "))
        }
        Type::Tuple(tuple) if tuple.elems.is_empty() => "()".to_owned(),
        other => other.to_token_stream().to_string(),
    }
}

/// The identifiers of a path: `io::Result` of `::std::io::Result<u8>` without its first.
pub(crate) fn path_name(path: &Path) -> String {
    let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.unraw().to_string()).collect();
    names.join("::")
}

/// The arguments in angle brackets of the last segment.
pub(crate) fn last_arguments(path: &Path) -> impl Iterator<Item = &GenericArgument> {
    let arguments = path.segments.last().and_then(|segment| match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => Some(arguments.args.iter()),
        _ => None,
    });
    arguments.into_iter().flatten()
}

/// The type in a place where the lifetimes of the function are not known: they are left to the compiler.
pub(crate) fn without_lifetimes(ty: &Type) -> Type {
    struct Eraser;

    impl VisitMut for Eraser {
        fn visit_lifetime_mut(&mut self, lifetime: &mut Lifetime) {
            if lifetime.ident != "static" {
                *lifetime = Lifetime::new("'_", lifetime.span());
            }
            visit_mut::visit_lifetime_mut(self, lifetime);
        }
    }

    let mut ty = ty.clone();
    Eraser.visit_type_mut(&mut ty);
    ty
}

/// A path as it was written.
fn of_path(path: &Path) -> syn::Result<Vec<Piece>> {
    let arguments = last_arguments(path).filter(|argument| !matches!(argument, GenericArgument::Lifetime(_)));
    let arguments = arguments.map(of_argument).collect::<syn::Result<Vec<_>>>()?;
    let name = path_name(path);
    if arguments.is_empty() {
        return Ok(vec![Piece::Text(name)]);
    }
    Ok(joined(&format!("{name}<"), arguments, ">"))
}

fn of_argument(argument: &GenericArgument) -> syn::Result<Vec<Piece>> {
    match argument {
        GenericArgument::Type(ty) if !may_be_constant(ty) => of_value(ty),
        other => Ok(vec![Piece::Text(other.to_token_stream().to_string())]),
    }
}

/// Whether a generic argument may be a constant, which looks like a type: `N`, `MAX_LEN`.
fn may_be_constant(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.get_ident().is_some_and(|ident| {
        !ident.to_string().contains(|character: char| character.is_lowercase())
    }))
}

/// The elements with commas between them.
fn joined(start: &str, elements: impl IntoIterator<Item = Vec<Piece>>, end: &str) -> Vec<Piece> {
    let mut pieces = vec![Piece::text(start)];
    for (index, element) in elements.into_iter().enumerate() {
        if index > 0 {
            pieces.push(Piece::text(", "));
        }
        pieces.extend(element);
    }
    pieces.push(Piece::text(end));
    pieces
}

fn refused<T>(ty: &Type, reason: &str) -> syn::Result<T> {
    Err(syn::Error::new(ty.span(), reason))
}
