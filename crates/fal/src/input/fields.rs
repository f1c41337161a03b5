//! Reads the fields of a JSON object as pydantic's lax mode does, and collects what is wrong.

use crate::output::problem::{Problem, Step};
use serde_json::{Map, Number, Value};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// The fields of one object. Readers answer with a default after a problem, so that one pass
/// finds every problem.
pub(crate) struct Fields<'a> {
    map: &'a Map<String, Value>,
    parents: Vec<Step>,
    problems: Vec<Problem>,
}

impl<'a> Fields<'a> {
    /// The body's own fields.
    pub(crate) fn new(map: &'a Map<String, Value>) -> Self {
        Self { map, parents: Vec::new(), problems: Vec::new() }
    }

    /// The fields of an object inside the body.
    pub(crate) fn below(parent: &'static str, map: &'a Map<String, Value>) -> Self {
        Self { map, parents: vec![parent.into()], problems: Vec::new() }
    }

    /// The fields of an object in a list inside the body.
    pub(crate) fn of_item(parent: &'static str, index: usize, map: &'a Map<String, Value>) -> Self {
        Self { map, parents: vec![parent.into(), Step::Item(index)], problems: Vec::new() }
    }

    /// Adds a problem.
    pub(crate) fn refuse(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Adds the problems of an inner object.
    pub(crate) fn absorb(&mut self, inner: Fields<'_>) {
        self.problems.extend(inner.problems);
    }

    /// How many problems there are so far.
    pub(crate) fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// The value, unless there was a problem.
    pub(crate) fn finish<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() { Ok(value) } else { Err(self.problems) }
    }

    /// The field as it is.
    pub(crate) fn value(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name)
    }

    /// A problem with a field of this object.
    pub(crate) fn problem(&self, name: &str, kind: &'static str, msg: impl Into<String>) -> Problem {
        let value = self.map.get(name).unwrap_or(&Value::Null);
        Problem::at(&[name], kind, msg, value).within(&self.parents)
    }

    /// The problem of a field of this object that must be there.
    pub(crate) fn missing(&self, name: &str) -> Problem {
        Problem::missing(name, self.map).within(&self.parents)
    }

    fn refuse_as(&mut self, name: &str, (kind, msg): (&'static str, &str)) {
        self.refuse(self.problem(name, kind, msg));
    }

    /// A text; without a default it must be there.
    pub(crate) fn text(&mut self, name: &str, default: Option<&'static str>) -> &'a str {
        match (self.value(name), default) {
            (Some(Value::String(text)), _) => return text,
            (None, Some(default)) => return default,
            (None, None) => self.refuse(self.missing(name)),
            (Some(_), _) => self.refuse_as(name, ("string_type", "Input should be a valid string")),
        }
        ""
    }

    /// A switch.
    pub(crate) fn flag(&mut self, name: &str, default: bool) -> bool {
        match self.value(name).map(as_flag) {
            None => default,
            Some(Ok(flag)) => flag,
            Some(Err(why)) => {
                self.refuse_as(name, why);
                default
            }
        }
    }

    /// An integer in a range.
    pub(crate) fn integer(&mut self, name: &str, default: i64, range: RangeInclusive<i64>) -> i64 {
        let range = i128::from(*range.start())..=i128::from(*range.end());
        i64::try_from(self.wide_integer(name, range).unwrap_or(default.into())).unwrap_or(default)
    }

    /// An integer in a range of any integers; `None` where it is left out or refused.
    pub(crate) fn wide_integer(&mut self, name: &str, range: RangeInclusive<i128>) -> Option<i128> {
        self.ranged(name, range, as_integer)
    }

    /// A number in a range.
    pub(crate) fn number(&mut self, name: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        self.ranged(name, range, as_number).unwrap_or(default)
    }

    fn ranged<T: Limit>(
        &mut self,
        name: &str,
        range: RangeInclusive<T>,
        read: fn(&Value) -> Result<T, Misread>,
    ) -> Option<T> {
        match in_range(self.value(name)?, range, read) {
            Ok(value) => Some(value),
            Err(misfit) => {
                self.refuse(misfit.problem(|kind, msg| self.problem(name, kind, msg)));
                None
            }
        }
    }

    /// A list of integers in a range, at most so many, or null; empty where it is left out or refused.
    pub(crate) fn integers(
        &mut self,
        name: &'static str,
        range: RangeInclusive<i64>,
        most: usize,
    ) -> Vec<i64> {
        let items = match self.value(name) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.refuse_as(name, ("list_type", "Input should be a valid list"));
                return Vec::new();
            }
        };
        if items.len() > most {
            let msg = format!("Input should have at most {most} items");
            self.refuse(self.problem(name, "sequence_too_long", msg).with("max_length", most));
            return Vec::new();
        }
        let range = i128::from(*range.start())..=i128::from(*range.end());
        let mut integers = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match in_range(item, range.clone(), as_integer) {
                Ok(integer) => integers.extend(i64::try_from(integer)),
                Err(misfit) => {
                    let place = [name.into(), Step::Item(index)];
                    let problem = |kind, msg: String| Problem::at(&[], kind, msg, item).within(&place);
                    self.refuse(misfit.problem(problem).within(&self.parents));
                }
            }
        }
        integers
    }

    /// A positive integer; `None` after a problem.
    pub(crate) fn positive(&mut self, name: &str, default: i64, high: i64) -> Option<i64> {
        let before = self.problems.len();
        let range = i128::MIN..=high.into();
        let value = self.wide_integer(name, range).unwrap_or(default.into());
        if value <= 0 {
            self.refuse(self.problem(name, "greater_than", "Input should be greater than 0").with("gt", 0));
        }
        i64::try_from(value).ok().filter(|_| self.problems.len() == before)
    }
}

/// Why a value is no number of a range: class and message, and the limit that was passed with its name.
struct Misfit {
    kind: &'static str,
    msg: String,
    limit: Option<(&'static str, Value)>,
}

impl Misfit {
    /// Its problem; `at` makes one of class and message at a place.
    fn problem(self, at: impl FnOnce(&'static str, String) -> Problem) -> Problem {
        let problem = at(self.kind, self.msg);
        self.limit.into_iter().fold(problem, |problem, (key, limit)| problem.with(key, limit))
    }
}

/// Reads a number of a range.
fn in_range<T: Limit>(
    value: &Value,
    range: RangeInclusive<T>,
    read: fn(&Value) -> Result<T, Misread>,
) -> Result<T, Misfit> {
    let value = read(value).map_err(|(kind, msg)| Misfit { kind, msg: msg.to_owned(), limit: None })?;
    let (low, high) = range.into_inner();
    let (kind, words, key, limit) = match () {
        () if value < low => ("greater_than_equal", "greater than or equal to", "ge", low),
        () if value > high => ("less_than_equal", "less than or equal to", "le", high),
        () => return Ok(value),
    };
    let msg = format!("Input should be {words} {limit}");
    Err(Misfit { kind, msg, limit: Some((key, limit.value())) })
}

/// A number that an error can name.
trait Limit: Copy + Display + PartialOrd {
    fn value(self) -> Value;
}

impl Limit for i128 {
    fn value(self) -> Value {
        Number::from_i128(self).map_or_else(|| self.to_string().into(), Value::from)
    }
}

impl Limit for f64 {
    fn value(self) -> Value {
        self.into()
    }
}

/// Type and message of a value that cannot be read.
type Misread = (&'static str, &'static str);

const NOT_INTEGER: Misread = ("int_type", "Input should be a valid integer");
const FRACTION: Misread =
    ("int_from_float", "Input should be a valid integer, got a number with a fractional part");
const NOT_INTEGER_TEXT: Misread =
    ("int_parsing", "Input should be a valid integer, unable to parse string as an integer");
const ROUNDED: Misread = (
    "int_from_float",
    "Input should be a valid integer: write all its digits, for a number with a point or an exponent is exact up to 2^53 only",
);
const NOT_NUMBER: Misread = ("float_type", "Input should be a valid number");
const NOT_NUMBER_TEXT: Misread =
    ("float_parsing", "Input should be a valid number, unable to parse string as a number");
const NOT_FINITE: Misread = ("finite_number", "Input should be a finite number");
const NOT_FLAG: Misread = ("bool_type", "Input should be a valid boolean");
const NOT_FLAG_TEXT: Misread = ("bool_parsing", "Input should be a valid boolean, unable to interpret input");

/// An integer as it was sent, or one that is outside of every range.
fn as_integer(value: &Value) -> Result<i128, Misread> {
    match value {
        Value::Bool(flag) => Ok(i128::from(*flag)),
        Value::Number(number) => match (number.as_i128(), number.as_f64()) {
            (Some(integer), _) => Ok(integer),
            (None, Some(float)) => whole(float),
            (None, None) => Err(NOT_INTEGER),
        },
        Value::String(text) => of_text(text.trim()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(NOT_INTEGER),
    }
}

/// An integer in a text, which may end in a fraction of zeros.
fn of_text(text: &str) -> Result<i128, Misread> {
    let (digits, _) = text
        .split_once('.')
        .filter(|(_, fraction)| !fraction.is_empty() && fraction.bytes().all(|byte| byte == b'0'))
        .unwrap_or((text, ""));
    let unsigned = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    match digits.parse() {
        Ok(integer) => Ok(integer),
        Err(_) if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(if digits.starts_with('-') { i128::MIN } else { i128::MAX })
        }
        Err(_) => text.parse().map_err(|_| NOT_INTEGER_TEXT).and_then(whole).map_err(|_| NOT_INTEGER_TEXT),
    }
}

/// A float that stands for an integer. Integers of more than 64 bits come as floats too: they are rounded, so none of
/// them is taken for the integer that it was rounded to.
fn whole(float: f64) -> Result<i128, Misread> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    const LEAST: f64 = -9_223_372_036_854_775_808.0; // -2^63
    const MOST: f64 = 18_446_744_073_709_551_616.0; // 2^64
    match float {
        _ if float.is_nan() => Err(NOT_INTEGER),
        _ if float <= LEAST => Ok(i128::MIN),
        _ if float >= MOST => Ok(i128::MAX),
        _ if float.fract() != 0.0 => Err(FRACTION),
        _ if float.abs() > EXACT => Err(ROUNDED),
        _ => Ok(float as i128),
    }
}

fn as_number(value: &Value) -> Result<f64, Misread> {
    let number = match value {
        Value::Bool(flag) => f64::from(u8::from(*flag)),
        Value::Number(number) => number.as_f64().ok_or(NOT_NUMBER)?,
        Value::String(text) => text.trim().parse().map_err(|_| NOT_NUMBER_TEXT)?,
        Value::Null | Value::Array(_) | Value::Object(_) => return Err(NOT_NUMBER),
    };
    if f64::is_finite(number) { Ok(number) } else { Err(NOT_FINITE) }
}

fn as_flag(value: &Value) -> Result<bool, Misread> {
    match value {
        Value::Bool(flag) => Ok(*flag),
        Value::Number(number) => match number.as_f64() {
            Some(0.0) => Ok(false),
            Some(1.0) => Ok(true),
            _ => Err(NOT_FLAG_TEXT),
        },
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "yes" | "y" | "on" => Ok(true),
            "false" | "f" | "0" | "no" | "n" | "off" => Ok(false),
            _ => Err(NOT_FLAG_TEXT),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => Err(NOT_FLAG),
    }
}
