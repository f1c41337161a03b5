//! A tensor that is one number, whole or not.

use super::rows::StoredTensor;
use super::source::PartFiles;
use crate::weight_file::StoredType;
use candle_core::{DType, Device, Result};
use safetensors::Dtype;

impl PartFiles {
    /// The number; `None` if the tensor has another count of values or is of a type that is not read.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn number(&self, stored: &StoredTensor) -> Result<Option<f64>> {
        let StoredType::Plain(dtype) = stored.dtype else { return Ok(None) };
        if stored.shape.iter().product::<usize>() != 1 {
            return Ok(None);
        }
        if stored.dtype.is_readable() {
            let value = self.read(&[stored.all()], DType::F32, &Device::Cpu)?.flatten_all()?;
            return Ok(value.to_vec1::<f32>()?.first().copied().map(f64::from));
        }
        let is_signed = match dtype {
            Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => true,
            Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64 => false,
            _ => return Ok(None),
        };
        let mut bytes = [0; 8];
        let used = stored.bytes().min(bytes.len());
        self.read_bytes(stored, 0, &mut bytes[..used])?;
        if is_signed && bytes[used - 1] >= 0x80 {
            bytes[used..].fill(0xff);
        }
        let whole = i64::from_le_bytes(bytes);
        Ok(Some(if is_signed { whole as f64 } else { whole as u64 as f64 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Tensor;
    use std::collections::HashMap;

    #[test]
    fn numbers_of_every_type_are_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let (cpu, path) = (&Device::Cpu, dir.path().join("file"));
        let tensors: HashMap<_, _> = [
            ("whole", Tensor::new(-2i64, cpu)),
            ("list", Tensor::new(&[1u32], cpu)),
            ("byte", Tensor::new(200u8, cpu)),
            ("half", Tensor::new(0.5f32, cpu).and_then(|half| half.to_dtype(DType::F16))),
            ("two", Tensor::new(&[1u8, 2], cpu)),
        ]
        .map(|(name, tensor)| (name, tensor.expect("a tensor")))
        .into();
        candle_core::safetensors::save(&tensors, &path).expect("saved");
        let files = PartFiles::file(&path).expect("a file");
        let number = |name: &str| files.number(files.get(name).expect("a tensor")).expect("a file");
        let numbers = ["whole", "list", "byte", "half", "two"].map(number);
        assert_eq!(numbers, [Some(-2.0), Some(1.0), Some(200.0), Some(0.5), None]);
    }
}
