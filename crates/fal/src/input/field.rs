//! What a field of an input is called, what it may hold, and what it is when it is left out. The reader and the
//! document both go by this one description, so neither can say what the other does not.

use crate::input::fields::Fields;
use crate::output::problem::Problem;
use latentd_request::Seed;
use serde_json::{Value, json};
use std::fmt::Display;
use std::ops::RangeInclusive;
use utoipa::Number;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{AnyOfBuilder, ObjectBuilder, Schema, Type};

/// A field as the OpenAPI document describes it.
pub(crate) trait Field {
    fn name(&self) -> &'static str;

    fn schema(&self) -> RefOr<Schema>;

    /// Must it be there?
    fn is_required(&self) -> bool {
        false
    }
}

/// The schema of an object with these fields.
pub(crate) fn object(fields: &[&dyn Field]) -> ObjectBuilder {
    with_fields(ObjectBuilder::new(), fields)
}

/// An object's schema with these fields behind its own.
pub(crate) fn with_fields(object: ObjectBuilder, fields: &[&dyn Field]) -> ObjectBuilder {
    fields.iter().fold(object, |object, field| {
        let object = object.property(field.name(), field.schema());
        if field.is_required() { object.required(field.name()) } else { object }
    })
}

/// A text.
pub(crate) struct Text {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// `None`: it must be there.
    pub(crate) default: Option<&'static str>,
    pub(crate) max_chars: usize,
    pub(crate) example: &'static str,
}

impl Text {
    pub(crate) fn read(&self, fields: &mut Fields<'_>) -> String {
        let Self { name, default, max_chars, .. } = *self;
        let text = fields.text(name, default);
        if text.len() > max_chars && text.chars().count() > max_chars {
            let words = format!("Input should have at most {max_chars} characters");
            let problem = fields.problem(name, "sequence_too_long", words);
            fields.refuse(problem.with("max_length", max_chars));
            return String::new();
        }
        text.to_owned()
    }
}

impl Field for Text {
    fn name(&self) -> &'static str {
        self.name
    }

    fn schema(&self) -> RefOr<Schema> {
        of_type(Type::String, self.about)
            .default(self.default.map(Value::from))
            .max_length(Some(self.max_chars))
            .examples([self.example])
            .into()
    }

    fn is_required(&self) -> bool {
        self.default.is_none()
    }
}

/// A number in a range.
pub(crate) struct Ranged<T> {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) default: T,
    pub(crate) range: RangeInclusive<T>,
}

impl Ranged<i64> {
    pub(crate) fn read(&self, fields: &mut Fields<'_>) -> i64 {
        fields.integer(self.name, self.default, self.range.clone())
    }
}

impl Ranged<f64> {
    pub(crate) fn read(&self, fields: &mut Fields<'_>) -> f64 {
        fields.number(self.name, self.default, self.range.clone())
    }
}

/// Numbers that JSON Schema distinguishes.
pub(crate) trait Numeric: Copy + Display + Into<Number> + Into<Value> {
    const TYPE: Type;
}

impl Numeric for i64 {
    const TYPE: Type = Type::Integer;
}

impl Numeric for f64 {
    const TYPE: Type = Type::Number;
}

impl<T: Numeric> Field for Ranged<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn schema(&self) -> RefOr<Schema> {
        of_type(T::TYPE, self.about)
            .default(Some(self.default.into()))
            .minimum(Some(*self.range.start()))
            .maximum(Some(*self.range.end()))
            .into()
    }
}

/// A seed, which may be left out, or be null.
pub(crate) struct OptionalSeed {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
}

impl OptionalSeed {
    pub(crate) fn read(&self, fields: &mut Fields<'_>) -> Option<Seed> {
        let is_there = fields.value(self.name).is_some_and(|value| !value.is_null());
        is_there.then(|| fields.wide_integer(self.name, Seed::RANGE)).flatten().and_then(Seed::new)
    }
}

impl Field for OptionalSeed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn schema(&self) -> RefOr<Schema> {
        let integer = ObjectBuilder::new().schema_type(Type::Integer);
        let integer = integer.minimum(Some(i64::MIN)).maximum(Some(u64::MAX));
        AnyOfBuilder::new().item(integer).item(null()).description(Some(self.about)).into()
    }
}

/// A switch.
pub(crate) struct Switch {
    pub(crate) name: &'static str,
    /// Another name, which counts where the first is left out.
    pub(crate) alias: Option<&'static str>,
    pub(crate) about: &'static str,
    pub(crate) default: bool,
}

impl Switch {
    pub(crate) fn read(&self, fields: &mut Fields<'_>) -> bool {
        let alias = self.alias.filter(|_| fields.value(self.name).is_none());
        fields.flag(alias.unwrap_or(self.name), self.default)
    }
}

impl Field for Switch {
    fn name(&self) -> &'static str {
        self.name
    }

    fn schema(&self) -> RefOr<Schema> {
        of_type(Type::Boolean, self.about).default(Some(self.default.into())).into()
    }
}

/// One of several words. The first is the default.
pub(crate) struct Choice<T: 'static> {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) words: &'static [(&'static str, T)],
}

impl<T: Copy> Choice<T> {
    pub(crate) fn read(&self, fields: &mut Fields<'_>) -> T {
        let default = self.words[0].1;
        let Some(value) = fields.value(self.name) else { return default };
        let chosen = self.words.iter().find(|(word, _)| value.as_str() == Some(word));
        match chosen {
            Some((_, chosen)) => *chosen,
            None => {
                fields.refuse(one_of(self.name, &self.names(), value));
                default
            }
        }
    }
}

impl<T> Choice<T> {
    fn names(&self) -> Vec<&'static str> {
        self.words.iter().map(|(word, _)| *word).collect()
    }
}

impl<T> Field for Choice<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn schema(&self) -> RefOr<Schema> {
        let names = self.names();
        of_type(Type::String, self.about).default(Some(names[0].into())).enum_values(Some(names)).into()
    }
}

/// A value that is none of some words.
pub(crate) fn one_of(name: &str, words: &[&str], value: &Value) -> Problem {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let words_of = match quoted.as_slice() {
        [first, second] => format!("{first} or {second}"),
        all => format!("one of {}", all.join(", ")),
    };
    Problem::at(&[name], "one_of", format!("Input should be {words_of}"), value)
        .with("expected", json!(words))
}

/// A schema of a plain type.
pub(crate) fn of_type(kind: Type, about: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind).description(Some(about))
}

pub(crate) fn null() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Null)
}
