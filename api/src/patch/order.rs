//! The order of a merged list.
//!
//! Items the patch speaks of come in the patch's order, the others in the order they had, and an
//! item of the latter goes before the first of the former that it preceded; as upstream's
//! `normalizeElementOrder`.

use rustc_hash::FxHashMap;

/// Orders `merged`, items with their keys. `wanted` lists the keys of items the patch orders,
/// `before` the keys as they stood.
pub(super) fn normalise<T>(
    merged: Vec<(String, T)>,
    wanted: &[String],
    before: &[String],
) -> Vec<T> {
    let wanted = positions(wanted);
    let before = positions(before);
    let (mut ordered, mut others): (Vec<_>, Vec<_>) =
        merged.into_iter().partition(|(key, _)| wanted.contains_key(key));
    ordered.sort_by_key(|(key, _)| wanted.get(key).copied());
    others.sort_by_key(|(key, _)| before.get(key).copied().unwrap_or(usize::MAX));
    interleave(others, ordered, &before)
}

fn positions(keys: &[String]) -> FxHashMap<String, usize> {
    let mut positions = FxHashMap::default();
    for (i, key) in keys.iter().enumerate() {
        positions.entry(key.clone()).or_insert(i);
    }
    positions
}

/// Puts each of `others` before the first of the remaining `ordered` that it preceded.
fn interleave<T>(
    others: Vec<(String, T)>,
    ordered: Vec<(String, T)>,
    before: &FxHashMap<String, usize>,
) -> Vec<T> {
    let mut result = Vec::with_capacity(others.len() + ordered.len());
    let mut ordered = ordered.into_iter().peekable();
    for (key, item) in others {
        let position = before.get(&key);
        let is_earlier =
            |(next, _): &(String, T)| !(position.is_some() && before.get(next) > position);
        while let Some((_, earlier)) = ordered.next_if(is_earlier) {
            result.push(earlier);
        }
        result.push(item);
    }
    result.extend(ordered.map(|(_, item)| item));
    result
}
