//! What the program logs, and what becomes of its spans: records in the output area, up to the level that the host asks for
//! (`docs/abi.md`, section 4, "Log records" and "Span records").
//!
//! Each crate by which programs log is a [`Facade`] here, if its feature is on. A record is made only where the facade's own
//! level lets it pass, which is a comparison in the program before anything is formatted.

#[cfg(feature = "log")]
mod facade;
#[cfg(any(feature = "log", feature = "tracing"))]
mod record;
#[cfg(feature = "tracing")]
mod span_record;
#[cfg(feature = "tracing")]
mod spans;
#[cfg(feature = "tracing")]
mod subscriber;

use ampoule_abi::layout::LogLevel;

use super::mailbox::Mailbox;

/// A crate by which programs log.
struct Facade {
    /// Has its records sent to the host, unless the program has another use for them.
    install: fn(),
    /// Sets the greatest level of records that are made, if they are sent to the host.
    set_level: fn(Option<LogLevel>),
}

/// Has all facades send their records to the host, in a sandbox.
pub(crate) fn install() {
    if let Some(mailbox) = Mailbox::current() {
        FACADES.iter().for_each(|facade| (facade.install)());
        set_level(mailbox.log_level());
    }
}

/// Sets the greatest level of records that are made. 0 stands for none; a level that is not known yet stands for all.
pub(super) fn set_level(number: u32) {
    let level = LogLevel::from_u32(number.min(LogLevel::Trace as u32));
    FACADES.iter().for_each(|facade| (facade.set_level)(level));
}

const FACADES: &[Facade] = &[
    #[cfg(feature = "log")]
    Facade { install: facade::install, set_level: facade::set_level },
    #[cfg(feature = "tracing")]
    Facade { install: subscriber::install, set_level: subscriber::set_level },
];
