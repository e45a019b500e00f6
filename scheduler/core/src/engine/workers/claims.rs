//! Pieces of work, each done by the one thread that claims it.
//!
//! ```text
//!   free ──claim──► claimed ──finish──► done ──take──► done, empty
//! ```
//!
//! A claim is a compare-and-swap: of those that try, one gets the piece and the others go on. The
//! locks are there for the compiler alone: the state lets one thread in at a time, so that nobody
//! ever waits for one.

use super::sync::{AtomicU8, Mutex, Ordering};

const FREE: u8 = 0;
const CLAIMED: u8 = 1;
const DONE: u8 = 2;

/// Pieces of work by number.
#[derive(Debug)]
pub(crate) struct Claims<T>(Vec<Piece<T>>);

#[derive(Debug)]
struct Piece<T> {
    state: AtomicU8,
    work: Mutex<Option<T>>,
}

impl<T> Default for Claims<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Claims<T> {
    /// Adds a piece that anyone may claim.
    pub(crate) fn push(&mut self, work: T) {
        self.0.push(Piece { state: AtomicU8::new(FREE), work: Mutex::new(Some(work)) });
    }

    /// The piece, if this thread is the first to claim it.
    pub(crate) fn claim(&self, at: usize) -> Option<T> {
        let piece = &self.0[at];
        piece.state.compare_exchange(FREE, CLAIMED, Ordering::Acquire, Ordering::Relaxed).ok()?;
        piece.with(Option::take)
    }

    /// Hands over a claimed piece.
    pub(crate) fn finish(&self, at: usize, work: T) {
        let piece = &self.0[at];
        piece.with(|place| *place = Some(work));
        piece.state.store(DONE, Ordering::Release);
    }

    /// The piece once it is done; only one thread may ask.
    pub(crate) fn take(&self, at: usize) -> Option<T> {
        let piece = &self.0[at];
        if piece.state.load(Ordering::Acquire) != DONE {
            return None;
        }
        piece.with(Option::take)
    }

    /// Ends the work: what nobody took, by number, done or not.
    pub(crate) fn end(&mut self) -> impl Iterator<Item = (usize, T)> {
        let left = self.0.drain(..).enumerate();
        left.filter_map(|(at, piece)| Some((at, piece.with(Option::take)?)))
    }
}

impl<T> Piece<T> {
    fn with<R>(&self, act: impl FnOnce(&mut Option<T>) -> R) -> R {
        act(&mut self.work.try_lock().expect("the state lets one thread in at a time"))
    }
}
