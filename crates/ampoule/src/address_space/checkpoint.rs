//! An address space as it was at one moment, to go back to.

use ampoule_vmm::{GuestVirt, PAGE_SIZE};

use super::{AddressSpace, FirstFrame, Layout, MapError, PAGE, address};

/// What an address space held at one moment.
#[derive(Debug)]
pub(crate) struct SpaceCheckpoint {
    layout: Layout,
    /// The pages that held anything but zeros, by ascending frame.
    pages: Vec<SavedPage>,
}

/// A page's contents.
#[derive(Debug)]
struct SavedPage {
    frame: u64,
    /// Where the guest sees it, as a page number.
    page: u64,
    /// `None` where the page is as the image has it, which is not kept twice.
    contents: Option<Box<[u8; PAGE_SIZE]>>,
}

/// The contents of the page at an address, where the image has a whole one.
type ImagePages<'image> = &'image dyn Fn(GuestVirt) -> Option<&'image [u8]>;

impl AddressSpace {
    /// Remembers the present state.
    pub(crate) fn checkpoint(&self, image: ImagePages<'_>) -> SpaceCheckpoint {
        let mut pages = Vec::new();
        for (range, FirstFrame(first)) in self.layout.backing.overlapping(&(0..u64::MAX)) {
            for (page, frame) in range.clone().zip(first..) {
                let mut contents = [0; PAGE_SIZE];
                self.ram.read((frame * PAGE) as usize, &mut contents).expect(FRAMES);
                if contents == [0; PAGE_SIZE] {
                    continue;
                }
                let as_in_image = image(address(page)) == Some(&contents);
                pages.push(SavedPage { frame, page, contents: (!as_in_image).then(|| Box::new(contents)) });
            }
        }
        pages.sort_unstable_by_key(|saved| saved.frame);
        SpaceCheckpoint { layout: self.layout.clone(), pages }
    }

    /// Goes back to a state of this address space.
    ///
    /// # Errors
    ///
    /// A [`MapError`] when the page tables or the hypervisor's cache could not be changed. The address space is neither in
    /// the old state nor in the new one then.
    pub(crate) fn restore(&mut self, checkpoint: &SpaceCheckpoint, image: ImagePages<'_>) -> Result<(), MapError> {
        let changed = !self.layout.maps_the_same_as(&checkpoint.layout);
        if changed {
            for (range, _) in self.layout.mappings.overlapping(&(0..u64::MAX)) {
                self.tables.unmap(address(range.start), (range.end - range.start) as usize);
            }
        }
        self.layout = checkpoint.layout.clone();
        if changed {
            let mappings: Vec<_> = self.layout.mappings.overlapping(&(0..u64::MAX)).collect();
            for (range, mapping) in mappings {
                self.set_entries(&range, mapping.protection)?;
            }
            self.ram.revoke(0, self.ram.len())?;
        }
        self.restore_contents(checkpoint, image);
        Ok(())
    }

    fn restore_contents(&self, checkpoint: &SpaceCheckpoint, image: ImagePages<'_>) {
        let mut next = 0;
        for saved in &checkpoint.pages {
            self.clear_frames(&(next..saved.frame));
            let contents: &[u8] = match &saved.contents {
                Some(contents) => &**contents,
                None => image(address(saved.page)).expect("the image is the one that the checkpoint was made with"),
            };
            self.ram.write((saved.frame * PAGE) as usize, contents).expect(FRAMES);
            next = saved.frame + 1;
        }
        self.clear_frames(&(next..self.layout.frames.total()));
    }
}

impl Layout {
    /// Whether the page tables are the same.
    fn maps_the_same_as(&self, other: &Self) -> bool {
        self.mappings == other.mappings && self.backing == other.backing
    }
}

const FRAMES: &str = "the allocator's frames lie within the memory that it was made for";
