//! What can happen.

/// Something that happens to a sandbox or a snapshot, each named by any number. Where there is none, nothing happens.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are whom a step is about, and how much of it there is")]
pub enum Step {
    /// A call changes something.
    Change { sandbox: usize, change: Change },
    /// A snapshot is taken, and kept unless there are many.
    Snapshot { sandbox: usize },
    /// A sandbox goes back to a snapshot, which may be another one's.
    Restore { sandbox: usize, snapshot: usize },
    /// Many restores in a row, each after a small change.
    RestoreOften { sandbox: usize, snapshot: usize, times: u8 },
    /// A sandbox is to go back to a snapshot that it cannot go back to.
    RestoreForeign { sandbox: usize },
    /// A sandbox goes back to where it began.
    Reset { sandbox: usize },
    /// A call ends the guest.
    End { sandbox: usize, how: End },
    /// A sandbox is made from a snapshot, unless there are many.
    Spawn { snapshot: usize },
    /// A sandbox is dropped; its snapshots stay.
    DropSandbox { sandbox: usize },
    /// A snapshot is dropped; its sandboxes stay.
    DropSnapshot { snapshot: usize },
}

/// What a call changes in a guest.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are what the guest's functions take")]
pub enum Change {
    /// So many words on the heap, by a key.
    SetValue { key: u8, words: u32, value: u64 },
    /// They are freed.
    RemoveValue { key: u8 },
    /// A variable of the image.
    AddToVariable { value: u64 },
    /// A mapping of its own, in a slot, whose pages are all written.
    MapRegion { slot: u8, pages: u32, value: u64 },
    /// It goes.
    UnmapRegion { slot: u8 },
    /// What the guest may do there.
    ProtectRegion { slot: u8, writable: bool },
    /// One of its pages, where it may be written.
    WriteRegion { slot: u8, page: u32, value: u64 },
    /// The program break.
    GrowHeap { pages: u32, value: u64 },
    /// The guest asks the host, whose count goes on.
    AskHost { step: u64 },
    /// The guest prints.
    Print { text: String },
    /// The guest panics and unwinds, which changes nothing.
    Panic,
}

/// How a guest ends.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields are what the guest's functions take")]
pub enum End {
    /// It reads where nothing is.
    Fault,
    /// It spins until the time is up.
    Deadline,
    /// It spins until another thread kills it.
    Kill,
    /// It exits.
    Exit,
    /// It writes to a region that it has made read-only, if there is one, and exits otherwise.
    WriteProtected { slot: u8 },
    /// It changes things first.
    ChangeAndFault { value: u64 },
}
