//! The vision transformer that both classifiers are: patches and a class token to what the class token became.

use crate::layers::{LayerNorm, Linear, activation};
use crate::ops::{Activation, Ops};
use crate::weights::{Scope, Weights};
use candle_core::{Result, Tensor};

/// No published classifier has a larger size; products of two stay countable.
const LARGEST: usize = 1 << 16;

/// Sizes of a tower.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// Pixels.
    pub(super) height: usize,
    /// Pixels.
    pub(super) width: usize,
    /// Pixels of a patch's side.
    pub(super) patch: usize,
    pub(super) hidden: usize,
    pub(super) inner: usize,
    pub(super) heads: usize,
    pub(super) layers: usize,
    pub(super) act: String,
    pub(super) eps: f64,
    /// Whether queries, keys and values have biases.
    pub(super) qkv_bias: bool,
}

/// What a tower's tensors are called, and where the two kinds differ.
pub(super) struct TensorNames {
    pub(super) patches: &'static str,
    pub(super) patches_bias: bool,
    pub(super) class: &'static str,
    pub(super) positions: &'static str,
    /// Axes of size 1 before the sizes of `class` and `positions`.
    pub(super) leading: (usize, usize),
    pub(super) first_norm: Option<&'static str>,
    pub(super) layers: &'static str,
    pub(super) norms: [&'static str; 2],
    pub(super) qkv: [&'static str; 3],
    pub(super) out: &'static str,
    pub(super) mlp: [&'static str; 2],
    pub(super) last_norm: &'static str,
}

/// Pixels to the class token.
pub(super) struct Tower {
    projection: Linear,
    /// `[1, 1, D]`.
    class_token: Tensor,
    /// `[1 + N, D]`.
    positions: Tensor,
    first_norm: Option<LayerNorm>,
    layers: Vec<Layer>,
    last_norm: LayerNorm,
    patch: usize,
    ops: Ops,
}

struct Layer {
    norm1: LayerNorm,
    qkv: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    act: Activation,
    heads: usize,
    ops: Ops,
}

impl Shape {
    /// Patches and the class token.
    fn tokens(&self) -> usize {
        1 + (self.height / self.patch) * (self.width / self.patch)
    }

    /// What is wrong with the sizes, before anything is made of them.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let Self { height, width, patch, hidden, inner, heads, layers, .. } = self;
        if [height, width, patch, hidden, inner, heads, layers].contains(&&0) {
            return Err("a size is zero".into());
        }
        if [height, width, patch, hidden, inner, heads, layers].into_iter().any(|size| *size > LARGEST) {
            return Err(format!("a size is more than {LARGEST}"));
        }
        if height % patch != 0 || width % patch != 0 {
            return Err(format!("{height}x{width} pixels are not square patches of {patch}x{patch}"));
        }
        if hidden % heads != 0 {
            return Err(format!("hidden_size {hidden} does not divide into {heads} heads"));
        }
        Ok(())
    }
}

/// The sizes with so many ones before them.
fn with_ones(ones: usize, sizes: &[usize]) -> Vec<usize> {
    [&vec![1; ones], sizes].concat()
}

impl Tower {
    pub(super) fn load(scope: &Scope, names: &TensorNames, shape: &Shape) -> Result<Self> {
        let (hidden, patch) = (shape.hidden, shape.patch);
        let class = scope.tensor(names.class, &with_ones(names.leading.0, &[hidden]))?;
        let positions =
            scope.tensor(names.positions, &with_ones(names.leading.1, &[shape.tokens(), hidden]))?;
        let norm = |name| LayerNorm::load(&scope.at(name), hidden, shape.eps);
        let patches = if names.patches_bias { Linear::patches } else { Linear::patches_no_bias };
        let layer = |index| Layer::load(&scope.at(names.layers).at(index), names, shape);
        Ok(Self {
            projection: patches(&scope.at(names.patches), 3, patch, hidden)?,
            class_token: class.reshape((1, 1, hidden))?.contiguous()?,
            positions: positions.reshape((shape.tokens(), hidden))?.contiguous()?,
            first_norm: names.first_norm.map(norm).transpose()?,
            layers: (0..shape.layers).map(layer).collect::<Result<_>>()?,
            last_norm: norm(names.last_norm)?,
            patch,
            ops: scope.target().ops,
        })
    }

    /// Notes what [`Self::load`] would not find below `at`, without loading anything.
    pub(super) fn expect(weights: &Weights, at: &str, names: &TensorNames, shape: &Shape) {
        let (hidden, inner, patch) = (shape.hidden, shape.inner, shape.patch);
        let linear = |name: &str, sizes: &[usize], bias: bool| {
            weights.expect(&format!("{at}{name}.weight"), sizes);
            if bias {
                weights.expect(&format!("{at}{name}.bias"), &sizes[..1]);
            }
        };
        let plain = |name: &str, sizes: &[usize]| weights.expect(&format!("{at}{name}"), sizes);
        plain(names.class, &with_ones(names.leading.0, &[hidden]));
        plain(names.positions, &with_ones(names.leading.1, &[shape.tokens(), hidden]));
        linear(names.patches, &[hidden, 3, patch, patch], names.patches_bias);
        for layer in (0..shape.layers).map(|index| format!("{}.{index}", names.layers)) {
            for name in names.qkv {
                linear(&format!("{layer}.{name}"), &[hidden, hidden], shape.qkv_bias);
            }
            linear(&format!("{layer}.{}", names.out), &[hidden, hidden], true);
            linear(&format!("{layer}.{}", names.mlp[0]), &[inner, hidden], true);
            linear(&format!("{layer}.{}", names.mlp[1]), &[hidden, inner], true);
            for norm in names.norms {
                linear(&format!("{layer}.{norm}"), &[hidden], true);
            }
        }
        for norm in names.first_norm.iter().chain([&names.last_norm]) {
            linear(norm, &[hidden], true);
        }
    }

    /// Pixels `[3, H, W]` f32 on the CPU to the class token after all layers and the last norm, `[1, 1, D]`.
    pub(super) fn class(&self, pixels: &Tensor) -> Result<Tensor> {
        let (device, dtype) = (self.positions.device(), self.positions.dtype());
        let patches = self.patchify(pixels)?.to_device(device)?.to_dtype(dtype)?;
        let tokens = Tensor::cat(&[&self.class_token, &self.projection.forward(&patches)?], 1)?;
        let mut x = self.ops.add_positions(tokens, &self.positions)?;
        if let Some(norm) = &self.first_norm {
            x = norm.forward(&x)?;
        }
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        self.last_norm.forward(&x.narrow(1, 0, 1)?.contiguous()?)
    }

    /// `[C, H, W]` to `[1, (H/p)*(W/p), C*p*p]`.
    fn patchify(&self, pixels: &Tensor) -> Result<Tensor> {
        let (channels, height, width) = pixels.dims3()?;
        let (patch, rows, columns) = (self.patch, height / self.patch, width / self.patch);
        pixels.reshape((channels, rows, patch, columns, patch))?.permute((1, 3, 0, 2, 4))?.reshape((
            1,
            rows * columns,
            channels * patch * patch,
        ))
    }
}

impl Layer {
    fn load(scope: &Scope, names: &TensorNames, shape: &Shape) -> Result<Self> {
        let (hidden, inner) = (shape.hidden, shape.inner);
        let stacked = if shape.qkv_bias { Linear::stacked } else { Linear::stacked_no_bias };
        let [norm1, norm2] = names.norms.map(|name| LayerNorm::load(&scope.at(name), hidden, shape.eps));
        Ok(Self {
            norm1: norm1?,
            qkv: stacked(&names.qkv.map(|name| scope.at(name)), hidden, hidden)?,
            out: Linear::load(&scope.at(names.out), hidden, hidden)?,
            norm2: norm2?,
            fc1: Linear::load(&scope.at(names.mlp[0]), hidden, inner)?,
            fc2: Linear::load(&scope.at(names.mlp[1]), inner, hidden)?,
            act: activation(&shape.act)?,
            heads: shape.heads,
            ops: scope.target().ops,
        })
    }

    /// `[1, L, D]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let qkv = self.qkv.forward(&self.norm1.forward(x)?)?;
        let qkv = self.ops.joint_qkv(&qkv, None, None, self.heads)?;
        let x = self.ops.add(x, &self.out.forward(&self.ops.attention(&qkv)?)?)?;
        let y = self.fc1.forward_act(&self.norm2.forward(&x)?, self.act)?;
        self.ops.add(&x, &self.fc2.forward(&y)?)
    }
}
