use syn::parse_str;

use super::*;

/// The text of a type none of whose names is known.
fn written(text: &str) -> String {
    fn write(pieces: &[Piece]) -> String {
        let texts = pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Length(length) => length.to_token_stream().to_string(),
            Piece::Type { written, .. } | Piece::Return { written, .. } => write(written),
        });
        texts.collect()
    }
    write(&of_value(&parse_str(text).expect("a type")).expect("a type that travels"))
}

#[test]
fn types_are_spelled_as_they_are_written_without_lifetimes() {
    for (text, spelled) in [
        ("HashMap < String,u32 >", "HashMap<String, u32>"),
        ("&'a str", "&str"),
        ("Cow<'a, [u8]>", "Cow<[u8]>"),
        ("Photo<'_>", "Photo"),
        ("[[u8;4];2]", "[[u8; 4]; 2]"),
        ("(u8,)", "(u8,)"),
        ("()", "()"),
        ("((u8), (String,bool))", "(u8, (String, bool))"),
        ("::std::vec::Vec<crate::a::B>", "std::vec::Vec<crate::a::B>"),
        ("Vec::<u8>", "Vec<u8>"),
        ("Matrix<3, N, { N + 1 }>", "Matrix<3, N, { N + 1 }>"),
        ("r#struct", "struct"),
        ("<Vec<u8> as IntoIterator>::Item", "IntoIterator::Item"),
    ] {
        assert_eq!(written(text), spelled);
    }
}

#[test]
fn errors_may_have_any_type() {
    for (text, spelled) in [
        ("HostError", "HostError"),
        ("image::Error<'a, u8>", "image::Error<u8>"),
        ("Box<dyn std::error::Error + Send + 'static>", "Box<dyn std::error::Error + Send>"),
        ("&'static str", "&str"),
        ("()", "()"),
        ("(u8, u8)", "(u8 , u8)"),
    ] {
        assert_eq!(of_error(&parse_str(text).expect("a type")), spelled);
    }
}

#[test]
fn only_the_static_lifetime_is_known_everywhere() {
    let ty = |text| parse_str::<Type>(text).expect("a type");
    let erased = without_lifetimes(&ty("&'a Pair<'b, 'static, &'c u8>"));
    let expected = ty("&'_ Pair<'_, 'static, &'_ u8>");
    assert_eq!(erased.to_token_stream().to_string(), expected.to_token_stream().to_string());
}
