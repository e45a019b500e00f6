//! What the programs would do to a packet, without a link to send it on.

use std::time::Duration;

use aya::programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions};

use super::load::Dataplane;

/// Which of the programs for packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketHook {
    /// Where packets come in.
    Ingress,
    /// Where they leave.
    Egress,
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// Whether it goes on, to the next program or the kernel.
    pub passed: bool,
    /// The packet as it is then.
    pub packet: Vec<u8>,
    /// How long the program took, on average over all turns.
    pub duration: Duration,
}

impl Dataplane {
    /// Let a program have a packet, from its Ethernet header on, so many times. The tables are the real
    /// ones: connections that begin are noted. The packet comes in by the loopback device.
    pub fn dry_run(
        &self,
        hook: PacketHook,
        packet: &[u8],
        turns: u32,
    ) -> Result<DryRun, ProgramError> {
        let name = match hook {
            PacketHook::Ingress => "pintle_ingress",
            PacketHook::Egress => "pintle_egress",
        };
        let program = self.ebpf.program(name).ok_or(ProgramError::UnexpectedProgramType)?;
        let program: &SchedClassifier = program.try_into()?;
        let mut output = vec![0; packet.len()];
        let mut options = TestRunOptions::new();
        options.data_in = Some(packet);
        options.data_out = Some(&mut output);
        options.repeat = turns;
        let result = program.test_run(options)?;
        output.truncate(result.data_size_out as usize);
        let duration = result.duration;
        Ok(DryRun { passed: result.return_value != DROP, packet: output, duration })
    }
}

const DROP: u32 = 2;
