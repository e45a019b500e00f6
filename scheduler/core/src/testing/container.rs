//! Requests, images and host ports.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::Part;

/// What a node has to give, and the images on it.
pub(super) fn node() -> Part {
    let rare = option::weighted(0.2, 0_u32..3);
    let resources = (0_u32..5, 0_u32..5, 0_u32..8, option::of(0_u32..3), rare);
    let images = vec((select(&["app:v1", "db:latest", "web:v2"][..]), Just(100_u64 << 20)), 0..3);
    (resources, images)
        .prop_map(|((cpu, memory, pods, gpus, rare), images)| {
            let gpus = gpus.map(|gpus| json!({"example.com/gpu": gpus.to_string()}));
            let rare = rare.map(|rare| json!({"example.com/rare": rare.to_string()}));
            let image = |(name, size)| json!({"names": [name], "sizeBytes": size});
            let images: Vec<Value> = images.into_iter().map(image).collect();
            let allocatable = json!({"cpu": cpu.to_string(), "memory": format!("{memory}Gi"),
                "pods": pods.to_string()});
            let mut status = json!({"allocatable": allocatable, "images": images});
            super::lay_over(&mut status["allocatable"], json!(gpus));
            super::lay_over(&mut status["allocatable"], json!(rare));
            json!({"status": status})
        })
        .boxed()
}

/// One or two containers; some pods ask for CPU as a whole.
pub(super) fn pod() -> Part {
    let whole = option::weighted(0.1, 0_u32..30);
    (vec(container(), 1..3), whole)
        .prop_map(|(containers, whole)| {
            let cpu = |cpu| json!({"requests": {"cpu": format!("{}m", cpu * 100)}});
            json!({"spec": {"containers": containers, "resources": whole.map(cpu)}})
        })
        .boxed()
}

fn container() -> impl Strategy<Value = Value> {
    let few = || option::weighted(0.2, 0_u32..3);
    let requests =
        (option::of(0_u32..30), option::of(0_u32..20), few(), option::weighted(0.1, 0_u32..3));
    let image = select(&["app:v1", "db", "none"][..]);
    (requests, image, option::weighted(0.2, 80_u32..82)).prop_map(
        |((cpu, memory, gpus, rare), image, port)| {
            let mut requests = json!({});
            if let Some(cpu) = cpu {
                requests["cpu"] = json!(format!("{}m", cpu * 100));
            }
            if let Some(memory) = memory {
                requests["memory"] = json!(format!("{}Mi", memory * 100));
            }
            if let Some(gpus) = gpus {
                requests["example.com/gpu"] = json!(gpus.to_string());
            }
            if let Some(rare) = rare {
                requests["example.com/rare"] = json!(rare.to_string());
            }
            let ports = port.map(|port| json!([{"containerPort": 1, "hostPort": port}]));
            json!({"name": "c", "image": image, "resources": {"requests": requests},
                "ports": ports})
        },
    )
}
