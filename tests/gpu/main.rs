//! Every integration test that needs a GPU, in one executable with one copy of the kernels: `scripts/gpu-check` carries
//! it to a machine that has no cargo.
//!
//! `scripts/test-cuda` runs the same tests in their own targets, which the files belong to.
#![expect(clippy::duplicate_mod, reason = "each of those targets has its own copy of what tests share")]

#[path = "../../kernels/tests/images/main.rs"]
mod images;
#[path = "../../kernels/tests/rows/main.rs"]
mod rows;
#[path = "../../kernels/tests/shapes/main.rs"]
mod shapes;

// The goldens' tests name one another by the root of their crate.
#[path = "../parity/golden.rs"]
mod golden;
#[path = "../parity/gpu.rs"]
mod parity;
#[path = "../parity/pipeline.rs"]
mod pipeline;
#[path = "../parity/shortcuts.rs"]
mod shortcuts;
