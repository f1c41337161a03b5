//! Formats of quantized weights that latentd does not read, identified by their tensors' names: their values would be unknown
//! tensors, some hundred of them, or other images. Those of ComfyUI's mixed precision are told by what the file says of its
//! layers (`weight_file/layer_formats.rs`).

use super::header::Header;
use crate::{Error, Result};
use std::path::Path;

/// What names end with or have in them, and whose format that is.
const FORMATS: [(&[&str], &str); 4] = [
    (&[".quant_state.", ".absmax", ".quant_map", ".nested_absmax"], "4 bits by bitsandbytes (NF4 or FP4)"),
    (&[".SCB"], "8 bits by bitsandbytes"),
    (&[".qweight", ".qzeros", ".g_idx"], "4 bits by GPTQ or AWQ"),
    (&[".wscales", ".proj_down", ".smooth_factor"], "4 bits by Nunchaku"),
];

/// The format of a file's weights, if it is one of them.
pub(super) fn quantized(header: &Header) -> Option<&'static str> {
    let has = |marks: &[&str]| {
        let is_marked = |name: &str| {
            marks.iter().any(|mark| match mark.strip_suffix('.') {
                Some(_) => name.contains(mark),
                None => name.ends_with(mark),
            })
        };
        header.names().any(is_marked)
    };
    FORMATS.iter().find(|(marks, _)| has(marks)).map(|(_, format)| *format)
}

/// # Errors
/// The file's weights are in one of these formats.
pub(super) fn check(file: &Path, header: &Header) -> Result<()> {
    match quantized(header) {
        None => Ok(()),
        Some(format) => Err(Error::Model(format!(
            "{} is quantized to {format}, which latentd does not read: use the same model in F16, BF16, GGUF or an fp8 \
             of ComfyUI (scale_weight, weight_scale)",
            file.display()
        ))),
    }
}
