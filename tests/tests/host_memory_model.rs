//! Random histories of sandboxes with memory of the host's, compared with a model: what is mapped where, what each guest reads
//! there, and what is gone.

use std::fs::File;
use std::os::unix::fs::FileExt;

use ampoule::{Call, CallError, HostMapping, HostMemory, MapAccess, MapAt, MapMemoryError, Sandbox, Snapshot};
use ampoule_tests::memory_builder;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn guests_see_what_the_model_says(steps in proptest::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check(step);
        }
    }
}

/// What happens, to one of the sandboxes.
#[derive(Clone, Debug)]
enum Step {
    Map {
        of: usize,
        source: Source,
        access: MapAccess,
        /// The name by which it is a file, unless it has none.
        name: Option<u8>,
    },
    Unmap {
        of: usize,
        mapping: usize,
    },
    Write {
        of: usize,
        mapping: usize,
        page: usize,
        value: u8,
    },
    /// A slice of the application's, from here on, for a call that may end the guest.
    Lend {
        of: usize,
        start: usize,
        len: usize,
        ends: bool,
    },
    Snapshot {
        of: usize,
    },
    Restore {
        of: usize,
        snapshot: usize,
    },
    Reset {
        of: usize,
    },
    Spawn {
        snapshot: usize,
    },
    /// Looks where nothing is mapped.
    Stray {
        of: usize,
        page: u64,
    },
    Change {
        page: usize,
        value: u8,
    },
}

#[derive(Clone, Copy, Debug)]
enum Source {
    File,
    Memory,
}

fn step() -> impl Strategy<Value = Step> {
    let index = || 0..8_usize;
    let access = prop_oneof![Just(MapAccess::Read), Just(MapAccess::CopyOnWrite), Just(MapAccess::ReadExecute)];
    let source = prop_oneof![Just(Source::File), Just(Source::Memory)];
    prop_oneof![
        4 => (index(), source, access, proptest::option::of(0..6_u8))
            .prop_map(|(of, source, access, name)| Step::Map { of, source, access, name }),
        2 => (index(), index()).prop_map(|(of, mapping)| Step::Unmap { of, mapping }),
        6 => (index(), index(), 0..PAGES, 1..9_u8)
            .prop_map(|(of, mapping, page, value)| Step::Write { of, mapping, page, value }),
        2 => (index(), 0..5000_usize, 0..3_usize << 20, any::<bool>())
            .prop_map(|(of, start, len, ends)| Step::Lend { of, start, len, ends }),
        3 => index().prop_map(|of| Step::Snapshot { of }),
        4 => (index(), index()).prop_map(|(of, snapshot)| Step::Restore { of, snapshot }),
        1 => index().prop_map(|of| Step::Reset { of }),
        2 => index().prop_map(|snapshot| Step::Spawn { snapshot }),
        1 => (index(), 0..PAGES as u64 * 8).prop_map(|(of, page)| Step::Stray { of, page }),
        1 => (0..PAGES, 10..20_u8).prop_map(|(page, value)| Step::Change { page, value }),
    ]
}

/// What a sandbox has: its mappings, in no order.
#[derive(Clone, Default)]
struct State(Vec<Mapped>);

#[derive(Clone)]
struct Mapped {
    mapping: HostMapping,
    source: Source,
    /// What the guest has written, by page.
    written: [Option<u8>; PAGES],
}

/// A sandbox, what it was built with, and what it has now.
struct Guest {
    sandbox: Sandbox,
    initial: State,
    state: State,
}

struct World {
    file: File,
    /// The first byte of each page of the file.
    contents: [u8; PAGES],
    memory: HostMemory,
    lent: Vec<u8>,
    guests: Vec<Guest>,
    snapshots: Vec<(Snapshot, State)>,
}

impl World {
    fn new() -> Self {
        let file = nameless();
        file.write_all_at(&[0; PAGES * PAGE as usize], 0).unwrap();
        let guest =
            Guest { sandbox: memory_builder().build().unwrap(), initial: State::default(), state: State::default() };
        Self {
            file,
            contents: [0; PAGES],
            memory: HostMemory::copy_of(&[100; PAGES * PAGE as usize]).unwrap(),
            lent: vec![1; 4 << 20],
            guests: vec![guest],
            snapshots: Vec::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        let Self { file, contents, memory, lent, guests, snapshots } = self;
        let count = guests.len();
        match *step {
            Step::Map { of, source, access, name } => {
                let Guest { sandbox, state, .. } = &mut guests[of % count];
                if state.0.len() < 6 {
                    let at = name.map_or_else(MapAt::anywhere, |name| MapAt::from(name.to_string()));
                    let path = name.map(|name| format!("/dev/ampoule/{name}"));
                    let is_taken = path.is_some() && state.0.iter().any(|it| it.mapping.path() == path.as_deref());
                    let mapping = match source {
                        Source::File => sandbox.map_file(&*file, .., at, access),
                        Source::Memory => sandbox.map_memory(memory, at, access),
                    };
                    match mapping {
                        Err(MapMemoryError::NameTaken { .. }) if is_taken => {}
                        mapping => state.0.push(Mapped { mapping: mapping.unwrap(), source, written: [None; PAGES] }),
                    }
                }
            }
            Step::Unmap { of, mapping } => {
                let Guest { sandbox, state, .. } = &mut guests[of % count];
                if !state.0.is_empty() {
                    let unmapped = state.0.remove(mapping % state.0.len());
                    sandbox.unmap(&unmapped.mapping).unwrap();
                    sandbox.unmap(&unmapped.mapping).unwrap_err();
                }
            }
            Step::Write { of, mapping, page, value } => {
                let Guest { sandbox, state, .. } = &mut guests[of % count];
                let count = state.0.len().max(1);
                if let Some(mapped) = state.0.get_mut(mapping % count)
                    && mapped.mapping.access() == MapAccess::CopyOnWrite
                {
                    let bytes = mapped.mapping.bytes();
                    sandbox.call::<()>("mapped_write", (bytes, page as u64 * PAGE, value)).unwrap();
                    mapped.written[page] = Some(value);
                }
            }
            Step::Lend { of, start, len, ends } => {
                let guest = &mut guests[of % count];
                let slice = &lent[start..start + len];
                let how = if ends { "fault" } else { "return" };
                let sum: Result<u64, CallError> =
                    guest.sandbox.call_lending([slice], |[lent]| Call::new("mapped_end", (lent, how)));
                if ends {
                    sum.unwrap_err();
                    guest.reset();
                } else {
                    assert_eq!(sum.unwrap(), len as u64);
                }
            }
            Step::Snapshot { of } => {
                let Guest { sandbox, state, .. } = &mut guests[of % count];
                if snapshots.len() == 4 {
                    snapshots.remove(0);
                }
                snapshots.push((sandbox.snapshot().unwrap(), state.clone()));
            }
            Step::Restore { of, snapshot } => {
                if !snapshots.is_empty() {
                    let (snapshot, kept) = &snapshots[snapshot % snapshots.len()];
                    let Guest { sandbox, state, .. } = &mut guests[of % count];
                    sandbox.restore(snapshot).unwrap();
                    state.clone_from(kept);
                }
            }
            Step::Reset { of } => guests[of % count].reset(),
            Step::Spawn { snapshot } => {
                if !snapshots.is_empty() {
                    let (snapshot, kept) = &snapshots[snapshot % snapshots.len()];
                    if count == 3 {
                        guests.remove(0);
                    }
                    let sandbox = snapshot.spawn().unwrap();
                    guests.push(Guest { sandbox, initial: kept.clone(), state: kept.clone() });
                }
            }
            Step::Stray { of, page } => {
                let guest = &mut guests[of % count];
                let at = FIRST + page * PAGE;
                let is_mapped = |mapped: &Mapped| {
                    (mapped.mapping.address()..mapped.mapping.address() + mapped.mapping.len()).contains(&at)
                };
                let is_mapped = guest.state.0.iter().any(is_mapped);
                assert_eq!(guest.sandbox.call::<u8>("probe_read", (at,)).is_ok(), is_mapped, "{at:#x}");
                if !is_mapped {
                    guest.reset();
                }
            }
            Step::Change { page, value } => {
                file.write_all_at(&[value], page as u64 * PAGE).unwrap();
                contents[page] = value;
            }
        }
    }

    /// Every guest reads every page, and every file that it should have.
    fn check(&mut self, step: &Step) {
        for Guest { sandbox, state, .. } in &mut self.guests {
            assert_eq!(sandbox.mappings().count(), state.0.len(), "{step:?}");
            let mut names: Vec<_> = state.0.iter().filter_map(|it| it.mapping.path()).collect();
            names.sort_unstable();
            let found: Result<Vec<String>, String> = sandbox.call("names_in", ("/dev/ampoule",)).unwrap();
            let found = found.unwrap_or_default().into_iter().map(|name| format!("/dev/ampoule/{name}"));
            assert_eq!(found.collect::<Vec<_>>(), names, "{step:?}");
            for Mapped { mapping, source, written } in &state.0 {
                let file: Option<Vec<u8>> = mapping.path().map(|path| {
                    let read: Result<Vec<u8>, String> = sandbox.call("read_file", (path,)).unwrap();
                    read.unwrap()
                });
                for (page, written) in written.iter().enumerate() {
                    let found: Option<u8> = sandbox.call("mapped_byte", (mapping.bytes(), page as u64 * PAGE)).unwrap();
                    let below = match source {
                        Source::File => self.contents[page],
                        Source::Memory => 100,
                    };
                    let expected = written.unwrap_or(below);
                    assert_eq!(found, Some(expected), "{step:?}: page {page} of {mapping:?}");
                    let of_file = file.as_ref().map(|bytes| bytes[page * PAGE as usize]);
                    assert!(of_file.is_none_or(|of_file| of_file == expected), "{step:?}: page {page} of {mapping:?}");
                }
            }
        }
    }
}

impl Guest {
    fn reset(&mut self) {
        self.sandbox.reset().unwrap();
        self.state = self.initial.clone();
    }
}

fn nameless() -> File {
    use std::sync::atomic::{AtomicU64, Ordering};

    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("ampoule-host-memory-model-{}-{number}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    file
}

const PAGES: usize = 3;
const PAGE: u64 = 4096;
const FIRST: u64 = 0x7ff0_0000_0000;
