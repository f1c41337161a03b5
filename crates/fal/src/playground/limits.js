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
  seed: { min: Number.MIN_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER, whole: true },
  width: { min: 1, max: 14_142, whole: true },
  height: { min: 1, max: 14_142, whole: true },
};

export const MAX_IMAGES = 4;

/** What an input that leaves a field out means. */
export const DEFAULTS = {
  prompt: "",
  negative_prompt: "",
  image_size: "landscape_4_3",
  num_inference_steps: 28,
  guidance_scale: 3.5,
  seed: null,
  num_images: 1,
  output_format: "jpeg",
  enable_safety_checker: true,
  sync_mode: false,
};

/** The pixels of an `image_size`. */
export function pixels(size) {
  if (typeof size === "object" && size !== null) return [size.width ?? 512, size.height ?? 512];
  const [, , width, height] = SIZES.find(([name]) => name === size) ?? SIZES[0];
  return [width, height];
}

/** Asks the server for the ranges and defaults of an endpoint; where it does not answer, those that were stay. */
export async function learn(endpoint) {
  const schemas = (await description(endpoint))?.components.schemas ?? {};
  const input = Object.values(schemas).find(({ title }) => title === "TextToImageInput");
  const fields = { ...input?.properties, ...schemas.ImageSize?.properties };
  for (const [name, limit] of Object.entries(LIMITS)) {
    if (name === "seed" || !fields[name]) continue;
    limit.min = fields[name].minimum ?? limit.min;
    limit.max = fields[name].maximum ?? limit.max;
    if (name in DEFAULTS) DEFAULTS[name] = fields[name].default ?? DEFAULTS[name];
  }
}
