//! An array's memory, which this process and the programs share.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr::{self, NonNull};

use aya::maps::MapData;
use nix::libc;

/// The records of a map, or some of them, mapped until it is dropped.
pub(super) struct Mapping<T> {
    /// The first of them.
    pub(super) start: NonNull<T>,
    /// Which of the map's they are.
    pub(super) records: Range<usize>,
    map: MapData,
}

impl<T> Mapping<T> {
    /// Map these records of `map`, an array of records in a row made with `BPF_F_MMAPABLE`. The first
    /// stands where a page begins.
    pub(super) fn new(map: MapData, records: Range<usize>) -> io::Result<Self> {
        Ok(Self { start: Self::map(&map, &records)?, records, map })
    }

    /// Map these records in the place of those that are mapped.
    pub(super) fn set_records(&mut self, records: Range<usize>) -> io::Result<()> {
        let start = Self::map(&self.map, &records)?;
        self.unmap();
        (self.start, self.records) = (start, records);
        Ok(())
    }

    fn map(map: &MapData, records: &Range<usize>) -> io::Result<NonNull<T>> {
        let fd = map.fd().as_fd().as_raw_fd();
        let offset = i64::try_from(records.start * size_of::<T>());
        let offset = offset.map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: a new shared mapping at an address of the kernel's choice touches no memory that
        // is in use. The kernel refuses what is beyond the array's end, rounded up to pages, and an
        // offset that is none of a page.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                records.len() * size_of::<T>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    fn unmap(&mut self) {
        // SAFETY: the mapping made in `map`, which nothing refers to any more. It cannot fail then.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.records.len() * size_of::<T>()) };
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        self.unmap();
    }
}
