//! The format of pprof: `profile.proto` of <https://github.com/google/pprof>.
//!
//! A profile is a table of stacks whose frames are *locations*, instructions with the functions that they are of. Mappings,
//! locations and functions are numbered from 1 on, and all text stands in one table, which begins with the empty text.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ampoule_abi::text::printable_name;

use super::named::{Named, OTHER_STACKS, TRUNCATED, host_side, name};
use super::protobuf::Message;

/// What a profile is of.
pub(super) struct Header<const VALUES: usize> {
    /// What the values of each stack are, and their units.
    pub(super) values: [(&'static str, &'static str); VALUES],
    /// Which of them is shown first.
    pub(super) shown_first: &'static str,
    pub(super) began: SystemTime,
    pub(super) duration: Duration,
    /// What lies between two samples, its unit, and how much of it.
    pub(super) period: (&'static str, &'static str, u64),
}

/// Encodes a profile of these stacks, of each of which `values` gives the values.
pub(super) fn encode<const VALUES: usize, W: Copy + Default + PartialEq>(
    header: &Header<VALUES>,
    parts: &[Named<'_, W>],
    values: impl Fn(W) -> [u64; VALUES],
) -> Vec<u8> {
    let mut encoder = Encoder::default();
    for (kind, unit) in header.values {
        let value = encoder.value_type(kind, unit);
        encoder.profile.message(SAMPLE_TYPE, value);
    }
    parts.iter().for_each(|part| encoder.part(part, &values));

    let since_epoch = header.began.duration_since(UNIX_EPOCH).unwrap_or_default();
    encoder.profile.number(TIME_NANOS, since_epoch.as_nanos() as u64);
    encoder.profile.number(DURATION_NANOS, header.duration.as_nanos() as u64);
    let (kind, unit, period) = header.period;
    let period_type = encoder.value_type(kind, unit);
    encoder.profile.message(PERIOD_TYPE, period_type);
    encoder.profile.number(PERIOD, period);
    let shown_first = encoder.text(header.shown_first);
    encoder.profile.number(DEFAULT_SAMPLE_TYPE, shown_first);
    encoder.finish()
}

#[derive(Default)]
struct Encoder {
    profile: Message,
    texts: Table<String>,
    /// By name and file, both as numbers of texts.
    functions: Table<(u64, u64)>,
    /// Locations that are no instructions, by the name that stands for their function.
    made_up: HashMap<&'static str, u64>,
    locations: u64,
    mappings: u64,
}

impl Encoder {
    /// The stacks of one executable.
    fn part<const VALUES: usize, W: Copy + Default + PartialEq>(
        &mut self,
        part: &Named<'_, W>,
        values: impl Fn(W) -> [u64; VALUES],
    ) {
        let (start, end) = part.executable.extent().unwrap_or_default();
        let executable = self.mapping((start..end, 0), part.executable.name());
        let libraries: Vec<(Range<u64>, u64)> = part
            .libraries
            .iter()
            .map(|library| {
                let addresses = library.addresses();
                let mapping =
                    self.mapping((addresses.clone(), library.offset()), &printable_name(&library.path()).to_string());
                (addresses, mapping)
            })
            .collect();
        let mapping_of = |address: &u64| {
            let library = libraries.iter().find(|(addresses, _)| addresses.contains(address));
            library.map_or(executable, |(_, mapping)| *mapping)
        };

        let first = self.locations + 1;
        for (address, frames) in &part.instructions {
            let mut location = Message::default();
            self.locations += 1;
            location.number(LOCATION_ID, self.locations);
            location.number(LOCATION_MAPPING, mapping_of(address));
            location.number(LOCATION_ADDRESS, *address);
            for frame in frames {
                let function = self.function(&name(frame), frame.file.as_deref().unwrap_or_default());
                location.message(LOCATION_LINE, line(function, frame.line.unwrap_or_default()));
            }
            self.profile.message(LOCATION, location);
        }

        for (stack, worth) in &part.stacks {
            let mut locations = Vec::new();
            locations.extend(host_side(stack.whereabouts).map(|name| self.made_up(name)));
            locations.extend(part.positions(stack).map(|position| first + position as u64));
            if stack.is_truncated {
                locations.push(self.made_up(TRUNCATED));
            }
            self.sample(locations, values(*worth));
        }
        if part.others != W::default() {
            let location = self.made_up(OTHER_STACKS);
            self.sample(vec![location], values(part.others));
        }
    }

    /// The number of a mapping: a file's bytes from an offset on, at these addresses.
    fn mapping(&mut self, (addresses, offset): (Range<u64>, u64), file: &str) -> u64 {
        self.mappings += 1;
        let mut message = Message::default();
        message.number(MAPPING_ID, self.mappings);
        message.number(MAPPING_START, addresses.start);
        message.number(MAPPING_LIMIT, addresses.end);
        message.number(MAPPING_OFFSET, offset);
        message.number(MAPPING_FILENAME, self.text(file));
        for has in [MAPPING_HAS_FUNCTIONS, MAPPING_HAS_FILENAMES, MAPPING_HAS_LINE_NUMBERS, MAPPING_HAS_INLINE_FRAMES] {
            message.number(has, 1);
        }
        self.profile.message(MAPPING, message);
        self.mappings
    }

    /// A sample whose locations are innermost first.
    fn sample<const VALUES: usize>(&mut self, locations: Vec<u64>, values: [u64; VALUES]) {
        let mut sample = Message::default();
        sample.numbers(SAMPLE_LOCATION, locations);
        // They are signed there.
        sample.numbers(SAMPLE_VALUE, values.map(|value| value.min(i64::MAX as u64)));
        self.profile.message(SAMPLE, sample);
    }

    /// The location that stands for what is no code of the guest's.
    fn made_up(&mut self, name: &'static str) -> u64 {
        if let Some(&location) = self.made_up.get(name) {
            return location;
        }
        let function = self.function(name, "");
        self.locations += 1;
        let mut location = Message::default();
        location.number(LOCATION_ID, self.locations);
        location.message(LOCATION_LINE, line(function, 0));
        self.profile.message(LOCATION, location);
        self.made_up.insert(name, self.locations);
        self.locations
    }

    fn function(&mut self, name: &str, file: &str) -> u64 {
        let key = (self.text(name), self.text(file));
        self.functions.number(key)
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> Message {
        let mut value = Message::default();
        value.number(VALUE_KIND, self.text(kind));
        value.number(VALUE_UNIT, self.text(unit));
        value
    }

    /// The number of a text; that of the empty one is 0.
    fn text(&mut self, text: &str) -> u64 {
        if text.is_empty() { 0 } else { self.texts.number(text.to_owned()) }
    }

    fn finish(mut self) -> Vec<u8> {
        for ((name, file), id) in self.functions.all.into_iter().zip(1..) {
            let mut function = Message::default();
            function.number(FUNCTION_ID, id);
            function.number(FUNCTION_NAME, name);
            function.number(FUNCTION_SYSTEM_NAME, name);
            function.number(FUNCTION_FILENAME, file);
            self.profile.message(FUNCTION, function);
        }
        self.profile.text(STRING_TABLE, "");
        self.texts.all.iter().for_each(|text| self.profile.text(STRING_TABLE, text));
        self.profile.finish()
    }
}

fn line(function: u64, line: u32) -> Message {
    let mut message = Message::default();
    message.number(LINE_FUNCTION, function);
    message.number(LINE_LINE, u64::from(line));
    message
}

/// Gives things numbers, from 1 on.
#[derive(Debug)]
struct Table<T> {
    numbers: HashMap<T, u64>,
    all: Vec<T>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), all: Vec::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Table<T> {
    fn number(&mut self, thing: T) -> u64 {
        if let Some(&number) = self.numbers.get(&thing) {
            return number;
        }
        let number = self.all.len() as u64 + 1;
        self.all.push(thing.clone());
        self.numbers.insert(thing, number);
        number
    }
}

// Fields of the messages of `profile.proto`.
const SAMPLE_TYPE: u32 = 1;
const SAMPLE: u32 = 2;
const MAPPING: u32 = 3;
const LOCATION: u32 = 4;
const FUNCTION: u32 = 5;
const STRING_TABLE: u32 = 6;
const TIME_NANOS: u32 = 9;
const DURATION_NANOS: u32 = 10;
const PERIOD_TYPE: u32 = 11;
const PERIOD: u32 = 12;
const DEFAULT_SAMPLE_TYPE: u32 = 14;

const VALUE_KIND: u32 = 1;
const VALUE_UNIT: u32 = 2;

const SAMPLE_LOCATION: u32 = 1;
const SAMPLE_VALUE: u32 = 2;

const MAPPING_ID: u32 = 1;
const MAPPING_START: u32 = 2;
const MAPPING_LIMIT: u32 = 3;
const MAPPING_OFFSET: u32 = 4;
const MAPPING_FILENAME: u32 = 5;
const MAPPING_HAS_FUNCTIONS: u32 = 7;
const MAPPING_HAS_FILENAMES: u32 = 8;
const MAPPING_HAS_LINE_NUMBERS: u32 = 9;
const MAPPING_HAS_INLINE_FRAMES: u32 = 10;

const LOCATION_ID: u32 = 1;
const LOCATION_MAPPING: u32 = 2;
const LOCATION_ADDRESS: u32 = 3;
const LOCATION_LINE: u32 = 4;

const LINE_FUNCTION: u32 = 1;
const LINE_LINE: u32 = 2;

const FUNCTION_ID: u32 = 1;
const FUNCTION_NAME: u32 = 2;
const FUNCTION_SYSTEM_NAME: u32 = 3;
const FUNCTION_FILENAME: u32 = 4;
