//! The usual normalisation (`helper.DefaultNormalizeScore`).

use crate::framework::MAX_NODE_SCORE;

/// Scales to 0..=100 by the highest score; `reverse` makes the highest the worst. If all are zero
/// they stay so, or become 100 when reversed.
pub(super) fn by_highest(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0).max(0);
    for score in scores {
        *score = scaled(*score, highest, reverse);
    }
}

/// One score, when the highest of all is known; `highest` is not negative.
pub(crate) fn scaled(score: i64, highest: i64, reverse: bool) -> i64 {
    let scaled = if highest == 0 { 0 } else { MAX_NODE_SCORE.wrapping_mul(score) / highest };
    if reverse { MAX_NODE_SCORE - scaled } else { scaled }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_as_upstream() {
        for (scores, reverse, expected) in [
            (vec![1, 2, 3, 4], false, vec![25, 50, 75, 100]),
            (vec![1, 2, 3, 4], true, vec![75, 50, 25, 0]),
            (vec![1000, 10, 20, 30], false, vec![100, 1, 2, 3]),
            (vec![0, 1, 1, 1], true, vec![100, 0, 0, 0]),
            (vec![0, 0, 0], true, vec![100, 100, 100]),
            (vec![0, 0, 0], false, vec![0, 0, 0]),
            (vec![], false, vec![]),
        ] {
            let mut actual = scores.clone();
            by_highest(&mut actual, reverse);
            assert_eq!(actual, expected, "{scores:?} reverse {reverse}");
        }
    }
}
