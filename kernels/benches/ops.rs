//! Times each op on real shapes.
fn main() {}
