//! Snapshots: every key at one revision, in one file that is renamed into place when it is whole.

use std::io;

use super::codec::{decode_kvs, encode_kv};
use super::frame::{self, Found, HEADER_BYTES, Header};
use super::segment::{salt, segment_number};
use super::{Disk, DiskFile, RecoverError};
use crate::types::{KeyValue, Revision};

/// A snapshot being written.
pub(crate) struct SnapshotWriter<'a> {
    disk: &'a dyn Disk,
    file: Box<dyn DiskFile>,
    revision: Revision,
    salt: u64,
    sequence: u64,
    offset: u64,
    payload: Vec<u8>,
    kvs: u64,
}

impl SnapshotWriter<'_> {
    /// Begin the snapshot of `revision`, in a temporary file.
    pub(crate) fn create(disk: &dyn Disk, revision: Revision) -> io::Result<SnapshotWriter<'_>> {
        let file = disk.create(SNAPSHOT_TEMPORARY).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                disk.remove(SNAPSHOT_TEMPORARY)?;
                disk.create(SNAPSHOT_TEMPORARY)
            }
            _ => Err(error),
        })?;
        let salt = salt(revision.0);
        let header = Header { magic: SNAPSHOT_MAGIC, number: revision.0, salt };
        file.write_at(0, &header.encode())?;
        let offset = HEADER_BYTES as u64;
        let payload = Vec::new();
        Ok(SnapshotWriter { disk, file, revision, salt, sequence: 0, offset, payload, kvs: 0 })
    }

    /// Add a key. Keys come in order.
    pub(crate) fn add(&mut self, kv: &KeyValue) -> io::Result<()> {
        self.kvs += 1;
        encode_kv(&mut self.payload, kv);
        if self.payload.len() >= SNAPSHOT_FRAME_BYTES { self.flush(DATA) } else { Ok(()) }
    }

    /// Make the snapshot durable and put it in place. Its size in bytes.
    pub(crate) fn finish(&mut self) -> io::Result<u64> {
        self.flush(DATA)?;
        self.payload.extend_from_slice(&self.kvs.to_le_bytes());
        self.flush(END)?;
        self.file.sync()?;
        self.disk.rename(SNAPSHOT_TEMPORARY, &snapshot_name(self.revision))?;
        self.disk.sync_dir()?;
        Ok(self.offset)
    }

    /// Give up and free the space.
    pub(crate) fn abandon(self) {
        // A leftover is removed on the next start or by the next snapshot.
        let _ = self.disk.remove(SNAPSHOT_TEMPORARY);
    }

    fn flush(&mut self, kind: u8) -> io::Result<()> {
        if self.payload.is_empty() {
            return Ok(());
        }
        self.payload.push(kind);
        let mut out = Vec::with_capacity(frame::encoded_bytes(self.payload.len()));
        frame::encode(&mut out, self.salt, self.sequence, &self.payload);
        self.file.write_at(self.offset, &out)?;
        self.offset += out.len() as u64;
        self.sequence += 1;
        self.payload.clear();
        Ok(())
    }
}

/// Read the snapshot `name` whole; any damage is an error, as the log before it is gone.
pub(super) fn read(
    disk: &dyn Disk,
    name: &str,
) -> Result<(Revision, Vec<KeyValue>, u64), RecoverError> {
    let file = disk.open(name).map_err(RecoverError::io("open", name))?;
    let file = file.read_all().map_err(RecoverError::io("read", name))?;
    let header = Header::decode(&file, SNAPSHOT_MAGIC)
        .ok_or_else(|| RecoverError::corrupt(name, 0, "no snapshot header"))?;
    let mut kvs = Vec::new();
    let (mut offset, mut sequence) = (HEADER_BYTES, 0);
    loop {
        let corrupt = |what| RecoverError::corrupt(name, offset as u64, what);
        let Found::Frame { payload, next } = frame::decode(&file, offset, header.salt, sequence)
        else {
            return Err(corrupt("no whole record"));
        };
        let (kind, payload) = payload.split_last().ok_or_else(|| corrupt("empty record"))?;
        if *kind == END {
            return match payload == (kvs.len() as u64).to_le_bytes() {
                true => Ok((Revision(header.number), kvs, file.len() as u64)),
                false => Err(corrupt("another number of keys than it was written with")),
            };
        }
        kvs.extend(decode_kvs(payload).ok_or_else(|| corrupt("undecodable keys"))?);
        (offset, sequence) = (next, sequence + 1);
    }
}

/// Remove the snapshots before `revision` and the segments before number `segment`, which the
/// snapshot of `revision` stands for.
pub(crate) fn remove_superseded(
    disk: &dyn Disk,
    revision: Revision,
    segment: u64,
) -> io::Result<()> {
    for name in disk.list()? {
        let old_snapshot = snapshot_revision(&name).is_some_and(|found| found < revision);
        let old_segment = segment_number(&name).is_some_and(|found| found < segment);
        if old_snapshot || old_segment {
            disk.remove(&name)?;
        }
    }
    disk.sync_dir()
}

fn snapshot_name(revision: Revision) -> String {
    format!("snapshot-{:016}.snap", revision.0)
}

/// The revision in a snapshot's file name.
pub(super) fn snapshot_revision(name: &str) -> Option<Revision> {
    name.strip_prefix("snapshot-")?.strip_suffix(".snap")?.parse().ok().map(Revision)
}

/// Where a snapshot is written until it is whole.
pub(super) const SNAPSHOT_TEMPORARY: &str = "snapshot.tmp";
/// "pintle snapshot, format 1".
const SNAPSHOT_MAGIC: [u8; 8] = *b"pntlsnp1";
/// Large enough that writing is sequential, small enough to hold twice in memory.
const SNAPSHOT_FRAME_BYTES: usize = 1 << 20;
const DATA: u8 = 1;
const END: u8 = 2;
