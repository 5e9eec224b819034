//! The content of a `Result`, which travels without the index of its variant.

use ampoule_abi::codec::{
    DecodeError, Decoder, ERR, EncodeError, OK, encode, encode_content, fails_with_text, is_result,
};

type Outcome = Result<u16, (u8, String)>;

#[test]
fn the_content_of_a_result_is_the_value_or_the_error_and_no_more() {
    let mut payload = Vec::new();
    assert_eq!(encode_content(&Outcome::Ok(7), 0, &mut payload), Ok((OK, 2)));
    assert_eq!(payload, [7, 0]);

    let error = Outcome::Err((9, "no".to_owned()));
    let mut payload = vec![1, 2, 3];
    assert_eq!(encode_content(&error, 3, &mut payload), Ok((ERR, 7)));
    assert_eq!(payload, [1, 2, 3, 9, 2, 0, 0, 0, b'n', b'o']);

    let mut decoder = Decoder::new(&payload[3..]);
    assert_eq!(decoder.content::<Outcome>(ERR), Ok(error));
    assert_eq!(decoder.finish(), Ok(()));
}

#[test]
fn what_does_not_fit_is_reported_with_the_size_of_all_that_would_be_there() {
    let error = Outcome::Err((9, "no".to_owned()));
    let too_large = encode_content(&error, 4, &mut [0; 8][..]);
    assert_eq!(too_large, Err(EncodeError::TooLarge { needed: 11, capacity: 8 }));
}

#[test]
fn only_an_enum_has_content_of_a_variant() {
    assert_eq!(Decoder::new(&[1][..]).content::<u8>(OK), Err(DecodeError::NotSelfDescribing));
    let unknown = Decoder::new(&[1][..]).content::<Outcome>(2);
    assert!(matches!(unknown, Err(DecodeError::UnknownVariant { index: 2, .. })), "{unknown:?}");
}

#[test]
fn a_result_is_known_by_its_type() {
    type Alias<T> = std::io::Result<T>;
    assert!(is_result::<Outcome>() && is_result::<Alias<u8>>());
    assert!(!is_result::<Option<Outcome>>() && !is_result::<u8>());
    assert!(fails_with_text::<Result<u8, String>>() && fails_with_text::<Result<u8, &str>>());
    assert!(fails_with_text::<Result<u8, Box<str>>>() && fails_with_text::<Result<u8, std::borrow::Cow<'_, str>>>());
    assert!(!fails_with_text::<Outcome>() && !fails_with_text::<Result<String, u8>>() && !fails_with_text::<String>());
    let mut whole = Vec::new();
    encode(&Outcome::Ok(7), &mut whole).unwrap();
    assert_eq!(whole, [0, 0, 0, 0, 7, 0]);
}
