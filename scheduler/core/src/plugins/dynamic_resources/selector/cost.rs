//! How much work an expression can be, before it runs.
//!
//! Upstream estimates the cost when an object is written and counts it when an expression runs;
//! here the bound takes the place of both. A unit is about one step of the interpreter or one
//! character. The bound follows how large values can become: a device's are limited, a literal's
//! are known, a sum is as long as its parts, and a loop runs once for each element of its range.

use std::collections::HashMap;

use cel::common::ast::operators;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue};

use super::{ATTRIBUTE_LENGTH_MAX, ATTRIBUTES_MAX};

/// Upstream's limit (`CELSelectorExpressionMaxCost`).
pub(super) const COST_MAX: u64 = 1_000_000;

/// An upper bound of how large a value is: so many elements or characters, each so large.
#[derive(Clone, Debug, Default, PartialEq)]
struct Size {
    length: u64,
    element: Option<Box<Size>>,
    /// Of a map, the longest key; 0 for anything else. Loops over a map see its keys.
    key: u64,
}

impl Size {
    /// A number, a boolean or the like.
    fn scalar() -> Self {
        Self::text(1)
    }

    fn text(length: u64) -> Self {
        Self { length: length.max(1), ..Self::default() }
    }

    fn of(length: u64, element: Self) -> Self {
        Self { length, element: Some(Box::new(element)), key: 0 }
    }

    fn map(length: u64, key: u64, value: Self) -> Self {
        Self { key, ..Self::of(length, value) }
    }

    /// `device`: a map of maps of maps of values.
    fn device() -> Self {
        let (entries, text) = (ATTRIBUTES_MAX as u64, ATTRIBUTE_LENGTH_MAX as u64);
        let values = Self::map(entries, text, Self::text(text));
        Self::map(4, text, Self::map(entries, text, values))
    }

    fn element(&self) -> Self {
        self.element.as_deref().cloned().unwrap_or_else(|| Self::text(self.length))
    }

    /// What a loop sees.
    fn iterated(&self) -> Self {
        if self.key > 0 { Self::text(self.key) } else { self.element() }
    }

    /// Characters and elements in all.
    fn weight(&self) -> u64 {
        let element = self.element.as_ref().map_or(0, |element| element.weight());
        let entry = element.saturating_add(self.key).saturating_add(1);
        self.length.saturating_mul(entry).max(1)
    }

    /// As large as either.
    fn or(self, other: Self) -> Self {
        let element = match (self.element, other.element) {
            (Some(a), Some(b)) => Some(Box::new(a.or(*b))),
            (one, None) | (None, one) => one,
        };
        Self { length: self.length.max(other.length), element, key: self.key.max(other.key) }
    }

    /// One after the other.
    fn plus(self, other: Self) -> Self {
        let length = self.length.saturating_add(other.length);
        Self { length, ..self.or(other) }
    }
}

/// What an expression may cost and how large its value may be.
struct Bound {
    cost: u64,
    size: Size,
}

type Variables<'a> = HashMap<&'a str, Size>;

/// An upper bound of the cost of an expression over a device. The expression must not be deep.
pub(super) fn bound(expression: &IdedExpr) -> u64 {
    let mut variables = HashMap::from([("device", Size::device())]);
    visit(expression, &mut variables).cost
}

/// How deep an expression is: the height of its tree. Recursive itself; run where the stack is large.
pub(super) fn depth(expression: &IdedExpr) -> usize {
    let below: Vec<&IdedExpr> = match &expression.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Struct(fields) => {
            fields.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect()
        }
        Expr::Comprehension(loops) => vec![
            &loops.iter_range,
            &loops.accu_init,
            &loops.loop_cond,
            &loops.loop_step,
            &loops.result,
        ],
    };
    1 + below.into_iter().map(depth).max().unwrap_or(0)
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

fn visit<'a>(expression: &'a IdedExpr, variables: &mut Variables<'a>) -> Bound {
    match &expression.expr {
        Expr::Unspecified => Bound { cost: 1, size: Size::scalar() },
        Expr::Ident(name) => {
            let size = variables.get(name.as_str()).cloned().unwrap_or_else(Size::scalar);
            Bound { cost: 1, size }
        }
        Expr::Literal(literal) => Bound { cost: 1, size: literal_size(literal) },
        Expr::Select(select) => {
            let operand = visit(&select.operand, variables);
            let is_driver = select.field == "driver" && operand.size == Size::device();
            let size = if is_driver {
                Size::text(ATTRIBUTE_LENGTH_MAX as u64)
            } else {
                operand.size.element()
            };
            Bound { cost: operand.cost.saturating_add(1), size }
        }
        Expr::List(list) => elements(list.elements.iter().collect(), variables),
        Expr::Map(map) => {
            let parts = map.entries.iter().flat_map(|entry| entry_parts(&entry.expr));
            let Bound { cost, size } = elements(parts.collect(), variables);
            let key = size.element().weight();
            Bound { cost, size: Size { key, ..size } }
        }
        Expr::Struct(fields) => {
            let parts = fields.entries.iter().flat_map(|entry| entry_parts(&entry.expr));
            elements(parts.collect(), variables)
        }
        Expr::Call(call) => visit_call(call, variables),
        Expr::Comprehension(loops) => visit_loop(loops, variables),
    }
}

fn literal_size(literal: &LiteralValue) -> Size {
    match literal {
        LiteralValue::String(text) => Size::text(text.inner().len() as u64),
        LiteralValue::Bytes(bytes) => Size::text(bytes.inner().len() as u64),
        _ => Size::scalar(),
    }
}

fn elements<'a>(elements: Vec<&'a IdedExpr>, variables: &mut Variables<'a>) -> Bound {
    let length = elements.len() as u64;
    let mut all = Bound { cost: 1, size: Size::scalar() };
    for element in elements {
        let element = visit(element, variables);
        // An element may be copied.
        all.cost = all.cost.saturating_add(element.cost).saturating_add(element.size.weight());
        all.size = all.size.or(element.size);
    }
    Bound { cost: all.cost, size: Size::of(length, all.size) }
}

fn visit_call<'a>(call: &'a CallExpr, variables: &mut Variables<'a>) -> Bound {
    let operands = call.target.as_deref().into_iter().chain(&call.args);
    let operands: Vec<Bound> = operands.map(|operand| visit(operand, variables)).collect();
    let cost = operands.iter().fold(1, |sum: u64, operand| sum.saturating_add(operand.cost));
    let mut sizes = operands.into_iter().map(|operand| operand.size);
    match call.func_name.as_str() {
        operators::LOGICAL_AND
        | operators::LOGICAL_OR
        | operators::LOGICAL_NOT
        | operators::NOT_STRICTLY_FALSE
        | operators::NEGATE
        | "size" => Bound { cost, size: Size::scalar() },
        operators::CONDITIONAL => {
            let size = sizes.skip(1).reduce(Size::or).unwrap_or_else(Size::scalar);
            Bound { cost, size }
        }
        operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT => {
            let size = sizes.next().map_or_else(Size::scalar, |size| size.element());
            Bound { cost, size }
        }
        operators::ADD => {
            let size = sizes.reduce(Size::plus).unwrap_or_else(Size::scalar);
            Bound { cost: cost.saturating_add(size.weight()), size }
        }
        name => call_of_function(name, cost, sizes.collect()),
    }
}

/// Functions read their arguments; those that match one against the other may do so at every
/// position. Of what they return, numbers and booleans are small; anything else is bounded by the
/// product of what they were given.
fn call_of_function(name: &str, cost: u64, sizes: Vec<Size>) -> Bound {
    let weights = sizes.iter().map(Size::weight);
    let product = weights.clone().fold(1, u64::saturating_mul);
    let sum = weights.fold(0, u64::saturating_add);
    let is_small = SMALL.contains(&name);
    let (work, size) = if name == operators::IN && sizes.len() == 2 {
        let compared = sizes[0].weight().min(sizes[1].iterated().weight());
        (sizes[1].length.saturating_mul(compared), Size::scalar())
    } else if SCANS.contains(&name) {
        (product, Size::scalar())
    } else if COMPARISONS.contains(&name) {
        let smaller = sizes.iter().map(Size::weight).min().unwrap_or(1);
        (smaller, Size::scalar())
    } else if is_small {
        (sum, Size::scalar())
    } else if SAME_LENGTH.contains(&name) {
        (sum, sizes.into_iter().next().unwrap_or_else(Size::scalar))
    } else {
        let size = product.saturating_add(NUMBER_LENGTH);
        (size, Size::of(size, Size::text(size)))
    };
    Bound { cost: cost.saturating_add(work), size }
}

/// A number as text is no longer.
const NUMBER_LENGTH: u64 = 32;

/// Match their arguments against each other and return something small.
const SCANS: &[&str] = &["contains", "matches", "indexOf", "lastIndexOf"];

/// Are done with the smaller argument.
const COMPARISONS: &[&str] = &[
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER,
    operators::GREATER_EQUALS,
    operators::LESS,
    operators::LESS_EQUALS,
];

/// Read their arguments once and return something small.
const SMALL: &[&str] = &[
    operators::SUBSTRACT,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    "startsWith",
    "endsWith",
    "int",
    "uint",
    "double",
    "bool",
    "type",
    "hasValue",
    "quantity",
    "isQuantity",
    "semver",
    "isSemver",
    "compareTo",
    "isLessThan",
    "isGreaterThan",
    "sign",
    "isInteger",
    "asInteger",
    "asApproximateFloat",
    "add",
    "sub",
    "major",
    "minor",
    "patch",
];

/// Return no more than their first argument.
const SAME_LENGTH: &[&str] =
    &["lowerAscii", "upperAscii", "trim", "substring", "charAt", "reverse", "value", "dyn"];

/// The loops that macros make: over a list or a map, with an accumulator that is small, or a list
/// to which each round may add an element; or over nothing, for `cel.bind`.
fn visit_loop<'a>(loops: &'a ComprehensionExpr, variables: &mut Variables<'a>) -> Bound {
    let range = visit(&loops.iter_range, variables);
    let init = visit(&loops.accu_init, variables);
    let rounds = range.size.length;
    let mut inner = variables.clone();
    inner.insert(&loops.iter_var, range.size.iterated());
    if let Some(second) = &loops.iter_var2 {
        inner.insert(second, range.size.iterated());
    }
    inner.insert(&loops.accu_var, init.size.clone());
    let condition = visit(&loops.loop_cond, &mut inner);
    let step = visit(&loops.loop_step, &mut inner);
    let is_list = matches!(loops.accu_init.expr, Expr::List(_));
    let size = if is_list && rounds > 0 {
        Size { length: step.size.length.saturating_mul(rounds), ..step.size.clone() }
    } else {
        init.size
    };
    inner.insert(&loops.accu_var, size);
    let result = visit(&loops.result, &mut inner);
    // The element is copied into its variable each round.
    let round =
        condition.cost.saturating_add(step.cost).saturating_add(range.size.iterated().weight());
    let cost = [range.cost, init.cost, rounds.saturating_mul(round), result.cost]
        .into_iter()
        .fold(1, u64::saturating_add);
    Bound { cost, size: result.size }
}
