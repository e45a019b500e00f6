//! The plain search: every filter, for every step of every node.

use std::sync::Arc;

use super::{Budgets, CandidateSearch, Candidates, importance, no_victim};
use crate::cache::WhatIf;
use crate::diagnosis::failed_filter;
use crate::fit::{Refusal, fits_beside_nominated};
use crate::framework::{Code, PostFilterContext, PreemptionCandidate, Rejection};
use crate::pod::PodInfo;

/// The search that says what the others must find.
#[derive(Clone, Copy, Debug, Default)]
pub struct DryRun;

impl CandidateSearch for DryRun {
    fn candidates(
        &mut self,
        context: &PostFilterContext<'_>,
        nodes: &[usize],
        enough: usize,
    ) -> Candidates {
        let budgets = Budgets::new(context.snapshot.objects());
        let mut what_if = context.snapshot.what_if();
        let (mut harmless, mut violating, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for &node in nodes {
            match candidate(context, &mut what_if, &budgets, node) {
                Ok(candidate) if candidate.pdb_violations == 0 => harmless.push(candidate),
                Ok(candidate) => violating.push(candidate),
                Err(rejection) => refused.push((node, rejection)),
            }
            what_if.restore(node, context.snapshot);
            if !harmless.is_empty() && harmless.len() + violating.len() >= enough {
                break;
            }
        }
        harmless.append(&mut violating);
        Candidates { found: harmless, refused }
    }
}

/// Who has to leave the node; it is left without them.
fn candidate(
    context: &PostFilterContext<'_>,
    what_if: &mut WhatIf,
    budgets: &Budgets,
    node: usize,
) -> Result<PreemptionCandidate, Rejection> {
    let PostFilterContext { profile, pod, .. } = context;
    let pods = what_if.nodes()[node].pods().iter();
    let mut potential: Vec<Arc<PodInfo>> =
        pods.filter(|other| other.priority < pod.priority).cloned().collect();
    if potential.is_empty() {
        return Err(Rejection::unresolvable("No preemption victims found for incoming pod"));
    }
    for victim in &potential {
        what_if.remove(node, &victim.uid);
    }
    let fits = |what_if: &mut WhatIf| fits_beside_nominated(profile, what_if, pod, node);
    fits(what_if).map_err(refusal)?;
    potential.sort_by_cached_key(|victim| importance(victim));
    let (violating, harmless) = budgets.split(potential);
    let mut reprieve = |victim: &Arc<PodInfo>| {
        what_if.add(node, Arc::clone(victim));
        let stays = fits(what_if).is_ok();
        if !stays {
            what_if.remove(node, &victim.uid);
        }
        stays
    };
    let mut victims = violating;
    victims.retain(|victim| !reprieve(victim));
    let pdb_violations = victims.len();
    victims.extend(harmless.into_iter().filter(|victim| !reprieve(victim)));
    victims.sort_by_cached_key(|victim| importance(victim));
    let node = Arc::clone(&context.snapshot.nodes()[node]);
    if victims.is_empty() {
        return Err(Rejection::error(no_victim(node.name())));
    }
    Ok(PreemptionCandidate { node, victims, pdb_violations })
}

/// What a refusal that ends the dry run of a node says.
pub(super) fn refusal((plugin, rejection): Refusal) -> Rejection {
    match rejection.code() {
        Code::Error => Rejection::error(failed_filter(plugin, &rejection)),
        _ => rejection,
    }
}
