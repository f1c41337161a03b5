//! The text in an image file: the settings that generate the same image again.

use latentd_request::{ControlNetRef, IpAdapterRef, Seed, SkipLayers};

/// How an image was made.
pub(crate) struct Settings<'a> {
    pub(crate) prompt: &'a str,
    pub(crate) negative_prompt: &'a str,
    pub(crate) seed: Seed,
    pub(crate) steps: usize,
    pub(crate) guidance: f64,
    /// The model that generated it.
    pub(crate) model: &'a str,
    pub(crate) skip_layers: Option<&'a SkipLayers>,
    /// The ControlNet of its request.
    pub(crate) controlnet: Option<&'a ControlNetRef>,
    /// The IP-Adapter of its request.
    pub(crate) ip_adapter: Option<&'a IpAdapterRef>,
}

impl Settings<'_> {
    /// Keywords and values for [`super::encode`], of the image that so many others of its seed come before.
    pub(crate) fn text(&self, image_offset: usize) -> Vec<(&'static str, String)> {
        let offset = (image_offset > 0).then(|| ("image_offset", image_offset.to_string()));
        let skip_layers = self.skip_layers.map(of_skip_layers).into_iter().flatten();
        let controlnet = self.controlnet.map(of_controlnet).into_iter().flatten();
        let ip_adapter = self.ip_adapter.map(of_ip_adapter).into_iter().flatten();
        let text = [
            ("prompt", self.prompt.to_owned()),
            ("negative_prompt", self.negative_prompt.to_owned()),
            ("seed", self.seed.to_string()),
            ("steps", self.steps.to_string()),
            ("guidance", self.guidance.to_string()),
            ("model", self.model.to_owned()),
            ("Software", concat!("latentd ", env!("CARGO_PKG_VERSION")).to_owned()),
        ];
        text.into_iter().chain(offset).chain(skip_layers).chain(controlnet).chain(ip_adapter).collect()
    }
}

/// Skip-layer guidance, with the layers as `--skip-layers` takes them.
fn of_skip_layers(skip: &SkipLayers) -> [(&'static str, String); 4] {
    let layers: Vec<_> = skip.layers.iter().map(usize::to_string).collect();
    [
        ("skip_layers", layers.join(",")),
        ("skip_layers_scale", skip.scale.to_string()),
        ("skip_layers_start", skip.start.to_string()),
        ("skip_layers_stop", skip.stop.to_string()),
    ]
}

/// The ControlNet without its control image; nothing of one at a URL, which may give access to what is not for everybody.
fn of_controlnet(net: &ControlNetRef) -> Vec<(&'static str, String)> {
    let Some(name) = net.source.public_name() else { return Vec::new() };
    vec![
        ("controlnet", name),
        ("controlnet_scale", net.scale.to_string()),
        ("controlnet_start", net.start.to_string()),
        ("controlnet_end", net.end.to_string()),
    ]
}

/// The IP-Adapter and its image encoder without the image prompt; nothing of one at a URL, as of a ControlNet.
fn of_ip_adapter(adapter: &IpAdapterRef) -> Vec<(&'static str, String)> {
    let IpAdapterRef { source, encoder, scale, .. } = adapter;
    let (Some(name), Some(encoder)) = (source.public_name(), encoder.public_name()) else {
        return Vec::new();
    };
    vec![("ip_adapter", name), ("ip_adapter_encoder", encoder), ("ip_adapter_scale", scale.to_string())]
}
