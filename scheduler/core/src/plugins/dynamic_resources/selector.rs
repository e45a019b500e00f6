//! CEL selectors: whether an expression selects a device.
//!
//! Mirrors `k8s.io/dynamic-resource-allocation/cel`. An expression sees `device.driver`,
//! `device.attributes[DOMAIN].ID`, `device.capacity[DOMAIN].ID` and `device.allowMultipleAllocations`, where an attribute without a
//! domain is in the driver's, and a domain that the device does not have is an empty map. Known are
//! CEL's standard functions and macros, optional values, `cel.bind`, the strings extension, and
//! Kubernetes' quantities and semantic versions; not known are Kubernetes' other libraries (lists,
//! regex, URLs, addresses, formats, sets) and types are only checked when an expression runs.
//!
//! An expression comes from users. It is bounded before it runs: its length, its depth (parsing and
//! running are recursive), and by [`cost`] its work.

mod cost;
mod functions;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cel::common::ast::{ComprehensionExpr, Expr, ListExpr, LiteralValue};
use cel::common::traits::{Container, Indexer, Iterable, Sizer};
use cel::common::types::{CelBool, CelInt, CelMap, CelMapKey, CelString, MAP_TYPE, Type};
use cel::common::value::{CowVal, Val};
use cel::parser::Macro;
use cel::{Context, Env, ExecutionError, Program, Value, extensions};
use k8s_openapi::api::resource::v1::{Device, DeviceAttribute, ResourceSlice};
use pintle_api::quantity::Quantity;

use functions::{CelQuantity, CelSemver};

use super::inventory::Candidate;

/// The longest expression that is compiled, in bytes: the API's limit
/// (`CELSelectorExpressionMaxLength`).
const EXPRESSION_LENGTH_MAX: usize = 10 << 10;

/// The deepest expression that is run. Running takes a few KiB of stack a level.
const DEPTH_MAX: usize = 64;

/// The stack of the thread that parses: enough for any expression of the longest length, as a test
/// holds. It is reserved, and only what is used of it becomes memory.
const PARSER_STACK_BYTES: usize = 256 << 20;

/// More attributes and capacities than this, or longer values, are not looked at: the API allows 32
/// and 64 bytes, and [`cost`] counts with these.
const ATTRIBUTES_MAX: usize = 64;
const ATTRIBUTE_LENGTH_MAX: usize = 128;

/// How many compiled expressions are kept. A cluster has a handful of device classes; claims made
/// from templates repeat theirs.
const PROGRAMS_MAX: usize = 1000;

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Selector {
    program: Program,
}

/// For how many slices it is kept which of their devices an expression selects. A slice has up to
/// 128 devices, mostly eight, so this is tens of MiB; a cluster has about one slice a node.
const SLICES_MAX: usize = 100_000;

/// The selectors compiled so far, and what they selected. Both follow from their arguments alone:
/// nothing here depends on the pods seen before.
#[derive(Debug, Default)]
pub(super) struct Selectors {
    programs: Mutex<HashMap<Box<str>, Compiled>>,
    selected: Mutex<HashMap<(usize, usize), Selected>>,
}

/// What an expression made of a slice's devices. The two are kept, so that no other takes their
/// address, by which they are found.
#[derive(Debug)]
struct Selected {
    _selector: Arc<Selector>,
    _slice: Arc<ResourceSlice>,
    devices: Vec<Option<bool>>,
}

/// A selector, or why the expression is none.
pub(super) type Compiled = Result<Arc<Selector>, Arc<str>>;

impl Selectors {
    /// The compiled expression.
    pub(super) fn get(&self, expression: &str) -> Compiled {
        let lock = || self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(expression) {
            return known.clone();
        }
        let compiled = Selector::compile(expression).map(Arc::new).map_err(Arc::from);
        let mut programs = lock();
        if programs.len() >= PROGRAMS_MAX {
            programs.clear();
        }
        programs.insert(expression.into(), compiled.clone());
        compiled
    }

    /// Whether the selector selects the device.
    pub(super) fn matches(
        &self,
        selector: &Arc<Selector>,
        candidate: &Candidate<'_>,
    ) -> Result<bool, String> {
        let key = (Arc::as_ptr(selector).addr(), Arc::as_ptr(candidate.slice).addr());
        let lock = || self.selected.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            lock().get(&key).and_then(|selected| selected.devices.get(candidate.index).copied());
        if let Some(Some(known)) = known {
            return Ok(known);
        }
        let (driver, ..) = candidate.id;
        let matches = selector.matches(&DeviceValues::new(driver, candidate.device)?)?;
        let mut selected = lock();
        if selected.len() >= SLICES_MAX {
            selected.clear();
        }
        let entry = selected.entry(key).or_insert_with(|| Selected {
            _selector: Arc::clone(selector),
            _slice: Arc::clone(candidate.slice),
            devices: vec![None; candidate.slice.spec.devices.iter().flatten().count()],
        });
        if let Some(device) = entry.devices.get_mut(candidate.index) {
            *device = Some(matches);
        }
        Ok(matches)
    }
}

impl Selector {
    /// Compiles an expression, or says why it cannot be.
    pub(super) fn compile(expression: &str) -> Result<Self, String> {
        if expression.len() > EXPRESSION_LENGTH_MAX {
            return Err(format!("too long: at most {EXPRESSION_LENGTH_MAX} bytes"));
        }
        // What is too deep to run is also dropped there: dropping is recursive.
        std::thread::scope(|scope| {
            let parser = std::thread::Builder::new().stack_size(PARSER_STACK_BYTES);
            let parsed = parser.spawn_scoped(scope, || parse(expression));
            let parsed = parsed.map_err(|error| format!("start the parser: {error}"))?;
            parsed.join().unwrap_or_else(|_| Err("the parser failed".to_owned()))
        })
    }

    /// Whether it selects the device of the driver; an error is in upstream's wording where it has
    /// one.
    pub(super) fn matches(&self, device: &DeviceValues<'_>) -> Result<bool, String> {
        let mut context = Context::with_env(Arc::clone(&ENV));
        context.add_variable_as_val("device", Box::new(device.0.clone()));
        match self.program.execute(&context) {
            Ok(Value::Bool(selected)) => Ok(selected),
            Ok(other) => Err(format!(
                "CEL result of type {} could not be converted to bool: type conversion error from \
                 '{}' to 'bool'",
                other.type_of(),
                other.type_of()
            )),
            Err(error) => Err(describe(&error)),
        }
    }
}

fn parse(expression: &str) -> Result<Selector, String> {
    let program = ENV.compile(expression).map_err(|e| format!("compilation failed: {e}"))?;
    let depth = cost::depth(program.expression());
    if depth > DEPTH_MAX {
        return Err(format!("too deep: {depth} levels, at most {DEPTH_MAX}"));
    }
    let cost = cost::bound(program.expression());
    if cost > cost::COST_MAX {
        return Err(format!(
            "too complex: estimated cost {cost} exceeds the limit of {}",
            cost::COST_MAX
        ));
    }
    Ok(Selector { program })
}

/// Compiled and run in the same environment.
static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    env.add_extension(extensions::strings).expect("the strings extension is added once");
    functions::add(&mut env).expect("no function is there twice");
    env.add_macro(bind_macro()).expect("no other macro is called bind");
    Arc::new(env)
});

/// `cel.bind(name, value, expression)`: a loop over nothing whose accumulator is the variable.
fn bind_macro() -> Macro {
    Macro::receiver("bind", 3, |helper, target, args| {
        if !target.as_ref().is_some_and(|t| matches!(&t.expr, Expr::Ident(name) if name == "cel")) {
            return Ok(None);
        }
        let Expr::Ident(name) = &args[0].expr else {
            return Err(helper
                .new_error(args[0].id, "cel.bind() variable names must be simple identifiers"));
        };
        let name = name.clone();
        let (result, value) = (args.pop().unwrap_or_default(), args.pop().unwrap_or_default());
        let bind = ComprehensionExpr {
            iter_range: helper.next_expr(Expr::List(ListExpr::new(Vec::new()))),
            iter_var: "#unused".to_owned(),
            iter_var2: None,
            accu_var: name.clone(),
            accu_init: value,
            loop_cond: helper.next_expr(Expr::Literal(LiteralValue::Boolean(CelBool::from(false)))),
            loop_step: helper.next_expr(Expr::Ident(name)),
            result,
        };
        Ok(Some(helper.next_expr(Expr::Comprehension(Box::new(bind)))))
    })
}

/// The error in cel-go's words, where they differ.
fn describe(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::NoSuchOverload(_) => "no such overload".to_owned(),
        ExecutionError::UndeclaredReference(name) => {
            format!("undeclared reference to '{name}' (in container '')")
        }
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::Overflow(..) => "integer overflow".to_owned(),
        ExecutionError::IndexOutOfBounds(Value::Int(index)) => {
            format!("index out of bounds: {index}")
        }
        ExecutionError::FunctionError { message, .. } => message.clone(),
        other => truncate(other.to_string()),
    }
}

/// Errors print the values they are about, which may be long.
fn truncate(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(256));
    text
}

/// A device as expressions see it.
#[derive(Clone, Debug)]
pub(super) struct DeviceValues<'v>(CelMap<'v>);

impl<'v> DeviceValues<'v> {
    /// The values of a device; an error if it has one of a kind that is not known.
    pub(super) fn new(driver: &'v str, device: &'v Device) -> Result<Self, String> {
        let attributes = device.attributes.iter().flatten();
        let capacities = device.capacity.iter().flatten();
        if attributes.clone().count() + capacities.clone().count() > ATTRIBUTES_MAX {
            return Err(format!("more than {ATTRIBUTES_MAX} attributes and capacities"));
        }
        if driver.len() > ATTRIBUTE_LENGTH_MAX {
            return Err(format!("driver: longer than {ATTRIBUTE_LENGTH_MAX} bytes"));
        }
        let attributes = attributes.map(|(name, attribute)| {
            let value = attribute_value(attribute);
            Ok((name.as_str(), value.map_err(|error| format!("attribute {name}: {error}"))?))
        });
        let capacities = capacities.map(|(name, capacity)| {
            let value = Quantity::try_from(&capacity.value);
            let value = value.map_err(|error| format!("capacity {name}: {error}"))?;
            Ok((name.as_str(), Box::new(CelQuantity(value)) as Box<dyn Val + 'v>))
        });
        let (attributes, capacities) =
            (Domains::new(driver, attributes)?, Domains::new(driver, capacities)?);
        let is_shared = device.allow_multiple_allocations == Some(true);
        let values: [(&str, Box<dyn Val + 'v>); 4] = [
            ("driver", Box::new(CelString::from(driver))),
            ("allowMultipleAllocations", Box::new(CelBool::from(is_shared))),
            ("attributes", Box::new(attributes)),
            ("capacity", Box::new(capacities)),
        ];
        let values: HashMap<CelMapKey<'v>, Box<dyn Val + 'v>> =
            values.into_iter().map(|(name, value)| (CelMapKey::from(name), value)).collect();
        Ok(Self(CelMap::from(values)))
    }
}

fn attribute_value(attribute: &DeviceAttribute) -> Result<Box<dyn Val + '_>, String> {
    let text = attribute.string.as_deref().or(attribute.version.as_deref());
    if text.is_some_and(|text| text.len() > ATTRIBUTE_LENGTH_MAX) {
        return Err(format!("longer than {ATTRIBUTE_LENGTH_MAX} bytes"));
    }
    if let Some(value) = attribute.int {
        Ok(Box::new(CelInt::from(value)))
    } else if let Some(value) = attribute.bool {
        Ok(Box::new(CelBool::from(value)))
    } else if let Some(value) = &attribute.string {
        Ok(Box::new(CelString::from(value.as_str())))
    } else if let Some(value) = &attribute.version {
        let version = semver::Version::parse(value);
        let version = version.map_err(|error| format!("parse semantic version: {error}"))?;
        Ok(Box::new(CelSemver(version)))
    } else {
        Err("unsupported attribute value".to_owned())
    }
}

/// Attributes or capacities by domain; looking up a domain that is not there finds an empty map.
#[derive(Clone, Debug)]
struct Domains<'v>(CelMap<'v>);

impl<'v> Domains<'v> {
    fn new(
        driver: &'v str,
        values: impl Iterator<Item = Result<(&'v str, Box<dyn Val + 'v>), String>>,
    ) -> Result<Self, String> {
        let mut domains: HashMap<&str, HashMap<CelMapKey<'v>, Box<dyn Val + 'v>>> = HashMap::new();
        for value in values {
            let (name, value) = value?;
            let (domain, id) = name.split_once('/').unwrap_or((driver, name));
            domains.entry(domain).or_default().insert(CelMapKey::from(id), value);
        }
        let domains = domains.into_iter().map(|(domain, values)| {
            (CelMapKey::from(domain), Box::new(CelMap::from(values)) as Box<dyn Val + 'v>)
        });
        Ok(Self(CelMap::from(domains.collect::<HashMap<_, _>>())))
    }
}

impl Val for Domains<'_> {
    fn get_type(&self) -> &Type {
        &MAP_TYPE
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        self.0.as_container()
    }

    fn as_indexer<'b, 'w>(&'b self) -> Option<&'b (dyn Indexer + 'w)>
    where
        Self: 'w,
    {
        Some(self)
    }

    fn as_iterable<'b, 'w>(&'b self) -> Option<&'b (dyn Iterable + 'w)>
    where
        Self: 'w,
    {
        self.0.as_iterable()
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        self.0.as_sizer()
    }

    fn equals(&self, other: &dyn Val) -> bool {
        self.0.equals(other)
    }

    fn clone_as_boxed<'w>(&self) -> Box<dyn Val + 'w>
    where
        Self: 'w,
    {
        Box::new(self.clone())
    }
}

impl Indexer for Domains<'_> {
    fn get<'b, 'w>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'w>, ExecutionError>
    where
        Self: 'w,
    {
        match Indexer::get(&self.0, key) {
            Err(ExecutionError::NoSuchKey(_)) => Ok(CowVal::owned(CelMap::default())),
            other => other,
        }
    }

    fn steal<'w>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'w>, ExecutionError>
    where
        Self: 'w,
    {
        self.get(key).map(CowVal::into_owned)
    }
}
