//! How a guest can end for good.

use std::sync::Arc;

use ampoule_vmm::HypervisorError;
use thiserror::Error;

use crate::blame::Blame;
use crate::conversation::ProtocolViolation;
use crate::fault::{Fault, FaultKind};
use crate::limits::ExceededLimit;

/// Why a guest has ended prematurely. The sandbox is poisoned: it refuses calls.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Termination {
    /// The guest ended itself: it faulted, ran out of memory, aborted, or exited.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The guest broke the rules of the mailbox.
    #[error("the guest broke the protocol: {0}")]
    Protocol(ProtocolViolation),
    /// The call was killed ([`InterruptHandle::kill`](crate::InterruptHandle::kill)).
    #[error("the call was killed")]
    Killed,
    /// The guest exceeded a limit.
    #[error("{0}")]
    LimitExceeded(ExceededLimit),
    /// The hypervisor failed.
    #[error("the hypervisor failed: {0}")]
    Hypervisor(Arc<HypervisorError>),
}

impl Termination {
    /// Who caused it.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Fault(fault) if matches!(fault.kind(), FaultKind::LostMemory { .. } | FaultKind::LostSnapshot) => {
                Blame::Caller
            }
            Self::Fault(_) | Self::LimitExceeded(_) | Self::Protocol(_) => Blame::Guest,
            Self::Killed => Blame::Caller,
            Self::Hypervisor(error) if matches!(**error, HypervisorError::Forked) => Blame::Caller,
            Self::Hypervisor(_) => Blame::Hypervisor,
        }
    }
}

impl From<HypervisorError> for Termination {
    fn from(error: HypervisorError) -> Self {
        Self::Hypervisor(Arc::new(error))
    }
}

impl From<ExceededLimit> for Termination {
    fn from(limit: ExceededLimit) -> Self {
        Self::LimitExceeded(limit)
    }
}

impl From<ProtocolViolation> for Termination {
    fn from(violation: ProtocolViolation) -> Self {
        Self::Protocol(violation)
    }
}
