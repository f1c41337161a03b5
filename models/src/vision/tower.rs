//! A vision transformer: patches, and a class token if it has one, to what its layers make of them.

use crate::config::WIDEST_HEAD;
use crate::error::one_line;
use crate::layers::{LayerNorm, Linear, activation};
use crate::ops::{Activation, Ops};
use crate::weights::{Scope, Weights};
use candle_core::{Result, Tensor};

/// No published one has a larger size; products of two stay countable.
pub(super) const LARGEST: usize = 1 << 16;

/// Sizes of a tower.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// Pixels.
    pub(crate) height: usize,
    /// Pixels.
    pub(crate) width: usize,
    /// Pixels of a patch's side.
    pub(crate) patch: usize,
    pub(crate) hidden: usize,
    pub(crate) inner: usize,
    pub(crate) heads: usize,
    pub(crate) layers: usize,
    pub(crate) act: String,
    pub(crate) eps: f64,
    /// Whether queries, keys and values have biases.
    pub(crate) qkv_bias: bool,
}

/// What a tower's tensors are called, and where the kinds differ.
pub(crate) struct TensorNames {
    pub(crate) patches: &'static str,
    pub(crate) patches_bias: bool,
    /// `None`: its tokens are the patches.
    pub(crate) class: Option<&'static str>,
    pub(crate) positions: &'static str,
    /// Axes of size 1 before the sizes of `class` and `positions`.
    pub(crate) leading: (usize, usize),
    pub(crate) first_norm: Option<&'static str>,
    pub(crate) layers: &'static str,
    pub(crate) norms: [&'static str; 2],
    pub(crate) qkv: [&'static str; 3],
    pub(crate) out: &'static str,
    pub(crate) mlp: [&'static str; 2],
    /// `None`: it ends with its last layer.
    pub(crate) last_norm: Option<&'static str>,
}

/// Pixels to tokens.
pub(crate) struct Tower {
    projection: Linear,
    /// `[1, 1, D]`.
    class_token: Option<Tensor>,
    /// `[L, D]`.
    positions: Tensor,
    first_norm: Option<LayerNorm>,
    layers: Vec<Layer>,
    last_norm: Option<LayerNorm>,
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

impl TensorNames {
    /// Patches, and the class token if there is one.
    fn tokens(&self, shape: &Shape) -> usize {
        usize::from(self.class.is_some()) + shape.patches()
    }
}

impl Shape {
    /// Whole patches.
    fn patches(&self) -> usize {
        (self.height / self.patch) * (self.width / self.patch)
    }

    /// What is wrong with the sizes, before anything is made of them; pixels beyond the last whole patch are too.
    pub(crate) fn check_whole(&self) -> std::result::Result<(), String> {
        self.check()?;
        let Self { height, width, patch, .. } = self;
        if height % patch != 0 || width % patch != 0 {
            return Err(format!("{height}x{width} pixels are not square patches of {patch}x{patch}"));
        }
        Ok(())
    }

    /// What is wrong with the sizes, before anything is made of them.
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        let Self { height, width, patch, hidden, inner, heads, layers, .. } = self;
        if [height, width, patch, hidden, inner, heads, layers].contains(&&0) {
            return Err("a size is zero".into());
        }
        if [height, width, patch, hidden, inner, heads, layers].into_iter().any(|size| *size > LARGEST) {
            return Err(format!("a size is more than {LARGEST}"));
        }
        if self.patches() == 0 {
            return Err(format!("a patch of {patch}x{patch} pixels is larger than {height}x{width}"));
        }
        if hidden % heads != 0 {
            return Err(format!("hidden_size {hidden} does not divide into {heads} heads"));
        }
        if hidden / heads > WIDEST_HEAD {
            return Err(format!("heads of {} channels are wider than {WIDEST_HEAD}", hidden / heads));
        }
        activation(&self.act).map(drop).map_err(|why| one_line(&why.to_string(), 120))
    }
}

/// The sizes with so many ones before them.
fn with_ones(ones: usize, sizes: &[usize]) -> Vec<usize> {
    [&vec![1; ones], sizes].concat()
}

impl Tower {
    pub(crate) fn load(scope: &Scope, names: &TensorNames, shape: &Shape) -> Result<Self> {
        let (hidden, patch) = (shape.hidden, shape.patch);
        let tokens = names.tokens(shape);
        let class = |name| scope.tensor(name, &with_ones(names.leading.0, &[hidden]));
        let class = names.class.map(class).transpose()?;
        let positions = scope.tensor(names.positions, &with_ones(names.leading.1, &[tokens, hidden]))?;
        let norm = |name| LayerNorm::load(&scope.at(name), hidden, shape.eps);
        let patches = if names.patches_bias { Linear::patches } else { Linear::patches_no_bias };
        let layer = |index| Layer::load(&scope.at(names.layers).at(index), names, shape);
        Ok(Self {
            projection: patches(&scope.at(names.patches), 3, patch, hidden)?,
            class_token: class.map(|class| class.reshape((1, 1, hidden))?.contiguous()).transpose()?,
            positions: positions.reshape((tokens, hidden))?.contiguous()?,
            first_norm: names.first_norm.map(norm).transpose()?,
            layers: (0..shape.layers).map(layer).collect::<Result<_>>()?,
            last_norm: names.last_norm.map(norm).transpose()?,
            patch,
            ops: scope.target().ops,
        })
    }

    /// Notes what [`Self::load`] would not find below `at`, without loading anything.
    pub(crate) fn expect(weights: &Weights, at: &str, names: &TensorNames, shape: &Shape) {
        let (hidden, inner, patch) = (shape.hidden, shape.inner, shape.patch);
        let linear = |name: &str, sizes: &[usize], bias: bool| {
            weights.expect(&format!("{at}{name}.weight"), sizes);
            if bias {
                weights.expect(&format!("{at}{name}.bias"), &sizes[..1]);
            }
        };
        let plain = |name: &str, sizes: &[usize]| weights.expect(&format!("{at}{name}"), sizes);
        if let Some(class) = names.class {
            plain(class, &with_ones(names.leading.0, &[hidden]));
        }
        plain(names.positions, &with_ones(names.leading.1, &[names.tokens(shape), hidden]));
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
        for norm in names.first_norm.iter().chain(&names.last_norm) {
            linear(norm, &[hidden], true);
        }
    }

    /// Pixels `[3, H, W]` f32 on the CPU to the first token, that of the class, after all layers and the last norm,
    /// `[1, 1, D]`.
    pub(crate) fn class(&self, pixels: &Tensor) -> Result<Tensor> {
        self.normed(&self.tokens(pixels)?.narrow(1, 0, 1)?.contiguous()?)
    }

    /// Pixels `[3, H, W]` f32 on the CPU to the tokens after all layers, before a last norm: `[1, L, D]`.
    pub(crate) fn tokens(&self, pixels: &Tensor) -> Result<Tensor> {
        let (device, dtype) = (self.positions.device(), self.positions.dtype());
        let patches = self.patchify(pixels)?.to_device(device)?.to_dtype(dtype)?;
        let patches = self.projection.forward(&patches)?;
        let tokens = match &self.class_token {
            Some(class) => Tensor::cat(&[class, &patches], 1)?,
            None => patches,
        };
        let mut x = self.ops.add_positions(tokens, &self.positions)?;
        if let Some(norm) = &self.first_norm {
            x = norm.forward(&x)?;
        }
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        Ok(x)
    }

    fn normed(&self, x: &Tensor) -> Result<Tensor> {
        self.last_norm.as_ref().map_or_else(|| Ok(x.clone()), |norm| norm.forward(x))
    }

    /// `[C, H, W]` to `[1, (H/p)*(W/p), C*p*p]`: as by a convolution, pixels beyond the last whole patch do not matter.
    fn patchify(&self, pixels: &Tensor) -> Result<Tensor> {
        let (channels, height, width) = pixels.dims3()?;
        let (patch, rows, columns) = (self.patch, height / self.patch, width / self.patch);
        let pixels = pixels.narrow(1, 0, rows * patch)?.narrow(2, 0, columns * patch)?;
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
