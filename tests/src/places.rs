//! The places where a program's files can be, which are all to be to it as its directory is natively.

use std::path::Path;

use ampoule::{Access, Files};

/// In memory, in a directory of the host's that is granted, and in one that lies under memory, each with its path.
pub fn places(granted: &Path, under_memory: &Path) -> [(&'static str, Files); 3] {
    [
        ("/tmp", Files::none().tmp(64 << 20)),
        ("/granted", Files::none().dir(granted, "/granted", Access::ReadWrite)),
        ("/", Files::none().root(under_memory)),
    ]
}

/// Compares what a program has printed, and shows the first line that differs.
///
/// # Panics
/// Where one does.
pub fn assert_same_lines(found: &str, expected: &str, context: &str) {
    let differs = expected.lines().zip(found.lines()).find(|(expected, found)| expected != found);
    assert_eq!(differs, None, "{context}");
    assert_eq!(found.len(), expected.len(), "{context}");
}
