//! The header of a safetensors file: 8 bytes of length, JSON of that length, then the tensors' bytes without a gap.
//!
//! It is untrusted until every number in it was checked against the file's own length. The rules are those of
//! the `safetensors` crate; names that come twice and headers beyond any model's are refused as well.

use super::stored_type::StoredType;
use super::{MAX_DIMENSIONS, StoredEntry};
use crate::error::one_line;
use safetensors::tensor::TensorInfo;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

/// Most bytes of JSON. A model's header has some hundred bytes for each tensor: 200 kB.
const LONGEST: u64 = 16 << 20;

/// Bytes of the length.
pub(super) const PREFIX: usize = 8;

/// Whether a file that begins like this looks like one with a header.
pub(super) fn plausible(start: &[u8]) -> bool {
    matches!(start.get(PREFIX), Some(b'{')) && length(start).is_some_and(|length| length <= LONGEST)
}

/// Bytes of JSON in a file of `file` bytes that begins with `start`.
///
/// # Errors
/// Says what is wrong with the length.
pub(super) fn checked_length(start: &[u8], file: u64) -> Result<usize, String> {
    let length = length(start).ok_or("it is too short to have a header")?;
    if length > LONGEST {
        return Err(format!("its header claims {length} bytes, and no model's has more than {LONGEST}"));
    }
    if length > file.saturating_sub(PREFIX as u64) {
        return Err(format!("its header claims {length} bytes, but the whole file has {file}"));
    }
    usize::try_from(length).map_err(|error| error.to_string())
}

fn length(start: &[u8]) -> Option<u64> {
    start.first_chunk().map(|bytes: &[u8; PREFIX]| u64::from_le_bytes(*bytes))
}

/// The tensors in the order of their bytes, of which the file has `data`.
///
/// # Errors
/// Says what is wrong with the header.
pub(super) fn parse(json: &[u8], data: u64) -> Result<Vec<StoredEntry>, String> {
    let text =
        std::str::from_utf8(json).map_err(|_| "its header cannot be read: it is no text".to_owned())?;
    let Tensors(tensors) = serde_json::from_str(text)
        .map_err(|error| format!("its header cannot be read: {}", one_line(&error.to_string(), 300)))?;
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let mut end = 0;
    for (name, info) in &tensors {
        let name = shown(name);
        let (from, to) = info.data_offsets;
        if info.shape.len() > MAX_DIMENSIONS {
            return Err(format!("its tensor {name} has {} dimensions", info.shape.len()));
        }
        // Zeros aside: strides multiply what is left.
        if info.shape.iter().try_fold(1usize, |product, size| product.checked_mul((*size).max(1))).is_none() {
            return Err(format!("its tensor {name} is {:?}, more than can be counted", info.shape));
        }
        if from < end {
            return Err(format!("its tensors overlap: {name} begins at byte {from}, another ends at {end}"));
        }
        if from > end {
            return Err(format!("it has a hole: no tensor has the bytes {end} to {from}, before {name}"));
        }
        let (dtype, shape) = (info.dtype, &info.shape);
        match bytes(info) {
            Some(bytes) if from.checked_add(bytes) == Some(to) => end = to,
            _ => return Err(format!("its tensor {name} is {dtype} {shape:?} in the bytes {from} to {to}")),
        }
    }
    match data.cmp(&(end as u64)) {
        std::cmp::Ordering::Less => {
            Err(format!("its tensors have {end} bytes, but only {data} of them are there"))
        }
        std::cmp::Ordering::Greater => {
            Err(format!("its tensors have {end} bytes, but {data} are there: something follows the last"))
        }
        std::cmp::Ordering::Equal => {
            let entry = |(name, info): (String, TensorInfo)| StoredEntry {
                name,
                dtype: StoredType::Plain(info.dtype),
                shape: info.shape,
                begin: info.data_offsets.0 as u64,
            };
            Ok(tensors.into_iter().map(entry).collect())
        }
    }
}

/// The texts of `__metadata__` in a header that [`parse`] has accepted.
pub(super) fn metadata(json: &[u8]) -> BTreeMap<String, String> {
    #[derive(serde::Deserialize)]
    struct Header {
        #[serde(rename = "__metadata__", default)]
        metadata: Option<BTreeMap<String, String>>,
    }
    let header: Option<Header> = serde_json::from_slice(json).ok();
    header.and_then(|header| header.metadata).unwrap_or_default()
}

/// Bytes that dtype and shape make; `None` if they are no whole number that can be counted.
fn bytes(info: &TensorInfo) -> Option<usize> {
    let elements = info.shape.iter().try_fold(1usize, |product, size| product.checked_mul(*size))?;
    let bits = elements.checked_mul(info.dtype.bitsize())?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// A name from a file, for a message.
pub(crate) fn shown(name: &str) -> String {
    one_line(name, 120)
}

/// The JSON object. `__metadata__` is what the file's author wrote about it.
struct Tensors(BTreeMap<String, TensorInfo>);

impl<'de> serde::Deserialize<'de> for Tensors {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TensorsVisitor)
    }
}

struct TensorsVisitor;

impl<'de> Visitor<'de> for TensorsVisitor {
    type Value = Tensors;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tensors, A::Error> {
        let (mut tensors, mut metadata) = (BTreeMap::new(), None);
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                let texts = map.next_value::<Option<BTreeMap<String, String>>>()?;
                if metadata.replace(texts).is_some() {
                    return Err(A::Error::custom("__metadata__ is there twice"));
                }
                continue;
            }
            match tensors.entry(name) {
                Entry::Vacant(free) => drop(free.insert(map.next_value()?)),
                Entry::Occupied(taken) => {
                    let name = shown(taken.key());
                    return Err(A::Error::custom(format_args!("{name} is there twice")));
                }
            }
        }
        Ok(Tensors(tensors))
    }
}
