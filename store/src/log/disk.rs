//! The few things that the log asks of a file system, behind a trait so that tests can make them
//! fail.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, fallocate};

/// One directory of files.
pub(crate) trait Disk: Send + Sync + 'static {
    /// Create a new file for reading and writing; an error if it exists.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Open an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Remove a file; durable after [`Disk::sync_dir`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Rename a file, replacing `to`; durable after [`Disk::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Make creations, removals and renames durable.
    fn sync_dir(&self) -> io::Result<()>;
}

/// An open file.
pub(crate) trait DiskFile: Send + 'static {
    /// Reserve space for `bytes` from the file's start, read as zeros until written.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// The file's whole content.
    fn read_all(&self) -> io::Result<Vec<u8>>;
    /// Make what was written durable, the file's size included.
    fn sync(&self) -> io::Result<()>;
    /// Cut the file to `bytes`.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Write all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
}

/// A directory of the operating system.
pub(crate) struct RealDisk {
    dir: PathBuf,
    handle: File,
}

impl RealDisk {
    /// The existing directory `dir`.
    pub(crate) fn new(dir: &Path) -> io::Result<RealDisk> {
        Ok(RealDisk { dir: dir.to_owned(), handle: File::open(dir)? })
    }

    fn options() -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        options
    }
}

impl Disk for RealDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = RealDisk::options().create_new(true).open(self.dir.join(name))?;
        Ok(Box::new(RealFile(file)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(RealFile(RealDisk::options().open(self.dir.join(name))?)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let length = bytes.try_into().map_err(io::Error::other)?;
        match fallocate(&self.0, FallocateFlags::empty(), 0, length) {
            // A file system without it: the file grows as it is written, a little slower.
            Err(nix::errno::Errno::EOPNOTSUPP) => Ok(()),
            result => result.map_err(io::Error::from),
        }
    }

    fn read_all(&self) -> io::Result<Vec<u8>> {
        let length = self.0.metadata()?.len().try_into().map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        // fdatasync: the size counts as data, times do not.
        self.0.sync_data()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
}
