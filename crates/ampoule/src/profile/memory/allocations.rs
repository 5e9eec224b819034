//! The accounts of a guest's blocks: by stack, and by address for as long as they are live.
//!
//! What is recorded comes from the guest, and may be anything: blocks that lie within others, are allocated twice, freed twice or
//! never, or are larger than all memory. The accounts stay bounded, and each block is in them once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ampoule_abi::layout::AllocationRecord;

use super::super::stacks::{Place, Stack, Stacks, Whereabouts};
use super::{Measured, MemoryProfile};
use crate::image::Executable;

/// The accounts of one guest's blocks.
#[derive(Debug)]
pub(crate) struct Allocations {
    /// Which accounts these are.
    identity: Arc<()>,
    stacks: Stacks<Account>,
    blocks: HashMap<u64, Block>,
    all: Measured,
    unassigned: Unassigned,
    /// How often what is live has become more than ever before.
    peaks: u64,
    began: (SystemTime, Instant),
}

/// The blocks that were live at one moment of a guest whose memory is profiled.
#[derive(Clone, Debug)]
pub(crate) struct LiveBlocks {
    accounts: Arc<()>,
    blocks: HashMap<u64, Block>,
}

/// Blocks of some kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) blocks: u64,
    pub(super) bytes: u64,
}

/// What has a place in no account of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unassigned {
    /// Blocks that were too many to be followed.
    pub(super) untracked: u64,
    /// Frees of blocks that are not known.
    pub(super) frees: u64,
}

/// A live block.
#[derive(Clone, Copy, Debug)]
struct Block {
    size: u64,
    place: Place,
}

/// The blocks of one stack.
///
/// A peak changes what every account has of it, and there may be one with each allocation. So an account takes note of it only
/// when it changes for the first time afterwards; until then it has what it had at the peak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    live: Amount,
    total: Amount,
    /// What was live at the peak of this number.
    noted: Amount,
    noted_at: u64,
}

impl Allocations {
    pub(crate) fn new() -> Self {
        Self {
            identity: Arc::new(()),
            stacks: Stacks::default(),
            blocks: HashMap::new(),
            all: Measured::default(),
            unassigned: Unassigned::default(),
            peaks: 0,
            began: (SystemTime::now(), Instant::now()),
        }
    }

    /// Takes note of what the guest has recorded.
    pub(crate) fn note(&mut self, record: &AllocationRecord<'_>) {
        match record {
            AllocationRecord::Allocated { address, size, callers } => {
                // A caller is at the call, in front of the return address.
                let instructions = callers.addresses().map(|address| address.wrapping_sub(1)).collect();
                let is_truncated = callers.are_missing();
                self.allocated(*address, *size, Stack { instructions, is_truncated, whereabouts: Whereabouts::Guest });
            }
            AllocationRecord::Freed { address } => {
                if !self.freed(*address) {
                    self.unassigned.frees += 1;
                }
            }
        }
    }

    /// The blocks that are live now.
    pub(crate) fn live_blocks(&self) -> LiveBlocks {
        LiveBlocks { accounts: Arc::clone(&self.identity), blocks: self.blocks.clone() }
    }

    /// The guest has gone back to a state in which these blocks were live. Where those are not from these accounts, the state is
    /// from before they began or of another guest, and has no block that they know.
    pub(crate) fn restore(&mut self, live: Option<&LiveBlocks>) {
        let gone: Vec<u64> = self.blocks.keys().copied().collect();
        for address in gone {
            self.freed(address);
        }
        let Some(live) = live.filter(|live| Arc::ptr_eq(&live.accounts, &self.identity)) else { return };
        for (address, block) in &live.blocks {
            // They were live together before, so there is no new peak.
            self.track(*address, *block);
        }
    }

    /// What the accounts are now, of a guest of this executable.
    pub(crate) fn profile(&self, executable: Executable) -> MemoryProfile {
        let (began, since) = self.began;
        MemoryProfile {
            executable,
            stacks: self.stacks.map(|account| account.measured(self.peaks)),
            all: self.all,
            unassigned: self.unassigned,
            began,
            duration: since.elapsed(),
        }
    }

    fn allocated(&mut self, address: u64, size: u64, stack: Stack) {
        let place = self.stacks.place(stack);
        let block = Block { size: size.min(LARGEST), place };
        for total in [&mut self.all.total, &mut self.stacks.worth_mut(place).total] {
            total.add(block.size);
        }
        // Nobody has freed what lies there any more.
        self.freed(address);
        if self.blocks.len() == MAX_BLOCKS {
            self.unassigned.untracked += 1;
            return;
        }
        self.track(address, block);
        if self.all.live.bytes > self.all.peak.bytes {
            self.all.peak = self.all.live;
            self.peaks += 1;
        }
    }

    /// Takes a block for live.
    fn track(&mut self, address: u64, block: Block) {
        self.blocks.insert(address, block);
        self.all.live.add(block.size);
        self.stacks.worth_mut(block.place).live_mut(self.peaks).add(block.size);
    }

    /// Takes the block at an address for freed, if there is one.
    fn freed(&mut self, address: u64) -> bool {
        let Some(block) = self.blocks.remove(&address) else { return false };
        self.all.live.remove(block.size);
        self.stacks.worth_mut(block.place).live_mut(self.peaks).remove(block.size);
        true
    }
}

impl Account {
    /// What is live, to be changed. There have been so many peaks.
    fn live_mut(&mut self, peaks: u64) -> &mut Amount {
        (self.noted, self.noted_at) = (self.at_peak(peaks), peaks);
        &mut self.live
    }

    fn at_peak(&self, peaks: u64) -> Amount {
        if self.noted_at == peaks { self.noted } else { self.live }
    }

    fn measured(&self, peaks: u64) -> Measured {
        Measured { live: self.live, peak: self.at_peak(peaks), total: self.total }
    }
}

impl Amount {
    /// Of all blocks that a guest ever has, the bytes can be more than there are numbers.
    fn add(&mut self, size: u64) {
        self.blocks += 1;
        self.bytes = self.bytes.saturating_add(size);
    }

    /// Removes a block that was added. Live blocks are never that many bytes: see [`LARGEST`].
    fn remove(&mut self, size: u64) {
        self.blocks -= 1;
        self.bytes -= size;
    }
}

/// The most blocks that are followed. They take 50 MB of the host's memory.
pub(super) const MAX_BLOCKS: usize = 1 << 20;

/// The size that a block is taken for at most, in bytes: more than the memory of any guest, and so few that the sizes of
/// [`MAX_BLOCKS`] add up.
pub(super) const LARGEST: u64 = 1 << 40;
