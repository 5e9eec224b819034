//! What the attributes take from a function's signature.

use proc_macro2::{Ident, TokenStream};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::{
    Attribute, FnArg, GenericArgument, GenericParam, Pat, PatType, Path, ReturnType, Safety, Signature, Type, TypePath,
};

use crate::spelling::{self, Piece};

/// A function that can be called from the other side.
pub(crate) struct Function {
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) output: Output,
    /// The signature of the function's record.
    pub(crate) spelling: Vec<Piece>,
}

/// A parameter of a [`Function`].
pub(crate) struct Parameter {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
}

/// What a [`Function`] returns.
pub(crate) enum Output {
    /// Nothing.
    Unit,
    /// A value.
    Value(Box<Type>),
    /// A `Result`.
    Fallible {
        /// The whole type.
        result: Box<Type>,
        /// The type of its value.
        value: Box<Type>,
    },
}

impl Output {
    /// The whole type, if it is not `()`.
    pub(crate) fn written(&self) -> Option<&Type> {
        match self {
            Self::Unit => None,
            Self::Value(ty) | Self::Fallible { result: ty, .. } => Some(ty),
        }
    }

    /// The type of the value that travels.
    pub(crate) fn value(&self) -> Option<&Type> {
        match self {
            Self::Unit => None,
            Self::Value(value) | Self::Fallible { value, .. } => Some(value),
        }
    }
}

impl Function {
    /// Takes a signature apart.
    ///
    /// # Errors
    ///
    /// All reasons together why the function cannot be called from the other side.
    pub(crate) fn new(signature: &Signature) -> syn::Result<Self> {
        let mut errors = Errors::default();
        refuse_qualifiers(signature, &mut errors);
        errors.refuse(
            signature.inputs.iter().nth(MAX_PARAMETERS),
            "a function that is called from the other side has at most 32 parameters: put some of them together in a struct",
        );

        let mut spelling = vec![Piece::text("fn(")];
        let mut parameters = Vec::new();
        for (index, input) in signature.inputs.iter().enumerate() {
            if index > 0 {
                spelling.push(Piece::text(", "));
            }
            let parameter = errors.catch(Parameter::new(input));
            if let Some((parameter, pieces)) = parameter {
                parameters.push(parameter);
                spelling.extend(pieces);
            }
        }
        spelling.push(Piece::text(")"));

        let (output, pieces) = errors.finish(output(&signature.output))?;
        spelling.extend(pieces);
        Ok(Self { parameters, output, spelling })
    }
}

impl Parameter {
    fn new(input: &FnArg) -> syn::Result<(Self, Vec<Piece>)> {
        let PatType { attrs, pat, ty, .. } = match input {
            FnArg::Typed(parameter) => parameter,
            FnArg::Receiver(receiver) => {
                return Err(syn::Error::new(
                    receiver.span(),
                    "a method has no `self` on the other side: use a function",
                ));
            }
        };
        if let Some(attribute) = conditions(attrs).next() {
            return Err(syn::Error::new(
                attribute.span(),
                "put the condition on the function: its record names all parameters",
            ));
        }
        match &**pat {
            Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => {
                let parameter = Self { ident: pattern.ident.clone(), ty: (**ty).clone() };
                Ok((parameter, spelling::of_value(ty)?))
            }
            other => Err(syn::Error::new(other.span(), "give the parameter a name: error messages use it")),
        }
    }
}

/// The attributes that decide whether an item exists.
pub(crate) fn conditions(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"))
}

/// The type without parentheses and invisible groups around it.
pub(crate) fn bare(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => bare(&group.elem),
        Type::Paren(paren) => bare(&paren.elem),
        ty => ty,
    }
}

fn refuse_qualifiers(signature: &Signature, errors: &mut Errors) {
    errors.refuse(
        signature.asyncness.as_ref(),
        "the call of an async function would return before it ran: leave `async` out",
    );
    errors.refuse(signature.abi.as_ref(), "the attribute makes the function's interface: leave `extern` out");
    errors.refuse(signature.variadic.as_ref(), "the number of parameters is fixed");
    if let Safety::Unsafe(token) = signature.safety {
        errors.refuse(
            Some(token),
            "the other side cannot keep the promises of an unsafe function: check them within a safe one",
        );
    }
    for parameter in &signature.generics.params {
        if !matches!(parameter, GenericParam::Lifetime(_)) {
            errors.refuse(
                Some(parameter),
                "the types of a call are fixed: write a function for each type that is needed",
            );
        }
    }
}

fn output(output: &ReturnType) -> syn::Result<(Output, Vec<Piece>)> {
    let ReturnType::Type(_, ty) = output else { return Ok((Output::Unit, Vec::new())) };
    let mut pieces = vec![Piece::text(" -> ")];
    match result_arguments(ty)? {
        Some((path, value, error)) => {
            pieces.push(Piece::Text(format!("{}<", spelling::path_name(path))));
            pieces.extend(spelling::of_value(value)?);
            pieces.extend(error.map(|error| Piece::Text(format!(", {}", spelling::of_error(error)))));
            pieces.push(Piece::text(">"));
            Ok((Output::Fallible { result: ty.clone(), value: Box::new(value.clone()) }, pieces))
        }
        None if matches!(bare(ty), Type::Tuple(tuple) if tuple.elems.is_empty()) => Ok((Output::Unit, Vec::new())),
        None => {
            pieces.extend(spelling::of_return(bare(ty))?);
            Ok((Output::Value(ty.clone()), pieces))
        }
    }
}

/// The path, the value's type and the error's type of a type that is written as a `Result`. An alias like `io::Result<T>`
/// does not show its error.
fn result_arguments(ty: &Type) -> syn::Result<Option<(&Path, &Type, Option<&Type>)>> {
    let Type::Path(TypePath { path, .. }) = bare(ty) else { return Ok(None) };
    if path.segments.last().is_none_or(|last| last.ident != "Result") {
        return Ok(None);
    }
    let arguments = spelling::last_arguments(path).filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    match arguments.collect::<Vec<_>>()[..] {
        [value, error] => Ok(Some((path, value, Some(error)))),
        [value] => Ok(Some((path, value, None))),
        _ => Err(syn::Error::new(ty.span(), "a signature names its types: write this one as `Result<T, E>`")),
    }
}

/// Errors, to be reported all at once.
#[derive(Default)]
struct Errors(Option<syn::Error>);

impl Errors {
    fn push(&mut self, error: syn::Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    fn refuse(&mut self, tokens: Option<impl ToTokens>, reason: &str) {
        if let Some(tokens) = tokens {
            let tokens: TokenStream = tokens.into_token_stream();
            self.push(syn::Error::new_spanned(tokens, reason));
        }
    }

    fn catch<T>(&mut self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    /// Ends with the last result, which stands only if there was no error before it.
    fn finish<T>(self, last: syn::Result<T>) -> syn::Result<T> {
        match (self.0, last) {
            (None, last) => last,
            (Some(errors), Ok(_)) => Err(errors),
            (Some(mut errors), Err(last)) => {
                errors.combine(last);
                Err(errors)
            }
        }
    }
}

/// Hosts call, and are called by, functions of as many.
const MAX_PARAMETERS: usize = 32;
