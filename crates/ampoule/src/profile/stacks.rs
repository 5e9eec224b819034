//! What is counted by call stacks. A guest can have as many stacks as it likes, and as deep, so there are bounds to both.

use std::collections::HashMap;
use std::iter::Sum;
use std::time::Duration;

use ampoule_symbols::CallStack;

/// What is counted for each stack. The order is that in which they were first found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stacks<W> {
    index: HashMap<Stack, usize>,
    /// In the order of the index.
    worth: Vec<W>,
    others: W,
}

/// The place of a stack among others; that of all that were too many is `None`.
pub(super) type Place = Option<u32>;

/// Where a guest was when a sample was taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stack {
    /// Addresses within the instructions, innermost first.
    pub(crate) instructions: Box<[u64]>,
    /// Whether callers are missing.
    pub(crate) is_truncated: bool,
    pub(crate) whereabouts: Whereabouts,
}

/// Where the calling thread was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Whereabouts {
    Guest,
    HostFunction,
    SystemCall,
    Sleep,
}

/// What samples count for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Worth {
    pub(crate) samples: u64,
    pub(crate) cpu_time: Duration,
}

impl Stacks<Worth> {
    /// Counts a sample.
    pub(crate) fn add(&mut self, stack: &CallStack, whereabouts: Whereabouts, cpu_time: Duration) {
        let instructions = stack.instructions().take(MAX_DEPTH).collect();
        let is_truncated = stack.is_truncated() || stack.instructions().len() > MAX_DEPTH;
        let place = self.place(Stack { instructions, is_truncated, whereabouts });
        self.worth_mut(place).add(Worth { samples: 1, cpu_time });
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn merge(&mut self, other: Self) {
        let Stacks { index, worth, others } = other;
        self.others.add(others);
        let mut stacks: Vec<(Stack, usize)> = index.into_iter().collect();
        stacks.sort_unstable_by_key(|(_, position)| *position);
        for (stack, position) in stacks {
            let place = self.place(stack);
            self.worth_mut(place).add(worth[position]);
        }
    }

    pub(crate) fn total(&self) -> Worth {
        self.worth.iter().copied().chain([self.others]).sum()
    }
}

impl<W: Copy + Default> Stacks<W> {
    /// The stacks and what is counted for each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Stack, W)> {
        let mut stacks: Vec<(&Stack, usize)> = self.index.iter().map(|(stack, position)| (stack, *position)).collect();
        stacks.sort_unstable_by_key(|(_, position)| *position);
        stacks.into_iter().map(|(stack, position)| (stack, self.worth[position]))
    }

    /// What is counted for those that were too many.
    pub(crate) fn others(&self) -> W {
        self.others
    }

    /// The place of a stack. It stays the same.
    pub(super) fn place(&mut self, stack: Stack) -> Place {
        let position = match self.index.get(&stack) {
            Some(&position) => position,
            None if self.worth.len() < MAX_STACKS => {
                self.index.insert(stack, self.worth.len());
                self.worth.push(W::default());
                self.worth.len() - 1
            }
            None => return None,
        };
        Some(position as u32)
    }

    /// What is counted at a place.
    pub(super) fn worth_mut(&mut self, place: Place) -> &mut W {
        place.and_then(|place| self.worth.get_mut(place as usize)).unwrap_or(&mut self.others)
    }

    /// The same stacks, for each of which another thing is counted.
    pub(super) fn map<V>(&self, worth: impl Fn(W) -> V) -> Stacks<V> {
        Stacks {
            index: self.index.clone(),
            worth: self.worth.iter().map(|it| worth(*it)).collect(),
            others: worth(self.others),
        }
    }
}

impl Worth {
    fn add(&mut self, other: Worth) {
        self.samples += other.samples;
        self.cpu_time += other.cpu_time;
    }
}

impl Sum for Worth {
    fn sum<I: Iterator<Item = Worth>>(all: I) -> Worth {
        all.fold(Worth::default(), |mut sum, worth| {
            sum.add(worth);
            sum
        })
    }
}

/// The most calls of a stack, before inlined ones are told apart.
pub(crate) const MAX_DEPTH: usize = 128;

/// The most stacks of one executable. With the deepest stacks they take 16 MiB.
pub(super) const MAX_STACKS: usize = 16_384;
