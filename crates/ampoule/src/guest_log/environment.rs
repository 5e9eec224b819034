//! What the environment variable `RUST_LOG` says of guests.
//!
//! It is a list of directives, which the crates `env_logger` and `tracing-subscriber` read too: `level`, `target`,
//! `target=level`, and `target[span{fields}]=level`. Here they only decide which records a guest makes, and the application's
//! subscriber has the last word. So what is in brackets does not count, except that a directive for spans alone says nothing of
//! guests, and what cannot be understood is passed over.

use std::env;
use std::sync::atomic::{AtomicU32, Ordering};

use tracing::level_filters::LevelFilter;

use super::{TARGET, number};

/// The greatest level of log records that the environment asks for.
pub(crate) fn level_of_environment() -> LevelFilter {
    /// The level's number, once it is known. It is not behind a lock that another thread may hold when the process is forked.
    static KNOWN: AtomicU32 = AtomicU32::new(u32::MAX);
    let known = KNOWN.load(Ordering::Relaxed);
    if let Some(level) = LEVELS.get(known as usize) {
        return *level;
    }
    let level = level_of(&env::var("RUST_LOG").unwrap_or_default());
    KNOWN.store(level.into_level().map_or(0, |level| number(level) as u32), Ordering::Relaxed);
    level
}

/// The greatest level of log records that these directives ask for.
///
/// The directive for all guests is that for their common target, or else that for the host library, or else the general one;
/// without any of them only errors are wanted. Where several are of one kind, the last counts. One for a target of some guest
/// cannot be told apart by level in the guest, and so makes all guests log as much as it asks for.
pub(super) fn level_of(directives: &str) -> LevelFilter {
    let (mut guests, mut library, mut general, mut some_guest) = (None, None, None, LevelFilter::OFF);
    for directive in split(directives).into_iter().filter_map(Directive::parse) {
        match directive.target {
            None => general = Some(directive.level),
            Some(TARGET) => guests = Some(directive.level),
            Some(LIBRARY) => library = Some(directive.level),
            Some(target) if is_below(target) => some_guest = some_guest.max(directive.level),
            Some(_) => {}
        }
    }
    guests.or(library).or(general).unwrap_or(LevelFilter::ERROR).max(some_guest)
}

/// Whether it is a target of a guest's records.
fn is_below(target: &str) -> bool {
    target.strip_prefix(TARGET).is_some_and(|rest| rest.starts_with("::"))
}

/// The texts between commas outside of brackets, up to the filter of `env_logger` for messages, which follows a slash.
fn split(directives: &str) -> Vec<&str> {
    let (mut depth, mut is_quoted) = (0_usize, false);
    let mut is_outside = move |character| {
        match character {
            '"' if depth > 0 => is_quoted = !is_quoted,
            '[' | '{' if !is_quoted => depth += 1,
            ']' | '}' if !is_quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    };
    let mut parts = Vec::new();
    let (mut start, mut end) = (0, directives.len());
    for (at, character) in directives.char_indices() {
        if !is_outside(character) {
            continue;
        }
        match character {
            ',' => {
                parts.push(&directives[start..at]);
                start = at + 1;
            }
            '/' => {
                end = at;
                break;
            }
            _ => {}
        }
    }
    parts.push(&directives[start..end]);
    parts
}

/// What is wanted of a target, or of all.
struct Directive<'text> {
    target: Option<&'text str>,
    level: LevelFilter,
}

impl<'text> Directive<'text> {
    fn parse(text: &'text str) -> Option<Self> {
        let text = text.trim();
        let (target, level) = match text.split_once('[') {
            Some((target, rest)) => {
                let (_, after) = rest.rsplit_once(']')?;
                let level = if after.is_empty() { None } else { Some(after.strip_prefix('=')?) };
                (target, level)
            }
            None => match text.split_once('=') {
                Some((target, level)) => (target, Some(level)),
                None => match level_named(text) {
                    Some(level) => return Some(Self { target: None, level }),
                    None => (text, None),
                },
            },
        };
        let target = target.trim();
        let level = level.map_or(Some(LevelFilter::TRACE), |level| level_named(level.trim()))?;
        (!target.is_empty()).then_some(Self { target: Some(target), level })
    }
}

/// The level of this name or number.
fn level_named(text: &str) -> Option<LevelFilter> {
    if text.is_empty() { None } else { text.parse().ok() }
}

/// The target of the host library.
const LIBRARY: &str = "ampoule";

/// By number.
const LEVELS: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];
