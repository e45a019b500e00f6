//! The payloads of frames: changes in the log, key-values in a snapshot.
//!
//! All integers are little-endian. Changes: u64 revision of the first, u32 count, then for each a
//! u32 that is 1 where a new revision begins (0 for a further change of the same one) plus 2 for a
//! put, then key and, for a put, value, each as u32 length and bytes. A delete carries only its
//! key. Create revision and version are not stored; replay finds them again.

use bytes::Bytes;

use crate::types::{Event, KeyValue, Op, Revision, Txn};

/// The payload that makes `events` durable, of which there is at least one, in place of what is in
/// `out`.
pub(crate) fn encode_events(out: &mut Vec<u8>, events: &[Event]) {
    out.clear();
    let first = events.first().map(Event::revision).unwrap_or_default();
    out.extend_from_slice(&first.0.to_le_bytes());
    put_u32(out, events.len());
    let mut previous = None;
    for event in events {
        let begins = u32::from(previous.replace(event.revision()) != Some(event.revision()));
        match event {
            Event::Delete { key, .. } => {
                out.extend_from_slice(&begins.to_le_bytes());
                put_bytes(out, key);
            }
            Event::Put { kv, .. } => {
                out.extend_from_slice(&(begins | PUT).to_le_bytes());
                put_bytes(out, &kv.key);
                put_bytes(out, &kv.value);
            }
        }
    }
}

/// The first revision and the transactions, one for each revision, of [`encode_events`]' payload.
pub(crate) fn decode_events(payload: &[u8]) -> Option<(Revision, Vec<Txn>)> {
    let mut reader = Reader(payload);
    let first = Revision(reader.u64()?);
    let mut txns: Vec<Txn> = Vec::new();
    for _ in 0..reader.u32()? {
        let flags = reader.u32()?;
        let key = reader.bytes()?;
        let op = match flags & PUT {
            0 => Op::Delete { key },
            _ => Op::Put { key, value: reader.bytes()? },
        };
        if flags & BEGINS != 0 {
            txns.push(Txn::default());
        }
        txns.last_mut()?.ops.push(op);
    }
    reader.0.is_empty().then_some((first, txns))
}

/// Append one key-value of a snapshot: create revision, mod revision, version as u64, key, value.
pub(super) fn encode_kv(out: &mut Vec<u8>, kv: &KeyValue) {
    for number in [kv.create_revision.0, kv.mod_revision.0, kv.version] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    put_bytes(out, &kv.key);
    put_bytes(out, &kv.value);
}

/// All key-values of a snapshot frame.
pub(super) fn decode_kvs(payload: &[u8]) -> Option<Vec<KeyValue>> {
    let mut reader = Reader(payload);
    let mut kvs = Vec::new();
    while !reader.0.is_empty() {
        let (create, modified, version) = (reader.u64()?, reader.u64()?, reader.u64()?);
        kvs.push(KeyValue {
            key: reader.bytes()?,
            value: reader.bytes()?,
            create_revision: Revision(create),
            mod_revision: Revision(modified),
            version,
        });
    }
    Some(kvs)
}

fn put_u32(out: &mut Vec<u8>, number: usize) {
    let number = u32::try_from(number).expect("transactions are far below 4 GiB");
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u32(out, bytes.len());
    out.extend_from_slice(bytes);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u32(&mut self) -> Option<u32> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*head))
    }

    fn u64(&mut self) -> Option<u64> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*head))
    }

    /// A copy, so that a long-lived value does not keep the whole file in memory.
    fn bytes(&mut self) -> Option<Bytes> {
        let length = self.u32()? as usize;
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Bytes::copy_from_slice(head))
    }
}

const BEGINS: u32 = 1;
const PUT: u32 = 2;
