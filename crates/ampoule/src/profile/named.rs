//! Stacks with the names of their functions.

use std::collections::HashMap;

use ampoule_symbols::{Frame, Symbols};

use super::stacks::{Stack, Stacks, Whereabouts, Worth};
use crate::image::Executable;

/// The stacks of one executable, and what it says of each instruction in them.
pub(super) struct Named<'profile> {
    pub(super) executable: &'profile Executable,
    pub(super) stacks: Vec<(&'profile Stack, Worth)>,
    /// What the samples count for that have no stack.
    pub(super) others: Worth,
    /// The instructions in ascending order, and for each the functions there: the one that it is of, and before it those that
    /// were inlined, innermost first.
    pub(super) instructions: Vec<(u64, Vec<Frame>)>,
    position: HashMap<u64, usize>,
}

impl<'profile> Named<'profile> {
    pub(super) fn new(executable: &'profile Executable, stacks: &'profile Stacks) -> Self {
        let others = stacks.others();
        let stacks: Vec<(&Stack, Worth)> = stacks.iter().collect();
        let mut instructions: Vec<u64> =
            stacks.iter().flat_map(|(stack, _)| stack.instructions.iter().copied()).collect();
        instructions.sort_unstable();
        instructions.dedup();
        let frames = Symbols::new(executable.file(), executable.bias()).name_instructions(&instructions);
        let position = instructions.iter().copied().zip(0..).collect();
        Self { executable, stacks, others, instructions: instructions.into_iter().zip(frames).collect(), position }
    }

    /// Which of the [instructions](Self::instructions) of the stack are, innermost first.
    pub(super) fn positions(&self, stack: &Stack) -> impl Iterator<Item = usize> {
        stack.instructions.iter().map(|instruction| self.position[instruction])
    }

    /// The names of the stack's functions, outermost first.
    pub(super) fn names(&self, stack: &Stack) -> Vec<String> {
        let mut names: Vec<String> = stack.is_truncated.then(|| TRUNCATED.to_owned()).into_iter().collect();
        let instructions: Vec<usize> = self.positions(stack).collect();
        for &position in instructions.iter().rev() {
            names.extend(self.instructions[position].1.iter().rev().map(name));
        }
        names.extend(host_side(stack.whereabouts).map(str::to_owned));
        names
    }
}

/// A function's name, or where in the image code without a name is.
pub(super) fn name(frame: &Frame) -> String {
    match (&frame.function, &frame.place) {
        (Some(function), _) => function.clone(),
        (None, Some(place)) => format!("[{place}]"),
        (None, None) => format!("[{:#x}]", frame.address),
    }
}

/// What stands for a function where the host worked on the guest's behalf.
pub(super) fn host_side(whereabouts: Whereabouts) -> Option<&'static str> {
    match whereabouts {
        Whereabouts::Guest => None,
        Whereabouts::HostFunction => Some("[host function]"),
        Whereabouts::SystemCall => Some("[system call]"),
        Whereabouts::Sleep => Some("[sleep]"),
    }
}

/// What stands for the callers of a stack that was too deep.
pub(super) const TRUNCATED: &str = "[truncated]";

/// What stands for all stacks that were too many.
pub(super) const OTHER_STACKS: &str = "[other stacks]";
