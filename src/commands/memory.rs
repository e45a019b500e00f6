//! How a process asks the kernel for memory.

/// Small pages only, for processes of many small pieces: these lie all over the allocator's memory,
/// and of huge pages each would hold two megabytes for a few of them. To a dataplane it is a third of
/// what it takes. An API server pays for it in time: the two megabytes are cleared when the first
/// piece is written, and what the allocator gave back is cleared again.
pub(crate) fn use_small_pages() {
    if let Err(error) = nix::sys::prctl::set_thp_disable(true) {
        tracing::debug!(%error, "ask for no huge pages");
    }
}
