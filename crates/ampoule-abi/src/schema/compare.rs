//! Compares a type of the guest with one of the host.
//!
//! Types can have themselves in them, and a guest's may be any graph: each pair of types is compared once, without
//! recursion, and the work is bounded.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::path::{Difference, Step, described, named_field, named_variant, path};
use super::{Content, DataType, Field, Variant};
use crate::text::printable_name;

/// The first difference between a type of the guest and one of the host, in the order of fields and variants; `None` if the
/// same values are of both types, as far as they are known. An enum may have more variants at its end on one side.
///
/// # Panics
///
/// Where a schema does not pass [`Schema::check`](super::Schema::check), or has no such type.
#[must_use]
pub fn difference(guest: (&[DataType], u32), host: (&[DataType], u32)) -> Option<Difference> {
    compare(guest, host, &mut BTreeSet::new())
}

/// What has been seen of a type that the guest only writes, in the values that it has returned.
#[derive(Debug)]
pub struct Observed {
    types: Vec<DataType>,
    root: u32,
    /// Of the host's types, the variants that were, or 0 for what options, sequences and maps hold.
    seen: BTreeSet<(u32, u32)>,
}

impl Observed {
    /// Nothing was seen of the host's type at `root`.
    #[must_use]
    pub fn new(types: Vec<DataType>, root: u32) -> Self {
        Self { types, root, seen: BTreeSet::new() }
    }

    /// Compares what a value of the guest has shown: whether all that the host reads was seen by now.
    ///
    /// # Errors
    ///
    /// The first difference.
    ///
    /// # Panics
    ///
    /// As for [`difference`].
    pub fn compare(&mut self, shown: &[DataType], root: u32) -> Result<bool, Difference> {
        match compare((shown, root), (&self.types, self.root), &mut self.seen) {
            Some(difference) => Err(difference),
            None => Ok(self.is_complete()),
        }
    }

    /// Whether there is anything whose name would not say everything.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        let mut reached = reachable(&self.types, self.root).into_iter();
        reached.any(|place| matches!(self.types[place as usize], DataType::Struct { .. } | DataType::Enum { .. }))
    }

    fn is_complete(&self) -> bool {
        reachable(&self.types, self.root).into_iter().all(|place| {
            let parts = shown_parts(&self.types[place as usize]);
            (0..parts).all(|part| self.seen.contains(&(place, part as u32)))
        })
    }
}

/// How many parts a type has that not every value shows: variants, or what an option, a sequence or a map holds.
fn shown_parts(data_type: &DataType) -> usize {
    match data_type {
        DataType::Enum { variants, .. } => variants.len(),
        DataType::Option(_) | DataType::Sequence(_) | DataType::Map(..) => 1,
        _ => 0,
    }
}

fn reachable(types: &[DataType], root: u32) -> BTreeSet<u32> {
    let mut reached = BTreeSet::new();
    let mut ahead = alloc::vec![root];
    while let Some(place) = ahead.pop() {
        if reached.insert(place) {
            ahead.extend(types[place as usize].parts());
        }
    }
    reached
}

fn compare(
    guest: (&[DataType], u32),
    host: (&[DataType], u32),
    known: &mut BTreeSet<(u32, u32)>,
) -> Option<Difference> {
    let mut comparison = Comparison { guest: guest.0, host: host.0, pairs: Vec::new(), seen: BTreeSet::new(), known };
    comparison.meet(guest.1, host.1, Step::Root, 0);
    let mut ahead = alloc::vec![0];
    while let Some(pair) = ahead.pop() {
        let first = comparison.pairs.len();
        if let Some(difference) = comparison.compare(pair) {
            return Some(difference);
        }
        ahead.extend((first..comparison.pairs.len()).rev());
        if comparison.pairs.len() > MAX_PAIRS {
            let text = "too large to be compared";
            let path = comparison.path(pair, None);
            return Some(Difference { path, guest: text.to_string(), host: text.to_string() });
        }
    }
    None
}

struct Comparison<'a> {
    guest: &'a [DataType],
    host: &'a [DataType],
    pairs: Vec<Pair>,
    seen: BTreeSet<(u32, u32)>,
    /// What is known of the host's types on the guest's side too.
    known: &'a mut BTreeSet<(u32, u32)>,
}

/// A type of the guest and the one of the host in its place.
struct Pair {
    guest: u32,
    host: u32,
    step: Step,
    /// The pair that this one is a part of.
    from: usize,
}

impl Comparison<'_> {
    fn meet(&mut self, guest: u32, host: u32, step: Step, from: usize) {
        if self.seen.insert((guest, host)) {
            self.pairs.push(Pair { guest, host, step, from });
        }
    }

    /// Compares the two, and meets their parts.
    fn compare(&mut self, pair: usize) -> Option<Difference> {
        use DataType::{Array, Bytes, Enum, Map, Option, Sequence, Struct, Tuple, Unit, Unknown, Untransferable};
        let (guest_types, host_types) = (self.guest, self.host);
        let Pair { guest, host, .. } = self.pairs[pair];
        let (guest, host) = (&guest_types[guest as usize], &host_types[host as usize]);
        let is_u8 = |types: &[DataType], element: u32| matches!(types[element as usize], DataType::U8 | Unknown);
        self.note(pair);
        match (guest, host) {
            (Unknown | Untransferable, _) | (_, Unknown | Untransferable) => None,
            (Option(guest), Option(host)) => self.part(pair, *guest, *host, Step::Inner),
            (Sequence(guest), Sequence(host)) => self.part(pair, *guest, *host, Step::Element),
            (Sequence(element), Bytes) if is_u8(guest_types, *element) => None,
            (Bytes, Sequence(element)) if is_u8(host_types, *element) => None,
            (Map(guest_key, guest_value), Map(host_key, host_value)) => {
                self.part(pair, *guest_key, *host_key, Step::Key);
                self.part(pair, *guest_value, *host_value, Step::Value)
            }
            (Array(guest, guest_length), Array(host, host_length)) if guest_length == host_length => {
                self.part(pair, *guest, *host, Step::Element)
            }
            (Tuple(guest), Tuple(host)) if guest.len() == host.len() => self.fields(pair, None, guest, host),
            (Tuple(guest), Array(host, length)) if guest.len() == *length as usize => {
                self.fields(pair, None, guest, &alloc::vec![*host; guest.len()])
            }
            (Array(guest, length), Tuple(host)) if host.len() == *length as usize => {
                self.fields(pair, None, &alloc::vec![*guest; host.len()], host)
            }
            (Struct { fields: guest, .. }, Struct { fields: host, .. }) => self.named(pair, None, guest, host),
            (Enum { variants: guest, .. }, Enum { variants: host, .. }) => self.variants(pair, guest, host),
            (guest, host) if is_empty(guest) && is_empty(host) => None,
            (Unit, Unit) => None,
            (guest, host) if guest == host && !guest.has_parts() => None,
            _ => Some(self.mismatch(pair)),
        }
    }

    /// Notes what the guest's type shows of the host's, and nothing that the host's does not have: what is known is kept.
    fn note(&mut self, pair: usize) {
        let Pair { guest, host, .. } = self.pairs[pair];
        let is_known = |part: u32| self.guest[part as usize] != DataType::Unknown;
        let wanted = shown_parts(&self.host[host as usize]);
        match &self.guest[guest as usize] {
            DataType::Enum { variants, .. } => {
                let known = variants.iter().take(wanted).enumerate();
                let known = known.filter(|(_, variant)| variant.content != Content::Unknown);
                self.known.extend(known.map(|(index, _)| (host, index as u32)));
            }
            DataType::Option(part) | DataType::Sequence(part) | DataType::Map(part, _) if is_known(*part) => {
                self.known.extend((wanted > 0).then_some((host, 0)));
            }
            DataType::Bytes => {
                self.known.extend((wanted > 0).then_some((host, 0)));
            }
            _ => {}
        }
    }

    fn part(&mut self, pair: usize, guest: u32, host: u32, step: Step) -> Option<Difference> {
        self.meet(guest, host, step, pair);
        None
    }

    fn fields(&mut self, pair: usize, variant: Option<usize>, guest: &[u32], host: &[u32]) -> Option<Difference> {
        for (index, (guest, host)) in guest.iter().zip(host).enumerate() {
            self.part(pair, *guest, *host, Step::Field { variant, index });
        }
        None
    }

    fn named(&mut self, pair: usize, variant: Option<usize>, guest: &[Field], host: &[Field]) -> Option<Difference> {
        for index in 0..guest.len().max(host.len()) {
            let step = Step::Field { variant, index };
            match (guest.get(index), host.get(index)) {
                (Some(guest), Some(host)) if same_name(&guest.name, &host.name) => {
                    self.part(pair, guest.data_type, host.data_type, step);
                }
                (Some(guest), Some(host)) => {
                    return Some(self.names(pair, step, named_field(&guest.name), named_field(&host.name)));
                }
                (Some(guest), None) => {
                    return Some(self.names(pair, step, named_field(&guest.name), MISSING_FIELD.to_string()));
                }
                (None, host) => {
                    let host = host.map(|host| named_field(&host.name)).unwrap_or_default();
                    return Some(self.names(pair, step, MISSING_FIELD.to_string(), host));
                }
            }
        }
        None
    }

    fn variants(&mut self, pair: usize, guest: &[Variant], host: &[Variant]) -> Option<Difference> {
        for (index, (guest, host)) in guest.iter().zip(host).enumerate() {
            if !same_name(&guest.name, &host.name) {
                let path = self.path(pair, None);
                return Some(Difference {
                    path,
                    guest: named_variant("an enum", index, &guest.name),
                    host: named_variant("one", index, &host.name),
                });
            }
            let difference = match (&guest.content, &host.content) {
                (Content::Unknown, _) | (_, Content::Unknown) => None,
                (Content::Unnamed(guest), Content::Unnamed(host)) if guest.len() == host.len() => {
                    self.fields(pair, Some(index), guest, host)
                }
                (Content::Named(guest), Content::Named(host)) => self.named(pair, Some(index), guest, host),
                (guest, host) if guest.parts().is_empty() && host.parts().is_empty() => None,
                (of_guest, of_host) => {
                    let path = format!("{}::{}", self.path(pair, None), printable_name(&guest.name));
                    Some(Difference { path, guest: content(of_guest), host: content(of_host) })
                }
            };
            if difference.is_some() {
                return difference;
            }
        }
        None
    }

    fn mismatch(&self, pair: usize) -> Difference {
        let Pair { guest, host, .. } = self.pairs[pair];
        let (guest, host) = (described(&self.guest[guest as usize]), described(&self.host[host as usize]));
        Difference { path: self.path(pair, None), guest, host }
    }

    fn names(&self, pair: usize, step: Step, guest: String, host: String) -> Difference {
        Difference { path: self.path(pair, Some((step, guest == MISSING_FIELD))), guest, host }
    }

    /// Where the pair is, or a part of it: by the names of the guest, or of the host where the guest has no such part.
    fn path(&self, pair: usize, part: Option<(Step, bool)>) -> String {
        let by_host = part.is_some_and(|(_, by_host)| by_host);
        let types = if by_host { self.host } else { self.guest };
        let mut chain = Vec::new();
        let mut at = pair;
        loop {
            let Pair { guest, host, step, from } = self.pairs[at];
            chain.push((if by_host { host } else { guest }, step));
            if matches!(step, Step::Root) {
                break;
            }
            at = from;
        }
        chain.reverse();
        if let (Some((step, _)), Some((last, _))) = (part, chain.last().copied()) {
            chain.push((last, step));
        }
        path(types, &chain)
    }
}

/// A type of which there is one value, for which a zero byte stands.
pub(super) fn is_empty(data_type: &DataType) -> bool {
    match data_type {
        DataType::Unit => true,
        DataType::Tuple(elements) => elements.is_empty(),
        DataType::Struct { fields, .. } => fields.is_empty(),
        DataType::Array(_, length) => *length == 0,
        _ => false,
    }
}

pub(super) fn same_name(guest: &str, host: &str) -> bool {
    guest == host || guest.is_empty() || host.is_empty()
}

pub(super) fn content(content: &Content) -> String {
    match content {
        Content::Unknown => "unknown".to_string(),
        Content::Unnamed(fields) if fields.is_empty() => "a unit variant".to_string(),
        Content::Unnamed(fields) => format!("a variant with {} unnamed fields", fields.len()),
        Content::Named(_) => "a variant with named fields".to_string(),
    }
}

pub(super) const MISSING_FIELD: &str = "no field";

/// The most pairs of types that are compared.
const MAX_PAIRS: usize = 1 << 16;
