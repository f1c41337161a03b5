//! Reads a safetensors file's header and every tensor, and compares with the `safetensors` crate.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    latentd_models::fuzzing::weights(bytes);
});
