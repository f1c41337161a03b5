// The networks with an image that a request of the form may have: a ControlNet and an IP-Adapter, by the input's fields.

import { CONTROLNET, IP_ADAPTER } from "./limits.js";
import { network } from "./network.js";

const controlnet = network({
  field: "controlnet",
  title: "ControlNet",
  article: "a",
  served: CONTROLNET,
  image: { name: "control_image_url", id: "control", label: "Control image" },
  rows: [
    [{ name: "conditioning_scale", id: "conditioning_scale", label: "Scale" }],
    [
      { name: "start_percentage", id: "start_percentage", label: "Start" },
      { name: "end_percentage", id: "end_percentage", label: "End" },
    ],
  ],
  hint: "It steers from the start to the end, as shares of the steps.",
});

const ip_adapter = network({
  field: "ip_adapter",
  title: "IP-Adapter",
  article: "an",
  served: IP_ADAPTER,
  image: { name: "image_url", id: "image-prompt", label: "Image prompt" },
  encoder: { name: "image_encoder_path", label: "Image encoder", hint: "The SigLIP that the IP-Adapter was trained with.", usual: "google/siglip-so400m-patch14-384" },
  rows: [[{ name: "scale", id: "ip_adapter_scale", label: "Scale", isSent: true }]],
});

export const NETWORKS = { controlnet, ip_adapter };
