//! What the tensors of an IP-Adapter say of its sizes: it has no config file.

use super::TransformerConfig;
use super::limits::{LAYERS, WIDTH, sizes};

/// Sizes of an IP-Adapter, as diffusers reads them off its tensors (loaders/transformer_sd3.py:57, 130-135).
#[derive(Debug, Clone)]
pub(crate) struct IpAdapterConfig {
    /// Channels of the image encoder's features.
    pub(crate) features: usize,
    /// Channels of the projection, and of its timesteps, which the attentions are modulated by.
    pub(crate) hidden: usize,
    /// Heads of the projection.
    pub(crate) heads: usize,
    /// Tokens that the projection makes.
    pub(crate) queries: usize,
    /// Frequencies of its timestep embedding.
    pub(crate) time_channels: usize,
    pub(crate) layers: usize,
    /// Channels of the tokens, as many as the transformer has.
    pub(crate) width: usize,
}

impl IpAdapterConfig {
    /// Channels of a head of the projection.
    pub(crate) const HEAD: usize = 64;

    /// # Errors
    /// They are not those of an IP-Adapter for this model.
    pub(crate) fn of_tensors<'a>(
        shape: impl Fn(&str) -> Option<&'a [usize]>,
        model: &TransformerConfig,
    ) -> Result<Self, String> {
        let size = |name: &str, place: usize| {
            let name = format!("image_proj.{name}");
            let found = shape(&name).and_then(|shape| shape.get(place)).copied();
            found
                .ok_or_else(|| format!("it is no IP-Adapter of SD3.5 as diffusers reads it: missing: {name}"))
        };
        let layer = |name: &str| format!("image_proj.layers.{name}.weight");
        let is_there = |index: &usize| {
            [format!("{index}.ln0"), format!("{index}.0.norm1")]
                .iter()
                .any(|name| shape(&layer(name)).is_some())
        };
        let query = if shape(&layer("0.0.to_q")).is_some() { "0.to_q" } else { "attn.to_q" };
        let inner = size(&format!("layers.0.{query}.weight"), 0)?;
        let config = Self {
            features: size("proj_in.weight", 1)?,
            hidden: size("proj_in.weight", 0)?,
            heads: inner / Self::HEAD,
            queries: size("latents", 1)?,
            time_channels: size("time_embedding.linear_1.weight", 1)?,
            layers: (0..*LAYERS.end()).take_while(is_there).count(),
            width: size("proj_out.weight", 0)?,
        };
        config.check(model)?;
        Ok(config)
    }

    fn check(&self, model: &TransformerConfig) -> Result<(), String> {
        sizes([
            ("the width of its features", self.features, WIDTH),
            ("the width of its projection", self.hidden, WIDTH),
            ("the number of its heads", self.heads, WIDTH),
            ("the number of its queries", self.queries, WIDTH),
            ("the width of its timesteps", self.time_channels, 2..=*WIDTH.end()),
            ("the number of its layers", self.layers, LAYERS),
        ])?;
        if self.width != model.width() {
            return Err(format!(
                "its tokens are {} wide, and this model is {}: use an IP-Adapter of this model",
                self.width,
                model.width()
            ));
        }
        if !self.time_channels.is_multiple_of(2) {
            return Err(format!("the width of its timesteps is {}, which is odd", self.time_channels));
        }
        Ok(())
    }
}
