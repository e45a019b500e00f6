use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Quantity {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn canonical_forms_are_upstreams() {
    for (text, canonical) in [
        ("0", "0"),
        ("0Mi", "0"),
        ("-0", "0"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        (".5", "500m"),
        ("5.", "5"),
        ("+1", "1"),
        ("-100m", "-100m"),
        ("1.5Gi", "1536Mi"),
        ("1024Mi", "1Gi"),
        ("1023", "1023"),
        ("0.5Ki", "512"),
        ("1000Ki", "1000Ki"),
        ("1024", "1024"),
        ("100k", "100k"),
        ("100000", "100k"),
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("12e2", "1200"),
        ("1e-3", "1e-3"),
        ("1E", "1E"),
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", "9223372036854775807"),
        ("00000000000000000001", "1"),
        ("999E", "999E"),
        ("7Ei", "7Ei"),
        ("8Ei", "9223372036854775807"),
        ("-9Ei", "-9223372036854775807"),
        ("1.0000000000000000000000000Gi", "1Gi"),
        ("0.1n", "1n"),
        ("0.0000000001", "1n"),
        ("-0.1n", "-1n"),
        ("0.0009765625Ki", "1"),
        ("3.7148591Ti", "4084530775999486361600n"),
        ("1000.5Ki", "1024512"),
    ] {
        assert_eq!(parse(text).to_string(), canonical, "{text}");
    }
}

#[test]
fn bad_texts_get_upstreams_error() {
    for (text, error) in [
        ("", ParseError::Format),
        ("5Q", ParseError::Format),
        ("1 Gi", ParseError::Format),
        ("1.2.3", ParseError::Format),
        ("--1", ParseError::Suffix),
        ("abc", ParseError::Format),
        ("1Gi1x", ParseError::Format),
        (".", ParseError::Numeric),
        ("+", ParseError::Numeric),
        ("m", ParseError::Numeric),
        ("1K", ParseError::Suffix),
        ("1ki", ParseError::Suffix),
        ("1e", ParseError::Suffix),
        ("1i", ParseError::Suffix),
        ("1Mi5", ParseError::Suffix),
        ("1ee3", ParseError::Suffix),
        ("1e99999999999999999999", ParseError::Suffix),
    ] {
        assert_eq!(text.parse::<Quantity>(), Err(error), "{text:?}");
    }
    assert_eq!(
        ParseError::Format.to_string(),
        "quantities must match the regular expression \
         '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    );
}

#[test]
fn integer_views_round_away_from_zero_and_saturate() {
    assert_eq!(parse("100.5m").milli_value(), 101);
    assert_eq!(parse("-100.5m").milli_value(), -101);
    assert_eq!(parse("1m").value(), 1);
    assert_eq!(parse("1n").milli_value(), 1);
    assert_eq!(parse("200Mi").value(), 200 << 20);
    assert_eq!(parse("9E").milli_value(), i64::MAX);
    assert_eq!(parse("1e400").value(), i64::MAX);
    assert_eq!(parse("-1e400").value(), i64::MIN);
    assert_eq!(parse("1e-400").value(), 1);
}

#[test]
fn a_sum_takes_the_first_amounts_notation() {
    assert_eq!((parse("1Gi") + parse("1024")).to_string(), "1048577Ki");
    assert_eq!((Quantity::ZERO + parse("1Gi")).to_string(), "1Gi");
    assert_eq!((parse("1") - parse("1500m")).to_string(), "-500m");
}

fn any_quantity() -> impl Strategy<Value = String> {
    "[+-]?([0-9]{1,9}|[0-9]{0,4}\\.[0-9]{1,9})(n|u|m||k|M|G|T|Ki|Mi|Gi|Ti|e[0-9]|E-[0-9])"
}

proptest! {
    #[test]
    fn printing_loses_nothing(text in any_quantity()) {
        let quantity = parse(&text);
        let again = parse(&quantity.to_string());
        prop_assert_eq!(quantity, again);
        // A binary amount without a power of 1024 prints plainly and so reads as decimal, as
        // upstream's does; what was printed twice prints the same ever after.
        let settled = again.to_string();
        prop_assert_eq!(parse(&settled).to_string(), settled);
    }

    #[test]
    fn milli_amounts_agree_with_integers(a in -1_000_000_000i64..1_000_000_000, b in any::<i32>()) {
        let (x, y) = (parse(&format!("{a}m")), parse(&format!("{b}m")));
        prop_assert_eq!((x + y).milli_value(), a + i64::from(b));
        prop_assert_eq!(x.cmp(&y), a.cmp(&i64::from(b)));
        let up = if a >= 0 { (a + 999) / 1000 } else { -((-a + 999) / 1000) };
        prop_assert_eq!(x.value(), up);
    }

    #[test]
    fn no_text_panics(text in "[+-]?[0-9.eEinumkKMGTPQ+-]{0,60}") {
        if let Ok(quantity) = text.parse::<Quantity>() {
            let _ = (quantity.to_string(), quantity.value(), quantity + quantity);
        }
    }
}
