//! Whose fault an error is.

/// Who has caused an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The guest's code: it failed, or did what it may not.
    Guest,
    /// The application: it called wrongly, killed the call, or its host function panicked.
    Caller,
    /// The hypervisor, or the operating system under it.
    Hypervisor,
}
