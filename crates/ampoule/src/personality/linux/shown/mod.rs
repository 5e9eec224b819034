//! System calls as people read them, in the way of `strace`: names of calls, flags and errors, and what pointers lead to.
//!
//! A line has two parts. What the guest gives is written before the call is served, up to the first argument that the call
//! itself fills in; the rest afterwards. Memory of the guest is read as the guest itself could, and of each argument a
//! bounded amount is shown, escaped; what cannot be read is shown as the number that it is.

mod flags;
mod table;

use std::fmt::Write;

use ampoule_vmm::{GuestVirt, SystemCall};
use linux_raw_sys::general::{__O_TMPFILE, AT_FDCWD, O_CREAT, timespec};

use crate::address_space::AddressSpace;

use super::errno::Errno;
use super::files;
use super::structure::read_fields;
use super::{Place, groups};
use flags::Names;

/// What an argument is.
#[derive(Clone, Copy)]
enum Argument {
    /// A file descriptor.
    Descriptor,
    /// What `openat` and its kin look up paths from.
    Directory,
    /// A signed number of 32 bits.
    Int,
    /// A number without a sign.
    Count,
    /// A place in a file.
    Offset,
    /// Permissions of a file.
    Mode,
    /// Permissions of a file, which are given where these flags of `open` create one.
    ModeOfCreated { flags: usize },
    /// An address.
    Pointer,
    /// A string that ends with a zero.
    Path,
    /// Bytes that the call reads: as many as this argument says.
    Bytes { len: usize },
    /// Bytes that the call writes: as many as it returns.
    Filled,
    /// Buffers that the call reads: as many as this argument says.
    Buffers { count: usize },
    /// Buffers that the call fills in.
    FilledBuffers { count: usize },
    /// A time that the call reads.
    Time,
    /// Two descriptors that the call writes.
    Pair,
    /// One of these.
    One(Names),
    /// Some of these.
    Some(Names),
    /// In these bits one of the first, and in all others some of the last.
    Both(Names, u32, Names),
}

/// What a call returns where it succeeds.
#[derive(Clone, Copy)]
enum Returned {
    Number,
    Address,
}

/// The beginning of a line about a call that the guest makes.
pub(super) fn entered(call: &SystemCall, space: &AddressSpace) -> String {
    let mut line = match groups::name(call.number) {
        Some(name) => format!("{name}("),
        None => format!("syscall_{:#x}(", call.number),
    };
    let (arguments, _) = table::of(call.number);
    let given = arguments.iter().take_while(|argument| !argument.is_filled_in()).count();
    Writer { call, space, line: &mut line, result: None }.arguments(arguments, 0..given);
    line
}

/// The rest of the line: what the call has filled in, and its result, unless the guest has ended in it.
pub(super) fn left(call: &SystemCall, result: Option<u64>, space: &AddressSpace, line: &mut String) {
    let (arguments, returned) = table::of(call.number);
    let given = arguments.iter().take_while(|argument| !argument.is_filled_in()).count();
    let error = result.and_then(Errno::name_in);
    let filled = result.filter(|_| error.is_none());
    Writer { call, space, line, result: filled }.arguments(arguments, given..arguments.len());
    line.push_str(") = ");
    match (result, error, returned) {
        (None, ..) => line.push('?'),
        (_, Some(name), _) => put(line, format_args!("-1 {name}")),
        (Some(result), None, Returned::Number) => put(line, format_args!("{}", result as i64)),
        (Some(result), None, Returned::Address) => put(line, format_args!("{result:#x}")),
    }
}

impl Argument {
    /// Whether it can be shown only when the call is over.
    fn is_filled_in(self) -> bool {
        matches!(self, Self::Filled | Self::FilledBuffers { .. } | Self::Pair)
    }
}

struct Writer<'a> {
    call: &'a SystemCall,
    space: &'a AddressSpace,
    line: &'a mut String,
    /// What the call has returned, if it has succeeded.
    result: Option<u64>,
}

impl Writer<'_> {
    fn arguments(&mut self, arguments: &[Argument], which: std::ops::Range<usize>) {
        for index in which {
            if let Argument::ModeOfCreated { flags } = arguments[index]
                && self.call.arguments[flags] & u64::from(O_CREAT | __O_TMPFILE) == 0
            {
                continue;
            }
            if index > 0 {
                self.line.push_str(", ");
            }
            self.argument(arguments[index], self.call.arguments[index]);
        }
    }

    fn argument(&mut self, argument: Argument, value: u64) {
        let led_to = match argument {
            Argument::Descriptor | Argument::Int => return put(self.line, value as i32),
            Argument::Directory if value as i32 == AT_FDCWD => return put(self.line, "AT_FDCWD"),
            Argument::Directory => return put(self.line, value as i32),
            Argument::Count => return put(self.line, value),
            Argument::Offset => return put(self.line, value as i64),
            Argument::Mode | Argument::ModeOfCreated { .. } => return put(self.line, format_args!("0{value:03o}")),
            Argument::One(names) => return self.one(names, value),
            Argument::Some(names) => return self.some(names, value),
            Argument::Both(choices, mask, names) => return self.both((choices, mask), names, value),
            Argument::Pointer => None,
            Argument::Path => self.path(value),
            Argument::Bytes { len } => self.bytes(value, self.call.arguments[len]),
            Argument::Filled => self.result.and_then(|len| self.bytes(value, len)),
            Argument::Buffers { count } => self.buffers(value, self.call.arguments[count], u64::MAX),
            Argument::FilledBuffers { count } => {
                self.result.and_then(|len| self.buffers(value, self.call.arguments[count], len))
            }
            Argument::Time => self.time(value),
            Argument::Pair => self.result.and_then(|_| self.pair(value)),
        };
        match led_to {
            Some(()) => {}
            None if value == 0 => self.line.push_str("NULL"),
            None => put(self.line, format_args!("{value:#x}")),
        }
    }

    fn path(&mut self, at: u64) -> Option<()> {
        match self.space.read_c_string(GuestVirt(at), MAX_SHOWN) {
            Ok(path) => self.quoted(&path, path.len() as u64),
            // It has no end within what is shown, or cannot be read.
            Err(_) => return self.bytes(at, u64::MAX),
        }
        Some(())
    }

    fn bytes(&mut self, at: u64, len: u64) -> Option<()> {
        let mut bytes = [0; MAX_SHOWN];
        let shown = &mut bytes[..len.min(MAX_SHOWN as u64) as usize];
        self.space.read(GuestVirt(at), shown).ok()?;
        self.quoted(shown, len);
        Some(())
    }

    /// The beginning of a text of this length.
    fn quoted(&mut self, shown: &[u8], len: u64) {
        let more = if len > shown.len() as u64 { "..." } else { "" };
        put(self.line, format_args!("\"{}\"{more}", shown.escape_ascii()));
    }

    /// Buffers that hold `len` bytes together, or as many as they say.
    fn buffers(&mut self, at: u64, count: u64, mut len: u64) -> Option<()> {
        let shown = count.min(MAX_BUFFERS);
        let buffers = files::places(self.space, at, shown).ok()?;
        self.line.push('[');
        for (index, Place { at: base, len: size }) in buffers.into_iter().enumerate() {
            self.line.push_str(if index > 0 { ", {iov_base=" } else { "{iov_base=" });
            let holds = size.min(len);
            len -= holds;
            if self.bytes(base, holds).is_none() {
                put(self.line, format_args!("{base:#x}"));
            }
            put(self.line, format_args!(", iov_len={size}}}"));
        }
        self.line.push_str(if count > shown { ", ...]" } else { "]" });
        Some(())
    }

    fn time(&mut self, at: u64) -> Option<()> {
        let (seconds, nanoseconds) = read_fields!(self.space, at, timespec { tv_sec, tv_nsec }).ok()?;
        put(self.line, format_args!("{{tv_sec={seconds}, tv_nsec={nanoseconds}}}"));
        Some(())
    }

    fn pair(&mut self, at: u64) -> Option<()> {
        let both = self.space.read_u64(GuestVirt(at)).ok()?;
        put(self.line, format_args!("[{}, {}]", both as i32, (both >> 32) as i32));
        Some(())
    }

    fn both(&mut self, (choices, mask): (Names, u32), names: Names, value: u64) {
        let choice = value & u64::from(mask);
        self.one(choices, choice);
        if value as u32 != choice as u32 {
            self.line.push('|');
            self.some(names, value ^ choice);
        }
    }

    fn one(&mut self, names: Names, value: u64) {
        // They are of 32 bits, whatever the upper half of the register holds.
        let value = value as u32;
        match names.iter().find(|(_, named)| *named == value) {
            Some((name, _)) => self.line.push_str(name),
            None => put(self.line, format_args!("{value:#x}")),
        }
    }

    fn some(&mut self, names: Names, value: u64) {
        let mut rest = value as u32;
        if let Some((name, _)) = names.iter().find(|(_, named)| *named == rest) {
            return self.line.push_str(name);
        }
        let mut separator = "";
        for (name, bits) in names.iter().filter(|(_, bits)| *bits != 0) {
            if rest & bits == *bits {
                put(self.line, format_args!("{separator}{name}"));
                (separator, rest) = ("|", rest & !bits);
            }
        }
        if rest != 0 || separator.is_empty() {
            put(self.line, format_args!("{separator}{rest:#x}"));
        }
    }
}

fn put(line: &mut String, text: impl std::fmt::Display) {
    write!(line, "{text}").expect("text goes into a string");
}

/// How much of a text is shown, in bytes.
const MAX_SHOWN: usize = 64;

/// How many buffers of a list are shown.
const MAX_BUFFERS: u64 = 4;
