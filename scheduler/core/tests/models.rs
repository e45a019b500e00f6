//! Every order of the steps of what workers share without waiting for each other, tried by loom. The
//! files are those of the engine, with loom's atomics in place of the standard library's.

#[path = "../src/engine/workers/claims.rs"]
mod claims;
#[path = "../src/engine/workers/rows_taken.rs"]
mod rows_taken;

/// What [`claims`] and [`rows_taken`] are written with.
mod sync {
    pub(super) use loom::sync::Mutex;
    pub(super) use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize, Ordering};
}

use claims::Claims;
use loom::sync::Arc;
use loom::thread;
use rows_taken::RowsTaken;

/// Tries every order in which threads are interrupted at most so often: few bugs need more, and this
/// takes seconds.
const INTERRUPTIONS_MAX: usize = 3;

fn every_order(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(INTERRUPTIONS_MAX);
    builder.check(model);
}

/// A reader sees a beginning of what is pushed, never less than before, and no row unwritten.
#[test]
fn readers_see_a_beginning_of_the_rows() {
    every_order(|| {
        let mut taken = RowsTaken::default();
        taken.restart(3);
        let taken = Arc::new(taken);
        let reader = {
            let taken = Arc::clone(&taken);
            thread::spawn(move || {
                let mut known = 0;
                for _ in 0..2 {
                    let length = taken.length();
                    assert!(length >= known);
                    let rows: Vec<usize> = taken.between(known, length).collect();
                    let expected: Vec<usize> = (known..length).map(|at| at + 10).collect();
                    assert_eq!(rows, expected);
                    known = length;
                }
            })
        };
        (10..13).for_each(|row| taken.push(row));
        assert_eq!(taken.between(0, 3).collect::<Vec<_>>(), [10, 11, 12]);
        reader.join().unwrap();
        assert_eq!(taken.length(), 3);
    });
}

/// Of those that claim a piece one gets it, and what it finished is what the taker gets, once.
#[test]
fn a_piece_is_done_once_and_taken_once() {
    every_order(|| {
        let mut claims = Claims::default();
        claims.push(1);
        claims.push(2);
        let claims = Arc::new(claims);
        let work = |claims: &Claims<i32>| {
            let mut done = 0;
            for at in 0..2 {
                if let Some(piece) = claims.claim(at) {
                    claims.finish(at, piece * 10);
                    done += 1;
                }
            }
            done
        };
        let helper = {
            let claims = Arc::clone(&claims);
            thread::spawn(move || work(&claims))
        };
        let early = claims.take(0);
        assert!(early.is_none_or(|piece| piece == 10));
        let done = work(&claims) + helper.join().unwrap();
        assert_eq!(done, 2);
        assert_eq!(early.or_else(|| claims.take(0)), Some(10));
        assert_eq!(claims.take(0), None);
        let Ok(mut claims) = Arc::try_unwrap(claims) else { panic!("the helper is gone") };
        assert_eq!(claims.end().collect::<Vec<_>>(), [(1, 20)]);
    });
}

/// The two together, as a batch uses them: whoever fills a piece saw a beginning of the rows, says how
/// long it was, and the taker finds all of it there and takes over the rest.
#[test]
fn what_a_helper_filled_is_brought_up_to_date() {
    every_order(|| {
        let mut taken = RowsTaken::default();
        taken.restart(2);
        let mut claims = Claims::default();
        claims.push((0_usize, 0_usize));
        let shared = Arc::new((taken, claims));
        let helper = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (taken, claims) = &*shared;
                let length = taken.length();
                if claims.claim(0).is_some() {
                    claims.finish(0, (length, taken.between(0, length).sum()));
                }
            })
        };
        let (taken, claims) = &*shared;
        taken.push(5);
        taken.push(7);
        let piece = match claims.claim(0) {
            Some(_) => (2, taken.between(0, 2).sum()),
            None => loop {
                match claims.take(0) {
                    Some(piece) => break piece,
                    None => thread::yield_now(),
                }
            },
        };
        let (length, sum) = piece;
        assert_eq!(sum + taken.between(length, 2).sum::<usize>(), 12);
        helper.join().unwrap();
    });
}
