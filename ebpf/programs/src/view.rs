//! A packet in the kernel's hands, before the kernel has looked at it (XDP) or after (tc): the few
//! things that the two do in their own way.

use core::mem::size_of;
use core::ptr::{self, addr_of};

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::{bpf_csum_diff, bpf_csum_update, bpf_xdp_load_bytes};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::maps::SEGMENT;

/// A packet from its Ethernet header on.
pub trait View {
    /// Read so many bytes, at least two (the kernel's verifier does not follow the check of one);
    /// `None` beyond the end.
    fn load<T: Copy>(&self, offset: usize) -> Option<T>;
    /// Write so many bytes; `None` beyond the end.
    fn store<T: Copy>(&self, offset: usize, value: &T) -> Option<()>;
    /// Mend the checksum at `offset`, of TCP, UDP or ICMPv6. Before the kernel it may be one that was left
    /// to a device, which is seen and made up for.
    fn mend(&self, offset: usize, change: Change) -> Option<()>;
    /// Tell the kernel's own sum of the packet, if it has one, of a change that no checksum makes up for.
    fn resum(&self, change: u32);
    /// The type in the Ethernet header, or that of the packet behind a tag.
    fn ethertype(&self) -> u16;
    /// The link that the packet comes in or leaves by.
    fn link(&self) -> u32;
    /// Bytes.
    fn length(&self) -> u32;
}

/// What is to become of a checksum. The parts are differences of sums ([`difference`]).
#[derive(Clone, Copy)]
pub struct Change {
    /// Of the addresses, which are summed beside the header.
    pub addresses: u32,
    /// Of what stands behind the IP header.
    pub body: u32,
    /// Whether the addresses stand in a header of IPv6, which has no checksum of its own.
    pub v6: bool,
    /// Whether a checksum of zero means that there is none, as in UDP.
    pub may_be_absent: bool,
    /// What stands behind the IP header, of TCP and UDP.
    pub segment: Segment,
}

/// A packet's part that a checksum is about.
#[derive(Clone, Copy)]
pub struct Segment {
    /// Where it begins.
    pub offset: usize,
    /// Bytes.
    pub length: u32,
    /// The sum of the addresses, of the length and of the protocol's number, to 16 bits: what the kernel
    /// puts in the checksum's place if it leaves that to a device.
    pub pseudo: u16,
    /// Whether it is to be made then.
    pub is_made: bool,
}

/// Add to the difference of two sums that these words make.
#[inline(always)]
pub fn difference(sum: u64, old: u32, new: u32) -> u64 {
    sum + !old as u64 + new as u64
}

/// A sum of words as one, to 32 bits.
#[inline(always)]
pub fn fold(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// A checksum (RFC 1071) over what has changed by a difference.
#[inline(always)]
pub fn mended(checksum: u16, change: u32) -> u16 {
    let sum = !checksum as u64 & 0xffff;
    let sum = sum + (change as u64 & 0xffff) + (change as u64 >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

impl View for TcContext {
    /// Straight from the packet where that lies in one piece as far as needed.
    #[inline(always)]
    fn load<T: Copy>(&self, offset: usize) -> Option<T> {
        let (start, end) = bounds(self);
        let start = start + offset;
        if start + size_of::<T>() <= end {
            // SAFETY: within the packet. Headers lie at multiples of four bytes after the 14 of
            // Ethernet, which the kernel places so that they are aligned where that matters.
            return Some(unsafe { (start as *const T).read() });
        }
        TcContext::load(self, offset).ok()
    }

    /// By a call: a program that writes packets itself would have each of a cloned one's copied first,
    /// which those of the node's own TCP connections are, translated or not.
    #[inline(always)]
    fn store<T: Copy>(&self, offset: usize, value: &T) -> Option<()> {
        TcContext::store(self, offset, value, 0).ok()
    }

    /// By calls: they alone know whether the checksum is left to a device.
    #[inline(always)]
    fn mend(&self, offset: usize, change: Change) -> Option<()> {
        let mark = if change.may_be_absent { BPF_F_MARK_MANGLED_0 as u64 } else { 0 };
        if change.addresses != 0 {
            let flags = mark | BPF_F_PSEUDO_HDR as u64;
            let addresses = change.addresses as u64;
            let flagged = if change.v6 { flags | BPF_F_IPV6 } else { flags };
            if self.l4_csum_replace(offset, 0, addresses, flagged).is_err() {
                // Kernels before 6.16 do not know the flag.
                self.l4_csum_replace(offset, 0, addresses, flags).ok()?;
            }
        }
        if change.body != 0 {
            self.l4_csum_replace(offset, 0, change.body as u64, mark).ok()?;
        }
        Some(())
    }

    #[inline(always)]
    fn resum(&self, change: u32) {
        // SAFETY: the helper takes this program type's context. Fails where there is no sum.
        let _ = unsafe { bpf_csum_update(self.skb.skb, change) };
    }

    #[inline(always)]
    fn ethertype(&self) -> u16 {
        // SAFETY: the kernel's context. Volatile, since the verifier takes loads of single fields
        // alone.
        let kind = unsafe { addr_of!((*self.skb.skb).protocol).read_volatile() };
        (kind as u16).to_be()
    }

    #[inline(always)]
    fn link(&self) -> u32 {
        // SAFETY: as above.
        unsafe { addr_of!((*self.skb.skb).ifindex).read_volatile() }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.len()
    }
}

/// Where a packet begins and ends, as far as it lies in one piece.
///
/// The context is read anew each time: the compiler would keep the fields' addresses otherwise where there
/// are many such looks, and the verifier lets a program use that of the whole alone.
#[inline(always)]
fn bounds(ctx: &TcContext) -> (usize, usize) {
    // SAFETY: the kernel's context, by a pointer of the program's own.
    unsafe {
        let skb = addr_of!(ctx.skb.skb).read_volatile();
        ((*skb).data as usize, (*skb).data_end as usize)
    }
}

impl View for XdpContext {
    #[inline(always)]
    fn load<T: Copy>(&self, offset: usize) -> Option<T> {
        let start = self.data() + offset;
        if start + size_of::<T>() > self.data_end() {
            return None;
        }
        // SAFETY: as for tc.
        Some(unsafe { (start as *const T).read() })
    }

    #[inline(always)]
    fn store<T: Copy>(&self, offset: usize, value: &T) -> Option<()> {
        let start = self.data() + offset;
        if start + size_of::<T>() > self.data_end() {
            return None;
        }
        // SAFETY: as for tc.
        unsafe { (start as *mut T).write(*value) };
        Some(())
    }

    /// Nobody says here whether the checksum is one, or was left to a device, which there is none of
    /// any more once the packet is sent back. But one that was left has the pseudo-header's sum in its
    /// place. Where that stands, the sum of the whole segment as it is makes the right checksum either way:
    /// of one that was left by definition, and of one that happens to be the same, as the rest of the
    /// segment then adds up to its complement. (Where the link is but the kernel's imitation of one, the
    /// kernel goes on knowing, so the packet is left to it.)
    #[inline(always)]
    fn mend(&self, offset: usize, change: Change) -> Option<()> {
        let mut checksum: u16 = View::load(self, offset)?;
        if change.may_be_absent && checksum == 0 {
            return Some(());
        }
        let Segment { offset: start, length, pseudo, is_made } = change.segment;
        if checksum == pseudo || checksum == 0 && pseudo == 0xffff {
            checksum = if is_made { complete(self, start, length)? } else { return None };
        }
        let sum = fold(change.addresses as u64 + change.body as u64);
        checksum = mended(checksum, sum);
        if change.may_be_absent && checksum == 0 {
            checksum = 0xffff;
        }
        View::store(self, offset, &checksum)
    }

    /// There is none yet.
    #[inline(always)]
    fn resum(&self, _change: u32) {}

    #[inline(always)]
    fn ethertype(&self) -> u16 {
        View::load::<u16>(self, 12).unwrap_or(0).to_be()
    }

    #[inline(always)]
    fn link(&self) -> u32 {
        // SAFETY: the kernel's context.
        unsafe { addr_of!((*self.ctx).ingress_ifindex).read_volatile() }
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        (self.data_end() - self.data()) as u32
    }
}

/// The checksum of a segment that has a pseudo-header's sum in the place of one.
#[inline(always)]
fn complete(ctx: &XdpContext, offset: usize, length: u32) -> Option<u16> {
    if length < 8 || length > SEGMENT_MAX {
        return None;
    }
    // The compiler checks one copy of the number and uses another, which the kernel's verifier does not
    // know to be the same: said anew, to be at most 2047 + 8.
    let above = length - 8;
    // SAFETY: a place of the program's own. Volatile, or the compiler would know what is there.
    let length = (unsafe { ptr::from_ref(&above).read_volatile() } as u64 & 2047) + 8;
    // SAFETY: this CPU's own, and programs of this kind do not interrupt each other.
    let bytes = unsafe { SEGMENT.get_ptr_mut(0)?.cast::<u8>() };
    // SAFETY: the buffer has room for so many bytes and three more.
    let sum = unsafe {
        if bpf_xdp_load_bytes(ctx.ctx, offset as u32, bytes.cast(), length as u32) != 0 {
            return None;
        }
        bytes.add(length as usize).cast::<[u8; 3]>().write([0; 3]);
        let mut sum = 0;
        let whole = (length + 3) & !3;
        let mut at = 0;
        while at < SEGMENT_MAX as u64 {
            let left = whole.saturating_sub(at);
            let size = if left > PIECE { PIECE } else { left };
            let piece = bytes.add(at as usize).cast();
            let result = bpf_csum_diff(ptr::null_mut(), 0, piece, size as u32, sum);
            if result < 0 {
                return None;
            }
            sum = result as u32;
            at += PIECE;
        }
        sum
    };
    Some(mended(0xffff, sum))
}

/// The longest segment whose checksum is made: that of a packet of 1,500 bytes, and some more.
const SEGMENT_MAX: u32 = 1536;
/// How many bytes kernels before 6.13 sum at once.
const PIECE: u64 = 512;
/// Room for a segment whose checksum is made, and for as much as the verifier thinks one may have.
pub type SegmentBytes = [u8; 2064];

/// The addresses are of IPv6: the kernel's own sum of the packet stays as it is (uapi/linux/bpf.h).
const BPF_F_IPV6: u64 = 1 << 7;
