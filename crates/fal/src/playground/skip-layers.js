// The skip-layer guidance of the form: the layers that a further branch leaves out, and numbers that are shown with them.

import { $ } from "./dom.js";
import { DEFAULTS, LIMITS, SKIP_LAYERS } from "./limits.js";
import { number, wrong } from "./numbers.js";

const LAYERS = "skip_guidance_layers";
const NUMBERS = ["skip_layer_guidance_scale", "skip_layer_guidance_start", "skip_layer_guidance_stop"];

/** The numbers come and go with the layers. */
export function start() {
  $(LAYERS).addEventListener("input", fit);
}

/** The values of the fields; none without layers. */
export function get() {
  const layers = $(LAYERS).value.split(/[\s,]+/).filter(Boolean);
  if (layers.length === 0) return {};
  const numbers = NUMBERS.map((name) => [name, number(name)]);
  return { [LAYERS]: layers.map((text) => (/^\d+$/.test(text) ? Number(text) : text)), ...Object.fromEntries(numbers) };
}

/** Shows the values of an input. */
export function set(values) {
  $(LAYERS).value = (values[LAYERS] ?? []).join(", ");
  for (const name of NUMBERS) $(name).value = values[name] ?? DEFAULTS[name];
  fit();
}

/** Hides what the endpoint does not take, unless it is filled. */
export function fit() {
  const isFilled = $(LAYERS).value.trim() !== "";
  $("skip-layers").hidden = !SKIP_LAYERS.isServed && !isFilled;
  $("skip-numbers").hidden = !isFilled;
}

/** What is wrong with the fields, in the shape of the server's own list. */
export function problems() {
  const { [LAYERS]: layers, ...numbers } = get();
  if (!layers) return [];
  const found = [];
  const add = (name, msg) => found.push({ loc: ["body", name], msg });
  const { isServed, max } = SKIP_LAYERS;
  if (!isServed) add(LAYERS, "This model takes no skip-layer guidance: clear it, or choose another model.");
  else if (layers.some((layer) => wrong(layer, { min: 0, max, whole: true }))) add(LAYERS, `Numbers from 0 to ${max}, with commas between.`);
  if (number("guidance_scale") <= 1) add(LAYERS, "It needs a guidance above 1.");
  for (const [name, value] of Object.entries(numbers)) {
    const words = wrong(value, LIMITS[name]);
    if (words) add(name, words);
  }
  return found;
}
