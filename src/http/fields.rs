//! Reads the fields of a JSON object as pydantic's lax mode does, and collects what is wrong.

use super::problem::Problem;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::ops::RangeInclusive;

/// The fields of one object. Readers answer with a default after a problem, so that one pass
/// finds every problem.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    parent: Option<&'static str>,
    problems: Vec<Problem>,
}

impl<'a> Fields<'a> {
    /// The body's own fields.
    pub(super) fn new(map: &'a Map<String, Value>) -> Self {
        Self { map, parent: None, problems: Vec::new() }
    }

    /// The fields of an object inside the body.
    pub(super) fn below(parent: &'static str, map: &'a Map<String, Value>) -> Self {
        Self { map, parent: Some(parent), problems: Vec::new() }
    }

    /// Adds a problem.
    pub(super) fn refuse(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Adds the problems of an inner object.
    pub(super) fn absorb(&mut self, inner: Fields<'_>) {
        self.problems.extend(inner.problems);
    }

    /// How many problems there are so far.
    pub(super) fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// The value, unless there was a problem.
    pub(super) fn finish<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.problems.is_empty() { Ok(value) } else { Err(self.problems) }
    }

    /// The field as it is.
    pub(super) fn value(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name)
    }

    /// A problem with a field of this object.
    pub(super) fn problem(&self, name: &str, kind: &'static str, msg: impl Into<String>) -> Problem {
        let path: Vec<&str> = self.parent.into_iter().chain([name]).collect();
        Problem::at(&path, kind, msg, self.map.get(name).unwrap_or(&Value::Null))
    }

    fn refuse_as(&mut self, name: &str, (kind, msg): (&'static str, &str)) {
        self.refuse(self.problem(name, kind, msg));
    }

    /// A text; without a default it must be there.
    pub(super) fn text(&mut self, name: &str, default: Option<&'static str>) -> &'a str {
        match (self.value(name), default) {
            (Some(Value::String(text)), _) => return text,
            (None, Some(default)) => return default,
            (None, None) => self.refuse(Problem::missing(name, self.map)),
            (Some(_), _) => self.refuse_as(name, ("string_type", "Input should be a valid string")),
        }
        ""
    }

    /// A switch.
    pub(super) fn flag(&mut self, name: &str, default: bool) -> bool {
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
    pub(super) fn integer(&mut self, name: &str, default: i64, range: RangeInclusive<i64>) -> i64 {
        self.ranged(name, default, range, as_integer)
    }

    /// A number in a range.
    pub(super) fn number(&mut self, name: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        self.ranged(name, default, range, as_number)
    }

    fn ranged<T: Copy + Display + PartialOrd + Into<Value>>(
        &mut self,
        name: &str,
        default: T,
        range: RangeInclusive<T>,
        read: fn(&Value) -> Result<T, Misread>,
    ) -> T {
        let value = match self.value(name).map(read) {
            None => return default,
            Some(Ok(value)) => value,
            Some(Err(why)) => {
                self.refuse_as(name, why);
                return default;
            }
        };
        let (low, high) = range.into_inner();
        if value < low {
            let msg = format!("Input should be greater than or equal to {low}");
            self.refuse(self.problem(name, "greater_than_equal", msg).with("ge", low));
        } else if value > high {
            let msg = format!("Input should be less than or equal to {high}");
            self.refuse(self.problem(name, "less_than_equal", msg).with("le", high));
        } else {
            return value;
        }
        default
    }

    /// A positive integer; `None` after a problem.
    pub(super) fn positive(&mut self, name: &str, default: i64, high: i64) -> Option<i64> {
        let before = self.problems.len();
        let value = self.integer(name, default, i64::MIN..=high);
        if value <= 0 {
            self.refuse(self.problem(name, "greater_than", "Input should be greater than 0").with("gt", 0));
        }
        (self.problems.len() == before).then_some(value)
    }
}

/// Type and message of a value that cannot be read.
type Misread = (&'static str, &'static str);

const NOT_INTEGER: Misread = ("int_type", "Input should be a valid integer");
const FRACTION: Misread =
    ("int_from_float", "Input should be a valid integer, got a number with a fractional part");
const NOT_INTEGER_TEXT: Misread =
    ("int_parsing", "Input should be a valid integer, unable to parse string as an integer");
const HUGE: Misread = ("int_parsing_size", "Unable to parse input as an integer, exceeded maximum size");
const NOT_NUMBER: Misread = ("float_type", "Input should be a valid number");
const NOT_NUMBER_TEXT: Misread =
    ("float_parsing", "Input should be a valid number, unable to parse string as a number");
const NOT_FINITE: Misread = ("finite_number", "Input should be a finite number");
const NOT_FLAG: Misread = ("bool_type", "Input should be a valid boolean");
const NOT_FLAG_TEXT: Misread = ("bool_parsing", "Input should be a valid boolean, unable to interpret input");

fn as_integer(value: &Value) -> Result<i64, Misread> {
    match value {
        Value::Bool(flag) => Ok(i64::from(*flag)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Ok(integer),
            (None, Some(float)) => whole(float),
            (None, None) => Err(NOT_INTEGER),
        },
        Value::String(text) => {
            let text = text.trim();
            let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
            match text.parse() {
                Ok(integer) => Ok(integer),
                Err(_) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => Err(HUGE),
                Err(_) => {
                    text.parse().map_err(|_| NOT_INTEGER_TEXT).and_then(whole).map_err(|_| NOT_INTEGER_TEXT)
                }
            }
        }
        Value::Null | Value::Array(_) | Value::Object(_) => Err(NOT_INTEGER),
    }
}

/// A float that stands for an integer.
fn whole(float: f64) -> Result<i64, Misread> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0; // 2^63, exact as a float
    if float.fract() != 0.0 {
        Err(FRACTION)
    } else if (-LIMIT..LIMIT).contains(&float) {
        Ok(float as i64)
    } else {
        Err(HUGE)
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
