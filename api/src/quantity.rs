//! Exact Kubernetes quantities: `100m`, `1.5Gi`, `2e3`.
//!
//! Mirrors `k8s.io/apimachinery/pkg/api/resource`. A quantity is held as a whole number of
//! billionths (the finest step Kubernetes knows, `n`) in an `i128`, so sums and comparisons are
//! exact; finer input is rounded away from zero as upstream does. Amounts over 2^63-1 are capped
//! where upstream caps them, and saturate at 1.7e29. Upstream also prints back some odd spellings
//! (`+7`, `07`, `7.`) as they came; here they print canonically.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

mod parse;
#[cfg(test)]
mod tests;

/// Billionths in one.
const NANOS: i128 = 1_000_000_000;
/// Billionths in a thousandth.
const NANOS_PER_MILLI: i128 = 1_000_000;

/// An exact amount, and the family of suffixes it was written with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// The family of suffixes that a quantity prints with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `n u m k M G T P E`: powers of ten.
    #[default]
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`: powers of two.
    BinarySi,
    /// `e3`, `E6`: a power of ten written out.
    DecimalExponent,
}

/// Why a text is not a quantity, in upstream's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The text does not have the shape of a quantity.
    #[error(
        "quantities must match the regular expression \
         '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    /// There is no number, or more than one decimal point.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// The suffix is made of known letters but is none of the known ones.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// Zero, in decimal notation.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// `units` whole units that print in `format`.
    pub const fn from_units(units: i64, format: Format) -> Self {
        Self { nanos: units as i128 * NANOS, format }
    }

    /// `milli` thousandths that print in decimal notation.
    pub const fn from_milli(milli: i64) -> Self {
        Self { nanos: milli as i128 * NANOS_PER_MILLI, format: Format::DecimalSi }
    }

    /// Whole units, rounded away from zero and saturated to an `i64`.
    pub fn value(self) -> i64 {
        clamp(divide_away_from_zero(self.nanos, NANOS))
    }

    /// Thousandths, rounded away from zero and saturated to an `i64`.
    pub fn milli_value(self) -> i64 {
        clamp(divide_away_from_zero(self.nanos, NANOS_PER_MILLI))
    }

    /// Whether the amount is exactly zero.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether the amount is below zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether the amount is a whole number of units.
    pub fn is_whole(self) -> bool {
        self.nanos % NANOS == 0
    }

    /// The family of suffixes it prints with.
    pub fn format(self) -> Format {
        self.format
    }

    /// `self + other`, saturating. Zero takes the other's format, as upstream's `Add` does.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }

    /// `self - other`, saturating; may be negative.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_sub(other.nanos), format }
    }
}

impl std::ops::Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.plus(other)
    }
}

impl std::ops::AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = self.plus(other);
    }
}

impl std::ops::Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.minus(other)
    }
}

/// Amounts compare; the format is how one prints, not what it is.
impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl FromStr for Quantity {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse::parse(text)
    }
}

impl TryFrom<&Text> for Quantity {
    type Error = ParseError;
    fn try_from(text: &Text) -> Result<Self, ParseError> {
        parse::parse(&text.0)
    }
}

impl From<Quantity> for Text {
    fn from(quantity: Quantity) -> Self {
        Text(quantity.to_string())
    }
}

/// Upstream's canonical form: no fraction, and the largest suffix that leaves a whole number.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Small and broken amounts in binary notation print as decimals: nothing is rounded.
        let is_plain = self.nanos.abs() >= 1024 * NANOS && self.is_whole();
        match self.format {
            Format::BinarySi if is_plain => self.fmt_binary(f),
            Format::DecimalExponent => match self.decimal(i32::MAX) {
                (mantissa, 0) => write!(f, "{mantissa}"),
                (mantissa, exponent) => write!(f, "{mantissa}e{exponent}"),
            },
            Format::DecimalSi | Format::BinarySi => {
                let (mantissa, exponent) = self.decimal(18);
                write!(f, "{mantissa}{}", DECIMAL_SUFFIXES[(exponent / 3 + 3) as usize])
            }
        }
    }
}

impl Quantity {
    /// Mantissa and the exponent of ten, a multiple of 3 from -9 to `exponent_max`.
    fn decimal(self, exponent_max: i32) -> (i128, i32) {
        let (mut mantissa, mut exponent) = (self.nanos, -9);
        if mantissa == 0 {
            return (0, 0);
        }
        while mantissa % 1000 == 0 && exponent < exponent_max {
            mantissa /= 1000;
            exponent += 3;
        }
        (mantissa, exponent)
    }

    fn fmt_binary(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut mantissa = self.nanos / NANOS;
        let mut power = 0;
        while mantissa % 1024 == 0 && power + 1 < BINARY_SUFFIXES.len() {
            mantissa /= 1024;
            power += 1;
        }
        write!(f, "{mantissa}{}", BINARY_SUFFIXES[power])
    }
}

fn divide_away_from_zero(dividend: i128, divisor: i128) -> i128 {
    let quotient = dividend / divisor;
    if dividend % divisor == 0 { quotient } else { quotient + dividend.signum() }
}

fn clamp(wide: i128) -> i64 {
    wide.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// Powers of ten from -9 on, in steps of 3.
const DECIMAL_SUFFIXES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
/// Powers of 1024 from 0 on.
const BINARY_SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
