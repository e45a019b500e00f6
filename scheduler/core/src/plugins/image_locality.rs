//! ImageLocality: prefers nodes that hold the pod's images already.
//!
//! An image counts with its size, scaled by the share of nodes that hold it, so that a pod whose
//! image is on few nodes does not heat those few. Release 1.35 counts no image
//! volumes.

use std::borrow::Cow;

use crate::cache::{ImageState, NodeInfo, Snapshot};
use crate::framework::{MAX_NODE_SCORE, NodeScore, Plugin, PluginName, PreScore};
use crate::pod::PodInfo;

/// Less than this is not worth a preference.
const SIZE_BYTES_MIN: i64 = 23 << 20;
/// More than this a container makes no difference.
const SIZE_BYTES_MAX_PER_CONTAINER: i64 = 1000 << 20;

/// The plugin.
#[derive(Clone, Copy, Debug)]
pub struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> PluginName {
        PluginName::ImageLocality
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        snapshot: &'a Snapshot,
        _feasible: &[usize],
    ) -> PreScore<'a> {
        let mut containers = 0;
        let mut images = Vec::new();
        for container in pod.containers() {
            containers += 1;
            let name = normalized_image_name(container.image.as_deref().unwrap_or_default());
            if let Some(state) = snapshot.image(&name) {
                images.push((name, scaled_size(state, snapshot.nodes().len())));
            }
        }
        PreScore::each(Score { images, containers })
    }
}

struct Score<'a> {
    images: Vec<(Cow<'a, str>, i64)>,
    containers: i64,
}

impl NodeScore for Score<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let held = self.images.iter().filter(|(name, _)| node.has_image(name));
        let sum: i64 = held.fold(0, |sum, (_, size)| sum.wrapping_add(*size));
        let max = SIZE_BYTES_MAX_PER_CONTAINER * self.containers.max(1);
        let sum = sum.max(SIZE_BYTES_MIN).min(max);
        MAX_NODE_SCORE * (sum - SIZE_BYTES_MIN) / (max - SIZE_BYTES_MIN)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "int64(float64(size) * float64(nodes)/float64(all)), as in Go"
)]
fn scaled_size(state: ImageState, all_nodes: usize) -> i64 {
    (state.size_bytes as f64 * (state.nodes as f64 / all_nodes as f64)) as i64
}

/// An image without a tag means `:latest`. Registries are not made explicit, as upstream.
pub(crate) fn normalized_image_name(name: &str) -> Cow<'_, str> {
    let tag = name.rfind(':').map_or(-1, |at| at as i64);
    let path = name.rfind('/').map_or(-1, |at| at as i64);
    if tag <= path { Cow::Owned(format!("{name}:latest")) } else { Cow::Borrowed(name) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plugins::testing::{node, pod, scores};

    const MIB: i64 = 1 << 20;

    fn holding(name: &str, images: &[(&str, i64)]) -> std::sync::Arc<NodeInfo> {
        let images: Vec<Value> = images
            .iter()
            .map(|(name, mib)| json!({"names": [name], "sizeBytes": mib * MIB}))
            .collect();
        node(json!({"metadata": {"name": name}, "status": {"images": images}}))
    }

    fn running(images: &[&str]) -> PodInfo {
        let containers: Vec<Value> =
            images.iter().map(|image| json!({"name": "c", "image": image})).collect();
        pod(json!({"containers": containers}))
    }

    #[test]
    fn scores_are_upstreams() {
        // The table of upstream's documentation: 40 MiB and 300 MiB on one of two nodes.
        let nodes = [
            holding("1", &[("gcr.io/40:latest", 40), ("gcr.io/300:latest", 300)]),
            holding("2", &[("gcr.io/250:latest", 250)]),
        ];
        for (images, expected) in [
            (vec!["gcr.io/40", "gcr.io/250"], vec![0, 5]),
            (vec!["gcr.io/40", "gcr.io/300"], vec![7, 0]),
            (vec!["gcr.io/none"], vec![0, 0]),
        ] {
            let actual = scores(&ImageLocality, &running(&images), &nodes);
            assert_eq!(actual, Some(expected), "{images:?}");
        }
        // One image of 4000 MiB on both nodes: full marks.
        let nodes = [holding("1", &[("big:v1", 4000)]), holding("2", &[("big:v1", 4000)])];
        assert_eq!(scores(&ImageLocality, &running(&["big:v1"]), &nodes), Some(vec![100, 100]));
    }

    #[test]
    fn tags_default_to_latest() {
        for (name, expected) in [
            ("root", "root:latest"),
            ("root:tag", "root:tag"),
            ("gcr.io:5000/root", "gcr.io:5000/root:latest"),
            ("root@sha256:0123", "root@sha256:0123"),
        ] {
            assert_eq!(normalized_image_name(name), expected);
        }
    }
}
