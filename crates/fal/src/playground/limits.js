// What the endpoint takes: names of sizes, ranges and defaults; the server's own description has the last word.

import { description } from "./api.js";

export const SIZES = [
  ["landscape_4_3", "4:3", 1024, 768],
  ["landscape_16_9", "16:9", 1024, 576],
  ["square_hd", "1:1", 1024, 1024],
  ["square", "Small", 512, 512],
  ["portrait_4_3", "3:4", 768, 1024],
  ["portrait_16_9", "9:16", 576, 1024],
];

export const LIMITS = {
  num_inference_steps: { min: 1, max: 50, whole: true },
  guidance_scale: { min: 0, max: 20 },
  strength: { min: 0.01, max: 1 },
  skip_layer_guidance_scale: { min: 0, max: 20 },
  skip_layer_guidance_start: { min: 0, max: 1 },
  skip_layer_guidance_stop: { min: 0, max: 1 },
  conditioning_scale: { min: 0, max: 2 },
  start_percentage: { min: 0, max: 1 },
  end_percentage: { min: 0, max: 1 },
  ip_adapter_scale: { min: 0, max: 4 },
  seed: { min: Number.MIN_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER, whole: true },
  width: { min: 1, max: 14_142, whole: true },
  height: { min: 1, max: 14_142, whole: true },
};

export const MAX_IMAGES = 4;

/** The file formats that the endpoint writes. */
export const FORMATS = ["jpeg", "png"];

/** What an input that leaves a field out means. */
export const DEFAULTS = {
  prompt: "",
  negative_prompt: "",
  image_size: "landscape_4_3",
  num_inference_steps: 28,
  guidance_scale: 3.5,
  seed: null,
  image_url: null,
  mask_image_url: null,
  strength: 0.83,
  skip_guidance_layers: null,
  skip_layer_guidance_scale: 2.8,
  skip_layer_guidance_start: 0.01,
  skip_layer_guidance_stop: 0.2,
  loras: null,
  controlnet: null,
  conditioning_scale: 1,
  start_percentage: 0,
  end_percentage: 1,
  ip_adapter: null,
  // The server has none: it is what `latentd generate` takes.
  ip_adapter_scale: 0.5,
  num_images: 1,
  image_offset: 0,
  output_format: "jpeg",
  enable_safety_checker: true,
  sync_mode: false,
};

/** The size of an input that leaves `image_size` out and has an initial image: that of the image. */
export const SAME_SIZE = "initial";

/** The pixels of an `image_size`. */
export function pixels(size) {
  if (typeof size === "object" && size !== null) return [size.width ?? 512, size.height ?? 512];
  const [, , width, height] = SIZES.find(([name]) => name === size) ?? SIZES[0];
  return [width, height];
}

/** Whether an endpoint has skip-layer guidance, and the largest number of a layer. */
export const SKIP_LAYERS = { isServed: false, max: 0 };

/** What an endpoint says of its LoRA adapters. */
export const LORAS = { isServed: false, max: 0, scale: { min: 0, max: 4, default: 1 } };

/** Whether an endpoint takes a ControlNet or an IP-Adapter, and the names that the operator gave some. */
export const CONTROLNET = { isServed: false, names: [] };
export const IP_ADAPTER = { isServed: false, names: [] };

/** The server's OpenAPI document, once it has answered. */
let document = null;

/** Asks the server for its document; where it does not answer, what was known stays. */
export async function load() {
  document = (await description()) ?? document;
}

/** Takes the ranges and defaults of an endpoint from the document. */
export function learn(endpoint) {
  const fields = { ...inputOf(imageEndpoint(endpoint)), ...inputOf(endpoint) };
  const [net, adapter] = [fields.controlnet, fields.ip_adapter].map(propertiesOf);
  const all = { ...net, ...propertiesOf(fields.image_size), ...fields, ip_adapter_scale: adapter?.scale };
  for (const [name, limit] of Object.entries(LIMITS)) {
    const field = all[name];
    if (name === "seed" || !field) continue;
    limit.min = field.minimum ?? limit.min;
    limit.max = field.maximum ?? limit.max;
    if (name in DEFAULTS) DEFAULTS[name] = field.default ?? DEFAULTS[name];
  }
  if (fields.output_format) FORMATS.splice(0, FORMATS.length, ...fields.output_format.enum);
  const layers = fields.skip_guidance_layers;
  Object.assign(SKIP_LAYERS, { isServed: Boolean(layers), max: layers?.items.maximum ?? 0 });
  learnLoras(fields.loras);
  Object.assign(CONTROLNET, { isServed: Boolean(net), names: net?.path.examples ?? [] });
  Object.assign(IP_ADAPTER, { isServed: Boolean(adapter), names: adapter?.path.examples ?? [] });
}

function learnLoras(field) {
  LORAS.isServed = Boolean(field);
  if (!field) return;
  const { scale } = resolved(field.items).properties;
  LORAS.max = field.maxItems ?? Infinity;
  LORAS.scale = { min: scale.minimum ?? 0, max: scale.maximum ?? 4, default: scale.default ?? 1 };
}

/** The endpoint that starts from an image with the same model, or from one with a mask; `null` where the server has none. */
export function imageEndpoint(endpoint, hasMask = false) {
  const id = `${endpoint}/${hasMask ? "inpaint" : "image-to-image"}`;
  return inputOf(id) ? id : null;
}

/** The fields of an endpoint's input. */
function inputOf(endpoint) {
  const body = document?.paths[`/queue/${endpoint}`]?.post.requestBody;
  return body && resolved(body.content["application/json"].schema).properties;
}

/** The properties of a field that is an object, or may be one. */
function propertiesOf(field) {
  const schemas = field?.anyOf ?? (field ? [field] : []);
  return schemas.map(resolved).find(({ properties }) => properties)?.properties;
}

function resolved(schema) {
  return schema.$ref ? document.components.schemas[schema.$ref.split("/").at(-1)] : schema;
}
