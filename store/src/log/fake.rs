//! A disk in memory that can be full, that can fail, and that can lose power.
//!
//! It remembers which writes were flushed. [`FakeDisk::crash`] yields the disk as a machine might
//! find it after a power cut: flushed writes are there, every 512-byte sector of the others may be
//! or not, and of the unflushed creations, renames and removals some first ones are.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskFile};

/// A cheap handle; all clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct FakeDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    flushed_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    space: Option<u64>,
    failing_syncs: bool,
}

#[derive(Clone)]
enum NameChange {
    Create(String, usize),
    Remove(String),
    Rename(String, String),
}

#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    flushed: Vec<u8>,
    unflushed: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Resize(usize),
    Write(usize, Vec<u8>),
}

impl FakeDisk {
    /// Bytes that files may still grow by; `None` is no limit.
    pub(crate) fn set_space(&self, bytes: Option<u64>) {
        self.state.lock().space = bytes;
    }

    /// Let every flush of a file fail, or work again.
    pub(crate) fn fail_syncs(&self, failing: bool) {
        self.state.lock().failing_syncs = failing;
    }

    /// What a power cut at this moment leaves; `seed` decides where there is a choice.
    pub(crate) fn crash(&self, seed: u64) -> FakeDisk {
        let state = self.state.lock();
        let mut random = Random(seed);
        let mut names = state.flushed_names.clone();
        let survivors = random.below(state.name_changes.len() + 1);
        state.name_changes[..survivors].iter().for_each(|change| rename(&mut names, change));
        let files: Vec<Content> =
            state.files.iter().map(|file| file.after_crash(&mut random)).collect();
        let flushed_names = names.clone();
        let survivor = State { files, names, flushed_names, ..State::default() };
        FakeDisk { state: Arc::new(Mutex::new(survivor)) }
    }

    /// Change one byte of a file, as a failing medium does.
    pub(crate) fn corrupt(&self, name: &str, offset: usize) {
        let mut state = self.state.lock();
        let file = state.names[name];
        state.files[file].bytes[offset] ^= 0x40;
        state.files[file].flushed = state.files[file].bytes.clone();
    }

    /// The bytes of a file.
    pub(crate) fn content(&self, name: &str) -> Vec<u8> {
        let state = self.state.lock();
        state.files[state.names[name]].bytes.clone()
    }
}

impl State {
    fn change_name(&mut self, change: NameChange) {
        rename(&mut self.names, &change);
        self.name_changes.push(change);
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn grow(&mut self, bytes: usize) -> io::Result<()> {
        if let Some(space) = &mut self.space {
            *space = space.checked_sub(bytes as u64).ok_or(io::ErrorKind::StorageFull)?;
        }
        Ok(())
    }
}

impl Content {
    fn change(&mut self, change: Change) {
        apply(&mut self.bytes, &change);
        self.unflushed.push(change);
    }

    fn after_crash(&self, random: &mut Random) -> Content {
        let mut bytes = self.flushed.clone();
        for change in &self.unflushed {
            match change {
                Change::Resize(_) if random.below(2) == 0 => {}
                Change::Resize(_) => apply(&mut bytes, change),
                Change::Write(offset, written) => {
                    for (index, sector) in written.chunks(SECTOR_BYTES).enumerate() {
                        if random.below(2) == 1 {
                            let at = offset + index * SECTOR_BYTES;
                            apply(&mut bytes, &Change::Write(at, sector.to_vec()));
                        }
                    }
                }
            }
        }
        Content { flushed: bytes.clone(), bytes, unflushed: Vec::new() }
    }
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Resize(length) => bytes.resize(*length, 0),
        Change::Write(offset, written) => {
            let end = offset + written.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[*offset..end].copy_from_slice(written);
        }
    }
}

fn rename(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Create(name, file) => drop(names.insert(name.clone(), *file)),
        NameChange::Remove(name) => drop(names.remove(name)),
        NameChange::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

impl Disk for FakeDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state.lock();
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.len();
        state.files.push(Content::default());
        state.change_name(NameChange::Create(name.to_owned(), file));
        Ok(Box::new(FakeFile { disk: self.clone(), file }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state.lock().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = self.state.lock().find(name)?;
        Ok(Box::new(FakeFile { disk: self.clone(), file }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.find(name)?;
        state.change_name(NameChange::Remove(name.to_owned()));
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.find(from)?;
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.flushed_names = state.names.clone();
        state.name_changes.clear();
        Ok(())
    }
}

struct FakeFile {
    disk: FakeDisk,
    file: usize,
}

impl DiskFile for FakeFile {
    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let (wanted, length) = (bytes as usize, state.files[self.file].bytes.len());
        state.grow(wanted.saturating_sub(length))?;
        state.files[self.file].change(Change::Resize(wanted.max(length)));
        Ok(())
    }

    fn read_all(&self) -> io::Result<Vec<u8>> {
        Ok(self.disk.state.lock().files[self.file].bytes.clone())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        if state.failing_syncs {
            return Err(io::Error::other("injected"));
        }
        let file = &mut state.files[self.file];
        file.flushed = file.bytes.clone();
        file.unflushed.clear();
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.disk.state.lock().files[self.file].change(Change::Resize(bytes as usize));
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        let end = offset as usize + bytes.len();
        let length = state.files[self.file].bytes.len();
        state.grow(end.saturating_sub(length))?;
        state.files[self.file].change(Change::Write(offset as usize, bytes.to_vec()));
        Ok(())
    }
}

/// SplitMix64: small, and the same on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

const SECTOR_BYTES: usize = 512;
