//! Why there is no hypervisor to use, whichever backend says so.

use std::io;

/// Why the platform's hypervisor cannot be used.
///
/// The text is the backend's: it names what stands in the way, and says what to do about it. The variants are what an
/// application can decide by. A backend's own error has the details as values ([`kvm::OpenError`](crate::kvm::OpenError)).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no hypervisor: its driver is not loaded, the firmware does not let it run, or a container hides it.
    #[error("{explanation}")]
    Missing {
        /// What is missing, and what to do about it.
        explanation: String,
    },
    /// There is a hypervisor, and the process may not use it.
    #[error("{explanation}")]
    PermissionDenied {
        /// Who may use it, and what to do about it.
        explanation: String,
    },
    /// There is a hypervisor, and it cannot run guests as they have to be run.
    #[error("{explanation}")]
    Unsuitable {
        /// What it lacks, or what went wrong when it was tried out, with all that was found out about it.
        explanation: String,
    },
    /// The process or the system has too little left of something to find out whether the hypervisor can be used.
    #[error("{explanation}")]
    Exhausted {
        /// What there is too little of, and what to do about it.
        explanation: String,
        /// What the operating system answered, which the explanation says, too.
        reason: io::Error,
    },
    /// Anything else.
    #[error("{explanation}")]
    Failed {
        /// What failed, and what to do about it.
        explanation: String,
        /// What the operating system answered, which the explanation says, too.
        reason: io::Error,
    },
}
