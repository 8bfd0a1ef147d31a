//! Merkle trees as in RFC 6962 section 2.1: SHA-256, leaves prefixed with 0x00, nodes with 0x01.

use sha2::{Digest, Sha256};

/// Is a hash of a leaf, a node or a root.
pub type Hash = [u8; 32];

/// Hashes a record into a leaf.
pub fn leaf(record: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(record);
    hash.finalize().into()
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// Is the right edge of a growing tree: the roots of its full subtrees, largest first. It is all
/// that is needed to grow the tree and to know its root.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Frontier {
    size: u64,
    subtrees: Vec<Hash>,
}

impl Frontier {
    /// Returns how many leaves the tree has.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf on the right.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                hash = node(&left, &hash);
            }
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// Returns the tree's root; that of the empty tree is the hash of nothing.
    pub fn root(&self) -> Hash {
        let mut subtrees = self.subtrees.iter().rev();
        match subtrees.next() {
            Some(last) => subtrees.fold(*last, |right, left| node(left, &right)),
            None => Sha256::digest([]).into(),
        }
    }
}

/// Gathers the audit path of one leaf (RFC 6962 2.1.1) while the leaves of its tree pass by.
pub(crate) struct Path {
    number: u64,
    passed: u64,
    /// The subtrees beside the way from the leaf to the root, from the left to the right: where each
    /// ends, its place in the path, and what has grown of it.
    siblings: Vec<(u64, usize, Frontier)>,
    at: usize,
}

impl Path {
    /// Begins with the path of a leaf in the tree of this size, which must be greater.
    pub(crate) fn new(number: u64, size: u64) -> Self {
        let (mut start, mut end, mut down) = (0, size, Vec::new());
        while end - start > 1 {
            let middle = start + (end - start).next_power_of_two() / 2;
            if number < middle {
                down.push(end);
                end = middle;
            } else {
                down.push(middle);
                start = middle;
            }
        }
        let depth = down.len();
        let places = down.into_iter().enumerate();
        let mut siblings: Vec<_> =
            places.map(|(place, end)| (end, depth - 1 - place, Frontier::default())).collect();
        siblings.sort_unstable_by_key(|(end, ..)| *end);
        Self { number, passed: 0, siblings, at: 0 }
    }

    /// Takes in the next leaf.
    pub(crate) fn push(&mut self, leaf: Hash) {
        while self.siblings.get(self.at).is_some_and(|(end, ..)| *end <= self.passed) {
            self.at += 1;
        }
        if self.passed != self.number
            && let Some((_, _, subtree)) = self.siblings.get_mut(self.at)
        {
            subtree.push(leaf);
        }
        self.passed += 1;
    }

    /// Returns the path, from the leaf up.
    pub(crate) fn finish(mut self) -> Vec<Hash> {
        self.siblings.sort_unstable_by_key(|(_, place, _)| *place);
        self.siblings.iter().map(|(_, _, subtree)| subtree.root()).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{Frontier, Hash, Path, leaf, node};

    /// The definition of RFC 6962 2.1.1, word for word.
    fn path_by_definition(number: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        if number < left.len() {
            [path_by_definition(number, left), vec![definition(right)]].concat()
        } else {
            [path_by_definition(number - left.len(), right), vec![definition(left)]].concat()
        }
    }

    /// The definition of RFC 6962 2.1, word for word.
    fn definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Frontier::default().root(),
            [one] => *one,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                node(&definition(&leaves[..split]), &definition(&leaves[split..]))
            }
        }
    }

    proptest! {
        #[test]
        fn the_frontier_has_the_root_of_the_definition(size in 0_usize..130) {
            let leaves: Vec<Hash> = (0..size).map(|number| leaf(&number.to_be_bytes())).collect();
            let mut frontier = Frontier::default();
            leaves.iter().for_each(|leaf| frontier.push(*leaf));
            prop_assert_eq!(frontier.root(), definition(&leaves));
        }

        #[test]
        fn the_path_is_that_of_the_definition(size in 1_usize..70, at in 0_usize..70) {
            let (leaves, number): (Vec<Hash>, _) = ((0..size).map(|one| leaf(&one.to_be_bytes())).collect(), at % size);
            let mut path = Path::new(number as u64, size as u64);
            leaves.iter().for_each(|leaf| path.push(*leaf));
            prop_assert_eq!(path.finish(), path_by_definition(number, &leaves));
        }
    }

    #[test]
    fn the_empty_tree_has_the_published_root() {
        assert_eq!(
            hex::encode(Frontier::default().root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
