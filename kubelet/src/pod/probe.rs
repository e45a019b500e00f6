//! From single probe results to a verdict, by `successThreshold` and `failureThreshold`.

use k8s_openapi::api::core::v1::Probe;

/// What a probe has to say of its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Failed often enough in a row.
    Failure,
    /// Succeeded often enough in a row.
    Success,
}

/// Counts results of one probe in one run of a container.
#[derive(Clone, Debug)]
pub struct ProbeCounter {
    success_threshold: u32,
    failure_threshold: u32,
    last: Option<Verdict>,
    in_a_row: u32,
}

impl ProbeCounter {
    /// With the thresholds of `probe`, or the API server's defaults of 1 and 3.
    #[must_use]
    pub fn new(probe: &Probe) -> Self {
        let threshold = |value: Option<i32>, default| {
            value.and_then(|it| u32::try_from(it).ok()).filter(|it| *it > 0).unwrap_or(default)
        };
        Self {
            success_threshold: threshold(probe.success_threshold, 1),
            failure_threshold: threshold(probe.failure_threshold, 3),
            last: None,
            in_a_row: 0,
        }
    }

    /// Count one result; the verdict, once enough of the same came in a row.
    pub fn observe(&mut self, result: Verdict) -> Option<Verdict> {
        self.in_a_row = if self.last == Some(result) { self.in_a_row.saturating_add(1) } else { 1 };
        self.last = Some(result);
        let threshold = match result {
            Verdict::Failure => self.failure_threshold,
            Verdict::Success => self.success_threshold,
        };
        (self.in_a_row >= threshold).then_some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_needs_its_threshold_in_a_row() {
        use Verdict::{Failure, Success};
        let mut counter = ProbeCounter::new(&Probe {
            success_threshold: Some(2),
            failure_threshold: Some(3),
            ..Probe::default()
        });
        let results =
            [Failure, Failure, Success, Failure, Failure, Failure, Failure, Success, Success];
        let verdicts: Vec<_> = results.into_iter().map(|it| counter.observe(it)).collect();
        let expected = [None, None, None, None, None, Some(Failure), Some(Failure), None];
        assert_eq!(verdicts[..8], expected);
        assert_eq!(verdicts[8], Some(Success));
    }
}
