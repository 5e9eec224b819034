//! What stands in the parentheses of the attributes.

use proc_macro2::{Ident, TokenStream};
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Lit, LitStr, Token};

/// Options of `#[export]` and `#[import]`, which have the same: `name = "…"`, or the name by itself.
#[derive(Default)]
pub(crate) struct Options {
    name: Option<LitStr>,
}

impl Options {
    pub(crate) fn parse(tokens: TokenStream) -> syn::Result<Self> {
        let mut options = Self::default();
        let parser = |input: ParseStream<'_>| match input.peek(Lit) {
            true => options.parse_name(input),
            false => options.parse_settings(input.parse()?),
        };
        parser.parse2(tokens)?;
        Ok(options)
    }

    fn parse_name(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        self.set_name(input.parse()?)?;
        input.parse::<Option<Token![,]>>()?;
        if input.is_empty() { Ok(()) } else { Err(input.error("there is nothing to set besides the name")) }
    }

    fn parse_settings(&mut self, tokens: TokenStream) -> syn::Result<()> {
        let parser = syn::meta::parser(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("there is one option, the name: \"…\" or name = \"…\""));
            }
            if self.name.is_some() {
                return Err(meta.error("the function has a name already"));
            }
            self.set_name(meta.value()?.parse()?)
        });
        parser.parse2(tokens)
    }

    fn set_name(&mut self, name: LitStr) -> syn::Result<()> {
        if !(1..=MAX_NAME_LEN).contains(&name.value().len()) {
            return Err(syn::Error::new(name.span(), "a name has 1 to 255 bytes"));
        }
        if name.value().contains(char::is_control) {
            return Err(syn::Error::new(name.span(), "a name has no control characters"));
        }
        self.name = Some(name);
        Ok(())
    }

    /// The name by which the host knows the function.
    pub(crate) fn name_of(&self, function: &Ident) -> String {
        self.name.as_ref().map_or_else(|| function.unraw().to_string(), LitStr::value)
    }
}

/// From the layout of function records in `docs/abi.md`, section 1.
const MAX_NAME_LEN: usize = 255;
