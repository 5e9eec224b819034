//! The guest's log records and spans as events and spans of the host's `tracing` log.
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
mod spans;
#[cfg(test)]
mod tests;
mod times;

use std::time::SystemTime;

use ampoule_abi::layout::{LogLevel, LogRecord, SpanRecord, SpanStep};
use tracing::Level;
use tracing::level_filters::LevelFilter;

use crate::output::Origin;
use callsite::{Callsites, Place};
use event::Within;
use spans::GuestSpans;
use times::{Times, telling};

pub(crate) use environment::level_of_environment;
pub(crate) use times::Moment;
pub use times::guest_time;

/// Where the log records and the spans of one sandbox go.
#[derive(Debug)]
pub(crate) struct GuestLog {
    level: LevelFilter,
    callsites: Callsites,
    spans: GuestSpans,
    times: Times,
}

impl GuestLog {
    /// Passes on the records up to this level.
    pub(crate) fn new(level: LevelFilter) -> Self {
        Self { level, callsites: Callsites::default(), spans: GuestSpans::default(), times: Times::default() }
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
        self.log(origin, level, Within::host(), record);
    }

    /// Does in the log what a guest's span record of this many bytes and this level says, which was taken now. A step has no
    /// level unless a span begins by it, or something is logged.
    pub(crate) fn pass_on_step(
        &mut self,
        origin: &Origin,
        level: Option<LogLevel>,
        SpanRecord { time, step }: &SpanRecord<'_>,
        (now, len): (Moment, usize),
    ) {
        let time = self.times.of(*time, now);
        telling(time, || match (step, level) {
            (SpanStep::Open(opened), Some(level)) => {
                report_lost(origin, opened.lost);
                if level as u32 <= self.level() {
                    self.spans.open(&mut self.callsites, origin, level, opened, (time, len));
                }
            }
            (SpanStep::Log { parent, record }, Some(level)) => {
                self.log(origin, level, self.spans.within(*parent), record);
            }
            (SpanStep::Enter(span), _) => self.spans.enter(*span),
            (SpanStep::Exit(span), _) => self.spans.exit(*span),
            (SpanStep::Record { span, fields }, _) => self.spans.record(*span, fields, len),
            (SpanStep::Close(span), _) => self.spans.close(*span, time),
            (SpanStep::Open(_) | SpanStep::Log { .. }, None) => {}
        });
    }

    /// A call begins, or the guest's start, on this thread.
    #[inline]
    pub(crate) fn call_begins(&mut self) {
        match self.level() {
            0 => self.times.end(),
            _ => self.times.begin(),
        }
        self.spans.resume();
    }

    /// The guest goes on after the host has done something for it.
    #[inline]
    pub(crate) fn goes_on(&mut self) {
        self.times.go_on();
    }

    /// A call ends, on this thread, and perhaps the guest with it.
    #[inline]
    pub(crate) fn call_ended(&mut self, origin: &Origin, is_end: bool) {
        if is_end {
            self.forget();
        } else {
            self.leave();
        }
        let refused = self.spans.take_refused();
        if refused > 0 {
            tracing::warn!(
                target: "ampoule::guest",
                refused,
                image = %origin.image(),
                sandbox = %origin.sandbox(),
                function = origin.function(),
                "the guest has more spans, or more values in them, than the log takes of one guest"
            );
        }
    }

    /// This thread has nothing more to do with the guest: it leaves its spans.
    #[inline]
    pub(crate) fn leave(&mut self) {
        self.spans.suspend();
    }

    /// The guest has ended, or goes back to a state in which its spans are others. Those that are open end.
    pub(crate) fn forget(&mut self) {
        self.spans.end(SystemTime::now());
    }

    fn log(&mut self, origin: &Origin, level: LogLevel, within: Within, record: &LogRecord<'_>) {
        report_lost(origin, record.lost);
        // It was not asked for.
        if level as u32 > self.level() {
            return;
        }
        match self.callsites.of(&Place::of(level, record)) {
            Some(callsite) => event::log(callsite, origin, within, record),
            None => event::log_without_callsite(origin, level, within, record),
        }
    }
}

/// Logs that the guest has lost so many records, if it has.
fn report_lost(origin: &Origin, lost: u64) {
    if lost > 0 {
        tracing::warn!(
            target: "ampoule::guest",
            lost,
            image = %origin.image(),
            sandbox = %origin.sandbox(),
            function = origin.function(),
            "the guest has lost log records, for which there was no room"
        );
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
