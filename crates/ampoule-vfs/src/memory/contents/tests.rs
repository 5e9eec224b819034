//! Contents compared with a model: bytes, and which pages of them have room.

use std::fs::File;
use std::os::fd::AsFd;

use proptest::prelude::*;

use crate::Quota;
use crate::memory::Memory;

use super::*;

/// How long the host's file is, and all contents are at most.
const LOWER_LEN: usize = 6 * CHUNK_LEN + 100;
const LEN_MAX: usize = 12 * CHUNK_LEN;

#[derive(Clone, Copy, Debug)]
enum Step {
    Write { at: usize, len: usize, byte: u8 },
    SetLen { len: usize },
    Allocate { at: usize, len: usize },
    Punch { at: usize, len: usize },
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn contents_are_what_was_written_and_cost_what_they_hold(
        has_lower: bool,
        quota in 0..20_u64,
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let lower = tempfile::tempfile().unwrap();
        let mut model = Model { bytes: Vec::new(), has_room: [false; LEN_MAX / CHUNK_LEN + 1] };
        if has_lower {
            model.bytes = (0..LOWER_LEN).map(|at| (at / 7) as u8 | 1).collect();
            model.has_room[..LOWER_LEN.div_ceil(CHUNK_LEN)].fill(true);
            std::os::unix::fs::FileExt::write_all_at(&lower, &model.bytes, 0).unwrap();
        }
        let mut contents = Contents::of_lower(model.bytes.len() as u64);
        let mut usage = Memory::new().usage;
        usage.quota = Quota { bytes: quota * CHUNK, inodes: 1 };
        for step in steps {
            model.take(step, &mut contents, &mut usage, &lower);
            let mut bytes = vec![0xaa; LEN_MAX];
            let count = contents.read(&mut bytes, 0, Some(lower.as_fd())).unwrap();
            prop_assert_eq!(contents.len, model.bytes.len() as u64);
            prop_assert!(bytes[..count] == model.bytes);
            let held: u64 = contents.chunks_in(0..u64::MAX).map(|(_, chunk)| chunk.cost()).sum();
            prop_assert_eq!((contents.cost(), usage.bytes), (held, held));
            prop_assert!(held <= usage.quota.bytes);
            for at in (0..model.bytes.len()).step_by(3000) {
                prop_assert_eq!(contents.next_data(at as u64), model.next(at, true));
                prop_assert_eq!(Some(contents.next_hole(at as u64)), model.next(at, false).or(Some(contents.len)));
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let part = || {
        let place = prop_oneof![0..LEN_MAX, (0..LEN_MAX / CHUNK_LEN).prop_map(|chunk| chunk * CHUNK_LEN)];
        (place.clone(), place).prop_map(|(one, other)| (one.min(other), one.abs_diff(other).max(1)))
    };
    prop_oneof![
        (part(), any::<u8>()).prop_map(|((at, len), byte)| Step::Write { at, len, byte }),
        (0..LEN_MAX).prop_map(|len| Step::SetLen { len }),
        part().prop_map(|(at, len)| Step::Allocate { at, len }),
        part().prop_map(|(at, len)| Step::Punch { at, len }),
    ]
}

struct Model {
    bytes: Vec<u8>,
    has_room: [bool; LEN_MAX / CHUNK_LEN + 1],
}

impl Model {
    fn take(&mut self, step: Step, contents: &mut Contents, usage: &mut Usage, lower: &File) {
        let lower = Some(lower.as_fd());
        match step {
            Step::Write { at, len, byte } => {
                // What was written is a part where the quota has no room for more.
                if let Ok(count) = contents.write(&vec![byte; len], at as u64, lower, usage) {
                    self.bytes.resize(self.bytes.len().max(at + count), 0);
                    self.bytes[at..at + count].fill(byte);
                    self.has_room[at / CHUNK_LEN..(at + count).div_ceil(CHUNK_LEN)].fill(true);
                }
            }
            Step::SetLen { len } => {
                contents.set_len(len as u64, usage);
                if len < self.bytes.len() {
                    self.has_room[len.div_ceil(CHUNK_LEN)..].fill(false);
                }
                self.bytes.resize(len, 0);
            }
            Step::Allocate { at, len } => {
                let before = usage.bytes;
                match contents.allocate(at as u64, (at + len) as u64, usage, &|| Ok(())) {
                    Ok(()) => self.has_room[at / CHUNK_LEN..(at + len).div_ceil(CHUNK_LEN)].fill(true),
                    Err(_) => assert_eq!(usage.bytes, before),
                }
            }
            Step::Punch { at, len } => {
                let end = (at + len).min(self.bytes.len());
                let whole_end = (at + len).min(self.bytes.len().next_multiple_of(CHUNK_LEN));
                let punched = contents.punch(at as u64, (at + len) as u64, lower, usage, &|| Ok(()));
                if punched.is_err() || at >= whole_end {
                    // Which part of it is zeros then is not defined.
                    self.follow(contents, lower);
                    return;
                }
                if at < end {
                    self.bytes[at..end].fill(0);
                }
                let (first, last) = (at.div_ceil(CHUNK_LEN), whole_end / CHUNK_LEN);
                if first < last {
                    self.has_room[first..last].fill(false);
                }
            }
        }
    }

    /// Takes over what the contents are.
    fn follow(&mut self, contents: &Contents, lower: Option<BorrowedFd<'_>>) {
        contents.read(&mut self.bytes, 0, lower).unwrap();
        (0..).zip(&mut self.has_room).for_each(|(index, has_room)| *has_room = contents.is_data(index));
    }

    fn next(&self, from: usize, has_room: bool) -> Option<u64> {
        let chunks = from / CHUNK_LEN..self.bytes.len().div_ceil(CHUNK_LEN);
        let found = chunks.into_iter().find(|chunk| self.has_room[*chunk] == has_room)?;
        Some((found * CHUNK_LEN).max(from) as u64)
    }
}
