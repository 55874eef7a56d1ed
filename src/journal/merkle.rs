//! The RFC 6962 tree over the journal's lines: leaf and node hashes, the frontier that a writer keeps, and the proofs
//! that strangers check. Pure.

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash of a leaf, a node or a tree.
pub type Hash = [u8; 32];

/// Hash of a leaf: SHA-256(0x00 ‖ line without its newline).
pub fn leaf_hash(line: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(line);
    hasher.finalize().into()
}

/// Hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([1]);
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

/// Root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The roots of a tree's perfect subtrees, largest first: all that appending needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// A frontier of a tree with `size` leaves; `None` unless there is one root per one-bit of `size`.
    pub fn new(size: u64, roots: Vec<Hash>) -> Option<Self> {
        (roots.len() == size.count_ones() as usize).then_some(Self { size, roots })
    }

    /// Leaves in the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the perfect subtrees, largest first.
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// The perfect subtrees, largest first: height, index among those of that height, and root.
    pub fn subtrees(&self) -> impl Iterator<Item = (u32, u64, Hash)> {
        let heights = (0..u64::BITS).rev().filter(|height| (self.size >> height) & 1 == 1);
        heights.zip(&self.roots).map(|(height, root)| (height, (self.size >> height) - 1, *root))
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.push_reporting(leaf, |_, _| {});
    }

    /// Appends a leaf and reports each perfect subtree that it completes as (height, root).
    pub fn push_reporting(&mut self, leaf: Hash, mut completed: impl FnMut(u32, &Hash)) {
        let mut root = leaf;
        for height in 1..=self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                root = node_hash(&left, &root);
                completed(height, &root);
            }
        }
        self.roots.push(root);
        self.size += 1;
    }

    /// Root of the whole tree.
    pub fn root(&self) -> Hash {
        let mut smallest_first = self.roots.iter().rev();
        match smallest_first.next() {
            None => empty_root(),
            Some(last) => smallest_first.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// Largest power of two smaller than `n`, for `n` of at least two.
pub(super) fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// Where tree hashes come from: the root over leaves `from..to`.
pub trait RangeHashes {
    /// Why a hash can't be had.
    type Error;
    /// RFC 6962 tree hash over the leaves `from..to`; never asked for an empty range.
    fn range_hash(&mut self, from: u64, to: u64) -> Result<Hash, Self::Error>;
}

/// Inclusion proof of leaf `index` in the tree of `size` leaves, in RFC 6962 order. `index < size`.
pub fn inclusion_proof<R: RangeHashes>(hashes: &mut R, index: u64, size: u64) -> Result<Vec<Hash>, R::Error> {
    let (mut from, mut to) = (0, size);
    let mut siblings = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            siblings.push(hashes.range_hash(middle, to)?);
            to = middle;
        } else {
            siblings.push(hashes.range_hash(from, middle)?);
            from = middle;
        }
    }
    siblings.reverse();
    Ok(siblings)
}

/// Consistency proof between the trees of `old` and `new` leaves, in RFC 6962 order. `0 < old <= new`.
pub fn consistency_proof<R: RangeHashes>(hashes: &mut R, old: u64, new: u64) -> Result<Vec<Hash>, R::Error> {
    let (mut from, mut to) = (0, new);
    let mut proof = Vec::new();
    // Whether the part of the old tree that is looked at is still the whole old tree.
    let mut whole = true;
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            proof.push(hashes.range_hash(middle, to)?);
            to = middle;
        } else {
            proof.push(hashes.range_hash(from, middle)?);
            from = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(hashes.range_hash(from, to)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Root that an inclusion proof leads to (RFC 9162, 2.1.3.2); `None` if the proof has the wrong length.
pub fn root_from_inclusion(index: u64, size: u64, leaf: Hash, proof: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut node, mut last, mut root) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            root = node_hash(sibling, &root);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            root = node_hash(&root, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

/// Whether a consistency proof connects two roots (RFC 9162, 2.1.4.2).
pub fn consistent(old: u64, new: u64, old_root: &Hash, new_root: &Hash, proof: &[Hash]) -> bool {
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 || old > new {
        return false;
    }
    let mut rest = proof.iter();
    let first = if old.is_power_of_two() { Some(old_root) } else { rest.next() };
    let Some(first) = first else { return false };
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut from_old, mut from_new) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            from_old = node_hash(sibling, &from_old);
            from_new = node_hash(sibling, &from_new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && from_old == *old_root && from_new == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962, section 2.1, word for word, over leaves in memory.
    struct Plain(Vec<Hash>);

    impl RangeHashes for Plain {
        type Error = std::convert::Infallible;

        fn range_hash(&mut self, from: u64, to: u64) -> Result<Hash, Self::Error> {
            if to - from == 1 {
                return Ok(self.0[usize::try_from(from).unwrap()]);
            }
            let middle = from + split(to - from);
            Ok(node_hash(&self.range_hash(from, middle)?, &self.range_hash(middle, to)?))
        }
    }

    fn leaves(n: u64) -> Vec<Hash> {
        (0..n).map(|i| leaf_hash(&i.to_le_bytes())).collect()
    }

    #[test]
    fn the_empty_tree_has_the_hash_of_nothing() {
        assert_eq!(
            data_encoding::HEXLOWER.encode(&Frontier::default().root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn a_frontier_has_the_root_of_the_definition_at_every_size() {
        let mut frontier = Frontier::default();
        for n in 1..200 {
            frontier.push(leaf_hash(&(n - 1_u64).to_le_bytes()));
            assert_eq!(frontier.root(), Plain(leaves(n)).range_hash(0, n).unwrap());
            assert_eq!(Frontier::new(n, frontier.roots().to_vec()), Some(frontier.clone()));
        }
    }

    #[test]
    fn every_inclusion_proof_leads_to_the_root_and_no_other_leaf_does() {
        for size in 1..40 {
            let mut plain = Plain(leaves(size));
            let root = plain.range_hash(0, size).unwrap();
            for index in 0..size {
                let proof = inclusion_proof(&mut plain, index, size).unwrap();
                assert_eq!(root_from_inclusion(index, size, leaves(size)[index as usize], &proof), Some(root));
                assert_ne!(root_from_inclusion(index, size, leaf_hash(b"other"), &proof), Some(root));
                let mut longer = proof.clone();
                longer.push(root);
                assert_ne!(root_from_inclusion(index, size, leaves(size)[index as usize], &longer), Some(root));
            }
        }
    }

    #[test]
    fn every_consistency_proof_connects_its_two_roots_and_no_others() {
        for new in 1..40 {
            let mut plain = Plain(leaves(new));
            let new_root = plain.range_hash(0, new).unwrap();
            for old in 1..=new {
                let old_root = plain.range_hash(0, old).unwrap();
                let proof = consistency_proof(&mut plain, old, new).unwrap();
                assert!(consistent(old, new, &old_root, &new_root, &proof), "{old} {new}");
                assert!(!consistent(old, new, &leaf_hash(b"other"), &new_root, &proof));
                assert!(!consistent(old, new, &old_root, &leaf_hash(b"other"), &proof));
            }
        }
    }
}
