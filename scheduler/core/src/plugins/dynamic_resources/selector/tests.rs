use k8s_openapi::api::resource::v1::Device;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn device() -> Device {
    serde_json::from_value(json!({"name": "gpu-0",
    "attributes": {
        "model": {"string": "a100"},
        "cores": {"int": 108},
        "ecc": {"bool": true},
        "dra.example.com/version": {"version": "1.2.3"},
        "other.example.com/numa": {"int": 1},
    },
    "capacity": {
        "memory": {"value": "80Gi"},
        "other.example.com/bandwidth": {"value": "1500m"},
    }}))
    .unwrap()
}

fn run(expression: &str) -> Result<bool, String> {
    let device = device();
    let selector = Selector::compile(expression)?;
    selector.matches(&DeviceValues::new("dra.example.com", &device)?)
}

#[test]
fn expressions_see_the_device() {
    for (expression, expected) in [
        ("true", true),
        ("device.driver == 'dra.example.com'", true),
        ("device.attributes['dra.example.com'].model == 'a100'", true),
        ("device.attributes['dra.example.com'].cores > 100", true),
        ("device.attributes['dra.example.com'].ecc", true),
        ("device.attributes['other.example.com'].numa == 0", false),
        ("device.attributes['dra.example.com'].version.isGreaterThan(semver('1.2.0'))", true),
        ("device.attributes['dra.example.com'].version.compareTo(semver('1.10.0')) == -1", true),
        ("device.attributes['dra.example.com'].version == semver('1.2.3')", true),
        ("device.attributes['dra.example.com'].version.minor() == 2", true),
        ("device.capacity['dra.example.com'].memory.compareTo(quantity('80Gi')) == 0", true),
        ("device.capacity['dra.example.com'].memory == quantity('81920Mi')", true),
        ("device.capacity['dra.example.com'].memory.isLessThan(quantity('40Gi'))", false),
        ("device.capacity['other.example.com'].bandwidth.isInteger()", false),
        (
            "device.capacity['other.example.com'].bandwidth.add(quantity('0.5')).asInteger() == 2",
            true,
        ),
        ("quantity('1k').sub(1).sign() == 1", true),
        ("isQuantity('x') || isSemver('1.0')", false),
        ("has(device.attributes['dra.example.com'].nope)", false),
        ("has(device.attributes['nobody.example.com'].nope)", false),
        ("'nobody.example.com' in device.attributes", false),
        ("'other.example.com' in device.attributes", true),
        ("device.attributes['dra.example.com'].?nope.orValue('x') == 'x'", true),
        ("device.attributes.exists(d, d == 'other.example.com')", true),
        ("device.attributes['dra.example.com'].all(name, name != 'numa')", true),
        ("cel.bind(dra, device.attributes['dra.example.com'], dra.ecc && dra.cores == 108)", true),
        ("device.attributes['dra.example.com'].model.startsWith('a')", true),
        ("device.attributes['dra.example.com'].model.upperAscii() == 'A100'", true),
        ("device.attributes['dra.example.com'].model.matches('^[ah]100$')", true),
        ("device.attributes['dra.example.com'].model in ['a100', 'h100']", true),
    ] {
        assert_eq!(run(expression), Ok(expected), "{expression}");
    }
}

#[test]
fn errors_are_in_upstreams_words() {
    for (expression, expected) in [
        ("device.attributes['dra.example.com'].nope == 1", "no such key: nope"),
        ("device.attributes['nobody.example.com'].nope == 1", "no such key: nope"),
        ("device.attributes['dra.example.com'].cores > 'x'", "no such overload"),
        ("1 / 0 == 1", "division by zero"),
        ("nope(1)", "undeclared reference to 'nope' (in container '')"),
        (
            "quantity('x') == quantity('1')",
            "quantities must match the regular expression \
             '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "device.attributes['dra.example.com'].model",
            "CEL result of type string could not be converted to bool: type conversion error from \
             'string' to 'bool'",
        ),
    ] {
        assert_eq!(run(expression), Err(expected.to_owned()), "{expression}");
    }
    assert!(run("device.").unwrap_err().starts_with("compilation failed: ERROR: <input>:1:8"));
}

#[test]
fn attributes_of_unknown_kinds_are_errors() {
    for (attribute, expected) in [
        (json!({}), "attribute x: unsupported attribute value"),
        (json!({"string": "x".repeat(200)}), "attribute x: longer than 128 bytes"),
    ] {
        let device: Device =
            serde_json::from_value(json!({"name": "d", "attributes": {"x": attribute}})).unwrap();
        assert_eq!(DeviceValues::new("d", &device).unwrap_err(), expected);
    }
    let many: serde_json::Map<_, _> =
        (0..65).map(|n| (format!("a{n}"), json!({"int": 1}))).collect();
    let device = serde_json::from_value(json!({"name": "d", "attributes": many})).unwrap();
    let error = DeviceValues::new("d", &device).unwrap_err();
    assert_eq!(error, "more than 64 attributes and capacities");
    let odd = json!({"name": "d", "attributes": {"x": {"version": "1.0"}}});
    let odd = serde_json::from_value(odd).unwrap();
    assert!(DeviceValues::new("d", &odd).unwrap_err().contains("parse semantic version"));
}

/// Expressions of the longest length, nested in every way the grammar has.
fn deep(length: usize) -> Vec<String> {
    let fill = |unit: &str| unit.repeat(length / unit.len());
    let around = |open: &str, middle: &str, close: &str| {
        let times = (length - middle.len()) / (open.len() + close.len());
        format!("{}{middle}{}", open.repeat(times), close.repeat(times))
    };
    vec![
        format!("a{}", fill(".a")),
        format!("1{}", fill("+1")),
        format!("{}true", fill("!")),
        format!("{}1", fill("-")),
        around("(", "1", ")"),
        around("[", "1", "]"),
        around("{1:", "1", "}"),
        format!("a{}", fill("[0]")),
        format!("a{}", fill(".b()")),
        around("f(", "1", ")"),
        format!("true{}", fill("||true")),
        format!("1{}", fill("<1")),
        format!("{}1", fill("true?1:")),
        around("[1].all(x,", "true", ")"),
        around("cel.bind(x,1,", "true", ")"),
        fill("("),
        fill("'"),
        fill("a?"),
    ]
}

#[test]
fn the_deepest_expressions_do_not_overflow_the_stack() {
    for expression in deep(EXPRESSION_LENGTH_MAX - 10) {
        // Most are refused; what is not must run within the stack of a test.
        let _ = run(&expression);
    }
    let longer = "true ".repeat(EXPRESSION_LENGTH_MAX);
    assert_eq!(run(&longer), Err("too long: at most 10240 bytes".to_owned()));
}

#[test]
fn the_deepest_expressions_that_are_run_do_not_overflow_a_small_stack() {
    let run = || {
        for levels in 1..DEPTH_MAX {
            let _ = run(&format!("{}true", "true == ".repeat(levels)));
            let _ = run(&format!("{}true{}", "[".repeat(levels), "]".repeat(levels)));
            let nested = format!("{}true{}", "[1].all(x, ".repeat(levels), ")".repeat(levels));
            let _ = run(&nested);
        }
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn work_is_bounded() {
    let nested = |over: &str, times: usize| {
        let vars = ["a", "b", "c", "d", "e", "f"];
        let open: String = vars[..times].iter().map(|v| format!("{over}.all({v}, ")).collect();
        format!("{open}true{}", ")".repeat(times))
    };
    let numbers = format!("[{}]", vec!["1"; 100].join(","));
    assert_eq!(run(&nested(&numbers, 2)), Ok(true));
    assert!(run(&nested(&numbers, 3)).unwrap_err().starts_with("too complex: estimated cost"));
    assert_eq!(run(&nested("device.attributes", 2)), Ok(true));
    // Each binding doubles the string.
    let doubled: String = (1..40).map(|n| format!("cel.bind(x{n}, x{0}+x{0}, ", n - 1)).collect();
    let doubled = format!("cel.bind(x0, 'x', {doubled}true){}", ")".repeat(39));
    assert!(run(&doubled).unwrap_err().starts_with("too "));
    let replaced = "'aaaaaaaaaa'".to_owned() + &".replace('a', 'aaaaaaaaaa')".repeat(9) + " == ''";
    assert!(run(&replaced).unwrap_err().starts_with("too complex"));
}

#[test]
fn compiled_expressions_are_kept_and_bounded() {
    let selectors = Selectors::default();
    let (a, b) = (selectors.get("true").unwrap(), selectors.get("true").unwrap());
    assert!(Arc::ptr_eq(&a, &b));
    assert!(selectors.get("(").is_err() && selectors.get("(").is_err());
    for n in 0..PROGRAMS_MAX {
        let _ = selectors.programs.lock().unwrap().insert(n.to_string().into(), Err("x".into()));
    }
    assert!(selectors.get("false").is_ok());
    assert!(selectors.programs.lock().unwrap().len() < PROGRAMS_MAX);
}

/// Pieces that mostly make expressions.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(
        &[
            "device",
            ".driver",
            ".attributes",
            "['dra.example.com']",
            ".model",
            " == ",
            " + ",
            "'a100'",
            "1",
            "-1",
            "1.5",
            "(",
            ")",
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            "?",
            "!",
            "&&",
            "||",
            "x",
            ".all(x, ",
            ".exists(x, ",
            ".map(x, ",
            "has(",
            "size(",
            "quantity('1')",
            "semver('1.0.0')",
            ".compareTo(",
            "in ",
            "cel.bind(x, ",
            "true",
            "null",
            "b'a'",
            "?.",
            "\"",
            "\\",
            "9223372036854775807",
            "%",
            "/0",
            ".matches('(')",
            "string(",
            "\u{1f600}",
        ][..],
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_expression_panics(pieces in prop::collection::vec(piece(), 0..25)) {
        let _ = run(&pieces.concat());
    }
}
