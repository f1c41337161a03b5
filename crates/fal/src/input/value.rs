//! Reads what clients send, JSON or msgpack, into a value whose size is bounded before it is made: a byte of text can
//! otherwise become hundreds in memory.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Values in one input, at every depth. A valid one has some twenty.
const MAX_VALUES: usize = 1000;

/// Lists and maps within each other; the JSON reader itself has the same limit.
const MAX_DEPTH: usize = 128;

/// JSON without the byte order mark with which programs on Windows begin what they write.
pub(crate) fn without_mark(json: &[u8]) -> &[u8] {
    json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json)
}

/// Reads JSON.
pub(crate) fn from_json(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(without_mark(bytes));
    let value = Bounded { left: &mut { MAX_VALUES } }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Reads msgpack. Bytes become a data URI, which is what images are sent as otherwise; extensions, such as dates, become
/// nothing.
pub(crate) fn from_msgpack(bytes: &[u8]) -> Result<Value, rmp_serde::decode::Error> {
    let mut reader = rmp_serde::Deserializer::new(bytes);
    reader.set_max_depth(MAX_DEPTH);
    let value = Bounded { left: &mut { MAX_VALUES } }.deserialize(&mut reader)?;
    match reader.get_ref().len() {
        0 => Ok(value),
        left => Err(Error::custom(format!("{left} bytes follow its end"))),
    }
}

/// One value, of which so many may still be read.
struct Bounded<'a> {
    left: &'a mut usize,
}

impl Bounded<'_> {
    fn next(&mut self) -> Bounded<'_> {
        Bounded { left: self.left }
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        *self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| D::Error::custom(format!("more than {MAX_VALUES} values")))?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Value, E> {
        Ok(format!("data:application/octet-stream;base64,{}", STANDARD.encode(value)).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.next())? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(self.next())? {
            let Value::String(key) = key else { return Err(A::Error::custom("a key that is no string")) };
            map.insert(key, entries.next_value_seed(self.next())?);
        }
        Ok(map.into())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<Value, D::Error> {
        self.next().deserialize(deserializer)?;
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_read_as_they_are() {
        let value = json!({ "a": [1, -2, 3.5, null, true, "x"], "b": { "c": {} }, "d": u64::MAX });
        assert_eq!(from_json(value.to_string().as_bytes()).expect("JSON"), value);
        assert_eq!(from_msgpack(&rmp_serde::to_vec(&value).expect("msgpack")).expect("msgpack"), value);
        for broken in ["", "{", "{} x", "[1,]", "{\"a\":1e999}", "nul"] {
            assert!(from_json(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    /// JSON has no such numbers, and `null` would be another input.
    #[test]
    fn what_is_no_number_is_refused_and_not_left_out() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let packed = rmp_serde::to_vec(&[number]).expect("msgpack");
            assert!(from_msgpack(&packed).is_err(), "{number}");
        }
    }

    #[test]
    fn a_byte_order_mark_does_not_count() {
        assert_eq!(from_json(b"\xef\xbb\xbf{}").expect("JSON"), json!({}));
        assert!(from_json(b"\xef\xbb\xbf\xef\xbb\xbf{}").is_err());
    }

    #[test]
    fn there_is_an_end_of_values_whatever_they_are() {
        let many = |unit: &str, count: usize| format!("[{}]", vec![unit; count].join(","));
        assert!(from_json(many("0", MAX_VALUES - 1).as_bytes()).is_ok());
        for text in [many("0", MAX_VALUES), many("[]", MAX_VALUES), many("{\"\":0}", MAX_VALUES / 3 + 1)] {
            let error = from_json(text.as_bytes()).expect_err("too many").to_string();
            assert!(error.starts_with("more than 1000 values at line 1"), "{error}");
            let packed = rmp_serde::to_vec(&serde_json::from_str::<Value>(&text).expect("JSON"));
            assert!(from_msgpack(&packed.expect("msgpack")).is_err());
        }
        let deep = "[".repeat(MAX_DEPTH + 1) + &"]".repeat(MAX_DEPTH + 1);
        assert!(from_json(deep.as_bytes()).is_err());
    }
}
