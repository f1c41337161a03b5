//! Matrices in blocks have the values of those that are dequantized when they are read.

use super::*;

const TYPES: [&str; 10] = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"];

fn file() -> PartFiles {
    PartFiles::file(&crate::golden::path("gguf/types.gguf")).expect("a GGUF file")
}

/// The rows of one matrix of each type, and of one that is stacked of all types.
fn matrices(file: &PartFiles) -> Vec<Vec<Rows<'_>>> {
    let get = |name: &str| file.get(name).expect("a tensor");
    let mut matrices: Vec<Vec<Rows>> = TYPES.iter().map(|name| vec![get(name).all()]).collect();
    matrices.push(TYPES.iter().flat_map(|name| [get(name).rows(1..3), get(name).rows(0..1)]).collect());
    matrices
}

fn values(x: Tensor) -> Vec<Vec<f32>> {
    let x = x.to_device(&Device::Cpu).and_then(|x| x.to_dtype(DType::F32));
    x.and_then(|x| x.to_vec2()).expect("rows")
}

#[test]
fn whole_and_row_by_row() {
    let file = file();
    for name in ["F32", "F16", "BF16"] {
        let rows = [file.get(name).expect("a tensor").all()];
        assert!(file.read_quantized(&rows).expect("a file").is_none(), "{name}");
    }
    for rows in matrices(&file) {
        let matrix = file.read_quantized(&rows).expect("a file").expect("blocks");
        for dtype in [DType::F32, DType::BF16] {
            let dense = values(file.read(&rows, dtype, &Device::Cpu).expect("rows"));
            assert_eq!(values(matrix.dequantize(dtype).expect("rows")), dense);
            let ids: Vec<u32> = (0..dense.len() as u32).rev().collect();
            let reversed: Vec<_> = dense.into_iter().rev().collect();
            assert_eq!(values(matrix.rows(&ids, dtype).expect("rows")), reversed);
        }
        let beyond = matrix.rows(&[rows.len() as u32 * 3], DType::F32).expect_err("no such row");
        assert!(beyond.to_string().contains("row "), "{beyond}");
    }
}

#[cfg(feature = "cuda")]
mod gpu {
    use super::*;

    #[test]
    fn the_device_makes_the_bits_of_the_processor() {
        let gpu = latentd_kernels::cuda::open(0, None).expect("a GPU");
        let file = file();
        for rows in matrices(&file) {
            let matrix = file.read_quantized(&rows).expect("a file").expect("blocks");
            let blocks = matrix.to_gpu(&gpu).expect("memory");
            for dtype in [DType::F32, DType::BF16] {
                let (ours, theirs) = (blocks.dequantize(dtype), matrix.dequantize(dtype));
                let bits = |x: Tensor| values(x).concat().into_iter().map(f32::to_bits).collect::<Vec<_>>();
                assert!(bits(ours.expect("rows")) == bits(theirs.expect("rows")), "{:?}", rows[0].of.dtype);
            }
        }
    }
}
