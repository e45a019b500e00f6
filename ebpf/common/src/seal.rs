//! The checksum that ties a record's words together.

/// The seal of `words`: equal words give equal seals, and a mixture of two records' words gives a
/// different one but for a chance of about 2^-64. Not cryptographic.
///
/// Each step is a bijection of the state for a fixed word (xor, multiply by an odd number, xor-shift),
/// so that any single changed word changes the result for certain.
#[must_use]
#[inline(always)]
pub fn seal<const N: usize>(words: [u64; N]) -> u64 {
    let mut state = SEED;
    let mut index = 0;
    while index < N {
        state = (state ^ words[index]).wrapping_mul(MULTIPLIER);
        state ^= state >> 32;
        index += 1;
    }
    state
}

// The golden ratio's bits and SplitMix64's first multiplier: odd, with ones and zeros well spread.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MULTIPLIER: u64 = 0xbf58_476d_1ce4_e5b9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_or_moved_word_breaks_the_seal() {
        let sealed = seal([1, 2, 3]);
        for broken in [[0, 2, 3], [1, 3, 3], [1, 2, 4], [2, 1, 3], [1, 3, 2]] {
            assert_ne!(sealed, seal(broken), "{broken:?}");
        }
    }

    #[test]
    fn an_empty_map_value_is_not_sealed() {
        assert_ne!(seal([0, 0]), 0);
    }
}
