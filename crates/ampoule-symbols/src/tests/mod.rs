//! Symbols of real programs, and of files and stacks that were made to do harm.

mod compressed;
mod fixture;
mod hostile_images;
mod hostile_stacks;
mod libraries;
mod own_stack;
mod small_stacks;
mod sources;
