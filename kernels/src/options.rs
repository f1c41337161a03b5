//! Options of ops that are not tensors: activations, and the geometry of a convolution.

/// What a linear layer applies to each of its outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// GELU in its tanh approximation (`gelu_pytorch_tanh`, `gelu_new`).
    GeluTanh,
    /// GELU by the error function (`gelu`).
    GeluErf,
    /// `x * sigmoid(1.702 x)` (`quick_gelu`).
    QuickGelu,
    /// `x * sigmoid(x)` (`silu`, `swish`).
    Silu,
    /// `max(x, 0)`.
    Relu,
}

/// How a convolution moves over its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dSpec {
    /// Input pixels between neighbouring outputs, in both directions.
    pub stride: usize,
    /// Zeros around the (upsampled) input on each side.
    pub padding: usize,
    /// Whether each input pixel is first repeated 2x2 (nearest upsampling), without storing that map.
    pub upsample: bool,
}

impl Default for Conv2dSpec {
    /// Stride 1, no padding, no upsampling.
    fn default() -> Self {
        Self { stride: 1, padding: 0, upsample: false }
    }
}
