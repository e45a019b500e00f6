//! What the programs would do to a packet, without a link to send it on.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::errno::Errno;
use pintle_ebpf_common::QUOTED;

use super::load::Dataplane;
use super::namespace::NodeNamespace;
use super::syscall;

/// Which of the programs for packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketHook {
    /// Where packets leave.
    Egress,
    /// Before the kernel sees them.
    Express,
    /// Where packets come in.
    Ingress,
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// Whether it goes on, to the next program or the kernel.
    pub passed: bool,
    /// Whether it is sent elsewhere by the program itself, past the kernel.
    pub sent_back: bool,
    /// The packet as it is then.
    pub packet: Vec<u8>,
    /// How long the program took, on average over all turns.
    pub duration: Duration,
}

/// The kernel did not run the program.
#[derive(Debug, thiserror::Error)]
#[error("let the program for packets at {hook:?} run")]
pub struct DryRunError {
    hook: PacketHook,
    #[source]
    source: io::Error,
}

impl Dataplane {
    /// Let a program have a packet, from its Ethernet header on, so many times. The tables are the real
    /// ones: connections that begin are noted. The packet comes in by the loopback device.
    pub fn dry_run(
        &self,
        hook: PacketHook,
        packet: &[u8],
        turns: u32,
    ) -> Result<DryRun, DryRunError> {
        self.dry_run_at(&NodeNamespace::Own, 0, hook, packet, turns)
    }

    /// The same with a packet of `link`, a link of `namespace`; 0 is the loopback device.
    pub fn dry_run_at(
        &self,
        namespace: &NodeNamespace,
        link: u32,
        hook: PacketHook,
        packet: &[u8],
        turns: u32,
    ) -> Result<DryRun, DryRunError> {
        let failed = |source| DryRunError { hook, source };
        let programs = self.attachments.programs.try_clone().map_err(failed)?;
        let packet = packet.to_vec();
        let run = move || {
            let program = match hook {
                PacketHook::Egress => &programs.egress,
                PacketHook::Express => &programs.express,
                PacketHook::Ingress => &programs.ingress,
            };
            let context = context(hook, packet.len() as u32, link);
            let run = |flags| syscall::test_run(program.as_fd(), &packet, &context, turns, flags);
            // With a sum of the whole packet, as good network cards give one, and which the kernel
            // looks at in the end.
            let summed = if hook == PacketHook::Express { 0 } else { CHECKSUM_COMPLETE };
            match run(summed) {
                // Kernels before 6.16 have no such flag.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => run(0),
                // The kernel gives its sum up where a program changes a packet's length at its end
                // (`bpf_skb_change_tail`), as it does to answer most, and compares it here even so.
                Err(error) if error.raw_os_error() == Some(Errno::EBADMSG as i32) => match run(0) {
                    Ok(result) if result.verdict == TC_REDIRECT && !is_quoted_whole(&packet) => {
                        Ok(result)
                    }
                    _ => Err(error),
                },
                other => other,
            }
        };
        let result = namespace.run(run).map_err(|error| failed(io::Error::other(error)))?;
        let syscall::TestRun { verdict, packet, duration_ns } = result.map_err(failed)?;
        let dropped = if hook == PacketHook::Express { XDP_DROP } else { TC_DROP };
        let redirected = if hook == PacketHook::Express { XDP_REDIRECT } else { TC_REDIRECT };
        let sent_back = verdict == redirected;
        let passed = verdict != dropped && !sent_back;
        let duration = Duration::from_nanos(duration_ns.into());
        Ok(DryRun { passed, sent_back, packet, duration })
    }
}

/// `struct xdp_md`, or the beginning of `struct __sk_buff`; none for the loopback device.
fn context(hook: PacketHook, length: u32, link: u32) -> Vec<u8> {
    let words: &[u32] = match (link, hook) {
        (0, _) => &[],
        (_, PacketHook::Express) => &[0, length, 0, link, 0, 0],
        _ => &[0, 0, 0, 0, 0, 0, 0, 0, 0, link, link],
    };
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Whether as much stands behind the packet's IP header as an answer to it quotes.
fn is_quoted_whole(packet: &[u8]) -> bool {
    let header = if packet.get(12..14) == Some(&[8, 0]) { 20 } else { 40 };
    packet.len() == 14 + header + QUOTED
}

// uapi/linux/pkt_cls.h, uapi/linux/bpf.h
const TC_DROP: u32 = 2;
const TC_REDIRECT: u32 = 7;
const XDP_DROP: u32 = 1;
const XDP_REDIRECT: u32 = 4;
const CHECKSUM_COMPLETE: u32 = 1 << 2;
