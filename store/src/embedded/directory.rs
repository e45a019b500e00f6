//! The data directory: private to its owner, and open in one process at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::OpenError;

/// Create `dir` and its parents, readable by their owner alone.
pub(super) fn create(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// The lock on a data directory, held until it is dropped. The kernel lets go of it when the
/// process ends, however it ends.
pub(super) struct DirectoryLock {
    _file: Flock<File>,
}

impl DirectoryLock {
    /// Lock `dir`, or tell who has.
    pub(super) fn take(dir: &Path) -> Result<DirectoryLock, OpenError> {
        let failed = |source| OpenError::Directory { act: "lock", dir: dir.to_owned(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(dir.join(LOCK_FILE)).map_err(failed)?;
        let mut written = String::new();
        // Only to tell people whose it is.
        let _ = file.read_to_string(&mut written);
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                let pid = format!("{}\n", std::process::id());
                file.set_len(0).map_err(failed)?;
                io::Seek::rewind(&mut *file).map_err(failed)?;
                file.write_all(pid.as_bytes()).map_err(failed)?;
                Ok(DirectoryLock { _file: file })
            }
            Err((_, Errno::EWOULDBLOCK)) => {
                let pid = written.trim().parse().ok();
                Err(OpenError::InUse { dir: dir.to_owned(), pid })
            }
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}

const LOCK_FILE: &str = "LOCK";
