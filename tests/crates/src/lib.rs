//! The guest that uses popular crates. The test is in `tests/`.
