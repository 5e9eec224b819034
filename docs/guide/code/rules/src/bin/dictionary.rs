//! A guest that knows words and asks its host for nothing.

use std::cell::RefCell;
use std::io::{self, BufRead, Write};

use ampoule_guest::{Items, Sink, export};

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
    text.split_whitespace().filter(|word| is_known(word)).collect::<Vec<_>>().join(" ")
}

fn is_known(word: &str) -> bool {
    WORDS.with_borrow(|words| words.iter().any(|known| known == word))
}

/// Counts lines in the host's memory.
#[ampoule_guest::export]
fn count_lines(text: ampoule_guest::Mapped<'_>) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Copies the words that are in the dictionary, one a line, and counts them.
#[ampoule_guest::export]
fn filter(text: ampoule_guest::Reader<'_>, mut known: ampoule_guest::Writer<'_>) -> io::Result<u64> {
    let mut count = 0;
    for line in text.lines() {
        for word in line?.split_whitespace().filter(|word| is_known(word)) {
            writeln!(known, "{word}")?;
            count += 1;
        }
    }
    known.flush()?;
    Ok(count)
}

/// Passes on the longest words of all texts, the number of their text with each.
#[ampoule_guest::export]
fn long_words(texts: Items<'_, String>, least: u32, mut found: Sink<'_, (u64, String)>) -> io::Result<()> {
    for (number, text) in (1..).zip(texts) {
        for word in text?.split_whitespace().filter(|word| word.len() >= least as usize) {
            found.send((number, word.to_owned()))?;
        }
    }
    found.flush()
}

ampoule_guest::main!();
