//! The programs: load them, and attach each to the cgroup or hand it an attachment that is there.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{MapData, ProgramArray};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{CgroupAttachMode, CgroupSock, CgroupSockAddr, Program, ProgramError};

use super::error::LoadError;
use super::grow::update_link;
use super::syscall;

/// What one program costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramCost {
    /// Its name, as `bpftool prog` shows it.
    pub name: &'static str,
    /// The instructions that the verifier had to follow, over all paths; unknown before kernel 5.16.
    pub verified_instructions: Option<u32>,
    /// The machine code's length; unknown where the kernel interprets.
    pub machine_code_bytes: u32,
}

/// Load all programs. A refusal leaves nothing behind.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<Vec<ProgramCost>, LoadError> {
    let for_packets = PACKET_PROGRAMS.into_iter().chain(JUMP_PROGRAMS);
    PROGRAMS.into_iter().chain(for_packets).map(|name| load_one(ebpf, name)).collect()
}

/// Let the programs for packets go on in these.
pub(super) fn set_jumps(
    ebpf: &mut Ebpf,
    jumps: &mut ProgramArray<MapData>,
) -> Result<(), LoadError> {
    for (place, name) in (0..).zip(JUMP_PROGRAMS) {
        let failed = |source| LoadError::Program { program: name, source };
        let program = program(ebpf, name)?.fd().map_err(failed)?;
        let set = jumps.set(place, program, 0);
        set.map_err(|source| LoadError::Map { map: "JUMPS", source })?;
    }
    Ok(())
}

/// The loaded programs for packets.
pub(super) struct ForPackets {
    pub(super) ingress: OwnedFd,
    pub(super) egress: OwnedFd,
    pub(super) express: OwnedFd,
}

impl ForPackets {
    pub(super) fn of(ebpf: &mut Ebpf) -> Result<Self, LoadError> {
        let [ingress, egress, express] = PACKET_PROGRAMS;
        let mut fd = |name| {
            let failed = |source| LoadError::Program { program: name, source };
            let fd = program(ebpf, name)?.fd().map_err(failed)?;
            fd.as_fd().try_clone_to_owned().map_err(|error| failed(error.into()))
        };
        Ok(Self { ingress: fd(ingress)?, egress: fd(egress)?, express: fd(express)? })
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            ingress: self.ingress.try_clone()?,
            egress: self.egress.try_clone()?,
            express: self.express.try_clone()?,
        })
    }
}

fn load_one(ebpf: &mut Ebpf, name: &'static str) -> Result<ProgramCost, LoadError> {
    let failed = |source| LoadError::Program { program: name, source };
    let program = program(ebpf, name)?;
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::Xdp(program) => program.load(),
        _ => return Err(LoadError::Object(name)),
    }
    .map_err(failed)?;
    let info = program.info().map_err(failed)?;
    Ok(ProgramCost {
        name,
        verified_instructions: info.verified_instruction_count(),
        machine_code_bytes: info.size_jitted(),
    })
}

/// Let the attachments that are pinned in `pins` run these programs.
pub(super) fn update_links(ebpf: &mut Ebpf, pins: &Path) -> Result<(), LoadError> {
    for name in PROGRAMS {
        let failed = |source| LoadError::UpdateLink { link: link_name(name), source };
        let program = program(ebpf, name)?.fd();
        let program = program.map_err(|error| failed(io::Error::other(error)))?;
        let link = syscall::open_pinned(&pins.join(link_name(name))).map_err(failed)?;
        update_link(link, program).map_err(failed)?;
    }
    Ok(())
}

fn link_name(program: &str) -> String {
    format!("link_{program}")
}

/// The cgroup that the programs run for.
pub(super) struct Target {
    path: PathBuf,
    directory: File,
    number: u64,
}

impl Target {
    pub(super) fn open(path: &Path) -> Result<Self, LoadError> {
        let failed = |source| LoadError::OpenCgroup { path: path.to_owned(), source };
        let directory = File::open(path).map_err(failed)?;
        let number = directory.metadata().map_err(failed)?.ino();
        Ok(Self { path: path.to_owned(), directory, number })
    }

    /// Attach all programs for as long as `ebpf` lives.
    pub(super) fn attach(&self, ebpf: &mut Ebpf) -> Result<(), LoadError> {
        for name in PROGRAMS {
            self.attach_one(program(ebpf, name)?).map_err(|source| self.failed(name, source))?;
        }
        Ok(())
    }

    /// Attach all programs for as long as their links are pinned in `pins`; where one is, it runs the
    /// new program from now on.
    pub(super) fn attach_pinned(&self, ebpf: &mut Ebpf, pins: &Path) -> Result<(), LoadError> {
        for name in PROGRAMS {
            let path = pins.join(link_name(name));
            let program = program(ebpf, name)?;
            if self.take_over(program, &path).is_ok() {
                continue;
            }
            // There is none, or the cgroup it was for is gone.
            let _ = fs::remove_file(&path);
            let link = self.attach_for_good(program).map_err(|source| self.failed(name, source))?;
            let pinned: Result<PinnedLink, _> = link.pin(&path);
            pinned.map_err(|source| LoadError::Pin { path, source })?;
        }
        Ok(())
    }

    fn take_over(&self, program: &Program, path: &Path) -> std::io::Result<()> {
        let link = syscall::open_pinned(path)?;
        if syscall::cgroup_of_link(link.as_fd())? != self.number {
            return Err(std::io::ErrorKind::NotFound.into());
        }
        let fd = program.fd().map_err(std::io::Error::other)?;
        syscall::update_link(link.as_fd(), fd.as_fd())
    }

    fn attach_one(&self, program: &mut Program) -> Result<(), ProgramError> {
        // Without a mode the kernel lets other programs on the same hook be.
        let mode = CgroupAttachMode::Single;
        match program {
            Program::CgroupSockAddr(program) => program.attach(&self.directory, mode).map(drop),
            Program::CgroupSock(program) => program.attach(&self.directory, mode).map(drop),
            _ => Err(ProgramError::UnexpectedProgramType),
        }
    }

    fn attach_for_good(&self, program: &mut Program) -> Result<FdLink, ProgramError> {
        let mode = CgroupAttachMode::Single;
        let link = match program {
            Program::CgroupSockAddr(program) => {
                let program: &mut CgroupSockAddr = program;
                let id = program.attach(&self.directory, mode)?;
                FdLink::try_from(program.take_link(id)?)
            }
            Program::CgroupSock(program) => {
                let program: &mut CgroupSock = program;
                let id = program.attach(&self.directory, mode)?;
                FdLink::try_from(program.take_link(id)?)
            }
            _ => return Err(ProgramError::UnexpectedProgramType),
        };
        // Only links of kernels before 5.7 are no such links.
        link.map_err(|error| ProgramError::IOError(std::io::Error::other(error)))
    }

    fn failed(&self, program: &'static str, source: ProgramError) -> LoadError {
        LoadError::Attach { program, cgroup: self.path.clone(), source }
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Program, LoadError> {
    ebpf.program_mut(name).ok_or(LoadError::Object(name))
}

/// In the order of attaching: first those that translate back and clean up.
const PROGRAMS: [&str; 11] = [
    "pintle_release",
    "pintle_recvmsg4",
    "pintle_recvmsg6",
    "pintle_peer4",
    "pintle_peer6",
    "pintle_bind4",
    "pintle_bind6",
    "pintle_sendmsg4",
    "pintle_sendmsg6",
    "pintle_connect4",
    "pintle_connect6",
];

/// By their places in the map of them, [`pintle_ebpf_common::jump`].
const JUMP_PROGRAMS: [&str; pintle_ebpf_common::jump::COUNT as usize] =
    ["pintle_pack", "pintle_refuse", "pintle_unpack", "pintle_stray"];

/// For packets that come in, that go out, and that turn back.
const PACKET_PROGRAMS: [&str; 3] = ["pintle_ingress", "pintle_egress", "pintle_express"];
