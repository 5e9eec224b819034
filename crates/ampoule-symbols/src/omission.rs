//! Why a backtrace says less than its image could.

use std::fmt;

use object::elf;

/// Why a [`Backtrace`](crate::Backtrace) lacks what its image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Omission {
    /// The debug information is compressed by a method that is not read. Only zlib's is.
    Compression {
        /// The method: `ch_type` of the compressed section.
        method: u32,
    },
    /// The debug information is too large once it is uncompressed.
    TooLarge {
        /// The most bytes that are uncompressed.
        limit: usize,
    },
    /// The compressed debug information is damaged.
    Damaged,
    /// The process could not start the thread on which names are looked up, because it has too many or too little memory.
    NoThread,
}

impl fmt::Display for Omission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compression { method } if *method == elf::ELFCOMPRESS_ZSTD.0 => {
                write!(f, "no source lines: the debug information is compressed with Zstandard; {ADVICE}")
            }
            Self::Compression { method } => {
                write!(f, "no source lines: the debug information is compressed by unknown method {method}; {ADVICE}")
            }
            Self::TooLarge { limit } => {
                write!(f, "no source lines: the debug information has more than {limit} bytes uncompressed; {ADVICE}")
            }
            Self::Damaged => f.write_str("no source lines: the compressed debug information is damaged"),
            Self::NoThread => f.write_str("no names: the process could not start a thread to look them up"),
        }
    }
}

const ADVICE: &str = "link with --compress-debug-sections=zlib, or none";
