//! How an error of a stream travels.

use std::io;

/// The number by which a guest is told of an error of this kind; 0 for any other.
pub(crate) fn kind_number(kind: io::ErrorKind) -> u64 {
    macro_rules! number {
        ($($name:ident = $number:literal,)*) => {
            match kind {
                $(io::ErrorKind::$name => $number,)*
                _ => 0,
            }
        };
    }
    ampoule_abi::io_error_kinds!(number)
}
