//! System calls that aya and nix have no function for.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::libc;

/// Open what is pinned at `path` (`BPF_OBJ_GET`).
pub(super) fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Attr::default();
    attr.words[0] = path.as_ptr() as u64;
    let fd = bpf(BPF_OBJ_GET, &mut attr)?;
    // SAFETY: the kernel has just given this descriptor to this process.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Let a link run another program from now on, in one step (`BPF_LINK_UPDATE`).
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attr::default();
    attr.set_u32(0, link.as_raw_fd() as u32);
    attr.set_u32(1, program.as_raw_fd() as u32);
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// The cgroup of a link, by its number; 0 if it is gone (`BPF_OBJ_GET_INFO_BY_FD`).
pub(super) fn cgroup_of_link(link: BorrowedFd<'_>) -> io::Result<u64> {
    // struct bpf_link_info: type, id, prog_id, padding, then for cgroups the number.
    let mut info = [0_u64; 32];
    let mut attr = Attr::default();
    attr.set_u32(0, link.as_raw_fd() as u32);
    attr.set_u32(1, size_of_val(&info) as u32);
    attr.words[1] = info.as_mut_ptr() as u64;
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info[2])
}

/// Attach a program to a link of this thread's network namespace, after those that are there
/// (`BPF_LINK_CREATE`, tcx). It stays for as long as the descriptor, or a pin of it.
pub(super) fn attach_to_link(
    program: BorrowedFd<'_>,
    link: u32,
    direction: Direction,
) -> io::Result<OwnedFd> {
    let mut attr = Attr::default();
    attr.set_u32(0, program.as_raw_fd() as u32);
    attr.set_u32(1, link);
    let (ingress, egress) = (BPF_TCX_INGRESS, BPF_TCX_EGRESS);
    attr.set_u32(2, if direction == Direction::Ingress { ingress } else { egress });
    let fd = bpf(BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: the kernel has just given this descriptor to this process.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Pin at `path` (`BPF_OBJ_PIN`).
pub(super) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Attr::default();
    attr.words[0] = path.as_ptr() as u64;
    attr.set_u32(2, fd.as_raw_fd() as u32);
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Which packets of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    /// Those that come in.
    Ingress,
    /// Those that go out.
    Egress,
}

/// The kernel's cookie of this thread's network namespace.
pub(super) fn netns_cookie() -> io::Result<u64> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// `union bpf_attr`, as far as the commands here go.
#[derive(Default)]
#[repr(C)]
struct Attr {
    words: [u64; 8],
}

impl Attr {
    /// Set the half-word `index` in the order of memory.
    fn set_u32(&mut self, index: usize, value: u32) {
        let word = &mut self.words[index / 2];
        let mut halves = [*word as u32, (*word >> 32) as u32];
        if cfg!(target_endian = "big") {
            halves.swap(0, 1);
        }
        halves[index % 2] = value;
        if cfg!(target_endian = "big") {
            halves.swap(0, 1);
        }
        *word = u64::from(halves[0]) | u64::from(halves[1]) << 32;
    }
}

fn bpf(command: libc::c_long, attr: &mut Attr) -> io::Result<i32> {
    // SAFETY: the attributes are as long as said, and what they point to lives through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<Attr>()) };
    // A descriptor or 0.
    i32::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(io::Error::last_os_error)
}

// uapi/linux/bpf.h
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
// uapi/asm-generic/socket.h
const SO_NETNS_COOKIE: libc::c_int = 71;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_words_stand_where_the_kernel_reads_them() {
        let mut attr = Attr::default();
        attr.set_u32(0, 0x0102_0304);
        attr.set_u32(1, 0x0506_0708);
        let bytes = attr.words[0].to_ne_bytes();
        assert_eq!(bytes[..4], 0x0102_0304_u32.to_ne_bytes());
        assert_eq!(bytes[4..], 0x0506_0708_u32.to_ne_bytes());
    }
}
