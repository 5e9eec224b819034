//! What stands in the parentheses of the attributes.

use proc_macro2::{Ident, TokenStream};
use syn::LitStr;
use syn::ext::IdentExt;
use syn::parse::Parser;

/// Options of `#[export]` and `#[import]`, which have the same.
#[derive(Default)]
pub(crate) struct Options {
    name: Option<LitStr>,
}

impl Options {
    pub(crate) fn parse(tokens: TokenStream) -> syn::Result<Self> {
        let mut options = Self::default();
        syn::meta::parser(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("there is one option: name = \"…\""));
            }
            if options.name.is_some() {
                return Err(meta.error("the function has a name already"));
            }
            let name: LitStr = meta.value()?.parse()?;
            if !(1..=MAX_NAME_LEN).contains(&name.value().len()) {
                return Err(syn::Error::new(name.span(), "a name has 1 to 255 bytes"));
            }
            if name.value().contains(char::is_control) {
                return Err(syn::Error::new(name.span(), "a name has no control characters"));
            }
            options.name = Some(name);
            Ok(())
        })
        .parse2(tokens)?;
        Ok(options)
    }

    /// The name by which the host knows the function.
    pub(crate) fn name_of(&self, function: &Ident) -> String {
        self.name.as_ref().map_or_else(|| function.unraw().to_string(), LitStr::value)
    }
}

/// From the layout of function records in `docs/abi.md`, section 1.
const MAX_NAME_LEN: usize = 255;
