//! Instances of `epoll` as records of a stored snapshot, and back.

use serde::{Deserialize, Serialize};

use super::{ALWAYS, Epoll, Key, MOST_NESTED, MOST_WATCHES, Watch};
use crate::bad_record::BadRecord;
use crate::personality::linux::descriptors::{Descriptors, FileId, Object};

/// The watches, and those of them in the queue, by their places among the watches.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::personality::linux) struct EpollRecord {
    watches: Vec<WatchRecord>,
    queue: Vec<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WatchRecord {
    file: u32,
    number: u32,
    events: u32,
    data: u64,
}

impl Epoll {
    pub(in crate::personality::linux) fn record(&self) -> EpollRecord {
        let watch = |Watch { key, events, data }: &Watch| WatchRecord {
            file: key.file.number() as u32,
            number: key.number,
            events: *events,
            data: *data,
        };
        let place = |key: &Key| self.watches.iter().position(|watch| watch.key == *key).map(|at| at as u32);
        EpollRecord {
            watches: self.watches.iter().map(watch).collect(),
            queue: self.queue.iter().filter_map(place).collect(),
        }
    }

    /// The instance alone: what it watches is looked at by [`check_all`](Self::check_all).
    pub(in crate::personality::linux) fn of_record(record: &EpollRecord) -> Result<Self, BadRecord> {
        check(record.watches.len() <= MOST_WATCHES, "an instance watches too much")?;
        let mut epoll = Self::default();
        for WatchRecord { file, number, events, data } in &record.watches {
            let key = Key { file: FileId::of_number(*file), number: *number };
            check(epoll.watch_mut(key).is_none(), "something is watched twice")?;
            epoll.watches.push(Watch { key, events: events | ALWAYS, data: *data });
        }
        for place in &record.queue {
            let watch = epoll.watches.get(*place as usize);
            let key = watch.ok_or(bad("something is ready that is not watched"))?.key;
            check(epoll.enqueue(key), "something is ready twice")?;
        }
        Ok(epoll)
    }

    /// Whether everything that is watched is open and can be, and no instance waits for itself or in too many steps.
    pub(in crate::personality::linux) fn check_all(descriptors: &Descriptors) -> Result<(), BadRecord> {
        let mut watches = 0;
        for watch in descriptors.epolls().flat_map(|(_, epoll)| &epoll.watches) {
            let object = descriptors.object(watch.key.file).ok_or(bad("something is watched that is not open"))?;
            check(object.can_be_waited_for(), "something is watched that cannot be")?;
            watches += 1;
        }
        check(watches <= MOST_WATCHES, "too much is watched")?;
        let instances: Vec<FileId> = descriptors.epolls().map(|(instance, _)| instance).collect();
        let mut level = instances.clone();
        for _ in 0..=MOST_NESTED {
            // Those that are watched by one of the level above.
            let watched = |file: &FileId| {
                let of_level = descriptors.epolls().filter(|(instance, _)| level.contains(instance));
                of_level.flat_map(|(_, epoll)| &epoll.watches).any(|watch| watch.key.file == *file)
            };
            level = instances.iter().filter(|file| watched(file)).copied().collect();
        }
        check(level.is_empty(), "instances wait for each other in a circle, or in too many steps")?;
        let is_instance = |(id, _): (FileId, &Epoll)| descriptors.object(id) == Some(Object::Epoll);
        check(descriptors.epolls().all(is_instance), "a file watches that cannot")
    }
}

fn check(holds: bool, problem: &'static str) -> Result<(), BadRecord> {
    BadRecord::unless(holds, "table of what is waited for", problem)
}

fn bad(problem: &'static str) -> BadRecord {
    BadRecord { part: "table of what is waited for", problem }
}
