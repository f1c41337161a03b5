//! Linear layers in the storage's precision, or in fp8 inside the transformer's blocks.

use crate::low_rank::Slot;
use crate::ops::{Activation, Hidden, Ops};
#[cfg(feature = "cuda")]
use crate::ops::{product_name, timed};
use crate::target::Target;
use crate::weights::{Matrix, MatrixUse, QuantizedMatrix, Scope, StreamedMatrix};
#[cfg(feature = "cuda")]
use candle_core::DType;
use candle_core::{Result, Tensor};
use latentd_kernels as fused;

/// `y = act(x w^T + b)`, and what adapters add before the activation.
pub(crate) struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    adapter: Slot,
    ops: Ops,
}

/// `[output, input]`.
enum Weight {
    Plain(Tensor),
    /// In the layout of the processor's products.
    Packed(fused::PackedWeight),
    /// As a GGUF file has it, dequantized for each product.
    Quantized(QuantizedMatrix),
    /// The same on a GPU.
    #[cfg(feature = "cuda")]
    Blocks(fused::cuda::BlockMatrix),
    /// In its file, read for each product.
    Streamed(Box<StreamedMatrix>),
    /// The same, and then turned into fp8.
    #[cfg(feature = "cuda")]
    StreamedRowwise(Box<StreamedMatrix>),
    /// fp8 with a scale for each output.
    #[cfg(feature = "cuda")]
    Rowwise(fused::Rowwise),
}

impl Weight {
    /// Packed where that makes products faster, unless it is kept quantized or in its file.
    fn new(weight: Matrix, target: &Target) -> Result<Self> {
        let weight = match weight {
            Matrix::Dense(weight) => weight.contiguous()?,
            #[cfg(feature = "cuda")]
            Matrix::Quantized(weight) if target.device.is_cuda() => {
                return weight.to_gpu(&target.device).map(Self::Blocks);
            }
            Matrix::Quantized(weight) => return Ok(Self::Quantized(weight)),
            Matrix::Streamed(weight) => return Ok(Self::Streamed(weight)),
        };
        let packed = if target.ops.fused { fused::PackedWeight::new(&weight)? } else { None };
        Ok(packed.map_or(Self::Plain(weight), Self::Packed))
    }
}

#[cfg(feature = "cuda")]
impl Weight {
    /// In fp8, if its products are.
    fn rowwise(&self) -> Result<Option<fused::Rowwise>> {
        match self {
            Self::Rowwise(weight) => Ok(Some(weight.clone())),
            Self::StreamedRowwise(weight) => quantise(&weight.read()?, false).map(Some),
            Self::Plain(_) | Self::Packed(_) | Self::Quantized(_) | Self::Blocks(_) | Self::Streamed(_) => {
                Ok(None)
            }
        }
    }
}

impl Linear {
    /// `weight [output, input]`, `bias [output]`.
    pub(crate) fn load(scope: &Scope, input: usize, output: usize) -> Result<Self> {
        Self::stacked(std::slice::from_ref(scope), input, output)
    }

    /// Without bias.
    pub(crate) fn load_no_bias(scope: &Scope, input: usize, output: usize) -> Result<Self> {
        Self::stacked_no_bias(std::slice::from_ref(scope), input, output)
    }

    /// Several projections (at least one) of one input as one: outputs side by side, each `output` wide.
    pub(crate) fn stacked(scopes: &[Scope], input: usize, output: usize) -> Result<Self> {
        let bias = Some(Scope::stacked(scopes, "bias", &[output])?);
        Ok(Self { bias, ..Self::stacked_no_bias(scopes, input, output)? })
    }

    /// [`Self::stacked`] without bias.
    pub(crate) fn stacked_no_bias(scopes: &[Scope], input: usize, output: usize) -> Result<Self> {
        Self::of_matrix(scopes, input, output, MatrixUse::EveryStep)
    }

    /// [`Self::load`] of a layer that a request runs once, for all its steps.
    pub(crate) fn load_run_once(scope: &Scope, input: usize, output: usize) -> Result<Self> {
        let bias = Some(scope.tensor("bias", &[output])?);
        let scopes = std::slice::from_ref(scope);
        Ok(Self { bias, ..Self::of_matrix(scopes, input, output, MatrixUse::OnceARequest)? })
    }

    fn of_matrix(scopes: &[Scope], input: usize, output: usize, usage: MatrixUse) -> Result<Self> {
        let target = scopes[0].target();
        let weight = Weight::new(Scope::matrix(scopes, "weight", [output, input], usage)?, target)?;
        Ok(Self { weight, bias: None, adapter: Scope::slot(scopes, input, output), ops: target.ops })
    }

    /// A convolution that tiles its input (`weight [output, channels, patch, patch]`) as a projection of
    /// flattened patches `[.., channels * patch * patch]`.
    pub(crate) fn patches(scope: &Scope, channels: usize, patch: usize, output: usize) -> Result<Self> {
        let bias = Some(scope.tensor("bias", &[output])?);
        Ok(Self { bias, ..Self::patches_no_bias(scope, channels, patch, output)? })
    }

    /// [`Self::patches`] without bias.
    pub(crate) fn patches_no_bias(
        scope: &Scope,
        channels: usize,
        patch: usize,
        output: usize,
    ) -> Result<Self> {
        let weight = scope.tensor("weight", &[output, channels, patch, patch])?.flatten_from(1)?;
        let adapter = Scope::slot(std::slice::from_ref(scope), channels * patch * patch, output);
        let target = scope.target();
        let weight = Weight::new(Matrix::Dense(weight), target)?;
        Ok(Self { weight, bias: None, adapter, ops: target.ops })
    }

    /// The weight in fp8, if the model runs in fp8.
    pub(crate) fn quantised(self) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if self.ops.fp8 {
            let weight = match self.weight {
                Weight::Plain(weight) => Weight::Rowwise(fused::quantize_rowwise(&weight, false)?),
                Weight::Blocks(weight) => {
                    Weight::Rowwise(fused::quantize_rowwise(&weight.dequantize(DType::BF16)?, false)?)
                }
                Weight::Streamed(weight) => Weight::StreamedRowwise(weight),
                other => other,
            };
            return Ok(Self { weight, ..self });
        }
        Ok(self)
    }

    /// `[.., input]` to `[.., output]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_act(x, Activation::None)
    }

    /// With an activation after the bias.
    pub(crate) fn forward_act(&self, x: &Tensor, act: Activation) -> Result<Tensor> {
        let product = |act| match &self.weight {
            Weight::Plain(weight) => self.ops.linear(x, weight, self.bias.as_ref(), act),
            Weight::Packed(weight) => self.ops.linear_packed(x, weight, self.bias.as_ref(), act),
            Weight::Quantized(weight) => {
                self.ops.linear(x, &weight.dequantize(x.dtype())?, self.bias.as_ref(), act)
            }
            #[cfg(feature = "cuda")]
            Weight::Blocks(weight) => self.ops.linear(x, &dequantize(x, weight)?, self.bias.as_ref(), act),
            Weight::Streamed(weight) => self.ops.linear(x, &weight.read()?, self.bias.as_ref(), act),
            #[cfg(feature = "cuda")]
            Weight::Rowwise(_) | Weight::StreamedRowwise(_) => {
                candle_core::bail!("an fp8 layer has no {act:?}: see `mlp`")
            }
        };
        #[cfg(feature = "cuda")]
        if let (Weight::Rowwise(_) | Weight::StreamedRowwise(_), Activation::None) = (&self.weight, act) {
            return self.forward_hidden(&Hidden::Rowwise(quantise(x, false)?));
        }
        match self.adapter.get() {
            None => product(act),
            Some(low_rank) => {
                self.ops.add_activate(&product(Activation::None)?, &low_rank.forward(self.ops, x)?, act)
            }
        }
    }

    /// Of an input that the op before may have quantised.
    pub(crate) fn forward_hidden(&self, x: &Hidden) -> Result<Tensor> {
        match x {
            Hidden::Plain(x) => self.forward(x),
            #[cfg(feature = "cuda")]
            Hidden::Rowwise(x) => {
                let Some(weight) = self.weight.rowwise()? else {
                    candle_core::bail!("fp8 rows for a layer that is not")
                };
                let y = product(x, &weight, self.bias.as_ref())?;
                let Some(low_rank) = self.adapter.get() else { return Ok(y) };
                // The input is there in fp8 alone, so the narrow product is in fp8 too; what it makes is not.
                let inner = product(x, &quantise(&low_rank.down, false)?, None)?;
                self.ops.add_activate(&y, &low_rank.expand(self.ops, &inner)?, Activation::None)
            }
        }
    }
}

/// `x w^T + b` in fp8.
#[cfg(feature = "cuda")]
fn product(x: &fused::Rowwise, weight: &fused::Rowwise, bias: Option<&Tensor>) -> Result<Tensor> {
    let name = || product_name(&x.values, weight.values.dims());
    timed(&x.values, name, || fused::cuda::linear_rowwise(x, weight, bias))
}

/// The blocks of a weight to the precision of its input.
#[cfg(feature = "cuda")]
fn dequantize(x: &Tensor, weight: &fused::cuda::BlockMatrix) -> Result<Tensor> {
    timed(x, || "dequantize".into(), || weight.dequantize(x.dtype()))
}

/// To fp8, after GELU if asked.
#[cfg(feature = "cuda")]
fn quantise(x: &Tensor, gelu: bool) -> Result<fused::Rowwise> {
    let name = || if gelu { "gelu, to fp8" } else { "to fp8" }.to_owned();
    timed(x, name, || fused::quantize_rowwise(x, gelu))
}

/// `second(gelu(first(x)))`, GELU in its tanh form.
pub(crate) fn mlp(first: &Linear, second: &Linear, x: &Hidden) -> Result<Tensor> {
    match x {
        Hidden::Plain(x) => second.forward(&first.forward_act(x, Activation::GeluTanh)?),
        #[cfg(feature = "cuda")]
        Hidden::Rowwise(_) => {
            let y = quantise(&first.forward_hidden(x)?, true)?;
            second.forward_hidden(&Hidden::Rowwise(y))
        }
    }
}
