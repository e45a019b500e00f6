//! Reading the log back: the newest snapshot, then every frame after it.
//!
//! A crash can leave a torn frame at the end of the last segment that was written, an unfinished
//! new segment, a temporary snapshot, and files that a finished snapshot supersedes. These are
//! cut or removed. Anything else that does not read back is damage, and the store refuses to open
//! rather than lose acknowledged writes silently.

use super::frame::{self, Found, HEADER_BYTES, Header};
use super::segment::{SEGMENT_MAGIC, segment_name, segment_number};
use super::snapshot::{self, SNAPSHOT_TEMPORARY, snapshot_revision};
use super::{Disk, DiskFile, RecoverError, decode_events, remove_superseded};
use crate::mvcc::{Pending, Table};
use crate::types::Revision;

/// What the files held.
pub(crate) struct Recovered {
    /// The state, with the history since the snapshot.
    pub(crate) table: Table,
    /// The number of the first segment that may be written.
    pub(crate) next_segment: u64,
    /// Bytes of log since the snapshot.
    pub(crate) log_bytes: u64,
    /// Bytes of the snapshot; 0 without one.
    pub(crate) snapshot_bytes: u64,
}

/// Read everything, and remove what a crash left behind. `retain` is called after every frame to
/// trim the history.
pub(crate) fn recover(
    disk: &dyn Disk,
    mut retain: impl FnMut(&mut Table),
) -> Result<Recovered, RecoverError> {
    let names = disk.list().map_err(RecoverError::io("list", "the directory"))?;
    if names.iter().any(|name| name == SNAPSHOT_TEMPORARY) {
        disk.remove(SNAPSHOT_TEMPORARY).map_err(RecoverError::io("remove", SNAPSHOT_TEMPORARY))?;
    }
    let (mut table, snapshot_bytes) = newest_snapshot(disk, &names)?;
    let mut segments: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    segments.sort_unstable();
    let mut log_bytes = 0;
    let snapshot = table.revision();
    for number in &segments {
        log_bytes += replay_segment(disk, *number, snapshot, &mut table, &mut retain)?;
    }
    if snapshot.0 > 0 {
        // Only what a crash between the snapshot and its clean-up left: the snapshots.
        remove_superseded(disk, snapshot, 0).map_err(RecoverError::io("tidy", "the directory"))?;
    }
    let next_segment = segments.last().map_or(1, |last| last + 1);
    Ok(Recovered { table, next_segment, log_bytes, snapshot_bytes })
}

fn newest_snapshot(disk: &dyn Disk, names: &[String]) -> Result<(Table, u64), RecoverError> {
    let found = names.iter().filter_map(|name| Some((snapshot_revision(name)?, name)));
    let Some((_, name)) = found.max() else { return Ok((Table::default(), 0)) };
    let (revision, kvs, bytes) = snapshot::read(disk, name)?;
    Ok((Table::restore(revision, kvs), bytes))
}

/// Apply a segment's frames that are newer than `table`. The bytes they took.
fn replay_segment(
    disk: &dyn Disk,
    number: u64,
    snapshot: Revision,
    table: &mut Table,
    retain: &mut impl FnMut(&mut Table),
) -> Result<u64, RecoverError> {
    let name = segment_name(number);
    let file = disk.open(&name).map_err(RecoverError::io("open", &name))?;
    let content = file.read_all().map_err(RecoverError::io("read", &name))?;
    let Some(header) = Header::decode(&content, SEGMENT_MAGIC) else {
        return unfinished_segment(disk, &name, &content);
    };
    let (mut offset, mut sequence) = (HEADER_BYTES, 0);
    loop {
        match frame::decode(&content, offset, header.salt, sequence) {
            Found::Frame { payload, next } => {
                replay_frame(payload, snapshot, table)
                    .map_err(|what| RecoverError::corrupt(&name, offset as u64, what))?;
                retain(table);
                (offset, sequence) = (next, sequence + 1);
            }
            Found::Nothing => break,
            Found::Broken => {
                refuse_damage(&name, &content, offset, header.salt, sequence)?;
                tracing::warn!(segment = name, offset, "cut a torn record off the log");
                break;
            }
        }
    }
    trim(disk, &*file, &name, offset, content.len())?;
    Ok((offset - HEADER_BYTES) as u64)
}

/// A segment whose header never became durable holds no frame: a crash or a full disk came between
/// its creation and its use. Anything beyond zeros behind a broken header is damage.
fn unfinished_segment(disk: &dyn Disk, name: &str, content: &[u8]) -> Result<u64, RecoverError> {
    let behind = content.get(HEADER_BYTES..).unwrap_or_default();
    if behind.iter().any(|byte| *byte != 0) {
        return Err(RecoverError::corrupt(name, 0, "no segment header, but records"));
    }
    disk.remove(name).map_err(RecoverError::io("remove", name))?;
    Ok(0)
}

fn replay_frame(payload: &[u8], snapshot: Revision, table: &mut Table) -> Result<(), String> {
    let (first, txns) = decode_events(payload).ok_or("undecodable record")?;
    if first <= snapshot && first.0 + txns.len() as u64 <= snapshot.next().0 {
        return Ok(()); // frames never straddle a snapshot
    }
    if first != table.revision().next() {
        return Err(format!("revision {first} follows {}", table.revision()));
    }
    let mut pending = Pending::new(table);
    for txn in &txns {
        pending.stage(table, txn);
    }
    table.apply(pending.into_events());
    match table.revision().0 == first.0 + txns.len() as u64 - 1 {
        true => Ok(()),
        false => Err(format!("a change after revision {first} has no effect")),
    }
}

fn refuse_damage(
    name: &str,
    content: &[u8],
    offset: usize,
    salt: u64,
    sequence: u64,
) -> Result<(), RecoverError> {
    if frame::any_later(content, offset, salt, sequence + 1) {
        let what = "a broken record before whole ones; restore the directory from a backup";
        return Err(RecoverError::corrupt(name, offset as u64, what));
    }
    Ok(())
}

/// Free what a segment has beyond its last whole frame: a torn tail, and preallocated space that
/// will not be used any more. A segment without frames goes altogether.
fn trim(
    disk: &dyn Disk,
    file: &dyn DiskFile,
    name: &str,
    used: usize,
    length: usize,
) -> Result<(), RecoverError> {
    if used == HEADER_BYTES {
        return disk.remove(name).map_err(RecoverError::io("remove", name));
    }
    if used < length {
        file.truncate(used as u64).map_err(RecoverError::io("cut", name))?;
        file.sync().map_err(RecoverError::io("cut", name))?;
    }
    Ok(())
}
