//! Why a guest is not profiled.

use std::io;

use thiserror::Error;

use crate::interrupt::{Unsampled, why_unwatched};

/// Why a sandbox cannot be profiled.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The application has chosen to do without the signal that takes a guest out of its run
    /// ([`InterruptSignal::None`](crate::InterruptSignal::None)).
    #[error(
        "a guest cannot be sampled, since the application does without the signal that takes it out of its run \
         (`InterruptSignal::None`); choose a signal with `InterruptSignal::install`"
    )]
    NoSignal,
    /// Nothing can make samples due.
    #[error("a guest cannot be sampled, since {}", why_unwatched(reason))]
    Unwatched {
        /// What the system reports.
        reason: io::Error,
    },
}

impl From<Unsampled> for ProfileError {
    fn from(unsampled: Unsampled) -> Self {
        match unsampled {
            Unsampled::NoSignal => Self::NoSignal,
            Unsampled::Unwatched(unwatched) => Self::Unwatched { reason: unwatched.reason },
        }
    }
}
