//! What can happen to a sandbox or a snapshot.

use ampoule_memory_model::Random;

/// Something that happens, with numbers by which it chooses among what there is at that time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    pub(crate) sandbox: usize,
    pub(crate) snapshot: usize,
    /// The seed of what the step itself draws.
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// The guest performs operations.
    Run {
        operations: u32,
    },
    /// The guest performs operations, and may be interrupted in them; then it goes back.
    Kill {
        operations: u32,
        microseconds: u64,
    },
    Snapshot,
    /// Goes back to where it went back to last, or where a snapshot was taken last.
    GoBack,
    /// Goes back there many times, after a few operations each.
    GoBackOften {
        times: u32,
    },
    Restore,
    Reset,
    /// The guest tries to access memory that it must not access, and goes back, several times.
    Probe {
        times: u32,
    },
    /// The host reads and writes pages for the guest.
    UseHost {
        times: u32,
    },
    Spawn,
    /// A snapshot is saved in a file, and what is loaded from that is another one.
    Store,
    DropSandbox,
    DropSnapshot,
}

impl Step {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let kind = match random.below(100) {
            0..26 => Kind::Run { operations: random.within(1..40) as u32 },
            26..30 => Kind::Store,
            30..35 => Kind::Kill { operations: 200, microseconds: random.within(100..20_000) as u64 },
            35..45 => Kind::Snapshot,
            45..55 => Kind::GoBack,
            55..58 => Kind::GoBackOften { times: random.within(2..12) as u32 },
            58..66 => Kind::Restore,
            66..70 => Kind::Reset,
            70..86 => Kind::Probe { times: random.within(1..6) as u32 },
            86..92 => Kind::UseHost { times: random.within(1..10) as u32 },
            92..96 => Kind::Spawn,
            96..98 => Kind::DropSandbox,
            _ => Kind::DropSnapshot,
        };
        Self { kind, sandbox: random.below(1 << 16), snapshot: random.below(1 << 16), seed: random.next() }
    }
}
