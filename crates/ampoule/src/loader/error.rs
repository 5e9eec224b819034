//! Why an image cannot be loaded.

use std::fmt;

use ampoule_abi::text::printable_name;
use ampoule_vfs::Errno;
use ampoule_vmm::WithAdvice;
use thiserror::Error;

use crate::image::ImageError;

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

/// Why nothing can be started for a file that is to be executed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// The program cannot be read.
    #[error("the program `{}` cannot be read in the sandbox: {reason}", printable_name(program))]
    Program {
        /// Its path.
        program: Box<str>,
        /// What a system call would say.
        reason: Errno,
    },
    /// It is no executable that can run here, or the interpreter that links it is none.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// What links it with its libraries is not there.
    #[error(
        "the program `{}` is dynamically linked by `{}`, which cannot be read in the sandbox ({reason}); grant it the host's \
         libraries (`Files::libraries`, `--libs`), or a root directory that has them",
        printable_name(program),
        printable_name(interpreter)
    )]
    Interpreter {
        /// The path of the program.
        program: Box<str>,
        /// The path of what links it.
        interpreter: Box<str>,
        /// What a system call would say.
        reason: Errno,
    },
    /// The interpreter of a script is not there.
    #[error(
        "the script `{}` is for `{}`, which cannot be read in the sandbox ({reason}); run the interpreter itself, with the \
         script as its argument, or grant the directory that it is in",
        printable_name(script),
        printable_name(interpreter)
    )]
    ScriptInterpreter {
        /// The path of the script.
        script: Box<str>,
        /// The path of its interpreter.
        interpreter: Box<str>,
        /// What a system call would say.
        reason: Errno,
    },
    /// The first line of a script does not say what interprets it.
    #[error(
        "the script `{}` does not name its interpreter in its first 256 bytes, behind `#!`",
        printable_name(script)
    )]
    ScriptLine {
        /// The path of the script.
        script: Box<str>,
    },
    /// Scripts interpret each other.
    #[error("the script `{}` leads to more than {limit} scripts that interpret one another", printable_name(program))]
    TooManyScripts {
        /// The path of the first.
        program: Box<str>,
        /// The most that there may be.
        limit: usize,
    },
}
