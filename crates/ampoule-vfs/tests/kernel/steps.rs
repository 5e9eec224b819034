//! The operations, and what is compared of their results.

use linux_raw_sys::general::{
    O_APPEND, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_PATH, O_RDONLY, O_RDWR, O_TMPFILE, O_TRUNC, O_WRONLY,
    RENAME_EXCHANGE, RENAME_NOREPLACE,
};
use proptest::prelude::*;
use proptest::sample::select;

/// Someone who can do the steps.
pub(crate) trait Side {
    fn run(&mut self, step: &Step) -> Outcome;
}

/// What a step returns, or the number of its error.
pub(crate) type Outcome = Result<Value, u16>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Nothing,
    Bytes(Vec<u8>),
    Count(u64),
    Status(Status),
    Names(Vec<(Vec<u8>, u8)>),
}

/// What both sides report of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) mode: u32,
    pub(crate) links: u32,
    pub(crate) is_own: bool,
    /// Of files and links.
    pub(crate) size: Option<u64>,
}

/// A directory that is open, or else the base, and a path from there.
#[derive(Clone, Debug)]
pub(crate) struct At {
    pub(crate) slot: Option<usize>,
    pub(crate) path: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Open { slot: usize, at: At, flags: u32, mode: u32 },
    Reopen { slot: usize, from: usize, flags: u32 },
    Close(usize),
    Read { slot: usize, offset: u64, len: usize },
    Write { slot: usize, offset: u64, len: usize, byte: u8 },
    Append { slot: usize, len: usize, byte: u8 },
    SetLen { slot: usize, len: u64 },
    Allocate { slot: usize, kind: usize, offset: u64, len: u64 },
    StatOpen(usize),
    ListOpen(usize),
    PathOpen(usize),
    LinkOpen { slot: usize, to: At },
    Stat { at: At, follow: bool },
    Access { at: At, wanted: u32 },
    Truncate { at: At, len: u64 },
    MakeDirectory { at: At, mode: u32 },
    RemoveDirectory(At),
    Remove(At),
    Rename { from: At, to: At, flags: u32 },
    Link { from: At, to: At, follow: bool },
    MakeSymlink { at: At, target: String },
    ReadLink(At),
    MakeNode { at: At, mode: u32 },
    SetPermissions { at: At, mode: u32 },
    SetTimes { at: At, seconds: i64, follow: bool },
}

/// The permissions that files get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits(&'static [u32]);

impl Limits {
    pub(crate) const NONE: Self = Self(&[0o755, 0o700, 0o644, 0, 0o500, 0o300, 0o4755, 0o2755, 0o1777, 0o444, 0o2644]);
    /// No file has the rights of its owner.
    pub(crate) const UNPRIVILEGED: Self = Self(&[0o755, 0o700, 0o644, 0, 0o500, 0o300, 0o1777, 0o444]);
    /// Everything can be read: what the host process cannot read, no overlay can show.
    pub(crate) const READABLE: Self = Self(&[0o755, 0o700, 0o500, 0o1777, 0o555, 0o2755, 0o4755]);
}

pub(crate) const SLOTS: usize = 4;

pub(crate) fn step(limits: Limits) -> impl Strategy<Value = Step> {
    let mode = move || prop_oneof![3 => Just(0o755), 2 => select(limits.0)];
    let slot = || 0..SLOTS;
    let offset = || select(&[0_u64, 1, 100, 4095, 4096, 5000, 8192, 9000, 20_000][..]);
    let len = || select(&[0_usize, 1, 50, 4096, 5000, 9000][..]);
    let seconds = 0..2_000_000_000_i64;
    let files = prop_oneof![
        6 => (slot(), at(), flags(), mode()).prop_map(|(slot, at, flags, mode)| Step::Open { slot, at, flags, mode }),
        1 => (slot(), slot(), flags()).prop_map(|(slot, from, flags)| Step::Reopen { slot, from, flags }),
        1 => slot().prop_map(Step::Close),
        3 => (slot(), offset(), len()).prop_map(|(slot, offset, len)| Step::Read { slot, offset, len }),
        4 => (slot(), offset(), len(), any::<u8>())
            .prop_map(|(slot, offset, len, byte)| Step::Write { slot, offset, len, byte }),
        1 => (slot(), len(), any::<u8>()).prop_map(|(slot, len, byte)| Step::Append { slot, len, byte }),
        1 => (slot(), offset()).prop_map(|(slot, len)| Step::SetLen { slot, len }),
        1 => (slot(), 0..5_usize, offset(), offset())
            .prop_map(|(slot, kind, offset, len)| Step::Allocate { slot, kind, offset, len }),
        1 => slot().prop_map(Step::StatOpen),
        1 => slot().prop_map(Step::ListOpen),
        1 => slot().prop_map(Step::PathOpen),
        1 => (slot(), at()).prop_map(|(slot, to)| Step::LinkOpen { slot, to }),
    ];
    let names = prop_oneof![
        2 => (at(), any::<bool>()).prop_map(|(at, follow)| Step::Stat { at, follow }),
        1 => (at(), 0..8_u32).prop_map(|(at, wanted)| Step::Access { at, wanted }),
        1 => (at(), offset()).prop_map(|(at, len)| Step::Truncate { at, len }),
        4 => (at(), mode()).prop_map(|(at, mode)| Step::MakeDirectory { at, mode }),
        1 => at().prop_map(Step::RemoveDirectory),
        2 => at().prop_map(Step::Remove),
        4 => (at(), at(), select(&[0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE][..]))
            .prop_map(|(from, to, flags)| Step::Rename { from, to, flags }),
        2 => (at(), at(), any::<bool>()).prop_map(|(from, to, follow)| Step::Link { from, to, follow }),
        2 => (at(), target()).prop_map(|(at, target)| Step::MakeSymlink { at, target }),
        1 => at().prop_map(Step::ReadLink),
        1 => (at(), mode()).prop_map(|(at, mode)| Step::MakeNode { at, mode }),
        2 => (at(), mode()).prop_map(|(at, mode)| Step::SetPermissions { at, mode }),
        1 => (at(), seconds, any::<bool>())
            .prop_map(|(at, seconds, follow)| Step::SetTimes { at, seconds, follow }),
    ];
    prop_oneof![files, names]
}

fn flags() -> impl Strategy<Value = u32> {
    let access = select(&[O_RDONLY, O_RDONLY, O_WRONLY, O_RDWR, O_RDWR][..]);
    let others = [
        (0, 6),
        (O_CREAT, 8),
        (O_CREAT | O_EXCL, 2),
        (O_TRUNC, 2),
        (O_CREAT | O_TRUNC, 2),
        (O_DIRECTORY, 6),
        (O_NOFOLLOW, 1),
        (O_PATH, 1),
        (O_PATH | O_NOFOLLOW, 1),
        (O_PATH | O_DIRECTORY, 1),
        (O_APPEND | O_CREAT, 0),
        (O_TMPFILE, 1),
        (O_TMPFILE | O_EXCL, 1),
        (O_CREAT | O_NOFOLLOW, 1),
        (O_CREAT | O_DIRECTORY, 1),
    ];
    let weighted: Vec<u32> =
        others.into_iter().flat_map(|(flags, weight)| std::iter::repeat_n(flags, weight)).collect();
    (access, select(weighted)).prop_map(|(access, others)| access | others)
}

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![12 => select(&["a", "b", "c"][..]), 1 => Just(".")]
}

fn at() -> impl Strategy<Value = At> {
    let names = proptest::collection::vec(name(), 0..4);
    let path = (names, 0..14_u32, 0..8_u32).prop_map(|(names, up, slash)| {
        let mut names = names;
        if up == 0 {
            let place = names.len() / 2;
            names.insert(place, "..");
        }
        let mut path = names.join(if slash == 1 { "//" } else { "/" });
        if slash == 0 && !path.is_empty() {
            path.push('/');
        }
        if path.is_empty() && up > 1 { "a".to_owned() } else { path }
    });
    (proptest::option::weighted(0.2, 0..SLOTS), path).prop_map(|(slot, path)| At { slot, path })
}

fn target() -> impl Strategy<Value = String> {
    const TARGETS: &[&str] = &["a", "b", "c", "a/b", "../a", "b/../c", ".", "c/", "./a/b", "nowhere", ".."];
    select(TARGETS).prop_map(str::to_owned)
}
