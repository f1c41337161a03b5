//! A file of weights: its header, and every tensor in it, beside what the `safetensors` crate makes of the file.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    latentd_models::fuzzing::weights(bytes);
});
