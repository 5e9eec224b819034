//! The labels that tell apart what is counted, with all the values that they can have.

#[cfg(feature = "metrics")]
use ampoule_vmm::Event;

use crate::error::CallError;
use crate::fault::FaultKind;
use crate::interrupt::KillOutcome;
use crate::limits::ExceededLimit;
use crate::termination::Termination;

/// A label: an enum, and the text for each of its variants.
macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$variant_doc])* $variant,)* }

        #[cfg(feature = "metrics")]
        impl $name {
            /// The texts, in the order of the variants.
            pub(super) const TEXTS: &[&str] = &[$($text),*];
        }
    };
}

label! {
    /// How a call has ended.
    CallOutcome {
        Ok = "ok",
        FunctionError = "function_error",
        Panicked = "panicked",
        Fault = "fault",
        Killed = "killed",
        Deadline = "deadline",
        CpuTime = "cpu_time",
        OutputLimit = "output_limit",
        HostCallLimit = "host_call_limit",
        SystemCallLimit = "system_call_limit",
        Protocol = "protocol",
        Hypervisor = "hypervisor",
        HostPanicked = "host_panicked",
        Poisoned = "poisoned",
        UnknownFunction = "unknown_function",
        Types = "types",
        TooLarge = "too_large",
        Value = "value",
        Lending = "lending",
        Unwatched = "unwatched",
    }
}

label! {
    /// How a run of a program has ended.
    RunOutcome {
        /// With the code 0.
        Exited = "exited",
        /// With another code.
        Failed = "failed",
        AwaitsInput = "awaits_input",
        Fault = "fault",
        Killed = "killed",
        Deadline = "deadline",
        CpuTime = "cpu_time",
        OutputLimit = "output_limit",
        SystemCallLimit = "system_call_limit",
        Hypervisor = "hypervisor",
        HostPanicked = "host_panicked",
        Unwatched = "unwatched",
    }
}

label! {
    /// How a guest has ended itself.
    FaultLabel {
        StackOverflow = "stack_overflow",
        PageFault = "page_fault",
        LostMemory = "lost_memory",
        Exception = "exception",
        OutOfMemory = "out_of_memory",
        Panicked = "panicked",
        Aborted = "aborted",
        SignalStack = "signal_stack",
        SignalReturn = "signal_return",
        Exited = "exited",
        Deadlocked = "deadlocked",
        SystemCallReturn = "system_call_return",
        Forged = "forged",
        Shutdown = "shutdown",
        Unexpected = "unexpected",
    }
}

label! {
    /// Why the processor has left the guest.
    #[cfg(feature = "metrics")]
    ExitReason {
        Doorbell = "doorbell",
        SystemCall = "system_call",
        PageFault = "page_fault",
        Exception = "exception",
        Step = "step",
        Forged = "forged",
        Interrupted = "interrupted",
        ManyWritten = "many_written",
        Ended = "ended",
        Other = "other",
    }
}

label! {
    /// What has become of a kill.
    KillLabel {
        Killed = "killed",
        AlreadyEnding = "already_ending",
        NotRunning = "not_running",
        Unreachable = "unreachable",
    }
}

label! {
    /// What is done with sandboxes, but for calling them.
    Operation {
        /// A sandbox is built from an image, to the moment at which it is ready, or a program is loaded.
        Create = "create",
        /// A snapshot is taken, the one included that building a sandbox takes.
        Snapshot = "snapshot",
        /// A sandbox is made from a snapshot.
        Spawn = "spawn",
        /// A sandbox goes back to a snapshot.
        Restore = "restore",
    }
}

label! {
    /// How somebody has got a sandbox of a pool, or has not.
    TakeOutcome {
        AtOnce = "at_once",
        Waited = "waited",
        TimedOut = "timed_out",
        Exhausted = "exhausted",
        GivenUp = "given_up",
    }
}

label! {
    /// What there is of something at the moment; the names of gauges.
    Level {
        Sandboxes = "ampoule_sandboxes",
        Owned = "ampoule_memory_owned_bytes",
        Shared = "ampoule_memory_shared_bytes",
        PoolSize = "ampoule_pool_size",
        PoolTaken = "ampoule_pool_taken",
        PoolWaiting = "ampoule_pool_waiting",
    }
}

impl From<&CallError> for CallOutcome {
    fn from(error: &CallError) -> Self {
        match error {
            CallError::Function { .. } => Self::FunctionError,
            CallError::Panicked { .. } => Self::Panicked,
            CallError::Terminated { cause, .. } => cause.into(),
            CallError::Poisoned { .. } => Self::Poisoned,
            CallError::UnknownFunction { .. } => Self::UnknownFunction,
            CallError::WrongArguments { .. }
            | CallError::WrongResult { .. }
            | CallError::DifferentTypes { .. }
            | CallError::Untransferable { .. }
            | CallError::Undescribed { .. }
            | CallError::WrongData { .. }
            | CallError::ForeignFunction { .. } => Self::Types,
            CallError::PayloadTooLarge { .. } => Self::TooLarge,
            CallError::Encode { .. } | CallError::Decode { .. } | CallError::ArgumentsRefused { .. } => Self::Value,
            CallError::Lending { .. } => Self::Lending,
            CallError::LimitsUnwatched { .. } => Self::Unwatched,
        }
    }
}

impl From<&Termination> for CallOutcome {
    fn from(termination: &Termination) -> Self {
        match termination {
            Termination::Fault(_) => Self::Fault,
            Termination::Protocol(_) => Self::Protocol,
            Termination::Killed => Self::Killed,
            Termination::LimitExceeded(ExceededLimit::Deadline(_)) => Self::Deadline,
            Termination::LimitExceeded(ExceededLimit::CpuTime(_)) => Self::CpuTime,
            Termination::LimitExceeded(ExceededLimit::Output(_)) => Self::OutputLimit,
            Termination::LimitExceeded(ExceededLimit::HostCalls(_)) => Self::HostCallLimit,
            Termination::LimitExceeded(ExceededLimit::SystemCalls(_)) => Self::SystemCallLimit,
            Termination::Hypervisor(_) => Self::Hypervisor,
        }
    }
}

impl From<&Termination> for RunOutcome {
    fn from(termination: &Termination) -> Self {
        match termination {
            Termination::Fault(fault) => match fault.kind() {
                FaultKind::Exited { code: 0 } => Self::Exited,
                FaultKind::Exited { .. } => Self::Failed,
                _ => Self::Fault,
            },
            Termination::Killed => Self::Killed,
            Termination::LimitExceeded(ExceededLimit::Deadline(_)) => Self::Deadline,
            Termination::LimitExceeded(ExceededLimit::CpuTime(_)) => Self::CpuTime,
            Termination::LimitExceeded(ExceededLimit::Output(_)) => Self::OutputLimit,
            Termination::LimitExceeded(ExceededLimit::SystemCalls(_)) => Self::SystemCallLimit,
            Termination::Hypervisor(_) => Self::Hypervisor,
            // A program has neither a mailbox nor host functions.
            Termination::Protocol(_) | Termination::LimitExceeded(ExceededLimit::HostCalls(_)) => Self::Fault,
        }
    }
}

impl From<&FaultKind> for FaultLabel {
    fn from(kind: &FaultKind) -> Self {
        match kind {
            FaultKind::StackOverflow { .. } => Self::StackOverflow,
            FaultKind::PageFault { .. } | FaultKind::MappedMemory { .. } => Self::PageFault,
            FaultKind::LostMemory { .. } | FaultKind::LostSnapshot => Self::LostMemory,
            FaultKind::Exception { .. } => Self::Exception,
            FaultKind::OutOfMemory { .. } => Self::OutOfMemory,
            FaultKind::Panicked(_) => Self::Panicked,
            FaultKind::Aborted { .. } => Self::Aborted,
            FaultKind::SignalStack { .. } => Self::SignalStack,
            FaultKind::SignalReturn { .. } => Self::SignalReturn,
            FaultKind::Exited { .. } => Self::Exited,
            FaultKind::Deadlocked(_) => Self::Deadlocked,
            FaultKind::SystemCallReturn { .. } => Self::SystemCallReturn,
            FaultKind::ForgedExit { .. } => Self::Forged,
            FaultKind::Shutdown => Self::Shutdown,
            FaultKind::UnexpectedExit { .. } => Self::Unexpected,
        }
    }
}

#[cfg(feature = "metrics")]
impl From<&Event> for ExitReason {
    fn from(event: &Event) -> Self {
        match event {
            Event::Doorbell => Self::Doorbell,
            Event::SystemCall(_) => Self::SystemCall,
            Event::PageFault(_) => Self::PageFault,
            Event::Exception(_) => Self::Exception,
            Event::Step => Self::Step,
            Event::Forged { .. } => Self::Forged,
            Event::Interrupted => Self::Interrupted,
            Event::ManyWritten => Self::ManyWritten,
            Event::Ended(_) => Self::Ended,
            _ => Self::Other,
        }
    }
}

impl From<KillOutcome> for KillLabel {
    fn from(outcome: KillOutcome) -> Self {
        match outcome {
            KillOutcome::Killed => Self::Killed,
            KillOutcome::AlreadyEnding => Self::AlreadyEnding,
            KillOutcome::NotRunning => Self::NotRunning,
            KillOutcome::Unreachable => Self::Unreachable,
        }
    }
}
