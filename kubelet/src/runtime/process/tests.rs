use super::*;

#[test]
fn cpu_weights_are_the_kubelets() {
    assert_eq!([0, 100, 1000, 10_000_000].map(cpu_weight), [1, 4, 39, 10_000]);
}
