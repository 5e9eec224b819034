//! Signals as a record of a stored snapshot, and back.

use serde::{Deserialize, Serialize};

use super::info::{FIELDS_LEN, Info};
use super::pending::{MOST_QUEUED, Pending, Queued, Target};
use super::{Action, AlternateStack, SIGNALS, Signals, UNBLOCKABLE};
use crate::bad_record::BadRecord;
use crate::personality::linux::process::ProcessId;
use crate::personality::linux::timers::{TimerId, TimerIdRecord};

/// What a process does about signals, and those that wait for it.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::personality::linux) struct SignalsRecord {
    /// The actions that are not the default, by the number of the signal.
    actions: Vec<(u8, ActionRecord)>,
    blocked: u64,
    saved_mask: Option<u64>,
    pending: Vec<QueuedRecord>,
    alternate_stack: (u64, u32, u64),
    may_repeat: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct ActionRecord {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct QueuedRecord {
    to_process: bool,
    signal: i32,
    code: i32,
    fields: Box<[u8]>,
    timer: Option<TimerIdRecord>,
}

impl Signals {
    pub(in crate::personality::linux) fn record(&self) -> SignalsRecord {
        let action = |(number, action): (u8, &Action)| {
            let Action { handler, flags, restorer, mask } = *action;
            let is_default = [handler, flags, restorer, mask] == [0; 4];
            (!is_default).then_some((number, ActionRecord { handler, flags, restorer, mask }))
        };
        let AlternateStack { start, flags, size } = self.alternate_stack;
        SignalsRecord {
            actions: (1..).zip(&self.actions).filter_map(action).collect(),
            blocked: self.blocked,
            saved_mask: self.saved_mask,
            pending: self.pending.records(),
            alternate_stack: (start, flags, size),
            may_repeat: self.may_repeat,
        }
    }

    pub(in crate::personality::linux) fn of_record(record: &SignalsRecord, own: ProcessId) -> Result<Self, BadRecord> {
        let SignalsRecord { actions, blocked, saved_mask, pending, alternate_stack, may_repeat } = record;
        let masks = [*blocked, saved_mask.unwrap_or_default()];
        check(masks.iter().all(|mask| mask & UNBLOCKABLE == 0), "one is blocked that cannot be")?;
        let mut signals = Self::new(own);
        for (number, action) in actions {
            let number = usize::from(*number);
            check((1..=SIGNALS).contains(&number), "there is no such signal")?;
            let ActionRecord { handler, flags, restorer, mask } = *action;
            check(UNBLOCKABLE >> (number - 1) & 1 == 0, "one has a handler that cannot have any")?;
            signals.actions[number - 1] = Action { handler, flags, restorer, mask };
        }
        let (start, flags, size) = *alternate_stack;
        signals.alternate_stack = AlternateStack { start, flags, size };
        signals.pending = Pending::of_records(pending)?;
        (signals.blocked, signals.saved_mask, signals.may_repeat) = (*blocked, *saved_mask, *may_repeat);
        Ok(signals)
    }
}

impl Pending {
    fn records(&self) -> Vec<QueuedRecord> {
        let record = |to_process: bool, Queued { info, timer }: &Queued| {
            let (signal, code, fields) = info.parts();
            QueuedRecord { to_process, signal, code, fields: fields.into(), timer: timer.map(TimerId::record) }
        };
        let queues = [Target::Thread, Target::Process].into_iter().zip(self.queues());
        queues.flat_map(|(of, queue)| queue.iter().map(move |one| record(of == Target::Process, one))).collect()
    }

    fn of_records(records: &[QueuedRecord]) -> Result<Self, BadRecord> {
        check(records.len() <= MOST_QUEUED + SIGNALS, "too many wait")?;
        let mut queues = [Vec::new(), Vec::new()];
        for QueuedRecord { to_process, signal, code, fields, timer } in records {
            check((1..=SIGNALS as i32).contains(signal), "there is no such signal")?;
            let fields: [u8; FIELDS_LEN] = (**fields).try_into().map_err(|_| bad("one has too little information"))?;
            let info = Info::of_parts(*signal, *code, fields);
            let timer = timer.map(TimerId::of_record).transpose()?;
            queues[usize::from(*to_process)].push(Queued { info, timer });
        }
        Ok(Self::of_queues(queues))
    }
}

fn check(holds: bool, problem: &'static str) -> Result<(), BadRecord> {
    BadRecord::unless(holds, "table of signals", problem)
}

fn bad(problem: &'static str) -> BadRecord {
    BadRecord { part: "table of signals", problem }
}
