//! The code that the guide shows is in `tests/guide`, a file for each page, and its guest in `rules`.
