//! Why an image cannot be loaded.

use std::fmt;

use ampoule_vmm::WithAdvice;
use thiserror::Error;

/// Why an image could not be loaded into a guest's memory.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The host cannot hold the image's pages: it lacks memory, files or mappings, or a limit of the process forbids it.
    #[error("the host cannot hold the image's pages: {}", WithAdvice(.0))]
    Memory(std::io::Error),
    /// The image does not fit the guest's memory.
    #[error(
        "the guest image and its stack need {needed} bytes of memory, and the guest has {limit}; raise it with \
         `Builder::memory_limit`"
    )]
    MemoryLimit {
        /// Bytes that the guest needs to start. It may need more as it runs.
        needed: u64,
        /// Bytes that the guest has.
        limit: u64,
    },
    /// A segment of the image lies where the stack is to go.
    #[error(
        "the guest image's segment of {size} bytes at {address:#x} lies where the guest's stack is to be; link it at a \
         lower address, or lower `Builder::stack_size`"
    )]
    NoRoom {
        /// Address of the segment.
        address: u64,
        /// Bytes of the segment in memory.
        size: u64,
    },
    /// There are not enough page tables for a part of the guest's memory.
    #[error(
        "the {size} bytes at {address:#x} need more page tables than a guest of this size has; raise \
         `Builder::memory_limit`"
    )]
    PageTables {
        /// Address of the part.
        address: u64,
        /// Bytes of the part.
        size: u64,
    },
    /// The stack cannot be this large.
    #[error("a stack of {size} bytes does not fit the guest's addresses; lower `Builder::stack_size`")]
    StackSize {
        /// Bytes that were requested.
        size: usize,
    },
    /// Arguments and environment are too large.
    #[error(
        "the guest's arguments and environment take {needed} bytes on its stack, and may take {limit}: a quarter of \
         the stack (`Builder::stack_size`), 131072 bytes at most"
    )]
    StartTextTooLong {
        /// Bytes that they take.
        needed: usize,
        /// Bytes that they may take.
        limit: usize,
    },
    /// An argument or a variable cannot be passed to a program, because it would not arrive unchanged.
    #[error("{text} holds {character:?}, which cannot be part of it")]
    StartText {
        /// The text.
        text: StartText,
        /// The character.
        character: char,
    },
    /// A variable of the environment has no name.
    #[error("a variable of the guest's environment has an empty name")]
    UnnamedVariable,
}

/// A text that a program finds when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartText {
    /// An argument.
    Argument {
        /// Its index; 0 is the program's name.
        index: usize,
    },
    /// The name of a variable of the environment.
    VariableName {
        /// The name.
        name: String,
    },
    /// The value of a variable of the environment.
    VariableValue {
        /// The variable's name.
        name: String,
    },
}

impl fmt::Display for StartText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument { index } => write!(f, "argument {index} of the guest"),
            Self::VariableName { name } => write!(f, "the name of the guest's environment variable {name:?}"),
            Self::VariableValue { name } => write!(f, "the value of the guest's environment variable {name:?}"),
        }
    }
}
