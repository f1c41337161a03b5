// The form: fields to an input and back, and what is wrong with them at the field itself.

import { $, choice, make } from "./dom.js";
import * as initialImage from "./initial-image.js";
import { DEFAULTS, FORMATS, LIMITS, MAX_IMAGES, SAME_SIZE, SIZES, imageEndpoint, pixels } from "./limits.js";
import * as loras from "./loras.js";
import * as mask from "./mask.js";
import * as models from "./models.js";
import { NETWORKS } from "./networks.js";
import { number, wrong } from "./numbers.js";
import * as skipLayers from "./skip-layers.js";

const CUSTOM = "custom";
const NUMBERS = ["num_inference_steps", "guidance_scale", "strength", "seed"];
const TEXTS = ["prompt", "negative_prompt"];
const SWITCHES = ["enable_safety_checker", "sync_mode"];

const form = $("form");
let groups;
/** Images of the seed that are left out, so that one of a batch is generated alone. */
let offset = 0;
let notify = () => {};

/** Builds the form; `changed` is called at every change. */
export function start(changed) {
  notify = changed;
  groups = {
    image_size: sizes(),
    num_images: choice($("num_images"), "num_images", [...Array(MAX_IMAGES)].map((_, n) => [n + 1, n + 1])),
    output_format: formats(),
  };
  for (const slider of form.querySelectorAll("input[type=range]")) {
    const number = $(slider.dataset.for);
    slider.addEventListener("input", () => (number.value = slider.value));
    number.addEventListener("input", () => (slider.value = number.value || DEFAULTS[number.id]));
  }
  $("dice").addEventListener("click", () => {
    $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0];
    $("seed").dispatchEvent(new Event("input", { bubbles: true }));
  });
  $("reset").addEventListener("click", () => fill({ prompt: $("prompt").value }));
  initialImage.start(imageChanged, (msg) => showProblems([{ loc: ["body", "image_url"], msg }]));
  mask.start(maskChanged, (msg) => showProblems([{ loc: ["body", "mask_image_url"], msg }]));
  $("offset-clear").addEventListener("click", () => fill({ ...input(), image_offset: 0 }));
  skipLayers.start();
  loras.start(lorasChanged, (msg) => showProblems([{ loc: ["body", "loras"], msg }]));
  for (const network of Object.values(NETWORKS)) {
    network.start(() => networkChanged(network), (name, msg) => showProblems([{ loc: ["body", network.field, name], msg }]));
  }
  for (const name of TEXTS) $(name).addEventListener("input", () => grow($(name)));
  form.addEventListener("input", (event) => {
    const field = event.target.closest?.("[data-field]");
    if (field) clear(field);
    // Another seed or a batch begins with the first image.
    if (["seed", "num_images"].includes(field?.dataset.field)) offset = 0;
    refresh();
    notify();
  });
  form.addEventListener("change", (event) => {
    const field = event.target.closest?.("[data-field]");
    const name = field?.dataset.field;
    // The parts of a network are filled in one by one: what the next one lacks is not yet wrong.
    const isDue = (place) => !(name in NETWORKS) || controlsOf(field, name, place).includes(event.target);
    if (name && name !== "prompt") showProblems(check().filter(({ loc: [, of, ...place] }) => of === name && isDue(place)));
  });
  fit();
  write(DEFAULTS);
}

/** Fits the form to the limits. */
export function fit() {
  for (const slider of form.querySelectorAll("input[type=range]")) {
    const { min, max } = LIMITS[slider.dataset.for];
    Object.assign(slider, { min, max, value: $(slider.dataset.for).value });
  }
  $("initial").hidden = !imageEndpoint(models.current()) && !initialImage.get();
  skipLayers.fit();
  loras.fit();
  for (const network of Object.values(NETWORKS)) network.fit();
  if ($("output_format").children.length !== FORMATS.length) {
    const chosen = groups.output_format.get();
    groups.output_format = formats();
    groups.output_format.set(chosen);
  }
  for (const [name, , width, height] of SIZES) {
    const tile = $("sizes").querySelector(`input[value="${name}"]`);
    tile.disabled = width > LIMITS.width.max || height > LIMITS.height.max;
  }
}

/** The choice of a file format. */
function formats() {
  $("output_format").replaceChildren();
  return choice($("output_format"), "output_format", FORMATS.map((name) => [name, name === "webp" ? "WebP" : name.toUpperCase()]));
}

/** The size picker: a tile for each preset, in its shape. */
function sizes() {
  const tiles = $("sizes");
  for (const [name, label, width, height] of [[SAME_SIZE, "Same"], ...SIZES, [CUSTOM, "Custom"]]) {
    const shape = make("i", { className: "shape", "data-size": name, "aria-hidden": "true" });
    const input = make("input", { type: "radio", name: "image_size", value: name, disabled: name === SAME_SIZE });
    const title = width ? `${width} × ${height}` : "";
    tiles.append(make("label", { title }, input, shape, make("span", {}, label)));
  }
  return {
    get() {
      const name = tiles.querySelector("input:checked")?.value;
      return name === CUSTOM ? { width: number("width"), height: number("height") } : name;
    },
    set(size) {
      const name = typeof size === "string" ? size : CUSTOM;
      if (name === SAME_SIZE && !given()) return this.set(DEFAULTS.image_size);
      tiles.querySelector(`input[value="${CSS.escape(name)}"]`).checked = true;
      if (name === CUSTOM) [$("width").value, $("height").value] = pixels(size);
    },
  };
}

/** The image whose size the generated ones have where the input has no size; `null` where there is none. */
const given = () => initialImage.get() ?? NETWORKS.controlnet.image.get();

/** Every field as it is. */
export function read() {
  return {
    prompt: $("prompt").value,
    negative_prompt: $("negative_prompt").value,
    image_size: groups.image_size.get(),
    num_inference_steps: number("num_inference_steps"),
    guidance_scale: number("guidance_scale"),
    seed: number("seed"),
    image_url: initialImage.get()?.url ?? null,
    mask_image_url: mask.get()?.url ?? null,
    strength: number("strength"),
    ...skipLayers.get(),
    loras: loras.get(),
    controlnet: NETWORKS.controlnet.get(),
    ip_adapter: NETWORKS.ip_adapter.get(),
    num_images: Number(groups.num_images.get()),
    image_offset: offset,
    output_format: groups.output_format.get(),
    enable_safety_checker: $("enable_safety_checker").checked,
    sync_mode: $("sync_mode").checked,
  };
}

/** The input to send: the prompt, and whatever is not as by default. */
export function input() {
  const values = read();
  const defaults = { ...DEFAULTS, prompt: null };
  if (values.image_url || values.controlnet?.control_image_url) defaults.image_size = SAME_SIZE;
  if (!values.image_url) for (const name of ["strength", "mask_image_url"]) delete values[name];
  return Object.fromEntries(Object.entries(values).filter(([name, value]) => value !== null && value !== defaults[name]));
}

/** Fills the form with an input; what it leaves out is as by default. */
export function write(input) {
  const hasImage = input.image_url || input.controlnet?.control_image_url;
  const values = { ...DEFAULTS, ...(hasImage ? { image_size: SAME_SIZE } : {}), ...input };
  initialImage.useUrl(values.image_url);
  mask.useUrl(values.mask_image_url);
  skipLayers.set(values);
  loras.set(values.loras);
  for (const network of Object.values(NETWORKS)) network.set(values[network.field]);
  offset = values.image_offset;
  for (const name of [...TEXTS, ...NUMBERS]) $(name).value = values[name] ?? "";
  for (const name of SWITCHES) $(name).checked = values[name];
  for (const [name, group] of Object.entries(groups)) group.set(values[name]);
  for (const slider of form.querySelectorAll("input[type=range]")) slider.value = $(slider.dataset.for).value;
  form.querySelectorAll("[data-field]").forEach(clear);
  $("problem-form").textContent = "";
  for (const name of TEXTS) grow($(name));
  refresh();
}

/** Fills the form for somebody who looks at it, as `write` does. */
export function fill(given) {
  write(given);
  notify();
}

/** Width and height of the images, as far as the fields say it. */
export function size() {
  const { width, height } = given() ?? {};
  const asked = groups.image_size.get();
  return asked === SAME_SIZE && width ? [width, height] : pixels(asked);
}

function maskChanged() {
  clear($("initial").querySelector("[data-field=mask_image_url]"));
  notify();
}

function lorasChanged() {
  clear($("loras-field"));
  notify();
}

function networkChanged({ field }) {
  clear($(`${field}-field`));
  fitSize();
  refresh();
  notify();
}

/** There is another initial image, or none. */
function imageChanged() {
  fitSize();
  mask.fitTo(initialImage.get());
  clear($("initial").querySelector("[data-field=image_url]"));
  fit();
  refresh();
  notify();
}

/** An image that is given or taken away: the generated ones get its size; a control image's unless another was chosen. */
function fitSize() {
  const isSet = given() !== null;
  const tile = $("sizes").querySelector(`[value="${SAME_SIZE}"]`);
  if (isSet !== tile.disabled) return;
  tile.disabled = !isSet;
  const isChosen = groups.image_size.get() !== DEFAULTS.image_size;
  if (!isSet) groups.image_size.set(DEFAULTS.image_size);
  else if (initialImage.get() || !isChosen) groups.image_size.set(SAME_SIZE);
}

/** Shows what follows from the fields. */
function refresh() {
  const isCustom = typeof groups.image_size.get() !== "string";
  $("custom").hidden = !isCustom;
  $("offset").hidden = offset === 0;
  $("offset-words").textContent = `Image ${offset + 1} of this seed alone`;
  $("pixels").textContent = isCustom ? "" : size().join(" × ");
}

function grow(area) {
  if (CSS.supports("field-sizing", "content")) return;
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight}px`;
}

/** What is wrong with the fields, in the shape of the server's own list. */
export function check() {
  const values = read();
  const problems = [];
  const add = (loc, msg) => problems.push({ loc: ["body", ...loc], msg });
  if (initialImage.get() && !imageEndpoint(models.current())) {
    add(["image_url"], "This model does not start from an image: clear it, or choose another model.");
  }
  if (values.prompt.trim() === "") add(["prompt"], "Describe the image.");
  for (const name of NUMBERS) {
    const words = wrong(values[name], LIMITS[name], name === "seed");
    if (words) add([name], words);
  }
  for (const side of typeof values.image_size === "object" ? ["width", "height"] : []) {
    const words = wrong(values.image_size[side], LIMITS[side]);
    if (words) add(["image_size", side], words);
  }
  return [...problems, ...skipLayers.problems(), ...loras.problems(), ...Object.values(NETWORKS).flatMap((network) => network.problems())];
}

/** Puts each problem at its field, or above the button if it has none; returns how many there are. */
export function showProblems(problems) {
  const lost = [];
  for (const { loc = [], msg } of problems) {
    const [, name, ...place] = loc;
    const field = name && form.querySelector(`[data-field="${CSS.escape(name)}"]`);
    if (!field) {
      lost.push(name ? `${name}: ${msg}` : msg);
      continue;
    }
    const output = $(`problem-${name}`);
    const label = place.length > 0 ? labelOf(name, place) : undefined;
    const sentence = label ? `${label}: ${msg}` : msg;
    output.textContent = output.textContent ? `${output.textContent} ${sentence}` : sentence;
    controlsOf(field, name, place).forEach((control) => control.setAttribute("aria-invalid", "true"));
    field.classList.add("is-wrong");
  }
  $("problem-form").textContent = lost.join(" ");
  return problems.length;
}

/** A place within a field, for people: a side of the size, an item of a list, or a field of a network. */
function labelOf(name, place) {
  if (name in NETWORKS) return NETWORKS[name].labelOf(place);
  return { width: "Width", height: "Height" }[place[0]] ?? Number(place[0]) + 1;
}

function controlsOf(field, name, place) {
  if (name in NETWORKS) return [NETWORKS[name].controlOf(place)];
  if (name === "loras" && place.length > 0) return loras.controlsOf(place);
  if (name === "image_size" && place.length > 0) return [$(place[0])];
  return [...field.querySelectorAll("input:not([type=range]), textarea")];
}

/** Shows a refusal at the fields that it names; false if it names none. */
export function showRefusal({ problems = [] }) {
  if (problems.length === 0) return false;
  showProblems(problems);
  focusProblem();
  return true;
}

/** Takes away what was said of all fields. */
export function clearProblems() {
  form.querySelectorAll("[data-field]").forEach(clear);
  $("problem-form").textContent = "";
}

function clear(field) {
  field.classList.remove("is-wrong");
  $(`problem-${field.dataset.field}`).textContent = "";
  field.querySelectorAll("[aria-invalid]").forEach((control) => control.removeAttribute("aria-invalid"));
}

/** Scrolls the first invalid field into view. */
export function focusProblem() {
  const control = form.querySelector("[aria-invalid]");
  if (!control) return;
  const settings = $("settings");
  if (settings.contains(control)) settings.open = true;
  control.focus();
}
