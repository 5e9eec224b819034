//! A guest that knows words and asks its host for nothing.

use std::cell::RefCell;

use ampoule_guest::export;

thread_local! {
    static WORDS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Remembers the words that `parse` knows.
#[export]
fn load_dictionary(words: Vec<String>) {
    WORDS.set(words);
}

/// The words of the text that are in the dictionary.
#[export]
fn parse(text: &str) -> String {
    let known = |word: &&str| WORDS.with_borrow(|words| words.iter().any(|known| known == word));
    text.split_whitespace().filter(known).collect::<Vec<_>>().join(" ")
}

ampoule_guest::main!();
