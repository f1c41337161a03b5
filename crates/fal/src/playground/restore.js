// Puts the settings that a file carries into the form, with a way back.

import { take } from "./commands.js";
import { settingsOf } from "./file-settings.js";
import * as form from "./form.js";
import * as initialImage from "./initial-image.js";
import { SIZES } from "./limits.js";
import * as models from "./models.js";
import * as notice from "./notice.js";

/** Restores the settings of a file, or says that it has none. */
export async function restore(file) {
  const instead = ["Use as initial image", () => initialImage.useFile(file)];
  const values = await settingsOf(file);
  // ComfyUI and others have a prompt too.
  const isOurs = values.prompt !== undefined && values.Software?.startsWith("latentd ");
  if (!isOurs) return notice.show(`${file.name} carries no settings of latentd.`, [instead]);
  const before = { input: form.input(), endpoint: models.current() };
  take({ endpoint: models.endpointOf(values.model) }, { ...inputOf(values, file), ...(await sizeOf(file)) });
  const undo = ["Undo", () => take(before, before.input)];
  notice.show(`The settings of ${file.name} are in the form.`, [undo, instead]);
}

function inputOf(values, { type }) {
  const { prompt, negative_prompt, seed, steps, guidance, image_offset } = values;
  const others = finite({ seed: exact(seed), num_inference_steps: steps, guidance_scale: guidance, image_offset });
  const format = type.replace("image/", "");
  return { prompt, negative_prompt, output_format: format, ...others, ...skipLayersOf(values), ...controlnetOf(values), ...ipAdapterOf(values) };
}

/** The skip-layer guidance of a file. */
function skipLayersOf({ skip_layers: layers = "", skip_layers_scale: scale, skip_layers_start: start, skip_layers_stop: stop }) {
  if (!/^\d+(,\d+)*$/.test(layers)) return {};
  const numbers = { skip_layer_guidance_scale: scale, skip_layer_guidance_start: start, skip_layer_guidance_stop: stop };
  return { skip_guidance_layers: layers.split(",").map(Number), ...finite(numbers) };
}

/** The ControlNet of a file, which does not carry its control image. */
function controlnetOf({ controlnet: path, controlnet_scale: scale, controlnet_start: start, controlnet_end: end }) {
  if (path === undefined) return {};
  return { controlnet: { path, ...finite({ conditioning_scale: scale, start_percentage: start, end_percentage: end }) } };
}

/** The IP-Adapter of a file, which does not carry its image prompt. */
function ipAdapterOf({ ip_adapter: path, ip_adapter_encoder: encoder, ip_adapter_scale: scale }) {
  if (path === undefined) return {};
  return { ip_adapter: { path, image_encoder_path: encoder, ...finite({ scale }) } };
}

/** The values that are numbers. */
function finite(values) {
  const known = Object.entries(values).filter(([, value]) => value !== undefined && Number.isFinite(Number(value)));
  return Object.fromEntries(known.map(([name, value]) => [name, Number(value)]));
}

/** The seed; of one with more digits than a number has, its low 32 bits, which alone count. */
function exact(seed) {
  if (!/^-?\d+$/.test(seed) || Number.isSafeInteger(Number(seed))) return seed;
  return BigInt.asUintN(32, BigInt(seed));
}

/** The size of the image, if it can be decoded: a preset by its name, another in pixels. */
async function sizeOf(file) {
  const image = await createImageBitmap(file).catch(() => null);
  if (!image) return {};
  const { width, height } = image;
  const [preset] = SIZES.find(([, , wide, high]) => wide === width && high === height) ?? [];
  return { image_size: preset ?? { width, height } };
}
