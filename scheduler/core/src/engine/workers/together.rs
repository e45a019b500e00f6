//! Threads that work together and end together, whatever becomes of any of them.
//!
//! Helpers wait for the leader's steps and the leader for what helpers finish; neither may wait for a
//! side that is gone. So the end is one flag, raised when the leader returns and when anyone panics.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Whether the work of all is over.
#[derive(Debug, Default)]
pub(crate) struct End(AtomicBool);

/// Spins before the processor is given to another thread.
const SPINS: u32 = 64;

impl End {
    /// Whether it is over. A leader that reads it before its own return is told of a panic.
    pub(crate) fn is_reached(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Waits a moment for another thread. `spins` counts the moments of one wait.
    pub(crate) fn pause(spins: &mut u32) {
        *spins += 1;
        if *spins < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
    }
}

/// Does all of it, each helper's part in a thread of its own and the leader's in this one, and returns
/// what the leader returns once all have ended. A helper's panic is this thread's.
pub(crate) fn together<R>(
    helpers: impl Iterator<Item = impl FnOnce(&End) + Send>,
    lead: impl FnOnce(&End) -> R,
) -> R {
    let end = End::default();
    let mut helpers = helpers.peekable();
    if helpers.peek().is_none() {
        // Even the scope of no threads takes memory.
        return lead(&end);
    }
    thread::scope(|scope| {
        for help in helpers {
            let end = &end;
            scope.spawn(move || {
                let _panic = RaisedByPanic(end);
                help(end);
            });
        }
        let _end = Raised(&end);
        lead(&end)
    })
}

struct Raised<'a>(&'a End);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
    }
}

struct RaisedByPanic<'a>(&'a End);

impl Drop for RaisedByPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.0.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    fn wait(end: &End) {
        let mut spins = 0;
        while !end.is_reached() {
            End::pause(&mut spins);
        }
    }

    #[test]
    fn helpers_end_with_the_leader() {
        assert_eq!(together([wait, wait].into_iter(), |_| 5), 5);
    }

    fn fail(_: &End) {
        panic!("as it is meant to");
    }

    #[test]
    fn a_panic_of_either_side_ends_the_other() {
        assert!(catch_unwind(|| together(std::iter::once(fail), wait)).is_err());
        assert!(catch_unwind(|| together(std::iter::once(wait), fail)).is_err());
    }
}
