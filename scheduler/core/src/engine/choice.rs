//! Which of the best nodes a pod gets: one rule, whatever way they were found.
//!
//! A decision takes one random number, a [`Draw`]. It stands for [`TRIES`] rows and a fraction. The
//! first of the rows that is among the best is taken; if none is, the best in the order of their rows
//! at the fraction. A row is as likely as any other both times, so the choice is uniform. It depends on
//! the number, how many nodes there are and which are best, and on nothing else: ways of finding the
//! best that are free to differ from pod to pod, as by how many threads there are, come to one answer.
//!
//! Where many are the best, they need not be known: it is enough to be able to tell whether a row is
//! one of them. Where few are, they are few to go over.

use rand::Rng;

/// What chance says about one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw(u64);

/// So many rows are tried. If one in eight is among the best, 88 of 100 pods get one of them.
const TRIES: u64 = 16;

/// The golden ratio: the step between the numbers from which rows are made.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Draw {
    /// For one pod.
    pub fn new(random: &mut dyn Rng) -> Self {
        Self(random.next_u64())
    }

    /// The first of the rows to try that is among the best, of `rows` in all.
    #[inline]
    pub(crate) fn first(
        self,
        rows: usize,
        mut is_best: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        (0..TRIES).map(|number| self.part(number, rows)).find(|row| is_best(*row))
    }

    /// If no row to try is among the best: which of them it is, of `count` in the order of their rows.
    #[inline]
    pub(crate) fn nth(self, count: usize) -> usize {
        self.part(TRIES, count)
    }

    /// One of the best (ascending; not empty) of `rows` in all.
    pub(crate) fn choose(self, rows: usize, best: &[usize]) -> usize {
        if let [one] = best {
            return *one;
        }
        let tried = self.first(rows, |row| best.binary_search(&row).is_ok());
        tried.unwrap_or_else(|| best[self.nth(best.len())])
    }

    /// Below `count`, each with the same chance. Numbers of one draw are mixed as SplitMix64 does, so
    /// that one says nothing about another.
    #[inline]
    fn part(self, number: u64, count: usize) -> usize {
        let mut mixed = self.0.wrapping_add(number.wrapping_mul(STEP));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = mixed >> 32;
        // At most 2^32 nodes: the product fits.
        ((high * count as u64) >> 32) as usize
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn every_best_row_has_the_same_chance() {
        let mut random = SmallRng::seed_from_u64(5);
        let cases: [&[usize]; 4] = [&[3], &[0, 1, 2, 3], &[0, 97, 98, 99], &[5, 6, 7, 40]];
        for (best, rows) in cases.into_iter().zip([4, 4, 100, 41]) {
            let mut chosen = vec![0_u32; rows];
            let times = 4000 * best.len() as u32;
            (0..times).for_each(|_| chosen[Draw::new(&mut random).choose(rows, best)] += 1);
            assert_eq!(best.iter().map(|row| chosen[*row]).sum::<u32>(), times);
            // 4000 expected, standard deviation below 60: five of them either way.
            assert!(best.iter().all(|row| chosen[*row].abs_diff(4000) < 300), "{chosen:?}");
        }
    }
}
