//! Stacks with the names of their functions.

use std::collections::HashMap;

use ampoule_symbols::Frame;

use super::stacks::{Stack, Stacks, Whereabouts};
use crate::image::Executable;
use crate::libraries::Libraries;

/// The stacks of one executable, and what it and its libraries say of each instruction in them.
pub(super) struct Named<'profile, W> {
    pub(super) executable: &'profile Executable,
    pub(super) libraries: &'profile Libraries,
    pub(super) stacks: Vec<(&'profile Stack, W)>,
    /// What is counted for those that were too many.
    pub(super) others: W,
    /// The instructions in ascending order, and for each the functions there: the one that it is of, and before it those that
    /// were inlined, innermost first.
    pub(super) instructions: Vec<(u64, Vec<Frame>)>,
    position: HashMap<u64, usize>,
}

impl<'profile, W: Copy + Default> Named<'profile, W> {
    /// Names these stacks, without the functions that `is_left_out`.
    pub(super) fn new(
        (executable, libraries): (&'profile Executable, &'profile Libraries),
        stacks: &'profile Stacks<W>,
        is_left_out: impl Fn(&Frame) -> bool,
    ) -> Self {
        let others = stacks.others();
        let stacks: Vec<(&Stack, W)> = stacks.iter().collect();
        let mut instructions: Vec<u64> =
            stacks.iter().flat_map(|(stack, _)| stack.instructions.iter().copied()).collect();
        instructions.sort_unstable();
        instructions.dedup();
        let frames = libraries.images(executable).name_instructions(&instructions);
        let mut instructions: Vec<(u64, Vec<Frame>)> = instructions.into_iter().zip(frames).collect();
        instructions.iter_mut().for_each(|(_, frames)| frames.retain(|frame| !is_left_out(frame)));
        instructions.retain(|(_, frames)| !frames.is_empty());
        let position = instructions.iter().map(|(instruction, _)| *instruction).zip(0..).collect();
        Self { executable, libraries, stacks, others, instructions, position }
    }

    /// Which of the [instructions](Self::instructions) of the stack are, innermost first.
    pub(super) fn positions(&self, stack: &Stack) -> impl Iterator<Item = usize> {
        stack.instructions.iter().filter_map(|instruction| self.position.get(instruction).copied())
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
