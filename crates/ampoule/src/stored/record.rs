//! What a snapshot file says beside the contents of memory, in the encoding of `docs/abi.md`, section 5.

use std::time::Duration;

use ampoule_abi::schema::Schema;
use serde::{Deserialize, Serialize};

use crate::conversation::ConversationRecord;
use crate::limits::Limits;
use crate::machine::MachineRecord;

/// The state.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StateRecord {
    /// What the guest may have found that the processor has, by the names of `/proc/cpuinfo`.
    pub(super) features: Vec<String>,
    /// The baseline that it was limited to, where it was.
    pub(super) baseline: Option<String>,
    /// What messages call its executable.
    pub(super) name: String,
    pub(super) limits: LimitsRecord,
    pub(super) guest: GuestRecord,
    /// Pages of its memory, those at the start included that it shares with the host.
    pub(super) pages: u64,
    /// What its memory holds: in ascending order. Everything else is as in the parent, or zeros.
    pub(super) runs: Vec<RunRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum GuestRecord {
    /// A guest that waits for a call, and what it says of its types.
    Sandbox(ConversationRecord, Option<Schema>),
    /// A program that waits for its input.
    Program(MachineRecord),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LimitsRecord {
    deadline: Option<Duration>,
    cpu_time: Option<Duration>,
    output: Option<u64>,
    host_calls: Option<u64>,
    system_calls: Option<u64>,
}

/// Pages of the guest's memory, and where in the file they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunRecord {
    pub(super) at: u64,
    pub(super) pages: u64,
    pub(super) from: SourceRecord,
}

/// Where the first of the pages is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SourceRecord {
    /// Among the pages of the image's file.
    Image(u64),
    /// Among the pages of memory.
    Memory(u64),
}

impl LimitsRecord {
    pub(super) fn of(limits: Limits) -> Self {
        let Limits { deadline, cpu_time, output, host_calls, system_calls } = limits;
        Self { deadline, cpu_time, output, host_calls, system_calls }
    }

    pub(super) fn limits(&self) -> Limits {
        let Self { deadline, cpu_time, output, host_calls, system_calls } = *self;
        Limits { deadline, cpu_time, output, host_calls, system_calls }
    }
}
