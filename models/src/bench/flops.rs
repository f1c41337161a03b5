//! What a forward of the transformer costs and how many parameters it has, counted from its config.
//!
//! A multiply-add is two operations. Counted are the linear layers and the two products of attention, for one
//! sample and as the model is written: an engine that hoists work out of the loop (adaLN, the text projection) is
//! credited with it all the same, so that engines are compared by the same numerator. Norms, softmax, activations
//! and gates are not counted.

use crate::config::TransformerConfig;

/// Inputs of the timestep embedding.
const TIMESTEP_CHANNELS: usize = 256;

/// Operations of one forward of one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Flops {
    pub(crate) linear: f64,
    pub(crate) attention: f64,
}

impl Flops {
    /// `image` and `text` are tokens.
    pub(crate) fn of(config: &TransformerConfig, image: usize, text: usize) -> Self {
        let sizes = Sizes::of(config);
        let per_image = sizes.per_image_token() as f64 * image as f64;
        let per_text = sizes.per_text_token() as f64 * text as f64;
        let macs = per_image + per_text + sizes.per_sample() as f64;
        let (image, joint, width) = (image as f64, (image + text) as f64, sizes.width as f64);
        // q k^T and its product with v: two multiply-adds for each pair of tokens and each channel.
        let pairs = sizes.blocks as f64 * joint * joint + sizes.dual as f64 * image * image;
        Self { linear: 2.0 * macs, attention: 2.0 * 2.0 * pairs * width }
    }

    pub(crate) fn total(self) -> f64 {
        self.linear + self.attention
    }
}

/// Parameters of the transformer, the position table included.
pub(crate) fn parameters(config: &TransformerConfig) -> u64 {
    let sizes = Sizes::of(config);
    let (width, patch) = (sizes.width, sizes.patch);
    let linear = sizes.per_image_token() + sizes.per_text_token() + sizes.per_sample();
    // A linear layer's biases are as many as its outputs.
    let image = sizes.blocks * (3 + 1 + 4 + 1) * width + sizes.dual * (3 + 1) * width;
    let text = sizes.blocks * 3 * width + (sizes.blocks - 1) * (1 + 4 + 1) * width;
    let embeds = width + width + 2 * width + 2 * width + patch * config.out_channels();
    let biases = image + text + embeds + sizes.modulations() * width;
    let norms = if config.qk_norm.is_some() { sizes.blocks * 4 + sizes.dual * 2 } else { 0 };
    let positions = config.pos_embed_max_size * config.pos_embed_max_size * width;
    (linear + biases + norms * config.attention_head_dim + positions) as u64
}

/// The numbers the counts are made of.
struct Sizes<'a> {
    config: &'a TransformerConfig,
    width: usize,
    blocks: usize,
    /// Blocks with a second, image-only attention.
    dual: usize,
    /// Latent pixels in a patch.
    patch: usize,
}

/// Weights that a unit of input meets, i.e. multiply-adds.
impl<'a> Sizes<'a> {
    fn of(config: &'a TransformerConfig) -> Self {
        let blocks = config.num_layers;
        let dual = config.dual_attention_layers.iter().filter(|layer| **layer < blocks).count();
        Self { config, width: config.width(), blocks, dual, patch: config.patch_size * config.patch_size }
    }

    /// Embedding, then q, k, v, projection and an MLP of 4 in each block, and the output.
    fn per_image_token(&self) -> usize {
        let square = self.width * self.width;
        let ends = self.patch * (self.config.in_channels + self.config.out_channels()) * self.width;
        ends + (self.blocks * (3 + 1 + 8) + self.dual * (3 + 1)) * square
    }

    /// The last block's text ends with q, k and v.
    fn per_text_token(&self) -> usize {
        let square = self.width * self.width;
        let embed = self.config.joint_attention_dim * self.width;
        embed + (self.blocks * 3 + (self.blocks - 1) * (1 + 8)) * square
    }

    /// The conditioning vector and every adaLN made of it.
    fn per_sample(&self) -> usize {
        let square = self.width * self.width;
        let embeds = (TIMESTEP_CHANNELS + self.config.pooled_projection_dim) * self.width + 2 * square;
        embeds + self.modulations() * square
    }

    /// Rows of all adaLN layers: 6 for each stream, 9 with a second attention, 2 for the last text and the output.
    fn modulations(&self) -> usize {
        self.blocks * 6 + self.dual * 3 + (self.blocks - 1) * 6 + 2 + 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Synthetic, preset};

    /// Table 1g of the project's performance facts: Large at 1024x1024 (4096 image tokens), in TFLOP.
    #[test]
    fn a_forward_of_large_costs_what_the_table_says() {
        let config = preset::transformer(Synthetic::Sd35Large);
        for (text, linear, attention, total) in
            [(154, 22.920, 6.677, 29.597), (333, 23.870, 7.251, 31.121), (589, 25.228, 8.114, 33.342)]
        {
            let flops = Flops::of(&config, 4096, text);
            for (ours, table) in
                [(flops.linear, linear), (flops.attention, attention), (flops.total(), total)]
            {
                assert!(
                    (ours / 1e12 - table).abs() < 0.0015,
                    "{text} tokens: {} is not {table}",
                    ours / 1e12
                );
            }
        }
    }

    /// 8.0566 B and a position table of 0.0897 B.
    #[test]
    fn large_has_its_parameters() {
        let config = preset::transformer(Synthetic::Sd35Large);
        let positions = 192 * 192 * 2432;
        let rest = parameters(&config) - positions;
        assert!((rest as f64 / 1e9 - 8.0566).abs() < 0.00005, "{rest}");
    }

    /// Medium's second attention: 13 blocks with q, k, v and a projection more, over the image alone.
    #[test]
    fn a_second_attention_counts() {
        let medium = preset::transformer(Synthetic::Sd35Medium);
        let single = TransformerConfig { dual_attention_layers: vec![], ..medium.clone() };
        let (with, without) = (Flops::of(&medium, 1024, 333), Flops::of(&single, 1024, 333));
        let square = 1536.0 * 1536.0;
        let linear = 2.0 * 13.0 * (1024.0 * 4.0 + 3.0) * square;
        assert_eq!(with.linear - without.linear, linear);
        assert_eq!(with.attention - without.attention, 13.0 * 4.0 * 1024.0 * 1024.0 * 1536.0);
    }
}
