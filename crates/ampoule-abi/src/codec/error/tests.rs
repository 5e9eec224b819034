use ampoule_error_rule::{REASON, each_variant};

use super::*;

#[test]
fn all_errors_say_everything_once() {
    each_variant!(EncodeError {
        EncodeError::TooLarge { .. } => EncodeError::TooLarge { needed: 2, capacity: 1 },
        EncodeError::TooLong { .. } => EncodeError::TooLong { length: 1 << 32 },
        EncodeError::TooDeep => EncodeError::TooDeep,
        EncodeError::SkippedField { .. } => EncodeError::SkippedField { name: "colour" },
        EncodeError::Custom(_) => <EncodeError as ser::Error>::custom(REASON),
    });
    let offset = 3;
    each_variant!(DecodeError {
        DecodeError::UnexpectedEnd { .. } => DecodeError::UnexpectedEnd { offset, needed: 2, remaining: 1 },
        DecodeError::CountTooLarge { .. } => DecodeError::CountTooLarge { offset, count: 2, remaining: 1 },
        DecodeError::InvalidBool { .. } => DecodeError::InvalidBool { offset, value: 2 },
        DecodeError::InvalidOption { .. } => DecodeError::InvalidOption { offset, value: 2 },
        DecodeError::InvalidUnit { .. } => DecodeError::InvalidUnit { offset, value: 2 },
        DecodeError::InvalidChar { .. } => DecodeError::InvalidChar { offset, value: 0xd800 },
        DecodeError::InvalidUtf8 { .. } => DecodeError::InvalidUtf8 { offset },
        DecodeError::UnknownVariant { .. } => DecodeError::UnknownVariant { offset, name: "Shape", index: 9 },
        DecodeError::UnreadElements { .. } => DecodeError::UnreadElements { offset, elements: 1 },
        DecodeError::LeftOver { .. } => DecodeError::LeftOver { offset, bytes: 1 },
        DecodeError::TooDeep { .. } => DecodeError::TooDeep { offset },
        DecodeError::NotSelfDescribing => DecodeError::NotSelfDescribing,
        DecodeError::Custom(_) => <DecodeError as de::Error>::custom(REASON),
    });
}
