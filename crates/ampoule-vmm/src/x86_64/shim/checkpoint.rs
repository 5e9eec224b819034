//! The system's memory as it was at one moment: to go back to, or to make others like it that share its pages.

use std::io;

use crate::address::PAGE_SIZE;
use crate::memory::Region;
use crate::x86_64::paging::{PageTables, TablesCheckpoint};

use super::{System, TABLES};

/// The page tables of a guest and the state that it resumes with, as they were at one moment.
#[derive(Debug)]
pub struct SystemCheckpoint {
    tables: TablesCheckpoint,
}

impl System {
    /// Remembers the page tables, and the state to [resume](System::set_resume_state) with. `tables` are this system's.
    ///
    /// # Errors
    ///
    /// What the host reports when it has no memory for it.
    pub fn checkpoint(&self, tables: &mut PageTables) -> io::Result<SystemCheckpoint> {
        Ok(SystemCheckpoint { tables: tables.checkpoint(0..TABLES / PAGE_SIZE)? })
    }

    /// Goes back to a checkpoint of this system, or of one of the same size. `tables` are this system's.
    /// [`Region::revoke`] the memory that was mapped since, and look at [`PageTables::is_stale`].
    ///
    /// # Panics
    ///
    /// When the checkpoint is of a system of another size.
    pub fn restore(&self, tables: &mut PageTables, checkpoint: &SystemCheckpoint) {
        tables.restore(&checkpoint.tables);
    }

    /// A system that is as another was at a checkpoint, and shares the pages that neither has written since.
    ///
    /// # Errors
    ///
    /// What the host reports when it has no memory or mapping for it.
    pub fn of_checkpoint(checkpoint: &SystemCheckpoint) -> io::Result<(System, PageTables)> {
        let region = Region::of_contents(checkpoint.tables.contents())?;
        let tables = PageTables::of_checkpoint(region.clone(), &checkpoint.tables);
        Ok((System { region }, tables))
    }
}
