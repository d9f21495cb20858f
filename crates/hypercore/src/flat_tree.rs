//! Flat-tree arithmetic: a binary tree laid out in one row of numbers, as npm `flat-tree` 1 numbers it.
//!
//! Leaves are the even numbers, parents the odd ones between them:
//!
//! ```text
//!        3
//!    1       5
//!  0   2   4   6
//! ```
//!
//! Indexes may come from peers. Everything here is total: no input makes it panic or loop for more than the depth
//! of the tree. Results are meaningful for indexes below 2^53, the largest that Hypercore peers can count.

/// Largest integer that the encodings of Hypercore carry.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Most blocks a log can have: their flat-tree indexes stay within [`MAX_INTEGER`].
pub const MAX_LENGTH: u64 = 1 << 52;

/// Levels that are ever climbed. Above, positions stay where they are.
const MAX_DEPTH: u32 = 56;

/// A place in the tree that can be walked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    depth: u32,
    offset: u64,
}

impl Position {
    /// The position of a flat-tree index.
    pub fn new(index: u64) -> Self {
        let depth = index.trailing_ones().min(MAX_DEPTH);
        Self { depth, offset: index.checked_shr(depth + 1).unwrap_or(0) }
    }

    /// The leaf of a block.
    pub fn leaf(block: u64) -> Self {
        Self { depth: 0, offset: block }
    }

    /// The flat-tree index.
    pub fn index(self) -> u64 {
        // (2 * offset + 1) * 2^depth - 1
        self.offset.saturating_mul(2).saturating_add(1).saturating_mul(1 << self.depth).saturating_sub(1)
    }

    /// Levels above the leaves.
    pub fn depth(self) -> u32 {
        self.depth
    }

    /// How many positions of the same depth lie to the left.
    pub fn offset(self) -> u64 {
        self.offset
    }

    /// True for positions that hold blocks.
    pub fn is_leaf(self) -> bool {
        self.depth == 0
    }

    /// True for left children.
    pub fn is_left(self) -> bool {
        self.offset & 1 == 0
    }

    /// The other child of the same parent.
    pub fn sibling(self) -> Self {
        Self { offset: self.offset ^ 1, ..self }
    }

    /// One level up.
    pub fn parent(self) -> Self {
        if self.depth >= MAX_DEPTH {
            return self;
        }
        Self { depth: self.depth + 1, offset: self.offset >> 1 }
    }

    /// One level down, left; leaves stay.
    pub fn left_child(self) -> Self {
        if self.depth == 0 {
            return self;
        }
        Self { depth: self.depth - 1, offset: self.offset.saturating_mul(2) }
    }

    /// One level down, right; leaves stay.
    pub fn right_child(self) -> Self {
        if self.depth == 0 {
            return self;
        }
        Self { depth: self.depth - 1, offset: self.offset.saturating_mul(2).saturating_add(1) }
    }

    /// Index of the leftmost leaf below.
    pub fn left_span(self) -> u64 {
        self.first_block().saturating_mul(2)
    }

    /// Index of the rightmost leaf below.
    pub fn right_span(self) -> u64 {
        self.end_block().saturating_mul(2).saturating_sub(2)
    }

    /// First block below.
    pub fn first_block(self) -> u64 {
        self.offset.saturating_mul(1 << self.depth)
    }

    /// The block after the last one below.
    pub fn end_block(self) -> u64 {
        self.offset.saturating_add(1).saturating_mul(1 << self.depth)
    }

    /// Leaves below.
    pub fn leaves(self) -> u64 {
        1 << self.depth
    }

    /// True when `index` is this position or lies below it (or between its outermost leaves).
    pub fn contains(self, index: u64) -> bool {
        self.left_span() <= index && index <= self.right_span()
    }
}

/// Roots of the full subtrees over the leaves left of `index` (twice a length), left to right.
pub fn full_roots(index: u64) -> FullRoots {
    FullRoots { first: 0, left: index >> 1 }
}

/// Iterator of [`full_roots`].
#[derive(Debug, Clone)]
pub struct FullRoots {
    first: u64,
    left: u64,
}

impl FullRoots {
    /// As positions instead of indexes.
    pub fn positions(self) -> impl Iterator<Item = Position> {
        self.map(Position::new)
    }
}

impl Iterator for FullRoots {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let depth = self.left.checked_ilog2()?;
        let leaves = 1u64 << depth;
        let root = Position { depth: depth.min(MAX_DEPTH), offset: self.first >> depth };
        self.first = self.first.saturating_add(leaves);
        self.left -= leaves;
        Some(root.index())
    }
}

/// Levels above the leaves of an index.
pub fn depth(index: u64) -> u32 {
    Position::new(index).depth()
}

/// Index of the parent.
pub fn parent(index: u64) -> u64 {
    Position::new(index).parent().index()
}

/// Index of the sibling.
pub fn sibling(index: u64) -> u64 {
    Position::new(index).sibling().index()
}

/// Index of the leftmost leaf below.
pub fn left_span(index: u64) -> u64 {
    Position::new(index).left_span()
}

/// Index of the rightmost leaf below.
pub fn right_span(index: u64) -> u64 {
    Position::new(index).right_span()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_indexes_are_where_the_picture_shows_them() {
        assert_eq!([0, 2, 1, 4, 5, 3].map(depth), [0, 0, 1, 0, 1, 2]);
        assert_eq!([0, 2, 1, 5, 4].map(parent), [1, 1, 3, 3, 5]);
        assert_eq!([0, 2, 1, 5, 4].map(sibling), [2, 0, 5, 1, 6]);
        assert_eq!((left_span(3), right_span(3)), (0, 6));
        assert_eq!(full_roots(2 * 7).collect::<Vec<_>>(), [3, 9, 12]);
        assert_eq!(full_roots(0).count(), 0);
    }

    proptest! {
        #[test]
        fn full_roots_cover_every_block_once(length in 0..=MAX_LENGTH) {
            let mut end = 0;
            let mut leaves = u64::MAX;
            for root in full_roots(2 * length).positions() {
                prop_assert_eq!(root.first_block(), end);
                prop_assert!(root.leaves() < leaves);
                (end, leaves) = (root.end_block(), root.leaves());
            }
            prop_assert_eq!(end, length);
        }

        #[test]
        fn steps_up_and_down_undo_each_other(index in 0..=MAX_INTEGER) {
            let position = Position::new(index);
            prop_assert_eq!(position.index(), index);
            let parent = position.parent();
            let child = if position.is_left() { parent.left_child() } else { parent.right_child() };
            prop_assert_eq!(child, position);
            prop_assert_eq!(position.sibling().parent(), parent);
            prop_assert_eq!(position.sibling().sibling(), position);
            prop_assert!(parent.contains(index) && parent.contains(position.sibling().index()));
            prop_assert!(!position.contains(position.sibling().index()));
            prop_assert_eq!(position.leaves(), position.end_block() - position.first_block());
        }

        #[test]
        fn no_index_is_too_wild(index in any::<u64>(), other in any::<u64>()) {
            let mut position = Position::new(index);
            for _ in 0..100 {
                let _ = (position.index(), position.sibling().index(), position.contains(other));
                let _ = (position.left_span(), position.right_span(), position.end_block());
                position = position.parent();
            }
            for _ in 0..100 {
                position = if other & 1 == 0 { position.left_child() } else { position.right_child() };
                let _ = position.index();
            }
            prop_assert!(full_roots(index).count() <= 64);
        }
    }
}
