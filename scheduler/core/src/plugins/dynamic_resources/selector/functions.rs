//! Kubernetes' quantities and semantic versions in expressions.
//!
//! Mirrors `k8s.io/apiserver/pkg/cel/library/{quantity,semverlib}.go`: `quantity("1Gi")`,
//! `isQuantity`, `semver("1.2.3")`, `isSemver`, and their methods.

use std::any::Any;
use std::cmp::Ordering;

use cel::common::types::{CelBool, CelDouble, CelInt, CelString, Type};
use cel::common::value::{StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError, add_member_overload, add_overload};
use pintle_api::quantity::{Format, Quantity};
use semver::Version;

static QUANTITY_TYPE: Type = Type::new_unspecified_type("kubernetes.Quantity");
static SEMVER_TYPE: Type = Type::new_unspecified_type("kubernetes.Semver");

/// A quantity as a value of an expression.
#[derive(Clone, Debug)]
pub(super) struct CelQuantity(pub(super) Quantity);

/// A semantic version as a value of an expression.
#[derive(Clone, Debug)]
pub(super) struct CelSemver(pub(super) Version);

macro_rules! opaque {
    ($name:ident, $type:ident, $equals:expr) => {
        impl Val for $name {
            fn get_type(&self) -> &Type {
                &$type
            }

            fn cel_type() -> &'static Type {
                &$type
            }

            fn equals(&self, other: &dyn Val) -> bool {
                let equals: fn(&Self, &Self) -> bool = $equals;
                other.downcast_ref::<Self>().is_some_and(|other| equals(self, other))
            }

            fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
                Box::new(self.clone())
            }

            fn as_any(&self) -> Option<&dyn Any> {
                Some(self)
            }
        }

        impl StaticVal for $name {}
    };
}

opaque!(CelQuantity, QUANTITY_TYPE, |a, b| a.0 == b.0);
opaque!(CelSemver, SEMVER_TYPE, |a, b| a.0.cmp_precedence(&b.0) == Ordering::Equal);

/// Adds the functions.
pub(super) fn add(env: &mut Env) -> Result<(), DeclarationError> {
    add_overload!(env, fn quantity: (CelString) -> Result<CelQuantity>)?;
    add_overload!(env, fn is_quantity: (CelString) -> CelBool)?;
    add_member_overload!(env, fn quantity_compare: (CelQuantity, CelQuantity) -> CelInt,
        name = "compareTo")?;
    add_member_overload!(env, fn quantity_less: (CelQuantity, CelQuantity) -> CelBool,
        name = "isLessThan")?;
    add_member_overload!(env, fn quantity_greater: (CelQuantity, CelQuantity) -> CelBool,
        name = "isGreaterThan")?;
    add_member_overload!(env, fn sign: (CelQuantity) -> CelInt)?;
    add_member_overload!(env, fn is_integer: (CelQuantity) -> CelBool)?;
    add_member_overload!(env, fn as_integer: (CelQuantity) -> Result<CelInt>)?;
    add_member_overload!(env, fn as_approximate_float: (CelQuantity) -> CelDouble)?;
    add_member_overload!(env, fn add_quantity: (CelQuantity, CelQuantity) -> CelQuantity,
        name = "add")?;
    add_member_overload!(env, fn add_int: (CelQuantity, CelInt) -> CelQuantity, name = "add")?;
    add_member_overload!(env, fn sub_quantity: (CelQuantity, CelQuantity) -> CelQuantity,
        name = "sub")?;
    add_member_overload!(env, fn sub_int: (CelQuantity, CelInt) -> CelQuantity, name = "sub")?;
    add_overload!(env, fn semver: (CelString) -> Result<CelSemver>)?;
    add_overload!(env, fn is_semver: (CelString) -> CelBool)?;
    add_member_overload!(env, fn semver_compare: (CelSemver, CelSemver) -> CelInt,
        name = "compareTo")?;
    add_member_overload!(env, fn semver_less: (CelSemver, CelSemver) -> CelBool,
        name = "isLessThan")?;
    add_member_overload!(env, fn semver_greater: (CelSemver, CelSemver) -> CelBool,
        name = "isGreaterThan")?;
    add_member_overload!(env, fn major: (CelSemver) -> CelInt)?;
    add_member_overload!(env, fn minor: (CelSemver) -> CelInt)?;
    add_member_overload!(env, fn patch: (CelSemver) -> CelInt)
}

fn quantity(text: &CelString<'_>) -> Result<CelQuantity, ExecutionError> {
    let parsed = text.inner().parse().map(CelQuantity);
    parsed.map_err(|error| ExecutionError::function_error("quantity", error))
}

fn is_quantity(text: &CelString<'_>) -> CelBool {
    CelBool::from(text.inner().parse::<Quantity>().is_ok())
}

fn compare(order: Ordering) -> CelInt {
    CelInt::from(order as i64)
}

fn quantity_compare(a: &CelQuantity, b: &CelQuantity) -> CelInt {
    compare(a.0.cmp(&b.0))
}

fn quantity_less(a: &CelQuantity, b: &CelQuantity) -> CelBool {
    CelBool::from(a.0 < b.0)
}

fn quantity_greater(a: &CelQuantity, b: &CelQuantity) -> CelBool {
    CelBool::from(a.0 > b.0)
}

fn sign(quantity: &CelQuantity) -> CelInt {
    compare(quantity.0.cmp(&Quantity::ZERO))
}

fn integer(quantity: Quantity) -> Option<i64> {
    let value = quantity.value();
    (Quantity::from_units(value, Format::DecimalSi) == quantity).then_some(value)
}

fn is_integer(quantity: &CelQuantity) -> CelBool {
    CelBool::from(integer(quantity.0).is_some())
}

fn as_integer(quantity: &CelQuantity) -> Result<CelInt, ExecutionError> {
    let integer = integer(quantity.0).map(CelInt::from);
    let error = || ExecutionError::function_error("asInteger", "cannot convert value to integer");
    integer.ok_or_else(error)
}

/// Exact to a thousandth, as far as a float goes; upstream's is as approximate.
fn as_approximate_float(quantity: &CelQuantity) -> CelDouble {
    let exact = integer(quantity.0).map(|integer| integer as f64);
    CelDouble::from(exact.unwrap_or_else(|| quantity.0.milli_value() as f64 / 1000.0))
}

fn add_quantity(a: &CelQuantity, b: &CelQuantity) -> CelQuantity {
    CelQuantity(a.0.plus(b.0))
}

fn add_int(a: &CelQuantity, b: &CelInt) -> CelQuantity {
    CelQuantity(a.0.plus(Quantity::from_units(*b.inner(), Format::DecimalSi)))
}

fn sub_quantity(a: &CelQuantity, b: &CelQuantity) -> CelQuantity {
    CelQuantity(a.0.minus(b.0))
}

fn sub_int(a: &CelQuantity, b: &CelInt) -> CelQuantity {
    CelQuantity(a.0.minus(Quantity::from_units(*b.inner(), Format::DecimalSi)))
}

fn semver(text: &CelString<'_>) -> Result<CelSemver, ExecutionError> {
    let parsed = Version::parse(text.inner()).map(CelSemver);
    parsed.map_err(|error| ExecutionError::function_error("semver", error))
}

fn is_semver(text: &CelString<'_>) -> CelBool {
    CelBool::from(Version::parse(text.inner()).is_ok())
}

fn semver_compare(a: &CelSemver, b: &CelSemver) -> CelInt {
    compare(a.0.cmp_precedence(&b.0))
}

fn semver_less(a: &CelSemver, b: &CelSemver) -> CelBool {
    CelBool::from(a.0.cmp_precedence(&b.0).is_lt())
}

fn semver_greater(a: &CelSemver, b: &CelSemver) -> CelBool {
    CelBool::from(a.0.cmp_precedence(&b.0).is_gt())
}

fn number(value: u64) -> CelInt {
    CelInt::from(i64::try_from(value).unwrap_or(i64::MAX))
}

fn major(version: &CelSemver) -> CelInt {
    number(version.0.major)
}

fn minor(version: &CelSemver) -> CelInt {
    number(version.0.minor)
}

fn patch(version: &CelSemver) -> CelInt {
    number(version.0.patch)
}
