//! Which of a Service's backends has which place of a ring: Maglev's consistent hashing.
//!
//! As in section 3.4 of "Maglev: A Fast and Reliable Software Network Load Balancer" (Eisenbud and
//! others, NSDI 2016). The ring has `M` places, a prime number. Each backend has an order of all of them
//! of its own, `(offset + n * skip) mod M`, by two numbers that its address and port alone decide. The
//! backends take turns, and each takes the first place of its order that is free, until none is. So
//!
//! * every node that knows the same backends has the same ring, without a word between them;
//! * no backend has more than one place more than another;
//! * if a backend goes, its places pass to the others, and few others change: of 100 backends and 65,537
//!   places about 0.6 %.
//!
//! **Weights.** A backend whose weight is a part of the greatest takes a place in such a part of the turns,
//! the first among them: after `n` turns it has `n * weight / greatest` places, rounded up.

use std::sync::Arc;

use pintle_ebpf_common::{Endpoint, seal};

/// A ring of `places` places, a prime number, over `backends`, of which it says the numbers. There are
/// at least one and at most as many as places, and no two alike.
#[must_use]
pub fn ring(backends: &[Endpoint], places: u32) -> Arc<[u16]> {
    weighted_ring(backends, |_| 1, places)
}

/// The same of which backends have shares by their weights, which are at least 1.
#[must_use]
pub fn weighted_ring(
    backends: &[Endpoint],
    weight: impl Fn(&Endpoint) -> u32,
    places: u32,
) -> Arc<[u16]> {
    let order = |one| (Order::of(one, places), u64::from(weight(one)));
    let mut orders: Vec<(Order, u64)> = backends.iter().map(order).collect();
    let greatest = orders.iter().map(|(_, weight)| *weight).max().unwrap_or(1);
    let mut taken = vec![None; places as usize];
    let mut free = places;
    'turns: for turn in 0_u64.. {
        for (number, (order, weight)) in (0_u16..).zip(&mut orders) {
            if free == 0 {
                break 'turns;
            }
            let after = |turns: u64| (turns * *weight).div_ceil(greatest);
            if after(turn + 1) == after(turn) {
                continue;
            }
            let place = order.take(&taken);
            taken[place as usize] = Some(number);
            free -= 1;
        }
    }
    taken.into_iter().map(Option::unwrap_or_default).collect()
}

/// A number that tells rings apart.
#[must_use]
pub fn content(ring: impl IntoIterator<Item = u16>) -> u64 {
    ring.into_iter().fold(0, |content, number| seal([content, u64::from(number)]))
}

/// How many places a ring over so many backends has, if their Service's are to have `wanted`; 0: there
/// is none, since there is nothing to choose, or not a place for each.
#[must_use]
pub fn places(backends: usize, wanted: u32) -> u32 {
    let fits = (2..=BACKENDS_MAX).contains(&backends) && backends <= wanted as usize;
    if fits { wanted } else { 0 }
}

/// The number of places that an annotation asks for; `None` if it says nothing that is known.
pub(super) fn parse(annotation: &str) -> Option<u32> {
    match annotation {
        "true" => Some(PLACES_DEFAULT),
        text => text.parse().ok().filter(|places| PLACES.contains(places)),
    }
}

/// One backend's order of the places.
struct Order {
    places: u32,
    next: u32,
    skip: u32,
}

impl Order {
    fn of(backend: &Endpoint, places: u32) -> Self {
        let Endpoint { address, port_be, .. } = *backend;
        let number = |which| {
            seal([which, address.high_be, address.low_be, u64::from(u16::from_be(port_be))])
        };
        // Both below `places`.
        let next = (number(0) % u64::from(places)) as u32;
        let skip = (number(1) % u64::from(places - 1)) as u32 + 1;
        Self { places, next, skip }
    }

    /// The first place that is free. There is one, since `skip` meets all places of a prime number.
    fn take(&mut self, taken: &[Option<u16>]) -> u32 {
        loop {
            let place = self.next;
            self.next = (self.next + self.skip) % self.places;
            if taken[place as usize].is_none() {
                return place;
            }
        }
    }
}

/// The sizes of rings: for up to about 2, 6, 25 and 100 backends fewer than one flow in a hundred
/// changes its backend without need. Primes.
const PLACES: [u32; 4] = [1021, 4093, 16_381, PLACES_DEFAULT];
pub(super) const PLACES_DEFAULT: u32 = 65_537;

/// Numbers of backends are of 16 bits.
const BACKENDS_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::plan::endpoint;

    fn backends(count: u32) -> Vec<Endpoint> {
        let address = |number: u32| [10, 244, (number >> 8) as u8, number as u8];
        (0..count).map(|number| endpoint((address(number), 8080).into())).collect()
    }

    /// The paper's own pseudocode.
    fn populate(backends: &[Endpoint], places: u32) -> Vec<u16> {
        let permutation: Vec<Vec<u32>> = backends
            .iter()
            .map(|backend| {
                let Order { next: offset, skip, .. } = Order::of(backend, places);
                let at =
                    |j: u64| ((u64::from(offset) + j * u64::from(skip)) % u64::from(places)) as u32;
                (0..u64::from(places)).map(at).collect()
            })
            .collect();
        let (mut next, mut entry) = (vec![0; backends.len()], vec![-1_i64; places as usize]);
        let mut n = 0;
        loop {
            for i in 0..backends.len() {
                let mut c = permutation[i][next[i]];
                while entry[c as usize] >= 0 {
                    next[i] += 1;
                    c = permutation[i][next[i]];
                }
                entry[c as usize] = i as i64;
                next[i] += 1;
                n += 1;
                if n == places {
                    return entry.into_iter().map(|number| number as u16).collect();
                }
            }
        }
    }

    /// How many places pass from one backend that stays to another when `gone` goes.
    fn moved(before: &[Endpoint], gone: usize, places: u32) -> usize {
        let mut after = before.to_vec();
        let lost = after.remove(gone);
        let (old, new) = (ring(before, places), ring(&after, places));
        let owners = old.iter().zip(&*new);
        let owners = owners.map(|(old, new)| (before[usize::from(*old)], after[usize::from(*new)]));
        owners.filter(|(old, new)| *old != lost && old != new).count()
    }

    #[test]
    fn one_of_a_hundred_backends_goes_and_at_most_one_flow_in_a_hundred_moves() {
        let before = backends(100);
        for gone in [0, 37, 50, 99] {
            let moved = moved(&before, gone, 65_537);
            println!("backend {gone} of 100 gone: {moved} of 65,537 places moved among the others");
            assert!(moved * 100 <= 65_537, "{moved}");
        }
    }

    #[test]
    fn annotations_name_a_size_that_there_is() {
        assert_eq!(parse("true"), Some(65_537));
        assert_eq!(parse("1021"), Some(1021));
        for unknown in ["", "false", "1000", "-1", "65537 ", "4294967297"] {
            assert_eq!(parse(unknown), None, "{unknown}");
        }
        for places in PLACES {
            assert!(
                (2..places).take_while(|n| n * n <= places).all(|n| places % n != 0),
                "{places}"
            );
        }
    }

    #[test]
    fn without_a_choice_there_is_no_ring() {
        assert_eq!([0, 1, 2, 1021, 1022].map(|count| places(count, 1021)), [0, 0, 1021, 1021, 0]);
        assert_eq!(places(5, 0), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn rings_are_the_papers_and_balanced(
            numbers in proptest::collection::btree_set(any::<[u8; 4]>(), 2..60),
            size in 0..2_usize,
        ) {
            let backends: Vec<Endpoint> =
                numbers.into_iter().map(|ip| endpoint((ip, 80).into())).collect();
            let ring = ring(&backends, PLACES[size]);
            prop_assert_eq!(&*ring, &*populate(&backends, PLACES[size]));
            let mut shares = vec![0; backends.len()];
            ring.iter().for_each(|number| shares[usize::from(*number)] += 1);
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", shares);
            prop_assert_eq!(ring.iter().collect::<BTreeSet<_>>().len(), backends.len());
        }

        /// Backends have places by their weights: but for one that is more, and their part of the one that
        /// all others may have more.
        #[test]
        fn shares_are_as_the_weights(
            weights in proptest::collection::vec(1..=100_u32, 2..60),
        ) {
            let backends = backends(weights.len() as u32);
            let of = |one: &Endpoint| {
                weights[backends.iter().position(|other| other == one).unwrap()]
            };
            let ring = weighted_ring(&backends, of, 65_537);
            let mut shares = vec![0; backends.len()];
            ring.iter().for_each(|number| shares[usize::from(*number)] += 1);
            let all: u32 = weights.iter().sum();
            for (share, weight) in shares.iter().zip(&weights) {
                let (share, part) = (f64::from(*share), f64::from(*weight) / f64::from(all));
                let due = 65_537.0 * part;
                let bound = 1.0 + backends.len() as f64 * part;
                prop_assert!((share - due).abs() <= bound, "{share} of {due}, {weights:?}");
                prop_assert!(due < 1000.0 || (share - due).abs() <= due / 100.0, "{share} {due}");
            }
        }

        /// If a backend goes, or its weight changes, few places pass between others: a tenth at most.
        #[test]
        fn few_places_move_with_weights(
            weights in proptest::collection::vec(1..=4_u32, 3..25),
            which in any::<prop::sample::Index>(),
            new in 1..=4_u32,
        ) {
            let backends = backends(weights.len() as u32);
            let which = which.index(weights.len());
            let owners = |backends: &[Endpoint], weights: &[u32]| -> Vec<Endpoint> {
                let all = backends.to_vec();
                let of = |one: &Endpoint| {
                    weights[all.iter().position(|other| other == one).unwrap()]
                };
                let ring = weighted_ring(backends, of, 16_381);
                ring.iter().map(|number| backends[usize::from(*number)]).collect()
            };
            let before = owners(&backends, &weights);
            let (mut left, mut left_weights) = (backends.clone(), weights.clone());
            let gone = left.remove(which);
            left_weights.remove(which);
            let after = owners(&left, &left_weights);
            let moved = before.iter().zip(&after).filter(|(old, new)| **old != gone && old != new);
            let moved = moved.count();
            let mut changed = weights.clone();
            changed[which] = new;
            let after = owners(&backends, &changed);
            let among_others = before.iter().zip(&after);
            let among_others = among_others
                .filter(|(old, new)| old != new && **old != gone && **new != gone)
                .count();
            prop_assert!(moved * 10 <= 16_381, "{moved} {weights:?} {which}");
            prop_assert!(among_others * 10 <= 16_381, "{among_others} {weights:?} {which} {new}");
        }

        #[test]
        fn few_places_move(count in 2..25_u32, gone in any::<prop::sample::Index>()) {
            let before = backends(count);
            let moved = moved(&before, gone.index(before.len()), 16_381);
            prop_assert!(moved * 50 <= 16_381, "{} of {}", moved, count);
        }
    }
}
