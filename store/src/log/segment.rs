//! Writing the log: frames into segments, segment after segment.

use std::io;
use std::sync::Arc;

use super::frame::{self, HEADER_BYTES, Header};
use super::{Disk, DiskFile, LogError};

/// The writing end of the log.
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    current: Option<Segment>,
    next_number: u64,
    buffer: Vec<u8>,
}

struct Segment {
    name: String,
    file: Box<dyn DiskFile>,
    salt: u64,
    sequence: u64,
    offset: u64,
    capacity: u64,
}

impl Log {
    /// A log that begins a new segment, `next_number`, with its first frame. Nothing is ever
    /// written behind a tail that a crash may have torn.
    pub(crate) fn new(disk: Arc<dyn Disk>, segment_bytes: u64, next_number: u64) -> Log {
        Log { disk, segment_bytes, current: None, next_number, buffer: Vec::new() }
    }

    /// Make `payload` durable as one frame. The bytes it took.
    pub(crate) fn append(&mut self, payload: &[u8]) -> Result<u64, LogError> {
        let bytes = frame::encoded_bytes(payload.len()) as u64;
        let fits = |segment: &Segment| segment.offset + bytes <= segment.capacity;
        if !self.current.as_ref().is_some_and(fits) {
            self.rotate(bytes)?;
        }
        let segment = self.current.as_mut().expect("rotated just now");
        self.buffer.clear();
        frame::encode(&mut self.buffer, segment.salt, segment.sequence, payload);
        segment.write(&self.buffer)?;
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(bytes)
    }

    /// End the current segment. The number of the one that the next frame will go to.
    pub(crate) fn end_segment(&mut self) -> u64 {
        self.current = None;
        self.next_number
    }

    /// Switch to a new segment with room for a frame of `frame_bytes`. On [`LogError::NoSpace`] the
    /// log stands as before.
    fn rotate(&mut self, frame_bytes: u64) -> Result<(), LogError> {
        let name = segment_name(self.next_number);
        let capacity = self.segment_bytes.max(HEADER_BYTES as u64 + frame_bytes);
        match self.create(&name, capacity) {
            Ok(segment) => {
                self.current = Some(segment);
                self.next_number += 1;
                Ok(())
            }
            Err(source) if is_no_space(&source) => {
                // Gone or not: a segment without a frame is ignored on recovery, and the number is
                // not used again.
                let _ = self.disk.remove(&name);
                self.next_number += 1;
                Err(LogError::NoSpace { file: name, source })
            }
            Err(source) => Err(LogError::Failed { act: "create", file: name, source }),
        }
    }

    fn create(&self, name: &str, capacity: u64) -> io::Result<Segment> {
        let salt = salt(self.next_number);
        let header = Header { magic: SEGMENT_MAGIC, number: self.next_number, salt };
        let file = self.disk.create(name)?;
        file.allocate(capacity)?;
        file.write_at(0, &header.encode())?;
        file.sync()?;
        self.disk.sync_dir()?;
        let offset = HEADER_BYTES as u64;
        Ok(Segment { name: name.to_owned(), file, salt, sequence: 0, offset, capacity })
    }
}

impl Segment {
    fn write(&mut self, frame: &[u8]) -> Result<(), LogError> {
        match self.file.write_at(self.offset, frame) {
            // The space was allocated, but a copy-on-write file system may want it twice. What was
            // written in part is overwritten by the next frame or cut as a torn tail.
            Err(source) if is_no_space(&source) => {
                return Err(LogError::NoSpace { file: self.name.clone(), source });
            }
            result => result.map_err(|source| self.failed("write", source))?,
        }
        self.file.sync().map_err(|source| self.failed("flush", source))?;
        self.offset += frame.len() as u64;
        self.sequence += 1;
        Ok(())
    }

    fn failed(&self, act: &'static str, source: io::Error) -> LogError {
        LogError::Failed { act, file: self.name.clone(), source }
    }
}

/// Whether the error means that the disk, or the owner's share of it, is full.
pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A number that no other file of the directory has with any likelihood.
pub(super) fn salt(number: u64) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(number)
}

/// The file name of a segment.
pub(super) fn segment_name(number: u64) -> String {
    format!("wal-{number:016}.log")
}

/// The number in a segment's file name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    name.strip_prefix("wal-")?.strip_suffix(".log")?.parse().ok()
}

/// "pintle wal, format 1".
pub(super) const SEGMENT_MAGIC: [u8; 8] = *b"pntlwal1";
/// A commit of this size is common enough to keep its buffer.
const BUFFER_BYTES_KEPT: usize = 4 << 20;
