//! Samples by their call stacks. A guest can have as many stacks as it likes, and as deep, so there are bounds to both.

use std::collections::HashMap;
use std::iter::Sum;
use std::time::Duration;

use ampoule_symbols::CallStack;

/// How often the guest was found with each stack. The order is that in which they were first found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stacks {
    index: HashMap<Stack, usize>,
    /// In the order of the index.
    worth: Vec<Worth>,
    others: Worth,
}

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

impl Stacks {
    /// Counts a sample.
    pub(crate) fn add(&mut self, stack: &CallStack, whereabouts: Whereabouts, cpu_time: Duration) {
        let instructions = stack.instructions().take(MAX_DEPTH).collect();
        let is_truncated = stack.is_truncated() || stack.instructions().len() > MAX_DEPTH;
        self.count(Stack { instructions, is_truncated, whereabouts }, Worth { samples: 1, cpu_time });
    }

    /// Adds what was counted elsewhere.
    pub(crate) fn merge(&mut self, other: Stacks) {
        let Stacks { index, worth, others } = other;
        self.others.add(others);
        let mut stacks: Vec<(Stack, usize)> = index.into_iter().collect();
        stacks.sort_unstable_by_key(|(_, position)| *position);
        for (stack, position) in stacks {
            self.count(stack, worth[position]);
        }
    }

    /// The stacks and what the samples of each count for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Stack, Worth)> {
        let mut stacks: Vec<(&Stack, usize)> = self.index.iter().map(|(stack, position)| (stack, *position)).collect();
        stacks.sort_unstable_by_key(|(_, position)| *position);
        stacks.into_iter().map(|(stack, position)| (stack, self.worth[position]))
    }

    /// What the samples count for whose stacks were too many.
    pub(crate) fn others(&self) -> Worth {
        self.others
    }

    pub(crate) fn total(&self) -> Worth {
        self.worth.iter().copied().chain([self.others]).sum()
    }

    fn count(&mut self, stack: Stack, worth: Worth) {
        if let Some(&position) = self.index.get(&stack) {
            self.worth[position].add(worth);
        } else if self.worth.len() < MAX_STACKS {
            self.index.insert(stack, self.worth.len());
            self.worth.push(worth);
        } else {
            self.others.add(worth);
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
