//! System calls that aya and nix have no function for.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::Pod;
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

/// Attach a program to a link of this thread's network namespace (`BPF_LINK_CREATE`): of tcx after those
/// that are there, of XDP alone. It stays for as long as the descriptor, or a pin of it.
pub(super) fn attach_to_link(
    program: BorrowedFd<'_>,
    link: u32,
    hook: Hook,
) -> io::Result<OwnedFd> {
    let (kind, flags) = match hook {
        Hook::Ingress => (BPF_TCX_INGRESS, 0),
        Hook::Egress => (BPF_TCX_EGRESS, 0),
        Hook::XdpNative => (BPF_XDP, XDP_FLAGS_DRV_MODE),
        Hook::XdpGeneric => (BPF_XDP, XDP_FLAGS_SKB_MODE),
    };
    let mut attr = Attr::default();
    attr.set_u32(0, program.as_raw_fd() as u32);
    attr.set_u32(1, link);
    attr.set_u32(2, kind);
    attr.set_u32(3, flags);
    let fd = bpf(BPF_LINK_CREATE, &mut attr)?;
    // SAFETY: the kernel has just given this descriptor to this process.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How long a packet may be on a link of this thread's network namespace, from its IP header on
/// (`SIOCGIFMTU`).
pub(super) fn mtu(link: &str) -> io::Result<u32> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: a struct of integers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    let name = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
    name.zip(link.bytes()).for_each(|(to, byte)| *to = byte as libc::c_char);
    // SAFETY: the kernel reads the name and writes the number, both within the struct.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: written by the kernel.
    Ok(u32::try_from(unsafe { request.ifr_ifru.ifru_mtu }).unwrap_or(0))
}

/// What became of a packet in a test.
pub(super) struct TestRun {
    pub(super) verdict: u32,
    pub(super) packet: Vec<u8>,
    /// Of one turn, on average.
    pub(super) duration_ns: u32,
}

/// Let a program have a packet so many times (`BPF_PROG_TEST_RUN`), with a context that may be empty.
pub(super) fn test_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    context: &[u8],
    turns: u32,
    flags: u32,
) -> io::Result<TestRun> {
    let mut output = vec![0; packet.len() + 256];
    let mut attr = Attr::default();
    attr.set_u32(0, program.as_raw_fd() as u32);
    attr.set_u32(2, packet.len() as u32);
    attr.set_u32(3, output.len() as u32);
    attr.words[2] = packet.as_ptr() as u64;
    attr.words[3] = output.as_mut_ptr() as u64;
    attr.set_u32(8, turns);
    attr.set_u32(10, context.len() as u32);
    attr.words[6] = if context.is_empty() { 0 } else { context.as_ptr() as u64 };
    attr.set_u32(16, flags);
    bpf(BPF_PROG_TEST_RUN, &mut attr)?;
    output.truncate(attr.u32(3) as usize);
    Ok(TestRun { verdict: attr.u32(1), packet: output, duration_ns: attr.u32(9) })
}

/// Pin at `path` (`BPF_OBJ_PIN`).
pub(super) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = Attr::default();
    attr.words[0] = path.as_ptr() as u64;
    attr.set_u32(2, fd.as_raw_fd() as u32);
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Some entries of a hash map, and where to go on.
pub(super) struct Batch<K, V> {
    pub(super) entries: Vec<(K, V)>,
    /// `None`: these were the last.
    pub(super) next: Option<u32>,
}

/// Read entries of a hash map from `token` on, or from the start (`BPF_MAP_LOOKUP_BATCH`). The map may
/// change meanwhile: what is there all the time is found.
pub(super) fn lookup_batch<K: Pod + Default, V: Pod + Default>(
    map: BorrowedFd<'_>,
    token: Option<u32>,
) -> io::Result<Batch<K, V>> {
    let (mut keys, mut values) = (vec![K::default(); BATCH], vec![V::default(); BATCH]);
    let (mut from, mut next) = (token.unwrap_or(0), 0_u32);
    let mut attr = Attr::default();
    attr.words[0] = if token.is_some() { &raw mut from as u64 } else { 0 };
    attr.words[1] = &raw mut next as u64;
    attr.words[2] = keys.as_mut_ptr() as u64;
    attr.words[3] = values.as_mut_ptr() as u64;
    attr.set_u32(8, BATCH as u32);
    attr.set_u32(9, map.as_raw_fd() as u32);
    let result = bpf(BPF_MAP_LOOKUP_BATCH, &mut attr);
    let done = match result {
        Ok(_) => false,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
        Err(error) => return Err(error),
    };
    let count = (attr.u32(8) as usize).min(BATCH);
    let entries = keys.into_iter().zip(values).take(count).collect();
    Ok(Batch { entries, next: (!done).then_some(next) })
}

/// The value of a key of a map (`BPF_MAP_LOOKUP_ELEM`).
pub(super) fn lookup<K: Pod, V: Pod + Default>(map: BorrowedFd<'_>, key: &K) -> io::Result<V> {
    let mut value = V::default();
    let mut attr = Attr::default();
    attr.set_u32(0, map.as_raw_fd() as u32);
    attr.words[1] = std::ptr::from_ref(key) as u64;
    attr.words[2] = &raw mut value as u64;
    bpf(BPF_MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(value)
}

/// Remove an entry of a map (`BPF_MAP_DELETE_ELEM`).
pub(super) fn delete<K: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    let mut attr = Attr::default();
    attr.set_u32(0, map.as_raw_fd() as u32);
    attr.words[1] = std::ptr::from_ref(key) as u64;
    bpf(BPF_MAP_DELETE_ELEM, &mut attr).map(drop)
}

/// Where a program meets the packets of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hook {
    /// Where they come in.
    Ingress,
    /// Where they go out.
    Egress,
    /// In the link's driver, before they come in.
    XdpNative,
    /// Just before they come in.
    XdpGeneric,
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
    words: [u64; 10],
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

    /// The half-word `index` in the order of memory.
    fn u32(&self, index: usize) -> u32 {
        let bytes = self.words[index / 2].to_ne_bytes();
        let at = index % 2 * 4;
        u32::from_ne_bytes(std::array::from_fn(|byte| bytes[at + byte]))
    }
}

fn bpf(command: libc::c_long, attr: &mut Attr) -> io::Result<i32> {
    // SAFETY: the attributes are as long as said, and what they point to lives through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<Attr>()) };
    // A descriptor or 0.
    i32::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(io::Error::last_os_error)
}

/// Entries read at once: more than stand in any one bucket.
const BATCH: usize = 4096;

// uapi/linux/bpf.h
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
// uapi/linux/if_link.h
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
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
