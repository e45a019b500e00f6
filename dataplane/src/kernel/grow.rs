//! Larger maps in the place of those that are full, under programs that go on running.
//!
//! The maps that are too small are made anew beside the old ones, and the programs loaded a second time
//! with them. What the old maps hold is copied, the pins change places, and each link runs the new
//! program from then on, in one step (`BPF_LINK_UPDATE`). Nothing is published meanwhile, so whichever
//! of the two a program looks into, it finds the same: no call and no packet finds nothing, and a
//! process that ends in between leaves what the next one can take over. Connections, affinity and the
//! sockets' translations stand in maps that stay. What the old programs count while their counters are
//! copied is not counted.

use std::fs;
use std::io;
use std::mem;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::maps::{MapError, PerCpuValues};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::error::LoadError;
use super::load::{self, Dataplane};
use super::programs;
use super::syscall;
use crate::Limits;

impl Dataplane {
    /// Have room for so much, nowhere less than now. The tables stay as they are, and so do they if it
    /// fails. Takes as long as loading does, about a second.
    ///
    /// # Errors
    ///
    /// Among others if the maps are not pinned: then they keep their sizes.
    pub fn grow(&mut self, limits: Limits) -> Result<(), LoadError> {
        let pins = self.attachments.pins.clone().ok_or(LoadError::NotPinned)?;
        let larger = Larger::than(self.limits(), limits);
        let stage = Stage::new(&pins)?;
        let place = |map: &str| {
            let new = larger.names().any(|name| name == map);
            if new { stage.0.join(map) } else { pins.join(map) }
        };
        let mut ebpf = load::open(limits, Some(&place))?;
        let costs = programs::load(&mut ebpf)?;
        let mut next = Self::of(ebpf, costs, limits, &self.cgroup, Some(pins.clone()))?;
        self.copy(&mut next, larger)?;
        // From here on the next process would find the new maps.
        exchange_all(larger, &stage.0, &pins)?;
        if let Err(error) = next.run_instead_of(self, &pins) {
            // The old programs know the old maps alone.
            let _ = self.run_again(&pins);
            let _ = exchange_all(larger, &stage.0, &pins);
            return Err(error);
        }
        next.attachments.inherit(&mut self.attachments);
        next.taken_over = self.taken_over.take();
        let _old = mem::replace(self, next);
        Ok(())
    }

    fn copy(&mut self, next: &mut Self, larger: Larger) -> Result<(), LoadError> {
        let of = |map| move |source| LoadError::Map { map, source };
        if larger.slots {
            next.slots.copy_from(&mut self.slots).map_err(LoadError::MapMemory)?;
        }
        if larger.source_ranges {
            for entry in &self.source_ranges {
                let (key, value) = entry.map_err(of("SOURCE_RANGES"))?;
                next.source_ranges.insert(&key, value, 0).map_err(of("SOURCE_RANGES"))?;
            }
        }
        if larger.frontends {
            for entry in &self.frontends {
                let (key, value) = entry.map_err(of("FRONTENDS"))?;
                next.frontends.insert(key, value, 0).map_err(of("FRONTENDS"))?;
            }
            for entry in &self.services {
                let (number, label) = entry.map_err(of("SERVICES"))?;
                next.services.insert(number, label, 0).map_err(of("SERVICES"))?;
            }
            self.copy_counters(next).map_err(of("COUNTERS"))?;
        }
        Ok(())
    }

    /// Last, since programs go on counting.
    fn copy_counters(&self, next: &mut Self) -> Result<(), MapError> {
        for number in self.services.keys() {
            let number = number?;
            let counted = self.counters.get(&number, 0)?.iter().copied().collect::<Vec<_>>();
            next.counters.set(number, PerCpuValues::try_from(counted)?, 0)?;
        }
        Ok(())
    }

    /// Run these programs wherever those of `old` run.
    fn run_instead_of(&mut self, old: &Self, pins: &Path) -> Result<(), LoadError> {
        programs::update_links(&mut self.ebpf, pins)?;
        old.attachments.update_links(&self.attachments.programs)
    }

    fn run_again(&mut self, pins: &Path) -> Result<(), LoadError> {
        programs::set_jumps(&mut self.ebpf, &mut self.jumps)?;
        programs::update_links(&mut self.ebpf, pins)?;
        self.attachments.update_links(&self.attachments.programs)
    }
}

/// Let a link run another program. Whatever the link was for may be gone.
pub(super) fn update_link(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    match syscall::update_link(link.as_fd(), program.as_fd()) {
        Err(error) if error.raw_os_error() == Some(Errno::ENOLINK as i32) => Ok(()),
        other => other,
    }
}

/// Which sizes are larger.
#[derive(Clone, Copy, Debug)]
struct Larger {
    frontends: bool,
    slots: bool,
    source_ranges: bool,
}

impl Larger {
    fn than(old: Limits, new: Limits) -> Self {
        Self {
            frontends: new.frontends_max > old.frontends_max,
            slots: new.slots_max > old.slots_max,
            source_ranges: new.source_ranges_max > old.source_ranges_max,
        }
    }

    /// The maps, in the order in which their pins may change one by one: the addresses last, whose
    /// size is that of all that goes by their Services' numbers.
    fn names(self) -> impl DoubleEndedIterator<Item = &'static str> {
        let maps = [
            (self.slots, "SLOTS"),
            (self.source_ranges, "SOURCE_RANGES"),
            (self.frontends, "SERVICES"),
            (self.frontends, "COUNTERS"),
            (self.frontends, "FRONTENDS"),
        ];
        maps.into_iter().filter_map(|(larger, name)| larger.then_some(name))
    }
}

/// A directory beside that of the pins, which goes with this value and what is pinned in it.
struct Stage(PathBuf);

impl Stage {
    fn new(pins: &Path) -> Result<Self, LoadError> {
        let path = pins.with_file_name(STAGE);
        let stage = Self(path.clone());
        // Of a process that ended in between.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).map_err(|source| LoadError::Stage { path, source })?;
        Ok(stage)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // If it stays the next process removes it, as the pins of another layout.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Let what is pinned in `stage` and in `pins` under the same names change places; done twice all is as
/// before. On an error too.
fn exchange_all(larger: Larger, stage: &Path, pins: &Path) -> Result<(), LoadError> {
    for (done, name) in larger.names().enumerate() {
        if let Err(source) = exchange(&stage.join(name), &pins.join(name)) {
            for name in larger.names().take(done) {
                let _ = exchange(&stage.join(name), &pins.join(name));
            }
            return Err(LoadError::Stage { path: pins.join(name), source });
        }
    }
    Ok(())
}

fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    Ok(renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)?)
}

const STAGE: &str = "larger";
