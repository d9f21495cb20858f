//! Sequence numbers: 32 bits on the wire, 64 inside, so that nothing here ever wraps.

/// Where counting starts: high enough that a number a little before the first is still one.
const BASE: u64 = 1 << 32;

/// The wide number of a stream's first packet.
pub(crate) fn first(wire: u32) -> u64 {
    BASE + u64::from(wire)
}

/// The number on the wire.
pub(crate) fn narrow(seq: u64) -> u32 {
    (seq & u64::from(u32::MAX)) as u32
}

/// The wide number nearest to `near` that looks like `wire`.
pub(crate) fn widen(wire: u32, near: u64) -> u64 {
    near.saturating_add_signed(i64::from(wire.wrapping_sub(narrow(near)).cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_number_is_taken_on_both_sides_of_a_wrap() {
        let near = first(u32::MAX - 1);
        assert_eq!(widen(u32::MAX, near), near + 1);
        assert_eq!(widen(3, near), near + 5);
        assert_eq!(widen(u32::MAX - 4, near), near - 3);
        assert_eq!(widen(u32::MAX, first(0)), first(0) - 1);
        assert_eq!(narrow(first(7)), 7);
    }
}
