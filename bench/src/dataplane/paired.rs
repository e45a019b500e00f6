//! Two modes side by side, one call at a time: where they differ by a hundredth, rounds apart tell of the
//! machine and not of the modes.
//!
//! A socket belongs to the namespace and the cgroup that it was made in, so one thread can have sockets of
//! both worlds and use one of each in turn, the first one changing. Whatever disturbs the machine
//! meanwhile disturbs both alike. Of all pairs together the ratio is taken, and between which two it
//! lies with a probability of 95 % by drawing blocks of pairs anew (Efron's bootstrap, in blocks since a
//! disturbance is longer than a pair).
//!
//! All is on one processor meanwhile: where the kernel puts a client and its server is a lottery that one
//! draws for many requests, and whose prizes differ by more than the modes do.
//!
//! Processor time is a second measure that noise hardly touches: that of the whole process, in which both
//! the client and the server are, over a number of requests. What the kernel does for them in between is
//! in it as far as it does so in this process's time.

use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::unistd::Pid;

use super::client;
use super::world::World;
use crate::outcome::Outcome;
use crate::stats::quantile;

/// This process's threads on one processor, until it is dropped.
pub(super) struct OnOneProcessor {
    before: CpuSet,
}

impl OnOneProcessor {
    pub(super) fn move_to() -> anyhow::Result<Self> {
        let before = sched_getaffinity(Pid::from_raw(0))?;
        let first = (0..CpuSet::count()).find(|cpu| before.is_set(*cpu).unwrap_or(false));
        let mut one = CpuSet::new();
        one.set(first.context("this process may run nowhere")?)?;
        set_all(&one)?;
        Ok(Self { before })
    }
}

impl Drop for OnOneProcessor {
    fn drop(&mut self) {
        // Else the rest is measured on one processor, which its figures show.
        let _ = set_all(&self.before);
    }
}

fn set_all(cpus: &CpuSet) -> anyhow::Result<()> {
    for thread in std::fs::read_dir("/proc/self/task")?.flatten() {
        let number = thread.file_name().to_str().and_then(|name| name.parse().ok());
        // One that has ended meanwhile needs none.
        let _ = sched_setaffinity(Pid::from_raw(number.unwrap_or(0)), cpus);
    }
    Ok(())
}

/// One of the two: where its client is, and where it connects to.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) world: &'a World,
    pub(super) targets: &'a [SocketAddrV4],
}

/// What was measured of the two, in pairs.
#[derive(Clone, Debug, Default)]
pub(super) struct Pairs {
    /// µs of a connect().
    connects: Vec<[f64; 2]>,
    /// µs of a request on a connection that is kept, until its answer.
    requests: Vec<[f64; 2]>,
    /// µs of the processors for such a request.
    processor: Vec<[f64; 2]>,
}

impl Pairs {
    /// Measure so many pairs of connects more, and twice as many of requests.
    pub(super) fn measure(&mut self, sides: [Side<'_>; 2], connects: usize) -> anyhow::Result<()> {
        for begun in (0..connects).step_by(OPEN_MAX) {
            self.connect(sides, OPEN_MAX.min(connects - begun))?;
        }
        self.request(sides, 2 * connects)
    }

    fn connect(&mut self, sides: [Side<'_>; 2], connects: usize) -> anyhow::Result<()> {
        let [one, other] = sides.map(|side| sockets(side.world, connects));
        for (turn, sockets) in one?.into_iter().zip(other?).enumerate() {
            let mut sockets = <[OwnedFd; 2]>::from(sockets).map(Some);
            let mut took = [0.0; 2];
            for side in order(turn) {
                let to = sides[side].targets[turn % sides[side].targets.len()];
                if let Some(socket) = sockets[side].take() {
                    took[side] = micros(client::connect_one(&socket, to)?);
                }
            }
            self.connects.push(took);
        }
        Ok(())
    }

    fn request(&mut self, sides: [Side<'_>; 2], requests: usize) -> anyhow::Result<()> {
        let connect = |side: Side<'_>| {
            let socket = sockets(side.world, 1)?.remove(0);
            client::connect_one(&socket, side.targets[0])?;
            anyhow::Ok(TcpStream::from(socket))
        };
        let mut streams = [connect(sides[0])?, connect(sides[1])?];
        for turn in 0..requests {
            let mut took = [0.0; 2];
            for side in order(turn) {
                let start = Instant::now();
                client::request(&mut streams[side])?;
                took[side] = micros(start.elapsed());
            }
            self.requests.push(took);
        }
        for turn in 0..requests / BLOCK {
            let mut took = [0.0; 2];
            for side in order(turn) {
                let start = processor_us()?;
                (0..BLOCK).try_for_each(|_| client::request(&mut streams[side]))?;
                took[side] = (processor_us()? - start) / BLOCK as f64;
            }
            self.processor.push(took);
        }
        Ok(())
    }

    /// The second side's figures over the first's; of requests the number in a time.
    pub(super) fn ratios(&self, case: &str, pair: &str) -> Vec<Outcome> {
        let q = |q| move |samples: &mut Vec<f64>| quantile(samples, q);
        let mean =
            |samples: &mut Vec<f64>| Some(samples.iter().sum::<f64>() / samples.len() as f64);
        let figures: [(&str, &[[f64; 2]], &Figure, bool); 4] = [
            ("connect_p50", &self.connects, &q(0.5), false),
            ("connect_p99", &self.connects, &q(0.99), false),
            ("keepalive_rps", &self.requests, &mean, true),
            ("keepalive_processor_us", &self.processor, &q(0.5), false),
        ];
        let mut outcomes = Vec::new();
        for (metric, pairs, figure, inverse) in figures {
            let Some(ratios) = spread(pairs, figure) else { continue };
            let [low, middle, high] = ratios;
            let turned = [1.0 / high, 1.0 / middle, 1.0 / low];
            let [low, middle, high] = if inverse { turned } else { ratios };
            for (end, value) in [("", middle), ("_low", low), ("_high", high)] {
                let metric = format!("{metric}_ratio{end}");
                outcomes.push(Outcome::new(case, pair, &metric, "x", value));
            }
        }
        outcomes
    }
}

/// One figure of many samples, which it may put into another order.
type Figure = dyn Fn(&mut Vec<f64>) -> Option<f64>;

/// The ratio of a figure, and the interval of 95 % about it.
fn spread(pairs: &[[f64; 2]], figure: &Figure) -> Option<[f64; 3]> {
    let ratio = |pairs: &[&[[f64; 2]]]| {
        let of = |side: usize| {
            figure(&mut pairs.iter().copied().flatten().map(|pair| pair[side]).collect())
        };
        Some(of(1)? / of(0)?)
    };
    let blocks: Vec<&[[f64; 2]]> =
        pairs.chunks(BLOCK.min(pairs.len().div_ceil(20).max(1))).collect();
    let middle = ratio(&blocks)?;
    // The same for the same samples.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut drawn: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let draw = |_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                blocks[(state % blocks.len() as u64) as usize]
            };
            let resample: Vec<_> = (0..blocks.len()).map(draw).collect();
            ratio(&resample)
        })
        .collect();
    let low = quantile(&mut drawn, 0.025)?;
    Some([low, middle, quantile(&mut drawn, 0.975)?])
}

/// So many sockets of a world's pod.
fn sockets(world: &World, count: usize) -> anyhow::Result<Vec<OwnedFd>> {
    world.enter()?;
    let made = world.pod.run_in(move || (0..count).map(|_| client::open()).collect());
    world.leave()?;
    made?
}

/// What this process has taken of the processors.
fn processor_us() -> anyhow::Result<f64> {
    let used = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok((used.user_time() + used.system_time()).num_microseconds() as f64)
}

/// Who is first changes.
fn order(turn: usize) -> [usize; 2] {
    if turn.is_multiple_of(2) { [0, 1] } else { [1, 0] }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Sockets of a side that are open at a time: well below what a process may have.
const OPEN_MAX: usize = 200;
/// Pairs of a block, some milliseconds; requests over which processor time is taken.
const BLOCK: usize = 100;
const RESAMPLES: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_difference_shows_through_noise_that_both_have() {
        // The machine is up to ten times as slow for a while, now and then.
        let slow = |turn: usize| 1.0 + 9.0 * f64::from(u8::from(turn / 700 % 5 == 3));
        let jitter = |turn: usize| 1.0 + (turn * 7919 % 101) as f64 / 1000.0;
        let pairs: Vec<[f64; 2]> = (0..20_000)
            .map(|turn| [20.0 * slow(turn) * jitter(turn), 20.4 * slow(turn) * jitter(turn + 50)])
            .collect();
        let median = |samples: &mut Vec<f64>| quantile(samples, 0.5);
        let [low, middle, high] = spread(&pairs, &median).unwrap();
        assert!((1.015..1.025).contains(&middle), "{middle}");
        assert!(low <= middle && middle <= high && high - low < 0.02, "{low} {high}");
        assert_eq!(spread(&[], &median), None);
    }

    #[test]
    fn of_requests_the_number_in_a_time_is_compared() {
        let pairs = Pairs { requests: vec![[10.0, 20.0]; 200], ..Pairs::default() };
        let outcomes = pairs.ratios("services/1", "pintle/direct");
        let found = outcomes.iter().map(|it| (it.metric.as_str(), it.value)).collect::<Vec<_>>();
        let of = ["", "_low", "_high"].map(|end| format!("keepalive_rps_ratio{end}"));
        assert_eq!(found, [(&*of[0], 0.5), (&*of[1], 0.5), (&*of[2], 0.5)]);
    }
}
