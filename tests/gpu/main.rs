//! All integration tests that need a GPU, in one executable with one copy of the kernels: `scripts/gpu-check` packs it for
//! a machine without cargo.
//!
//! `scripts/test-cuda` runs the same tests in the targets that the files belong to.
#![expect(clippy::duplicate_mod, reason = "each of those targets has its own copy of the tests' helpers")]

#[path = "../../kernels/tests/images/main.rs"]
mod images;
#[path = "../../kernels/tests/rows/main.rs"]
mod rows;
#[path = "../../kernels/tests/shapes/main.rs"]
mod shapes;

// The parity tests import one another by paths from the crate root.
#[path = "../parity/gguf.rs"]
mod gguf;
#[path = "../parity/golden.rs"]
mod golden;
#[path = "../parity/init_image.rs"]
mod init_image;
#[path = "../parity/gpu.rs"]
mod parity;
#[path = "../parity/pipeline.rs"]
mod pipeline;
#[path = "../parity/shortcuts.rs"]
mod shortcuts;
#[path = "../parity/skip_layers.rs"]
mod skip_layers;
