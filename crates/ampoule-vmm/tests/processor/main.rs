//! The door of processors: what every backend behind it owes to those who run guests, asked through its traits only.

mod checkpoints;
mod code;
mod contexts;
mod events;
mod failures;
mod guest;
mod interruptions;
mod steps;
