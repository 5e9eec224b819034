use quote::quote;

use super::*;

/// The messages of an expansion that is refused.
fn errors(options: TokenStream, item: TokenStream) -> Vec<String> {
    let function = syn::parse2(item).expect("a function");
    let errors = export(options, &function).expect_err("the function is refused");
    errors.into_iter().map(|error| error.to_string()).collect()
}

fn refusal(item: TokenStream) -> String {
    let errors = errors(TokenStream::new(), item);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].clone()
}

fn expansion(item: TokenStream) -> String {
    expand(TokenStream::new(), item).to_string()
}

#[test]
fn what_cannot_be_called_from_outside_is_refused() {
    for (item, reason) in [
        (
            quote!(
                async fn f() {}
            ),
            "the call of an async function would return before it ran",
        ),
        (
            quote!(
                unsafe fn f() {}
            ),
            "the other side cannot keep the promises of an unsafe function",
        ),
        (
            quote!(
                extern "C" fn f() {}
            ),
            "leave `extern` out",
        ),
        (
            quote!(
                fn f<T>(x: T) {}
            ),
            "the types of a call are fixed",
        ),
        (
            quote!(
                fn f<const N: usize>() {}
            ),
            "the types of a call are fixed",
        ),
        (
            quote!(
                fn f(&self) {}
            ),
            "a method has no `self` on the other side",
        ),
        (
            quote!(
                fn f((a, b): (u8, u8)) {}
            ),
            "give the parameter a name",
        ),
        (
            quote!(
                fn f(_: u8) {}
            ),
            "give the parameter a name",
        ),
        (
            quote!(
                fn f(ref a: u8) {}
            ),
            "give the parameter a name",
        ),
        (
            quote!(
                fn f(#[cfg(test)] a: u8) {}
            ),
            "put the condition on the function",
        ),
        (
            quote!(
                fn f(a: &mut u8) {}
            ),
            "take a value and return the changed one",
        ),
        (
            quote!(
                fn f(a: impl Into<u8>) {}
            ),
            "`impl Trait` has no name",
        ),
        (
            quote!(
                fn f() -> impl Clone {}
            ),
            "`impl Trait` has no name",
        ),
        (
            quote!(
                fn f(a: Vec<Box<dyn Draw>>) {}
            ),
            "a trait object does not travel",
        ),
        (
            quote!(
                fn f(a: *const u8) {}
            ),
            "a pointer means nothing to the other side",
        ),
        (
            quote!(
                fn f(a: fn(u8)) {}
            ),
            "a pointer means nothing to the other side",
        ),
        (
            quote!(
                fn f(a: list!()) {}
            ),
            "write the type that the macro gives",
        ),
        (
            quote!(
                fn f() -> ! {}
            ),
            "`!` has no values",
        ),
        (
            quote!(
                fn f() -> fmt::Result {}
            ),
            "write this one as `Result<T, E>`",
        ),
    ] {
        let message = refusal(item);
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn all_errors_of_a_function_are_reported_together() {
    let errors = errors(
        TokenStream::new(),
        quote!(
            async fn f<T>(_: u8, a: &mut u8) -> ! {}
        ),
    );
    assert_eq!(errors.len(), 5, "{errors:?}");
}

#[test]
fn a_function_has_at_most_32_parameters() {
    let function = |count: usize| {
        let names = (0..count).map(|index| format_ident!("a{index}"));
        quote!(fn f(#(#names: u8),*) {})
    };
    assert!(refusal(function(33)).contains("at most 32 parameters: put some of them together in a struct"));
    assert!(!expansion(function(32)).contains("compile_error"));
}

#[test]
fn options_are_checked() {
    let refusal = |options| {
        errors(
            options,
            quote!(
                fn f() {}
            ),
        )
        .concat()
    };
    assert!(refusal(quote!(rename = "g")).contains("there is one option"));
    assert!(refusal(quote!(name = "g", name = "h")).contains("has a name already"));
    assert!(refusal(quote!(name = "")).contains("1 to 255 bytes"));
    let long = "x".repeat(256);
    assert!(refusal(quote!(name = #long)).contains("1 to 255 bytes"));
    assert!(refusal(quote!(name = "a\nb")).contains("no control characters"));
    assert!(refusal(quote!(name = 5)).contains("string literal"));
    assert!(refusal(quote!("")).contains("1 to 255 bytes"));
    assert!(refusal(quote!("g", name = "h")).contains("nothing to set besides the name"));
    assert!(refusal(quote!(5)).contains("string literal"));
}

#[test]
fn a_name_can_stand_by_itself() {
    let named = |options: TokenStream| {
        let item = quote!(
            fn f() {}
        );
        expand(options, item).to_string()
    };
    assert_eq!(named(quote!("text.parse")), named(quote!(name = "text.parse")));
    assert_eq!(named(quote!("text.parse",)), named(quote!(name = "text.parse")));
}

#[test]
fn the_function_stays_as_it_is_even_if_it_is_refused() {
    let function = quote!(
        #[must_use]
        pub(crate) fn f(a: &str) -> u8 {
            1
        }
    );
    assert!(expansion(function.clone()).starts_with(&function.to_string()));

    let refused = quote!(
        fn f(_: u8) {}
    );
    let expansion = expansion(refused.clone());
    assert!(expansion.starts_with(&refused.to_string()));
    assert!(expansion.contains("compile_error"));
}

#[test]
fn what_is_no_function_is_refused() {
    assert!(
        expansion(quote!(
            struct S;
        ))
        .contains("#[export] stands before a function")
    );
}

#[test]
fn strings_and_bytes_are_borrowed_and_other_references_lent() {
    for (parameter, decoded, passed) in [
        (quote!(a: &str), "next :: < & str >", "f (__ampoule_value_0)"),
        (quote!(a: &'a [u8]), "next :: < & '_ [u8] >", "f (__ampoule_value_0)"),
        (quote!(a: Photo<'a>), "next :: < Photo < '_ > >", "f (__ampoule_value_0)"),
        (quote!(a: &'a Photo), "next :: < Photo >", "f (& __ampoule_value_0)"),
        (quote!(a: &[u32]), "next :: < :: std :: vec :: Vec < u32 > >", "f (& __ampoule_value_0)"),
        (quote!(mut a: u32), "next :: < u32 >", "f (__ampoule_value_0)"),
    ] {
        let expansion = expansion(quote!(fn f<'a>(#parameter) {}));
        assert!(expansion.contains(decoded), "{decoded}: {expansion}");
        assert!(expansion.contains(passed), "{passed}: {expansion}");
    }
}

#[test]
fn a_record_exists_when_its_function_does() {
    let expansion = expansion(quote!(
        #[cfg(feature = "x")]
        fn f() {}
    ));
    assert_eq!(expansion.matches("# [cfg (feature = \"x\")]").count(), 2, "{expansion}");
}

#[test]
fn a_deprecated_function_is_exported_without_a_warning_of_its_use() {
    let expansion = expansion(quote!(
        #[deprecated]
        fn f() {}
    ));
    assert!(expansion.contains("# [allow (deprecated"), "{expansion}");
}
