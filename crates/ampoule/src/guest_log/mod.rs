//! The guest's log records as events of the host's `tracing` log.
//!
//! A guest makes no record that nobody wants: it is told the greatest level at its start and in every call, and the host passes
//! on no other. What a record says is the guest's, and shown as such: the target stands behind [`TARGET`], so that no guest
//! speaks for a part of the host, characters that do not show what they are are escaped, and what names the guest is the host's.
//!
//! A subscriber knows an event by its callsite, which lives as long as the process. So a place in a guest's source has a
//! callsite of its own only as long as there are few: see [`callsite`].

mod callsite;
mod environment;
mod event;
#[cfg(test)]
mod tests;

use ampoule_abi::layout::{LogLevel, LogRecord};
use tracing::Level;
use tracing::level_filters::LevelFilter;

use crate::output::Origin;
use callsite::{Callsites, Place};

pub(crate) use environment::level_of_environment;

/// Where the log records of one sandbox go.
#[derive(Debug)]
pub(crate) struct GuestLog {
    level: LevelFilter,
    callsites: Callsites,
}

impl GuestLog {
    /// Passes on the records up to this level.
    pub(crate) fn new(level: LevelFilter) -> Self {
        Self { level, callsites: Callsites::default() }
    }

    pub(crate) fn set_level(&mut self, level: LevelFilter) {
        self.level = level;
    }

    /// The greatest level that is wanted at present, as the guest is told: no greater than what any subscriber takes.
    #[inline]
    pub(crate) fn level(&self) -> u32 {
        match self.level.min(LevelFilter::current()).into_level() {
            Some(level) => number(level) as u32,
            None => 0,
        }
    }

    /// Logs a record of the guest.
    pub(crate) fn pass_on(&mut self, origin: &Origin, level: LogLevel, record: &LogRecord<'_>) {
        if record.lost > 0 {
            tracing::warn!(
                target: "ampoule::guest",
                lost = record.lost,
                image = %origin.image(),
                sandbox = %origin.sandbox(),
                function = origin.function(),
                "the guest has lost log records, for which there was no room"
            );
        }
        // It was not asked for.
        if level as u32 > self.level() {
            return;
        }
        match self.callsites.of(&Place::of(level, record)) {
            Some(callsite) => event::log(callsite, origin, record),
            None => event::log_without_callsite(origin, level, record),
        }
    }
}

fn number(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

fn level(number: LogLevel) -> Level {
    match number {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    }
}

/// What the targets of guests begin with.
const TARGET: &str = "ampoule::guest";
