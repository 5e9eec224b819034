//! An array with holes whose clones share what neither has changed.
//!
//! It is a tree of [`FANOUT`] children a node, as high as its largest index needs. A clone copies one pointer, and a change
//! after it the nodes on one path: at most [`HEIGHT_MAX`] of them, each no longer than its last child needs.

use std::sync::Arc;

/// Values by a number of at most 60 bits.
#[derive(Clone, Debug)]
pub(crate) struct Sparse<T> {
    root: Option<Arc<Node<T>>>,
    /// How many levels of branches are above the leaves.
    height: u32,
}

#[derive(Clone, Debug)]
enum Node<T> {
    Leaf(Vec<Option<T>>),
    Branch(Vec<Option<Arc<Node<T>>>>),
}

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Self { root: None, height: 0 }
    }
}

impl<T: Clone> Sparse<T> {
    pub(crate) fn get(&self, index: u64) -> Option<&T> {
        let mut node = self.root.as_deref()?;
        if index >> self.bits() != 0 {
            return None;
        }
        let mut height = self.height;
        loop {
            match node {
                Node::Leaf(values) => return values.get(slot(index, 0))?.as_ref(),
                Node::Branch(children) => node = children.get(slot(index, height))?.as_deref()?,
            }
            height -= 1;
        }
    }

    /// Copies the path to the value where it is shared with a clone.
    pub(crate) fn get_mut(&mut self, index: u64) -> Option<&mut T> {
        self.get(index)?;
        let mut height = self.height;
        let mut node = Arc::make_mut(self.root.as_mut()?);
        loop {
            match node {
                Node::Leaf(values) => return values.get_mut(slot(index, 0))?.as_mut(),
                Node::Branch(children) => node = Arc::make_mut(children.get_mut(slot(index, height))?.as_mut()?),
            }
            height -= 1;
        }
    }

    /// Returns what was there before.
    ///
    /// # Panics
    ///
    /// If the index has more than 60 bits.
    pub(crate) fn insert(&mut self, index: u64, value: T) -> Option<T> {
        assert!(index >> (BITS * HEIGHT_MAX) == 0, "an index has at most 60 bits");
        while index >> self.bits() != 0 {
            self.height += 1;
            self.root = self.root.take().map(|below| Arc::new(Node::Branch(vec![Some(below)])));
        }
        let mut height = self.height;
        let mut node = Arc::make_mut(self.root.get_or_insert_with(|| Node::new(height)));
        loop {
            match node {
                Node::Leaf(values) => return room(values, slot(index, 0)).replace(value),
                Node::Branch(children) => {
                    let child = room(children, slot(index, height)).get_or_insert_with(|| Node::new(height - 1));
                    node = Arc::make_mut(child);
                }
            }
            height -= 1;
        }
    }

    pub(crate) fn remove(&mut self, index: u64) -> Option<T> {
        self.get(index)?;
        let removed = Arc::make_mut(self.root.as_mut()?).remove(index, self.height);
        if self.root.as_ref().is_some_and(|root| root.is_empty()) {
            *self = Self::default();
        }
        removed
    }

    /// The first value at this index or behind it.
    pub(crate) fn first_from(&self, index: u64) -> Option<(u64, &T)> {
        if index >> self.bits() != 0 {
            return None;
        }
        self.root.as_ref()?.first_from(index, self.height)
    }

    /// How many bits of an index the tree has room for.
    fn bits(&self) -> u32 {
        BITS * (self.height + 1)
    }
}

impl<T: Clone> Node<T> {
    fn new(height: u32) -> Arc<Self> {
        Arc::new(if height == 0 { Self::Leaf(Vec::new()) } else { Self::Branch(Vec::new()) })
    }

    fn remove(&mut self, index: u64, height: u32) -> Option<T> {
        let slot = slot(index, height);
        match self {
            Self::Leaf(values) => {
                let removed = values.get_mut(slot)?.take();
                trim(values);
                removed
            }
            Self::Branch(children) => {
                let child = children.get_mut(slot)?;
                let below = Arc::make_mut(child.as_mut()?);
                let removed = below.remove(index, height - 1);
                if below.is_empty() {
                    *child = None;
                    trim(children);
                }
                removed
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(values) => values.is_empty(),
            Self::Branch(children) => children.is_empty(),
        }
    }

    fn first_from(&self, index: u64, height: u32) -> Option<(u64, &T)> {
        let first = slot(index, height);
        match self {
            Self::Leaf(values) => {
                let (slot, value) = (first..).zip(values.get(first..)?).find(|(_, value)| value.is_some())?;
                Some((slot as u64, value.as_ref()?))
            }
            Self::Branch(children) => (first..).zip(children.get(first..)?).find_map(|(slot, child)| {
                let below = BITS * height;
                let rest = if slot == first { index & ((1 << below) - 1) } else { 0 };
                let (found, value) = child.as_ref()?.first_from(rest, height - 1)?;
                Some(((slot as u64) << below | found, value))
            }),
        }
    }
}

/// The place of an index in a node.
fn slot(index: u64, height: u32) -> usize {
    (index >> (BITS * height)) as usize % FANOUT
}

fn room<V>(values: &mut Vec<Option<V>>, slot: usize) -> &mut Option<V> {
    if values.len() <= slot {
        values.reserve_exact(slot + 1 - values.len());
        values.resize_with(slot + 1, || None);
    }
    &mut values[slot]
}

/// Drops the holes at the end.
fn trim<V>(values: &mut Vec<Option<V>>) {
    let len = values.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    values.truncate(len);
}

/// The bits of an index that one level of the tree decides.
const BITS: u32 = 6;
const FANOUT: usize = 1 << BITS;

/// Enough for every chunk of the largest file.
const HEIGHT_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn index() -> impl Strategy<Value = u64> {
        prop_oneof![0..10_u64, 0..5000_u64, 0..1_u64 << 59]
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_sorted_map_and_its_clones_stay_as_they_are(
            steps in proptest::collection::vec((index(), any::<Option<u8>>(), any::<bool>()), 1..80),
        ) {
            let (mut sparse, mut map) = (Sparse::default(), BTreeMap::new());
            let mut clones = Vec::new();
            for (index, value, clone) in steps {
                if clone {
                    clones.push((sparse.clone(), map.clone()));
                }
                match value {
                    Some(value) => prop_assert_eq!(sparse.insert(index, value), map.insert(index, value)),
                    None => prop_assert_eq!(sparse.remove(index), map.remove(&index)),
                }
                prop_assert_eq!(sparse.get(index), map.get(&index));
                prop_assert_eq!(sparse.get_mut(index), map.get_mut(&index));
                prop_assert_eq!(sparse.first_from(index / 2), map.range(index / 2..).next().map(|(at, it)| (*at, it)));
            }
            clones.push((sparse, map));
            for (sparse, map) in clones {
                let mut found = Vec::new();
                let mut next = sparse.first_from(0);
                while let Some((index, value)) = next {
                    found.push((index, *value));
                    next = sparse.first_from(index + 1);
                }
                prop_assert_eq!(found, map.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
