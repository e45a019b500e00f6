//! How long `pintle standalone` takes from its start on an empty data directory to /readyz.

use indicatif::ProgressBar;

use crate::child::Standalone;
use crate::outcome::Outcome;
use crate::stats::quantile;

pub(crate) async fn run(runs: usize, progress: &ProgressBar) -> anyhow::Result<Vec<Outcome>> {
    let mut samples = Vec::with_capacity(runs);
    let mut resident = 0;
    for run in 0..runs {
        progress.set_message(format!("startup: {run} of {runs}"));
        let standalone = Standalone::start(&["--nodes", "0"]).await?;
        samples.push(standalone.ready_after.as_secs_f64() * 1e3);
        resident = resident.max(standalone.resident_bytes());
        standalone.stop()?;
    }
    let case = "readyz/empty-data-dir";
    let mut outcomes: Vec<Outcome> = [("p50", 0.5), ("max", 1.0)]
        .iter()
        .filter_map(|(name, q)| Some((name, quantile(&mut samples, *q)?)))
        .map(|(name, value)| {
            Outcome::new(case, "standalone", &format!("latency_{name}"), "ms", value)
        })
        .collect();
    let mebibytes = resident as f64 / f64::from(1 << 20);
    outcomes.push(Outcome::new(case, "standalone", "resident_memory_max", "MiB", mebibytes));
    Ok(outcomes)
}
