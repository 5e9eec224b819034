//! Finds out what a type is made of, by having it read values that are made up.
//!
//! A type is read several times. Each time, every enum is given a variant that was not yet seen, and so is what it holds. A
//! value that a type rejects is replaced by another one, and where none is accepted, by as little as its surroundings allow:
//! no option, an empty sequence, another variant. What remains unseen is unknown, and never compared.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::any::TypeId;
use core::fmt::{self, Display};

use serde::{Deserialize, de};

use super::reader::Reader;
use super::{Content, DataType, Field, UNKNOWN, Variant};

/// Traces types and gathers what they are made of, as the types of a [`Schema`](super::Schema). Types that are read in the
/// same way are one.
///
/// ```
/// use ampoule_abi::schema::{DataType, Tracer};
///
/// let mut tracer = Tracer::new();
/// let numbers = tracer.trace::<Vec<u16>>();
/// let types = tracer.finish();
/// let DataType::Sequence(element) = types[numbers as usize] else { panic!() };
/// assert_eq!(types[element as usize], DataType::U16);
/// ```
#[derive(Debug)]
pub struct Tracer {
    nodes: Vec<Node>,
    places: BTreeMap<(TypeId, Kind), usize>,
    /// What is being read, from the outermost type to the innermost.
    open: Vec<(usize, usize)>,
    /// Which of the values that can be made up is to stand in a place, where that is not the first.
    choices: BTreeMap<Edge, usize>,
    /// Where a value without parts was last read.
    last: Option<Edge>,
    roots: usize,
    /// How many values have been read for the present root.
    reads: usize,
}

/// A place: the type that it is in, the variant, and the part of that.
pub(super) type Edge = (usize, usize, usize);

/// Which method of a deserializer a type calls.
pub(super) type Kind = u8;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) form: Form,
    /// The parts that are known, unless they are those of variants.
    parts: Vec<Option<usize>>,
    /// Whether there are to be no parts, because none can be made.
    pub(super) avoid: bool,
    /// Whether something in it can still be seen.
    pending: bool,
}

#[derive(Debug)]
pub(super) enum Form {
    Leaf(DataType),
    Option,
    Sequence,
    Map,
    Tuple { length: usize },
    Struct { name: &'static str, fields: &'static [&'static str], taken: Option<usize> },
    Enum { name: &'static str, variants: Vec<VariantNode>, least: Option<usize> },
}

/// A variant of an enum.
#[derive(Debug)]
pub(super) struct VariantNode {
    name: &'static str,
    state: State,
    pub(super) form: Option<VariantForm>,
    parts: Vec<Option<usize>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum VariantForm {
    Unnamed { length: usize },
    Named { fields: &'static [&'static str], taken: Option<usize> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Unseen,
    Seen,
    /// It was seen, and not all that is in it can be.
    Finished,
    /// It cannot be made.
    Failed,
    /// There is no variant of this index: the names have aliases among them.
    Absent,
}

/// Why a value was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The type rejected it.
    Rejected,
    /// It cannot travel, is nested too deeply, or cannot be made.
    Impossible,
    /// There is no such variant, which is noted.
    Absent,
}

impl Tracer {
    /// Knows no types so far.
    #[must_use]
    pub fn new() -> Self {
        let known = [DataType::Unknown, DataType::Untransferable].map(|leaf| Node::new(Form::Leaf(leaf)));
        Self {
            nodes: known.into(),
            places: BTreeMap::new(),
            open: Vec::new(),
            choices: BTreeMap::new(),
            last: None,
            roots: 0,
            reads: 0,
        }
    }

    /// Traces a type: its place among the types.
    ///
    /// # Panics
    ///
    /// Where the type's `Deserialize` does.
    pub fn trace<'de, T: Deserialize<'de>>(&mut self) -> u32 {
        self.roots += 1;
        self.reads = 0;
        let mut root = None;
        let mut progress = None;
        for _ in 0..MAX_RUNS {
            self.open.clear();
            self.last = None;
            let edge = (usize::MAX, 0, self.roots);
            let stopped = T::deserialize(Reader::new(self, &mut root, edge)).err();
            self.find_pending();
            let goes_on = match stopped {
                Some(stop) => self.avoid(stop),
                None => {
                    let is_pending = root.is_some_and(|root: usize| self.nodes[root].pending);
                    is_pending && progress != Some(self.progress())
                }
            };
            progress = Some(self.progress());
            if !goes_on {
                break;
            }
        }
        root.map_or(UNKNOWN, |root| root as u32)
    }

    /// All types that were found.
    #[must_use]
    pub fn finish(self) -> Vec<DataType> {
        self.nodes.iter().map(Node::data_type).collect()
    }

    /// The place of a type, by what is given to a visitor of it.
    pub(super) fn place(&mut self, key: (TypeId, Kind), form: impl FnOnce() -> Form) -> usize {
        *self.places.entry(key).or_insert_with(|| {
            self.nodes.push(Node::new(form()));
            self.nodes.len() - 1
        })
    }

    pub(super) fn node(&mut self, place: usize) -> &mut Node {
        &mut self.nodes[place]
    }

    /// Which of the values that can be made up is to stand here.
    ///
    /// # Errors
    ///
    /// Where enough values have been read.
    pub(super) fn choice(&mut self, edge: Edge) -> Result<usize, Stop> {
        self.reads += 1;
        if self.reads > MAX_READS {
            return Err(Stop::Impossible);
        }
        self.last = Some(edge);
        Ok(self.choices.get(&edge).copied().unwrap_or(0))
    }

    /// Whether values of this type are being read already, so that it has itself in it.
    pub(super) fn is_open(&self, place: usize) -> bool {
        self.open.iter().any(|(open, _)| *open == place)
    }

    /// Begins to read the parts of a type, of this variant if it is an enum: what [`close`](Self::close) takes.
    pub(super) fn open(&mut self, place: usize, variant: usize) -> Result<usize, Stop> {
        let depth = self.open.len();
        self.open.push((place, variant));
        if depth < MAX_DEPTH { Ok(depth) } else { Err(Stop::Impossible) }
    }

    /// The parts of the type have been read.
    pub(super) fn close(&mut self, depth: usize) {
        self.open.truncate(depth);
    }

    /// Notes the type of a part. One that is not always the same is unknown.
    pub(super) fn link(&mut self, (place, variant, part): Edge, target: Option<usize>) {
        let node = &mut self.nodes[place];
        let parts = match &mut node.form {
            Form::Enum { variants, .. } => &mut variants[variant].parts,
            _ => &mut node.parts,
        };
        if parts.len() <= part {
            parts.resize(part + 1, None);
        }
        parts[part] = match (parts[part], target) {
            (Some(before), Some(now)) if before != now => Some(UNKNOWN as usize),
            (before, now) => now.or(before),
        };
    }

    /// The variant of an enum to read: one that has something to be seen, or else the first that could be made.
    ///
    /// # Errors
    ///
    /// Where none can be made.
    pub(super) fn choose(&self, place: usize) -> Result<usize, Stop> {
        let Form::Enum { variants, least, .. } = &self.nodes[place].form else { return Err(Stop::Impossible) };
        let state = |wanted: State| variants.iter().position(|variant| variant.state == wanted);
        let pending = |variant: &VariantNode| variant.state == State::Seen && self.leads_on(place, &variant.parts);
        let new =
            if self.is_open(place) { None } else { state(State::Unseen).or_else(|| variants.iter().position(pending)) };
        let is_open = |variant: usize| self.open.contains(&(place, variant));
        let can_be_tried = |(index, variant): &(usize, &VariantNode)| {
            matches!(variant.state, State::Unseen | State::Seen | State::Finished) && !is_open(*index)
        };
        let other = || variants.iter().enumerate().find(can_be_tried).map(|(index, _)| index);
        new.or(*least).or_else(other).ok_or(Stop::Impossible)
    }

    /// Whether something can be seen in one of these parts of a type that is about to be opened, and not only by opening a type
    /// again that is open, of which as little as possible is read.
    fn leads_on(&self, place: usize, parts: &[Option<usize>]) -> bool {
        let mut ahead: Vec<usize> = parts.iter().copied().flatten().collect();
        let mut met = BTreeSet::from([place]);
        while let Some(at) = ahead.pop() {
            let node = &self.nodes[at];
            if !node.pending || self.is_open(at) || !met.insert(at) {
                continue;
            }
            match &node.form {
                Form::Enum { variants, .. } => {
                    if variants.iter().any(|variant| variant.state == State::Unseen) {
                        return true;
                    }
                    let seen = variants.iter().filter(|variant| variant.state == State::Seen);
                    ahead.extend(seen.flat_map(|variant| variant.parts.iter().copied().flatten()));
                }
                _ if node.avoid => {}
                _ => ahead.extend(node.parts.iter().copied().flatten()),
            }
        }
        false
    }

    /// How many types are known, and how many variants have not been seen.
    fn progress(&self) -> (usize, usize) {
        let unseen = |node: &Node| match &node.form {
            Form::Enum { variants, .. } => variants.iter().filter(|variant| variant.state == State::Unseen).count(),
            _ => 0,
        };
        (self.nodes.len(), self.nodes.iter().map(unseen).sum())
    }

    /// A variant has been read to its end.
    pub(super) fn seen(&mut self, place: usize, variant: usize) {
        if let Form::Enum { variants, least, .. } = &mut self.nodes[place].form {
            least.get_or_insert(variant);
            if variants[variant].state != State::Finished {
                variants[variant].state = State::Seen;
            }
        }
    }

    /// The enum has no variant of this index.
    pub(super) fn absent(&mut self, place: usize, variant: usize) {
        if let Form::Enum { variants, .. } = &mut self.nodes[place].form {
            variants[variant].state = State::Absent;
        }
    }

    /// Has the next reading not stop where this one did; whether that is possible.
    fn avoid(&mut self, stop: Stop) -> bool {
        if stop == Stop::Absent {
            return true;
        }
        if let Some(edge) = self.last.filter(|_| stop == Stop::Rejected) {
            let choice = self.choices.entry(edge).or_insert(0);
            if *choice + 1 < CHOICES {
                *choice += 1;
                return true;
            }
        }
        while let Some((place, variant)) = self.open.pop() {
            let node = &mut self.nodes[place];
            match &mut node.form {
                Form::Option | Form::Sequence | Form::Map if !node.avoid => {
                    node.avoid = true;
                    return true;
                }
                Form::Enum { variants, .. } => {
                    let state = &mut variants[variant].state;
                    let now = if matches!(state, State::Seen) { State::Finished } else { State::Failed };
                    if *state != State::Finished && *state != State::Failed {
                        *state = now;
                        return true;
                    }
                }
                _ => {}
            }
        }
        false
    }

    /// Finds the types in which something can still be seen.
    fn find_pending(&mut self) {
        for node in &mut self.nodes {
            node.pending = match &node.form {
                Form::Enum { variants, .. } => variants.iter().any(|variant| variant.state == State::Unseen),
                _ => false,
            };
        }
        let mut has_changed = true;
        while has_changed {
            has_changed = false;
            for place in 0..self.nodes.len() {
                let node = &self.nodes[place];
                let is_pending = |part: &Option<usize>| part.is_some_and(|part| self.nodes[part].pending);
                let becomes = !node.pending
                    && match &node.form {
                        Form::Enum { variants, .. } => variants
                            .iter()
                            .any(|variant| variant.state == State::Seen && variant.parts.iter().any(is_pending)),
                        _ => !node.avoid && node.parts.iter().any(is_pending),
                    };
                self.nodes[place].pending |= becomes;
                has_changed |= becomes;
            }
        }
    }
}

impl Default for Tracer {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    fn new(form: Form) -> Self {
        Self { form, parts: Vec::new(), avoid: false, pending: false }
    }

    fn data_type(&self) -> DataType {
        let part = |index: usize| known(&self.parts, index);
        match &self.form {
            Form::Leaf(leaf) => leaf.clone(),
            Form::Option => DataType::Option(part(0)),
            Form::Sequence => DataType::Sequence(part(0)),
            Form::Map => DataType::Map(part(0), part(1)),
            Form::Tuple { length } if *length > 1 && (1..*length).all(|index| part(index) == part(0)) => {
                DataType::Array(part(0), *length as u32)
            }
            Form::Tuple { length } => DataType::Tuple((0..*length).map(part).collect()),
            Form::Struct { name, fields, taken } => {
                DataType::Struct { name: (*name).to_owned(), fields: named_fields(fields, *taken, &self.parts) }
            }
            Form::Enum { name, variants, .. } => {
                let has_aliases = variants.iter().any(|variant| variant.state == State::Absent);
                let present = variants.iter().filter(|variant| variant.state != State::Absent);
                let variants = present.map(|variant| variant.described(has_aliases)).collect();
                DataType::Enum { name: (*name).to_owned(), variants }
            }
        }
    }
}

impl VariantNode {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, state: State::Unseen, form: None, parts: vec![] }
    }

    fn described(&self, is_unnamed: bool) -> Variant {
        let content = match self.form {
            None => Content::Unknown,
            Some(VariantForm::Unnamed { length }) => {
                Content::Unnamed((0..length).map(|index| known(&self.parts, index)).collect())
            }
            Some(VariantForm::Named { fields, taken }) => Content::Named(named_fields(fields, taken, &self.parts)),
        };
        Variant { name: if is_unnamed { String::new() } else { self.name.to_owned() }, content }
    }
}

fn known(parts: &[Option<usize>], index: usize) -> u32 {
    parts.get(index).copied().flatten().map_or(UNKNOWN, |part| part as u32)
}

/// serde gives the aliases of a field as names too. Where there are some, fewer fields are taken than there are names, and
/// which name is whose is not known.
fn named_fields(names: &[&str], taken: Option<usize>, parts: &[Option<usize>]) -> Vec<Field> {
    let count = taken.unwrap_or(names.len());
    let name = |index: usize| if count == names.len() { names[index].to_owned() } else { String::new() };
    (0..count).map(|index| Field { name: name(index), data_type: known(parts, index) }).collect()
}

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the type is being traced")
    }
}

impl core::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: Display>(_: T) -> Self {
        Self::Rejected
    }
}

/// How often a type is read: at least once for each of its variants.
const MAX_RUNS: usize = 4096;

/// How many values are read for one type, in all of its readings.
const MAX_READS: usize = 1 << 18;

/// How deep types may lie within each other while they are read.
const MAX_DEPTH: usize = crate::codec::MAX_DEPTH;

/// How many values are made up for one place.
pub(super) const CHOICES: usize = 12;
