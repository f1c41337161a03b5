//! Seeds of the noise: every number that torch's generators take, kept to the digit.

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A seed within [`Seed::RANGE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(i128);

impl Seed {
    /// What `torch.Generator.manual_seed` takes: 64 bits, with or without a sign.
    pub const RANGE: RangeInclusive<i128> = i64::MIN as i128..=u64::MAX as i128;

    /// A seed; `None` outside of the range.
    pub fn new(seed: i128) -> Option<Self> {
        Self::RANGE.contains(&seed).then_some(Self(seed))
    }

    /// A seed for a request that named none: small enough for every JSON reader.
    pub fn draw() -> Self {
        Self(rand::random::<u32>().into())
    }

    /// Its 64 bits, which are all that a generator sees: 2^64 - 1 and -1 have the same.
    pub fn bits(self) -> i64 {
        self.0 as i64
    }
}

impl From<u32> for Seed {
    fn from(seed: u32) -> Self {
        Self(seed.into())
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (low, high) = Self::RANGE.into_inner();
        let seed = text.parse().ok().and_then(Self::new);
        seed.ok_or_else(|| format!("a seed is a whole number from {low} to {high}"))
    }
}

/// As 64 bits: formats that know no wider integers write others as bytes.
impl Serialize for Seed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match u64::try_from(self.0) {
            Ok(seed) => serializer.serialize_u64(seed),
            Err(_) => serializer.serialize_i64(self.bits()),
        }
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits;

        impl Visitor<'_> for Digits {
            type Value = Seed;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a seed")
            }

            fn visit_i64<E: de::Error>(self, seed: i64) -> Result<Seed, E> {
                Ok(Seed(seed.into()))
            }

            fn visit_u64<E: de::Error>(self, seed: u64) -> Result<Seed, E> {
                Ok(Seed(seed.into()))
            }
        }

        deserializer.deserialize_any(Digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_read_and_written_to_the_digit() {
        for (text, bits) in [
            ("0", 0),
            ("-1", -1),
            ("9223372036854775808", i64::MIN),
            ("18446744073709551615", -1),
            ("-9223372036854775808", i64::MIN),
        ] {
            let seed: Seed = text.parse().expect("a seed");
            assert_eq!((seed.to_string().as_str(), seed.bits()), (text, bits));
            let json = serde_json::to_value(seed).expect("JSON");
            assert_eq!(json.to_string(), text);
            assert_eq!(serde_json::from_value::<Seed>(json).expect("a seed"), seed);
            let packed = rmp_serde::to_vec(&seed).expect("msgpack");
            assert_eq!(rmp_serde::from_slice::<Seed>(&packed).expect("a seed"), seed);
        }
        for text in ["", "x", "1.0", "18446744073709551616", "-9223372036854775809"] {
            assert!(text.parse::<Seed>().is_err(), "{text}");
        }
    }
}
