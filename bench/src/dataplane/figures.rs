//! From rounds to figures: what each mode came to, and how the modes compare.
//!
//! A ratio is taken within each round, where both modes had the same machine; what is reported is
//! the median of the rounds' ratios, and between which two ratios the true median lies with a
//! probability of 95% (by the order statistics, so without any assumption on their distribution).

use super::mode::Mode;
use super::traffic::Round;
use crate::outcome::Outcome;
use crate::stats::quantile;

/// A mode's rounds, in the order of the rounds.
pub(super) type Measured = (Mode, Vec<Round>);

/// One figure of a round.
type Figure = fn(&Round) -> Option<f64>;

/// What each mode came to.
pub(super) fn of_modes(case: &str, measured: &[Measured]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (mode, rounds) in measured {
        let mode = mode.to_string();
        for (place, name) in ["", "first_", "middle_", "last_"].into_iter().enumerate() {
            for (quantile_name, q) in QUANTILES {
                let mut samples = pooled(rounds, place.checked_sub(1), |round| &round.connects);
                if let Some(value) = quantile(&mut samples, q) {
                    let metric = format!("connect_{name}{quantile_name}");
                    outcomes.push(Outcome::new(case, &mode, &metric, "us", value));
                }
            }
        }
        for (quantile_name, q) in QUANTILES {
            let mut samples = pooled(rounds, None, |round| &round.node_port_connects);
            if let Some(value) = quantile(&mut samples, q) {
                let metric = format!("node_port_connect_{quantile_name}");
                outcomes.push(Outcome::new(case, &mode, &metric, "us", value));
            }
        }
        for (metric, figure) in RATES {
            if let Some(value) = median(rounds.iter().filter_map(figure).collect()) {
                outcomes.push(Outcome::new(case, &mode, metric, "1/s", value));
            }
        }
    }
    outcomes
}

/// Every mode over the mode `direct`, and pintle's over those of kube-proxy.
pub(super) fn ratios(case: &str, measured: &[Measured]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (mode, rounds) in measured {
        for (other, others) in measured.iter().filter(|(other, _)| is_compared(*mode, *other)) {
            let pair = format!("{mode}/{other}");
            let is_paired = |metric: &str| is_paired(*mode, *other) && PAIRED.contains(&metric);
            let metrics = LATENCIES.into_iter().chain(RATES);
            for (metric, figure) in metrics.filter(|(metric, _)| !is_paired(metric)) {
                let ratio = |(a, b): (&Round, &Round)| Some(figure(a)? / figure(b)?);
                let ratios: Vec<f64> = rounds.iter().zip(others).filter_map(ratio).collect();
                let Some([low, middle, high]) = spread(ratios) else { continue };
                for (end, value) in [("", middle), ("_low", low), ("_high", high)] {
                    let metric = format!("{metric}_ratio{end}");
                    outcomes.push(Outcome::new(case, &pair, &metric, "x", value));
                }
            }
        }
    }
    outcomes
}

fn is_compared(mode: Mode, other: Mode) -> bool {
    let of_kube_proxy = |mode| matches!(mode, Mode::Iptables | Mode::Nftables);
    mode != other
        && (other == Mode::Direct
            || mode != Mode::Direct && !of_kube_proxy(mode) && of_kube_proxy(other))
}

/// Whether the two are measured in pairs too, which tells more.
fn is_paired(mode: Mode, other: Mode) -> bool {
    other == Mode::Direct && matches!(mode, Mode::Pintle | Mode::PintleSockets)
}

/// The samples of all rounds; `place`: of one address only.
fn pooled(
    rounds: &[Round],
    place: Option<usize>,
    connects: impl Fn(&Round) -> &Vec<Vec<f64>>,
) -> Vec<f64> {
    let of_place = |at: usize| place.is_none_or(|place| place == at);
    let mut samples = Vec::new();
    for round in rounds {
        let lists = connects(round).iter().enumerate().filter(|(at, _)| of_place(*at));
        samples.extend(lists.flat_map(|(_, list)| list));
    }
    samples
}

fn of_round(lists: &[Vec<f64>], q: f64) -> Option<f64> {
    quantile(&mut lists.concat(), q)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    quantile(&mut values, 0.5)
}

/// The median and the interval of 95% about it; fewer than six values have none but their range.
fn spread(mut values: Vec<f64>) -> Option<[f64; 3]> {
    let middle = quantile(&mut values, 0.5)?;
    let count = values.len() as f64;
    // The number of values below the true median is binomial: its standard deviation is half the
    // root of the count.
    let below = ((count - 1.96 * count.sqrt()) / 2.0).floor().max(0.0) as usize;
    let (low, high) = (values.get(below)?, values.get(values.len() - 1 - below)?);
    Some([*low, middle, *high])
}

/// What is measured in pairs.
const PAIRED: [&str; 3] = ["connect_p50", "connect_p99", "keepalive_rps"];

const QUANTILES: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];

const LATENCIES: [(&str, Figure); 4] = [
    ("connect_p50", |round| of_round(&round.connects, 0.5)),
    ("connect_p99", |round| of_round(&round.connects, 0.99)),
    ("node_port_connect_p50", |round| of_round(&round.node_port_connects, 0.5)),
    ("node_port_connect_p99", |round| of_round(&round.node_port_connects, 0.99)),
];

const RATES: [(&str, Figure); 3] = [
    ("connections_per_second", |round| Some(round.short)),
    ("keepalive_rps", |round| Some(round.kept)),
    ("node_port_connections_per_second", |round| round.node_port_short),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_of_order_statistics() {
        // Of 15 values the 4th and the 12th: Conover, Practical Nonparametric Statistics, 3.2.
        let values = (1..=15).map(f64::from).collect();
        assert_eq!(spread(values), Some([4.0, 8.0, 12.0]));
        assert_eq!(spread(vec![3.0, 1.0]), Some([1.0, 1.0, 3.0]));
        assert_eq!(spread(Vec::new()), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let round = |short| Round { short, ..Round::default() };
        // The machine is ten times as slow in the second round: the ratio stays.
        let direct = (Mode::Direct, vec![round(1000.0), round(100.0), round(1000.0)]);
        let pintle = (Mode::Pintle, vec![round(990.0), round(99.0), round(990.0)]);
        let outcomes = ratios("services/1", &[direct, pintle]);
        let of = |metric: &str| {
            let mut found = outcomes.iter().filter(|outcome| outcome.metric == metric);
            found.next().map(|outcome| (outcome.mode.as_str(), outcome.value))
        };
        assert_eq!(of("connections_per_second_ratio"), Some(("pintle/direct", 0.99)));
        assert_eq!(of("connections_per_second_ratio_low"), Some(("pintle/direct", 0.99)));
        assert_eq!(of("connect_p50_ratio"), None);
    }
}
