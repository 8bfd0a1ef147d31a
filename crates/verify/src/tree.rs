//! Merkle trees as in RFC 6962, section 2.1.

use crate::{Hash, hash};

/// Hashes a record.
pub(crate) fn leaf(record: &[u8]) -> Hash {
    hash(&[&[0], record])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left, right])
}

/// Grows a tree, of which it keeps one full subtree for each bit of its size.
#[derive(Default)]
pub(crate) struct Tree {
    size: u64,
    /// The subtree of 2^n leaves at the place n.
    full: Vec<Option<Hash>>,
}

impl Tree {
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn push(&mut self, leaf: Hash) {
        self.size += 1;
        let mut carried = leaf;
        for place in &mut self.full {
            match place.take() {
                Some(left) => carried = node(&left, &carried),
                None => {
                    *place = Some(carried);
                    return;
                }
            }
        }
        self.full.push(Some(carried));
    }

    /// Returns the root; that of no leaves is the hash of nothing.
    pub(crate) fn root(&self) -> Hash {
        let whole = self.full.iter().flatten().copied().reduce(|right, left| node(&left, &right));
        whole.unwrap_or_else(|| hash(&[]))
    }
}

/// Computes the root that a leaf and its audit path lead to (RFC 9162, section 2.1.3.2).
pub(crate) fn root_by_path(leaf: Hash, number: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if number >= size {
        return None;
    }
    let (mut place, mut last, mut root) = (number, size - 1, leaf);
    for beside in path {
        if last == 0 {
            return None;
        }
        if place % 2 == 1 || place == last {
            root = node(beside, &root);
            while place % 2 == 0 && place != 0 {
                (place, last) = (place / 2, last / 2);
            }
        } else {
            root = node(&root, beside);
        }
        (place, last) = (place / 2, last / 2);
    }
    (last == 0).then_some(root)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, prop_assert_ne, proptest};

    use super::{Hash, Tree, leaf, node, root_by_path};

    fn leaves(size: u64) -> Vec<Hash> {
        (0..size).map(|number| leaf(&number.to_be_bytes())).collect()
    }

    fn defined_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Tree::default().root(),
            [one] => *one,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node(&defined_root(left), &defined_root(right))
            }
        }
    }

    fn defined_path(number: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() < 2 {
            return Vec::new();
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let (mut path, beside) = match number.checked_sub(left.len()) {
            None => (defined_path(number, left), right),
            Some(number) => (defined_path(number, right), left),
        };
        path.push(defined_root(beside));
        path
    }

    proptest! {
        #[test]
        fn the_root_is_the_defined_one(size in 0_u64..140) {
            let mut tree = Tree::default();
            leaves(size).into_iter().for_each(|leaf| tree.push(leaf));
            prop_assert_eq!((tree.size(), tree.root()), (size, defined_root(&leaves(size))));
        }

        #[test]
        fn a_path_leads_to_the_root_from_its_leaf_only(size in 1_u64..90, at in any::<u64>(), other in any::<u64>()) {
            let (leaves, number) = (leaves(size), at % size);
            let (root, path) = (defined_root(&leaves), defined_path(number as usize, &leaves));
            prop_assert_eq!(root_by_path(leaves[number as usize], number, size, &path), Some(root));
            let other = other % size;
            if other != number {
                prop_assert_ne!(root_by_path(leaves[other as usize], number, size, &path), Some(root));
                prop_assert_ne!(root_by_path(leaves[number as usize], other, size, &path), Some(root));
            }
            let longer = [path.clone(), vec![root]].concat();
            prop_assert_eq!(root_by_path(leaves[number as usize], number, size, &longer), None);
            prop_assert_eq!(root_by_path(leaves[number as usize], size, size, &path), None);
            if let Some((_, shorter)) = path.split_last() {
                prop_assert_ne!(root_by_path(leaves[number as usize], number, size, shorter), Some(root));
            }
        }
    }
}
