//! Frames: the unit of what is whole or not there. Used by segments and snapshots.
//!
//! A file is a header and then frames. The header is 32 bytes: 8 of magic, then little-endian
//! u64 number (of the segment, or a snapshot's revision), u64 salt, u32 zero, u32 CRC-32 of the 28
//! bytes before. A frame is u32 payload length, u32 CRC-32, u64 sequence number, then the payload,
//! then zeros up to a multiple of 8 bytes. The CRC covers salt, length, sequence number and
//! payload. The salt differs from file to file, so bytes of another file, or a value that looks
//! like a frame, are never taken for one. Frames of one file are numbered from 0.

/// The fixed part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) magic: [u8; 8],
    pub(super) number: u64,
    pub(super) salt: u64,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.magic);
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at the start of `file`, if it is whole and of this kind.
    pub(super) fn decode(file: &[u8], magic: [u8; 8]) -> Option<Header> {
        let bytes = file.get(..HEADER_BYTES)?;
        let whole = u32_at(bytes, 28)? == crc32fast::hash(&bytes[..28]);
        let header = Header { magic, number: u64_at(bytes, 8)?, salt: u64_at(bytes, 16)? };
        (whole && bytes[..8] == magic).then_some(header)
    }
}

/// Append a frame with `payload` to `out`. The payload's length must fit [`FRAME_BYTES_MAX`].
pub(super) fn encode(out: &mut Vec<u8>, salt: u64, sequence: u64, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a frame is far below 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(salt, length, sequence, payload).to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(payload);
    out.resize(out.len().next_multiple_of(ALIGN), 0);
}

/// What stands at some place of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A whole frame, and where the next one would begin.
    Frame { payload: &'a [u8], next: usize },
    /// Nothing was written here: zeros, or the end of the file.
    Nothing,
    /// Something else.
    Broken,
}

/// Look for frame `sequence` at `offset`.
pub(super) fn decode(file: &[u8], offset: usize, salt: u64, sequence: u64) -> Found<'_> {
    match decode_any(file, offset, salt) {
        Some((found, payload, next)) if found == sequence => Found::Frame { payload, next },
        _ if file[offset.min(file.len())..].iter().all(|byte| *byte == 0) => Found::Nothing,
        _ => Found::Broken,
    }
}

/// Whether a frame numbered `sequence` or above begins anywhere at or after `offset`. As a frame
/// is written only after the one before it is durable, this tells damage from a torn last write.
pub(super) fn any_later(file: &[u8], offset: usize, salt: u64, sequence: u64) -> bool {
    (offset..file.len()).step_by(ALIGN).any(|at| {
        // The cheap half of the check first: most places hold no such number.
        u64_at(file, at + 8).is_some_and(|found| found >= sequence && found < sequence + (1 << 32))
            && decode_any(file, at, salt).is_some()
    })
}

fn decode_any(file: &[u8], offset: usize, salt: u64) -> Option<(u64, &[u8], usize)> {
    let length = u32_at(file, offset)?;
    let sequence = u64_at(file, offset + 8)?;
    let start = offset + FRAME_HEADER_BYTES;
    let payload = file.get(start..start.checked_add(length as usize)?)?;
    if payload.len() > FRAME_BYTES_MAX || payload.is_empty() {
        return None;
    }
    let whole = u32_at(file, offset + 4)? == checksum(salt, length, sequence, payload);
    whole.then(|| (sequence, payload, (start + payload.len()).next_multiple_of(ALIGN)))
}

/// Bytes that a frame with a payload of `payload_bytes` takes.
pub(super) fn encoded_bytes(payload_bytes: usize) -> usize {
    (FRAME_HEADER_BYTES + payload_bytes).next_multiple_of(ALIGN)
}

fn checksum(salt: u64, length: u32, sequence: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(&sequence.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Bytes of a [`Header`].
pub(super) const HEADER_BYTES: usize = 32;
/// Room for one group commit: eight times over the largest transaction's bytes.
pub(super) const FRAME_BYTES_MAX: usize = 128 << 20;
const FRAME_HEADER_BYTES: usize = 16;
const ALIGN: usize = 8;
