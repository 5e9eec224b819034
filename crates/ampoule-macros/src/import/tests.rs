use quote::quote;

use super::*;

fn refusal(item: TokenStream) -> String {
    let result = syn::parse2(item).and_then(|declaration| import(TokenStream::new(), &declaration));
    result.expect_err("the import is refused").to_string()
}

#[test]
fn an_import_has_no_body() {
    assert!(
        refusal(quote!(
            fn f() {}
        ))
        .contains("the host provides the body")
    );
}

#[test]
fn an_import_has_at_most_32_parameters() {
    let declaration = |count: usize| {
        let names = (0..count).map(|index| format_ident!("a{index}"));
        quote!(fn f(#(#names: u8),*);)
    };
    assert!(refusal(declaration(33)).contains("at most 32 parameters: put some of them together in a struct"));
    assert!(syn::parse2(declaration(32)).and_then(|it| import(TokenStream::new(), &it)).is_ok());
}

#[test]
fn what_the_host_cannot_give_is_refused() {
    for (item, reason) in [
        (
            quote!(
                fn f() -> &str;
            ),
            "an import returns a value of its own",
        ),
        (
            quote!(
                fn f() -> &'static [u8];
            ),
            "an import returns a value of its own",
        ),
        (
            quote!(
                fn f() -> Result<Vec<&'static str>, HostError>;
            ),
            "an import returns a value of its own",
        ),
        (
            quote!(
                fn f<'a>(a: &'a str) -> Cow<'a, str>;
            ),
            "an import returns a value of its own",
        ),
        (
            quote!(
                fn f(a: &mut Vec<u8>);
            ),
            "take a value and return the changed one",
        ),
        (
            quote!(
                async fn f();
            ),
            "async",
        ),
        (
            quote!(
                fn f<T>(a: T);
            ),
            "the types of a call are fixed",
        ),
    ] {
        let message = refusal(item);
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn an_owned_result_may_name_the_static_lifetime() {
    let declaration = syn::parse2(quote!(
        fn f() -> Cow<'static, str>;
    ))
    .expect("a declaration");
    assert!(import(TokenStream::new(), &declaration).is_ok());
}

#[test]
fn visibility_and_attributes_are_kept() {
    let expansion = expand(
        quote!(name = "store.get"),
        quote!(
            /// Gets.
            #[must_use]
            pub(crate) fn get(key: &str) -> u8;
        ),
    )
    .to_string();
    assert!(expansion.contains("# [must_use]"), "{expansion}");
    assert!(expansion.contains("pub (crate) fn get (key : & str) -> u8 {"), "{expansion}");
    assert!(expansion.contains("\"store.get\""), "{expansion}");
}
