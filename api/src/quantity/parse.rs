//! Reading a quantity: sign, digits, suffix; then scaling to billionths.
//!
//! Mirrors `ParseQuantity` of `k8s.io/apimachinery/pkg/api/resource`, its three errors and the
//! order in which it looks for them.

use super::{Format, NANOS, ParseError, Quantity};

/// Significant digits kept exactly. 28 digits of billionths are more than 2^63-1 units; what is
/// cut off only decides whether the result is rounded up.
const DIGITS_MAX: usize = 28;
/// Numbers of at most so many digits fit an `i64` and are not capped (`maxInt64Factors`).
const DIGITS_UNCAPPED_MAX: usize = 18;
/// With a power of two on top (up to 2^60) the product must still fit 128 bits.
const DIGITS_BINARY_MAX: usize = 19;

pub(super) fn parse(text: &str) -> Result<Quantity, ParseError> {
    let parts = split(text)?;
    let (scale, mut format) = interpret(parts.suffix).ok_or(ParseError::Suffix)?;
    if !parts.has_digits {
        return Err(ParseError::Numeric);
    }
    let mut magnitude = magnitude(&parts, scale);
    // Upstream keeps short decimal numbers whatever their exponent; all else it caps.
    let is_short = parts.whole.len() + parts.fraction.len() <= DIGITS_UNCAPPED_MAX;
    if format == Format::BinarySi || !is_short {
        magnitude = magnitude.min(i128::from(i64::MAX) * NANOS);
    }
    let nanos = if parts.negative { -magnitude } else { magnitude };
    if format == Format::BinarySi && nanos > 0 && nanos < NANOS {
        format = Format::DecimalSi;
    }
    Ok(Quantity { nanos, format })
}

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
    has_digits: bool,
}

/// Cuts the text into its parts, or says that it has not the shape of a quantity.
fn split(text: &str) -> Result<Parts<'_>, ParseError> {
    if text.is_empty() {
        return Err(ParseError::Format);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (number, suffix) = unsigned.split_at(run(unsigned, |b| b.is_ascii_digit() || b == b'.'));
    let letters = run(suffix, |b| b"eEinumkKMGTP".contains(&b));
    let exponent = &suffix[letters..];
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if run(exponent, |b| b.is_ascii_digit()) != exponent.len() {
        return Err(ParseError::Format);
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let has_digits = !whole.is_empty() || !fraction.is_empty();
    let whole = whole.trim_start_matches('0');
    if fraction.contains('.') {
        // Upstream stops at the second point, so that the rest cannot be a suffix.
        return Err(ParseError::Format);
    }
    Ok(Parts { negative: text.starts_with('-'), whole, fraction, suffix, has_digits })
}

/// How many leading bytes of `text` satisfy `is`.
fn run(text: &str, is: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|&b| is(b)).count()
}

/// What a suffix multiplies by.
#[derive(Clone, Copy)]
enum Scale {
    Ten(i64),
    Two(u32),
}

fn interpret(suffix: &str) -> Option<(Scale, Format)> {
    let decimal = |exponent| Some((Scale::Ten(exponent), Format::DecimalSi));
    let binary = |exponent| Some((Scale::Two(exponent), Format::BinarySi));
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent: i64 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            Some((Scale::Ten(exponent), Format::DecimalExponent))
        }
    }
}

/// The amount without its sign, in billionths, rounded up.
fn magnitude(parts: &Parts<'_>, scale: Scale) -> i128 {
    let digits_max = match scale {
        Scale::Ten(_) => DIGITS_MAX,
        Scale::Two(_) => DIGITS_BINARY_MAX,
    };
    let Mantissa { mut value, exponent, mut inexact } = mantissa(parts, digits_max);
    if value == 0 {
        return 0;
    }
    let exponent = match scale {
        Scale::Ten(by) => exponent.saturating_add(by),
        Scale::Two(by) => {
            value <<= by;
            exponent
        }
    };
    let exponent = exponent.saturating_add(9);
    if exponent >= 0 {
        let power = u32::try_from(exponent).ok().and_then(|e| 10u128.checked_pow(e));
        value = power.and_then(|p| value.checked_mul(p)).unwrap_or(u128::MAX);
    } else {
        // A divisor too large for 128 bits leaves only the remainder.
        let power = u32::try_from(-exponent).ok().and_then(|e| 10u128.checked_pow(e));
        inexact |= power.is_none_or(|p| value % p != 0);
        value = power.map_or(0, |p| value / p);
    }
    let rounded = value.saturating_add(u128::from(inexact));
    i128::try_from(rounded).unwrap_or(i128::MAX)
}

struct Mantissa {
    value: u128,
    exponent: i64,
    /// Digits other than 0 were cut off.
    inexact: bool,
}

/// The first `digits_max` significant digits and the power of ten to multiply them by.
fn mantissa(parts: &Parts<'_>, digits_max: usize) -> Mantissa {
    let mut mantissa = Mantissa { value: 0, exponent: 0, inexact: false };
    let mut kept = 0;
    let whole = parts.whole.bytes().map(|b| (b, false));
    let fraction = parts.fraction.trim_end_matches('0').bytes().map(|b| (b, true));
    for (byte, is_fraction) in whole.chain(fraction) {
        let digit = byte - b'0';
        if kept == digits_max {
            mantissa.inexact |= digit != 0;
            mantissa.exponent += i64::from(!is_fraction);
            continue;
        }
        mantissa.value = mantissa.value * 10 + u128::from(digit);
        mantissa.exponent -= i64::from(is_fraction);
        kept += usize::from(mantissa.value != 0);
    }
    mantissa
}
