//! An array's memory, which this process and the programs share.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr::{self, NonNull};

use aya::maps::MapData;
use nix::libc;

/// The records of a map, or the first of them, mapped until it is dropped.
pub(super) struct Mapping<T> {
    /// The first of them.
    pub(super) start: NonNull<T>,
    /// How many there are.
    pub(super) len: usize,
    map: MapData,
}

impl<T> Mapping<T> {
    /// Map the first `len` records of `map`, an array of records in a row made with `BPF_F_MMAPABLE`.
    pub(super) fn new(map: MapData, len: usize) -> io::Result<Self> {
        Ok(Self { start: Self::map(&map, len)?, len, map })
    }

    /// Map so many records in the place of those that are mapped.
    pub(super) fn set_len(&mut self, len: usize) -> io::Result<()> {
        let start = Self::map(&self.map, len)?;
        self.unmap();
        (self.start, self.len) = (start, len);
        Ok(())
    }

    fn map(map: &MapData, len: usize) -> io::Result<NonNull<T>> {
        let fd = map.fd().as_fd().as_raw_fd();
        // SAFETY: a new shared mapping at an address of the kernel's choice touches no memory that
        // is in use. The kernel refuses a length beyond the array's, rounded up to pages.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len * size_of::<T>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    fn unmap(&mut self) {
        // SAFETY: the mapping made in `map`, which nothing refers to any more. It cannot fail then.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len * size_of::<T>()) };
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        self.unmap();
    }
}
