//! Which pages are in a core dump, and in which order.
//!
//! A segment covers pages that follow each other in the guest's addresses: first those that are in the file, then zeros, which
//! are not. Debuggers read what a segment covers beyond its bytes in the file as zeros, and report what no segment covers as
//! missing. So a page that is left out for lack of room is in no segment.

use std::ops::Range;

use ampoule_vmm::{GuestVirt, PAGE_SIZE};

use super::{Memory, Process};
use crate::address_space::{MappingKind, Protection, Purpose, Run};

/// Pages that follow each other in the guest's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) at: GuestVirt,
    /// How many pages are in the file.
    pub(super) pages: u64,
    /// How many pages of zeros follow.
    pub(super) zeros: u64,
    pub(super) protection: Protection,
    rank: Rank,
}

/// How much it helps to have a part of the memory: the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The stack, from the stack pointer on.
    Stack,
    /// What the guest can write, and what it shares with the host.
    Data,
    /// What is in the image too, as a rule.
    Other,
    /// What the application has too.
    Host,
}

/// What is to be written.
#[derive(Debug)]
pub(super) struct Plan {
    /// By how much they help, and then by their addresses.
    pub(super) segments: Vec<Segment>,
    /// Bytes of memory that are left out.
    pub(super) omitted: u64,
}

impl Segment {
    pub(super) fn file_len(&self) -> u64 {
        self.pages * PAGE
    }

    pub(super) fn memory_len(&self) -> u64 {
        (self.pages + self.zeros) * PAGE
    }

    fn end(&self) -> GuestVirt {
        GuestVirt(self.at.0 + self.memory_len())
    }
}

impl Plan {
    /// All memory of the process, as far as there may be so many segments.
    pub(super) fn new(process: &Process<'_>) -> Self {
        let mut segments = Vec::new();
        let stack = live_stack(&process.runs, process.stack_pointer);
        for (run, rank) in process.runs.iter().flat_map(|run| ranked(run, &stack)) {
            let Some(first) = run.memory else {
                // A guest can reserve far more addresses than it has memory for.
                add_zeros(&mut segments, &run, rank);
                continue;
            };
            for page in 0..run.pages {
                let piece = Run { at: GuestVirt(run.at.0 + page * PAGE), pages: 1, ..run };
                if is_stored(&run, first + page as usize, process.memory) {
                    add_page(&mut segments, &piece, rank);
                } else {
                    add_zeros(&mut segments, &piece, rank);
                }
            }
        }
        segments.sort_by_key(|segment| (segment.rank, segment.at));
        let omitted = segments.iter().skip(MAX_SEGMENTS).map(Segment::file_len).sum();
        segments.truncate(MAX_SEGMENTS);
        Self { segments, omitted }
    }

    /// Leaves out what does not fit into so many bytes of the file.
    pub(super) fn cut_to(&mut self, bytes: u64) {
        let mut room = bytes / PAGE;
        for segment in &mut self.segments {
            let kept = segment.pages.min(room);
            if kept < segment.pages {
                self.omitted += (segment.pages - kept) * PAGE;
                (segment.pages, segment.zeros) = (kept, 0);
            }
            room -= kept;
        }
        self.segments.retain(|segment| segment.memory_len() > 0);
    }
}

/// The part of the stack that is in use: from the page of the stack pointer to the end of what is mapped there without a gap,
/// with the same protection. Nothing, where the stack pointer points to nothing.
fn live_stack(runs: &[Run], stack_pointer: GuestVirt) -> Range<GuestVirt> {
    let start = stack_pointer.page_start();
    let mut rest = runs[runs.partition_point(|run| run.end() <= start)..].iter();
    let Some(first) = rest.next().filter(|run| run.at <= start) else { return start..start };
    let mut end = first.end();
    for run in rest.take_while(|run| run.protection == first.protection) {
        if run.at != end {
            break;
        }
        end = run.end();
    }
    start..end
}

/// The parts of a run below, in and above the stack, with their ranks.
fn ranked(run: &Run, stack: &Range<GuestVirt>) -> impl Iterator<Item = (Run, Rank)> {
    let rank = match run.purpose {
        Purpose::Shared => Rank::Data,
        Purpose::Mapping(_) if run.protection.is_writable() => Rank::Data,
        Purpose::Mapping(_) => Rank::Other,
        Purpose::Host { .. } => Rank::Host,
    };
    let [start, end] = [stack.start, stack.end].map(|at| at.clamp(run.at, run.end()));
    let parts = [(run.at..start, rank), (start..end, Rank::Stack), (end..run.end(), rank)];
    let run = *run;
    parts.into_iter().filter(|(part, _)| part.start < part.end).map(move |(part, rank)| {
        let skipped = (part.start.0 - run.at.0) / PAGE;
        let pages = (part.end.0 - part.start.0) / PAGE;
        (Run { at: part.start, pages, memory: run.memory_of(skipped), ..run }, rank)
    })
}

/// Whether a page has to be in the file. Where it is not, a debugger takes that of the image's file or the host's, if the page
/// belongs to one, and zeros otherwise.
fn is_stored(run: &Run, page: usize, memory: &dyn Memory) -> bool {
    match run.purpose {
        Purpose::Mapping(MappingKind::Image) | Purpose::Host { file: Some(_) } => memory.is_touched(page),
        Purpose::Mapping(_) if !memory.is_touched(page) => false,
        // What is the host's alone in shared memory counts as untouched.
        Purpose::Mapping(_) | Purpose::Shared | Purpose::Host { file: None } => {
            let mut bytes = [0; PAGE_SIZE];
            memory.read(page, &mut bytes);
            bytes != [0; PAGE_SIZE]
        }
    }
}

/// Adds a page that is in the file, to the last segment or to a new one.
fn add_page(segments: &mut Vec<Segment>, page: &Run, rank: Rank) {
    match last_before(segments, page, rank).filter(|last| last.zeros < FEW_ZEROS) {
        Some(last) => {
            last.pages += last.zeros + 1;
            last.zeros = 0;
        }
        None => segments.push(Segment { at: page.at, pages: 1, zeros: 0, protection: page.protection, rank }),
    }
}

/// Adds pages of zeros.
fn add_zeros(segments: &mut Vec<Segment>, run: &Run, rank: Rank) {
    match last_before(segments, run, rank) {
        Some(last) => last.zeros += run.pages,
        None => segments.push(Segment { at: run.at, pages: 0, zeros: run.pages, protection: run.protection, rank }),
    }
}

/// The last segment, if these pages continue it.
fn last_before<'segments>(segments: &'segments mut [Segment], run: &Run, rank: Rank) -> Option<&'segments mut Segment> {
    segments.last_mut().filter(|last| last.end() == run.at && (last.protection, last.rank) == (run.protection, rank))
}

const PAGE: u64 = PAGE_SIZE as u64;

/// So few zeros between other pages are written, for the sake of fewer segments.
const FEW_ZEROS: u64 = 16;

/// The most segments beside that of the notes: an ELF header has 16 bits for their number, of which the last value means more
/// (`PN_XNUM`).
pub(super) const MAX_SEGMENTS: usize = 0xfffd;
