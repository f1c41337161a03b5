//! The vision transformer that classifies pictures (transformers `ViTForImageClassification`).

use super::config::VitConfig;
use crate::layers::{Activation, LayerNorm, Linear, Ops, activation};
use crate::weights::{Scope, Weights};
use candle_core::{DType, Result, Tensor};

/// Pixels to logits.
pub(super) struct Vit {
    projection: Linear,
    /// `[1, 1, D]`.
    class_token: Tensor,
    /// `[1 + N, D]`.
    positions: Tensor,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    classifier: Linear,
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

impl Vit {
    pub(super) fn load(weights: &Weights, config: &VitConfig) -> Result<Self> {
        let (root, width, patch) = (weights.root(), config.hidden_size, config.patch());
        let vit = root.at("vit");
        let embeddings = vit.at("embeddings");
        let (rows, columns) = (config.image().0 / patch, config.image().1 / patch);
        let positions = embeddings.tensor("position_embeddings", &[1, 1 + rows * columns, width])?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(&vit.at("encoder.layer").at(index), config))
            .collect::<Result<_>>()?;
        Ok(Self {
            projection: Linear::patches(&embeddings.at("patch_embeddings.projection"), 3, patch, width)?,
            class_token: embeddings.tensor("cls_token", &[1, 1, width])?.contiguous()?,
            positions: positions.squeeze(0)?.contiguous()?,
            layers,
            final_norm: LayerNorm::load(&vit.at("layernorm"), width, config.layer_norm_eps)?,
            classifier: Linear::load(&root.at("classifier"), width, config.labels())?,
            patch,
            ops: root.target().ops,
        })
    }

    /// Notes what [`Self::load`] would not find, without loading anything.
    pub(super) fn expect(weights: &Weights, config: &VitConfig) {
        let (width, inner, patch) = (config.hidden_size, config.intermediate_size, config.patch());
        let tokens = 1 + (config.image().0 / patch) * (config.image().1 / patch);
        let layer = |name: &str, shape: &[usize], bias: bool| {
            weights.expect(&format!("{name}.weight"), shape);
            if bias {
                weights.expect(&format!("{name}.bias"), &shape[..1]);
            }
        };
        weights.expect("vit.embeddings.cls_token", &[1, 1, width]);
        weights.expect("vit.embeddings.position_embeddings", &[1, tokens, width]);
        layer("vit.embeddings.patch_embeddings.projection", &[width, 3, patch, patch], true);
        for at in (0..config.num_hidden_layers).map(|index| format!("vit.encoder.layer.{index}")) {
            for name in ["query", "key", "value"] {
                layer(&format!("{at}.attention.attention.{name}"), &[width, width], config.qkv_bias);
            }
            layer(&format!("{at}.attention.output.dense"), &[width, width], true);
            layer(&format!("{at}.intermediate.dense"), &[inner, width], true);
            layer(&format!("{at}.output.dense"), &[width, inner], true);
            layer(&format!("{at}.layernorm_before"), &[width], true);
            layer(&format!("{at}.layernorm_after"), &[width], true);
        }
        layer("vit.layernorm", &[width], true);
        layer("classifier", &[config.labels(), width], true);
    }

    /// Pixels `[3, H, W]` f32 on the CPU to one logit a label, `[labels]` f32.
    pub(super) fn logits(&self, pixels: &Tensor) -> Result<Tensor> {
        let (device, dtype) = (self.positions.device(), self.positions.dtype());
        let patches = self.patchify(pixels)?.to_device(device)?.to_dtype(dtype)?;
        let tokens = Tensor::cat(&[&self.class_token, &self.projection.forward(&patches)?], 1)?;
        let mut x = self.ops.add_positions(tokens, &self.positions)?;
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        let class = self.final_norm.forward(&x.narrow(1, 0, 1)?.contiguous()?)?;
        self.classifier.forward(&class)?.flatten_all()?.to_dtype(DType::F32)
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
    fn load(scope: &Scope, config: &VitConfig) -> Result<Self> {
        let (width, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let attention = scope.at("attention");
        let qkv = ["query", "key", "value"].map(|name| attention.at("attention").at(name));
        let stacked = if config.qkv_bias { Linear::stacked } else { Linear::stacked_no_bias };
        Ok(Self {
            norm1: LayerNorm::load(&scope.at("layernorm_before"), width, eps)?,
            qkv: stacked(&qkv, width, width)?,
            out: Linear::load(&attention.at("output.dense"), width, width)?,
            norm2: LayerNorm::load(&scope.at("layernorm_after"), width, eps)?,
            fc1: Linear::load(&scope.at("intermediate.dense"), width, inner)?,
            fc2: Linear::load(&scope.at("output.dense"), inner, width)?,
            act: activation(&config.hidden_act)?,
            heads: config.num_attention_heads,
            ops: scope.target().ops,
        })
    }

    /// `[1, L, D]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let qkv = self.qkv.forward(&self.norm1.forward(x)?)?;
        let qkv = self.ops.joint_qkv(&qkv, None, None, self.heads)?;
        let x = (x + self.out.forward(&self.ops.attention(&qkv)?)?)?;
        let y = self.fc1.forward_act(&self.norm2.forward(&x)?, self.act)?;
        x + self.fc2.forward(&y)?
    }
}
