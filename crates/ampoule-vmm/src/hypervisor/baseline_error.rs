//! Why guests cannot be limited to a part of the processor.

use crate::processor::Baseline;

use super::OpenError;

/// Why guests cannot find of the processor [what a baseline has](super::Hypervisor::with_baseline), and no more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaselineError {
    /// The hypervisor has no way to hide a part of the processor.
    #[error("this hypervisor cannot limit what guests find of the processor; choose no baseline")]
    Unsupported,
    /// The processor, or what the hypervisor passes on of it, has less than the baseline.
    #[error(
        "guests on this machine cannot have all of the baseline {baseline}: there is no {}; choose a lower one",
        features.join(", ")
    )]
    Missing {
        /// The baseline.
        baseline: Baseline,
        /// What is missing, by the names of `/proc/cpuinfo`.
        features: Vec<&'static str>,
    },
    /// The hypervisor was told what to hide, and guests find it all the same: those that execute `cpuid` are shown the
    /// processor's own answer.
    #[error(
        "the hypervisor does not hide what the processor has beyond the baseline {baseline}: guests find {}; choose no baseline, or \
         use a machine whose hypervisor answers `cpuid` itself, as KVM does with VT-x and SVM",
        features.join(", ")
    )]
    NotHidden {
        /// The baseline.
        baseline: Baseline,
        /// What guests find beyond it, by the names of `/proc/cpuinfo`.
        features: Vec<&'static str>,
    },
    /// No guest could be tried out with it.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl BaselineError {
    /// Whether it says more about the moment than about the machine, so that another attempt can succeed.
    pub fn may_be_transient(&self) -> bool {
        matches!(self, Self::Open(OpenError::Exhausted { .. } | OpenError::Failed { .. }))
    }
}
