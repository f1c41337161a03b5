//! Matrices of every type on their way to a GPU, real or emulated.

use super::*;
use crate::LoadOptions;
use crate::checkpoint::RowOrder;
use crate::weights::resolved::Resolved;

const TYPES: [&str; 13] =
    ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"];

mod gpu {
    use super::*;

    /// Read in order, the next one is always on its way; in another order what is on its way is dropped.
    #[test]
    fn the_next_matrix_is_on_its_way() {
        let files = PartFiles::file(&crate::golden::path("gguf/types.gguf")).expect("a GGUF file");
        let (files, read_ahead, on_their_way) =
            (Arc::new(files), ReadAhead::default(), OnTheirWay::default());
        let places = TYPES.map(|name| {
            let stored = files.get(name).expect("a tensor").clone();
            let shape = [stored.row_count(), stored.row()];
            let tensors = vec![Resolved::Stored { stored, order: RowOrder::All, scale: None }];
            Arc::new(Place { tensors, shape })
        });
        let positions = places.each_ref().map(|place| read_ahead.add(MatrixUse::EveryStep, place));
        let options = LoadOptions::new(crate::Device::Cuda(0), crate::DType::Bf16);
        let target = Target::new(&options).expect("a GPU");
        let last = TYPES.len() - 1;
        for index in (0..=last).chain([3, 0, 0, last, 5]) {
            let place = &places[index];
            let uploaded = on_their_way.upload((place, positions[index]), &files, &read_ahead, &target);
            let next = on_their_way.every_step.lock().expect("no panic").as_ref().map(|next| next.position);
            assert_eq!(next, positions.get(index + 1).copied().flatten(), "{}", TYPES[index]);
            let values = |x: Tensor| x.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.to_vec2::<f32>();
            let read = files.read(&place.rows(), DType::BF16, &Device::Cpu);
            let (ours, theirs) = (uploaded.and_then(values), read.and_then(values));
            assert_eq!(ours.expect("rows"), theirs.expect("rows"), "{}", TYPES[index]);
        }
    }
}
