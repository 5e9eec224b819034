//! What the text of types and signatures means, and that no text does harm.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn type_(text: &str) -> Type {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn signature(text: &str) -> Signature {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn assert_same<T: ?Sized>(text: &str) {
    assert_eq!(Type::of::<T>().shape(), type_(text).shape(), "type_name gives {}", std::any::type_name::<T>());
}

/// `type_name` promises no particular text. This test is the alarm that tells when a compiler changed the text of a type
/// that we take apart.
#[test]
fn the_compilers_names_are_understood() {
    assert_same::<()>("()");
    assert_same::<bool>("bool");
    assert_same::<u8>("u8");
    assert_same::<u16>("u16");
    assert_same::<u32>("u32");
    assert_same::<u64>("u64");
    assert_same::<u128>("u128");
    assert_same::<usize>("u64");
    assert_same::<i8>("i8");
    assert_same::<i16>("i16");
    assert_same::<i32>("i32");
    assert_same::<i64>("i64");
    assert_same::<i128>("i128");
    assert_same::<isize>("i64");
    assert_same::<f32>("f32");
    assert_same::<f64>("f64");
    assert_same::<char>("char");
    assert_same::<str>("String");
    assert_same::<String>("String");
    assert_same::<&str>("String");
    assert_same::<&mut String>("String");
    assert_same::<Box<str>>("String");
    assert_same::<Rc<str>>("String");
    assert_same::<Arc<str>>("String");
    assert_same::<Cow<'static, str>>("String");
    assert_same::<&[u8]>("Vec<u8>");
    assert_same::<Vec<u8>>("Vec<u8>");
    assert_same::<Cow<'static, [u8]>>("Vec<u8>");
    assert_same::<[u32]>("Vec<u32>");
    assert_same::<Vec<u32>>("Vec<u32>");
    assert_same::<Box<[u32]>>("Vec<u32>");
    assert_same::<VecDeque<u32>>("Vec<u32>");
    assert_same::<LinkedList<u32>>("Vec<u32>");
    assert_same::<BinaryHeap<u32>>("Vec<u32>");
    assert_same::<HashSet<u32>>("Vec<u32>");
    assert_same::<BTreeSet<u32>>("Vec<u32>");
    assert_same::<HashMap<String, u32>>("BTreeMap<String, u32>");
    assert_same::<BTreeMap<String, u32>>("HashMap<String, u32>");
    assert_same::<[u8; 4]>("[u8; 4]");
    assert_same::<(u8,)>("(u8,)");
    assert_same::<(u8, (String, bool))>("(u8, (String, bool))");
    assert_same::<Option<(u32, String)>>("Option<(u32, String)>");
    assert_same::<Result<u8, std::fmt::Error>>("Result<u8, Error>");
}

#[test]
fn the_shape_of_a_type_is_its_canonical_form() {
    assert_eq!(*type_("()").shape(), Shape::Unit);
    assert_eq!(*type_("&[u8]").shape(), Shape::Bytes);
    assert_eq!(*type_("[bool]").shape(), Shape::Seq(Box::new(Shape::Bool)));
    assert_eq!(*type_("[f32; 3]").shape(), Shape::Array(Box::new(Shape::F32), 3));
    assert_eq!(*type_("(char,)").shape(), Shape::Tuple(vec![Shape::Char]));
    assert_eq!(
        *type_("HashMap<&str, Option<usize>>").shape(),
        Shape::Map(Box::new(Shape::Str), Box::new(Shape::Option(Box::new(Shape::U64))))
    );
    assert_eq!(
        *type_("geometry::Point<f64>").shape(),
        Shape::Named { name: "Point".to_owned(), arguments: vec![Shape::F64] }
    );
}

#[test]
fn spellings_of_one_type_are_equal() {
    for (one, other) in [
        ("&'a mut std::string::String", "str"),
        ("Cow<'static, [Point]>", "Vec<geo::Point>"),
        ("Arc<Rc<Box<u8>>>", "u8"),
        ("(u8)", "u8"),
        ("Vec::<u8>", "Vec<u8>"),
        ("::std::vec::Vec<u8>", "Vec<u8>"),
        ("Vec < u8 >", "Vec<u8>"),
        ("Vec<u8,>", "Vec<u8>"),
        ("[u8; 0x1_0]", "[u8; 16usize]"),
        ("Point<'a, 'b>", "Point"),
        ("r#type::r#struct", "struct"),
        ("HashMap<u8, u8, RandomState>", "BTreeMap<u8, u8>"),
        ("dyn std::error::Error + 'static", "dyn Error"),
        ("dyn 'static + Error", "dyn Error"),
        ("u8 + 'static", "u8"),
        ("&dyn Shape<'a, u8>", "dyn Shape<u8>"),
    ] {
        assert_eq!(type_(one), type_(other), "{one} and {other}");
    }
}

#[test]
fn different_types_are_not_equal() {
    for (one, other) in [
        ("u8", "i8"),
        ("u32", "u64"),
        ("String", "Vec<u8>"),
        ("Vec<u8>", "[u8; 4]"),
        ("[u8; 4]", "[u8; 5]"),
        ("[u8; N]", "[u8; M]"),
        ("(u8,)", "u8"),
        ("()", "(u8,)"),
        ("Option<u8>", "u8"),
        ("Point<u8>", "Point<u16>"),
        ("Point", "Line"),
        ("HashMap<u8, u8>", "Vec<(u8, u8)>"),
        ("Result<u8, A>", "Result<u8, B>"),
        ("fn(u8)", "fn(u16)"),
    ] {
        assert_ne!(type_(one), type_(other), "{one} and {other}");
    }
}

#[test]
fn types_are_displayed_as_written_without_paths_and_lifetimes() {
    for (text, displayed) in [
        ("&'a str", "&str"),
        ("&mut alloc::vec::Vec<core::option::Option<u8>>", "&mut Vec<Option<u8>>"),
        ("& [ u8 ]", "&[u8]"),
        ("[u8;4]", "[u8; 4]"),
        ("(u8,)", "(u8,)"),
        ("(u8,usize)", "(u8, usize)"),
        ("Cow<'_, str>", "Cow<str>"),
        ("Box<dyn std::error::Error + Send + 'static>", "Box<dyn Error + Send>"),
        ("Box<dyn Fn(&'a u8,u16)->std::io::Error>", "Box<dyn Fn(&u8, u16) -> Error>"),
        ("[u8; MAX]", "[u8; MAX]"),
        ("impl Iterator<Item = a::B>", "impl Iterator<Item = B>"),
        ("Iterator<Item = a::B>", "Iterator<Item = B>"),
        ("<a::T as b::Trait>::Output", "<T as Trait>::Output"),
        ("Matrix<{ N + 1 }>", "Matrix<{N + 1}>"),
    ] {
        assert_eq!(type_(text).to_string(), displayed);
    }
}

#[test]
fn types_without_a_signature_form_keep_the_compilers_text() {
    fn of_value<T>(_: &T) -> Type {
        Type::of::<T>()
    }

    let closure = of_value(&|| 1);
    assert!(matches!(closure.shape(), Shape::Named { name, .. } if name.contains("closure")));
    assert_eq!(Type::of::<fn(u8) -> u16>().to_string(), "fn(u8) -> u16");
    assert_eq!(Type::of::<*const u8>().to_string(), "*const u8");
    assert_eq!(Type::of::<dyn std::fmt::Debug + Send>().to_string(), "dyn Debug + Send");
    let abi = Type::of::<extern "C" fn(i32)>();
    assert!(matches!(abi.shape(), Shape::Named { name, .. } if name.starts_with("extern")));
}

#[test]
fn host_types_beyond_the_limits_are_named_by_their_text() {
    type Nested8<T> = Option<Option<Option<Option<Option<Option<Option<Option<T>>>>>>>>;
    type Deep = Nested8<Nested8<Nested8<Nested8<u8>>>>;

    let deep = Type::of::<Deep>();
    assert!(matches!(deep.shape(), Shape::Named { .. }));
    assert_eq!(deep.to_string(), std::any::type_name::<Deep>());
}

#[test]
fn a_signature_names_parameters_result_and_error() {
    let decode = signature("fn(&[u8], u32) -> Result<Vec<u8>, image::DecodeError>");
    assert_eq!(decode.parameters(), [type_("Vec<u8>"), type_("u32")]);
    assert_eq!(*decode.result(), type_("Vec<u8>"));
    assert_eq!(decode.error(), Some(&type_("DecodeError")));
    assert_eq!(decode.to_string(), "(&[u8], u32) -> Result<Vec<u8>, DecodeError>");
}

#[test]
fn a_signature_without_result_returns_unit() {
    for text in ["fn()", "fn() -> ()", " fn ( ) "] {
        let reset = signature(text);
        assert!(reset.parameters().is_empty());
        assert_eq!(*reset.result(), Type::of::<()>());
        assert_eq!(reset.error(), None);
        assert_eq!(reset.to_string(), "()");
    }
}

#[test]
fn only_a_result_at_the_top_can_fail() {
    let alias = signature("fn() -> std::io::Result<u8>");
    assert_eq!(*alias.result(), Type::of::<u8>());
    assert_eq!(alias.error().map(ToString::to_string).as_deref(), Some("_"));
    assert_eq!(alias.to_string(), "() -> Result<u8, _>");

    for value in ["Option<Result<u8, E>>", "Box<Result<u8, E>>", "Result"] {
        let infallible = signature(&format!("fn() -> {value}"));
        assert_eq!(*infallible.result(), type_(value));
        assert_eq!(infallible.error(), None);
    }
}

#[test]
fn signatures_are_equal_when_their_types_are() {
    assert_eq!(signature("fn(&str, usize) -> Vec<u8>"), signature("fn(String, u64,) -> Box<[u8]>"));
    for other in ["fn(&str) -> Vec<u8>", "fn(&str, usize)", "fn(&str, usize) -> Result<Vec<u8>, E>"] {
        assert_ne!(signature("fn(&str, usize) -> Vec<u8>"), signature(other));
    }
}

#[test]
fn functions_have_the_same_types_however_they_fail() {
    let imported = signature("fn(&str) -> Result<u32, Missing>");
    let provided = Signature::new([Type::of::<String>()], Type::of::<u32>(), None);
    assert_ne!(imported, provided);
    assert!(imported.same_types(&provided));
    assert!(!signature("fn(&str) -> u64").same_types(&provided));
    assert!(!signature("fn() -> u32").same_types(&provided));
}

#[test]
fn arguments_fit_by_number_and_types() {
    let greet = signature("fn(&str, u32, u8) -> String");
    let [text, number, byte] = [Type::of::<String>(), Type::of::<u32>(), Type::of::<u8>()];

    let fitting = [text.clone(), number.clone(), byte.clone()];
    assert!(greet.accepts_parameters(&fitting));
    assert!(!greet.accepts_parameters(&fitting[..2]));
    assert!(!greet.accepts_parameters(&[text, byte, number]));
}

#[test]
fn a_parameter_list_is_displayed_in_parentheses() {
    assert_eq!(Parameters::new([]).to_string(), "()");
    assert_eq!(Parameters::new([Type::of::<&str>(), Type::of::<u32>()]).to_string(), "(&str, u32)");
}

#[test]
fn malformed_signatures_are_rejected_where_they_go_wrong() {
    for (text, message) in [
        ("", "expected `fn`, found the end of the text"),
        ("u8", "expected `fn` at byte 0, found `u8`"),
        ("fn", "expected `(`, found the end of the text"),
        ("fn(", "expected a type, found the end of the text"),
        ("fn(,)", "expected a type at byte 3, found `,`"),
        ("fn(u8", "expected `,` or `)`, found the end of the text"),
        ("fn(u8]", "expected `,` or `)` at byte 5, found `]`"),
        ("fn(Vec<u8)", "expected `,` or `>` at byte 9, found `)`"),
        ("fn([u8; 4)", "expected `]` at byte 9, found `)`"),
        ("fn([u8, 4])", "expected `;` or `]` at byte 6, found `,`"),
        ("fn(dyn Fn(u8)", "expected `,` or `)`, found the end of the text"),
        ("fn(dyn Fn(u8", "expected `)`, found the end of the text"),
        ("fn() ->", "expected a type, found the end of the text"),
        ("fn() -> u8;", "expected the end of the text at byte 10, found `;`"),
        ("fn() u8", "expected the end of the text at byte 5, found `u8`"),
        ("fn(name: u8)", "unexpected character ':' at byte 7"),
        ("fn(\0)", "unexpected character '\\u{0}' at byte 3"),
        ("fn(Matrix<-'a>)", "expected a number at byte 13, found `>`"),
        ("fn(Matrix<- > + Copy)", "expected a number at byte 12, found `>`"),
        ("fn(Matrix<{ 3 }-,>)", "expected a number at byte 16, found `,`"),
        ("fn(Matrix<(-)>)", "expected a number at byte 12, found `)`"),
        ("fn('a + 'b)->'a", "expected a type, found the end of the text"),
        ("fn(')", "unexpected character '\\'' at byte 3"),
    ] {
        let error = text.parse::<Signature>().expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
    }
}

#[test]
fn a_type_reads_as_what_it_is_displayed_as() {
    for text in [
        "u8 + 'a",
        "a::Shape<'a, u8> + Send",
        "dyn 'a + Shape",
        "fn('a, u8, 'b) -> &'a u8",
        "fn::Result<()>",
        "a::dyn<u8>",
    ] {
        let displayed = type_(text).to_string();
        assert_eq!(type_(&displayed), type_(text), "{text} and {displayed}");
    }
}

#[test]
fn a_lifetime_is_no_type() {
    for text in ["'a", "+'a", "'a +", "&'a"] {
        text.parse::<Type>().expect_err(text);
    }
}

#[test]
fn the_length_of_a_text_is_bounded() {
    let longest = "x".repeat(MAX_LEN);
    assert_eq!(type_(&longest).to_string(), longest);
    assert_eq!(format!("{longest}x").parse::<Type>(), Err(SignatureError::TooLong { length: MAX_LEN + 1 }));
}

#[test]
fn the_nesting_of_types_is_bounded() {
    let nested = |references: usize| format!("{}u8", "&".repeat(references));
    assert_eq!(type_(&nested(MAX_DEPTH - 1)), Type::of::<u8>());
    assert_eq!(nested(MAX_DEPTH).parse::<Type>(), Err(SignatureError::TooDeep { position: MAX_DEPTH }));
}

/// An opaque text is scanned, not descended into: brackets in it may nest as deep as its length allows.
#[test]
fn brackets_in_an_opaque_type_do_not_recurse() {
    let text = format!("dyn {}{}", "(".repeat(2000), ")".repeat(2000));
    assert!(matches!(type_(&text).shape(), Shape::Named { .. }));
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = text.parse::<Type>();
        let _ = format!("fn({text})").parse::<Signature>();
    }

    #[test]
    fn no_sequence_of_tokens_panics(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "&", "'a", "mut", "dyn", "fn", "(", ")", "[", "]", "<", ">", "{", "}", ",", ";", "::", "->", "=", "+",
                "4", "u8", "Vec", "Result", "é",
            ]),
            0..40,
        )
    ) {
        let text = tokens.join(" ");
        let _ = text.parse::<Type>();
        let _ = format!("fn({text})").parse::<Signature>();
    }
}
