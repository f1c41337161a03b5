// The ControlNet of the form: its file, its control image, how strongly it steers and during which steps.

import * as api from "./api.js";
import { $, make, onFile } from "./dom.js";
import { imageField } from "./image-field.js";
import { CONTROLNET, DEFAULTS, LIMITS } from "./limits.js";
import { number, wrong } from "./numbers.js";

/** The fields that are numbers, and what people call every field. */
const NUMBERS = ["conditioning_scale", "start_percentage", "end_percentage"];
const LABELS = {
  path: "File",
  control_image_url: "Control image",
  conditioning_scale: "Scale",
  start_percentage: "Start",
  end_percentage: "End",
};

let notify = () => {};
let refuse = () => {};
let isOpen = false;

/** The control image. */
export const image = imageField($("control-preview"), () => (render(), notify()), (text) => refuse("control_image_url", text));

/** `changed` is called when another value is given, `refused(name, text)` when the file of a field cannot be uploaded. */
export function start(changed, refused) {
  [notify, refuse] = [changed, refused];
  $("controlnet-add").addEventListener("click", () => {
    open();
    $("controlnet-path").focus();
    notify();
  });
  $("controlnet-remove").addEventListener("click", () => {
    set(null);
    $("controlnet-add").focus();
    notify();
  });
  $("control-clear").addEventListener("click", () => {
    image.clear();
    $("control-file").focus();
  });
  onFile($("controlnet-file"), upload);
  onFile($("control-file"), (file) => useFile(file));
}

/** The value of the field, without what is as by default; `null` where there is no ControlNet. */
export function get() {
  if (!isOpen) return null;
  const url = image.get()?.url;
  const numbers = NUMBERS.map((name) => [name, number(name)]).filter(([name, value]) => value !== DEFAULTS[name]);
  return { path: $("controlnet-path").value.trim(), ...(url && { control_image_url: url }), ...Object.fromEntries(numbers) };
}

/** Shows this ControlNet, or none. */
export function set(value) {
  const { path = "", control_image_url: url = null, ...numbers } = value ?? {};
  isOpen = Boolean(value);
  $("controlnet-path").value = path;
  for (const name of NUMBERS) {
    const slider = $("controlnet").querySelector(`[data-for="${name}"]`);
    $(name).value = slider.value = numbers[name] ?? DEFAULTS[name];
  }
  if (isOpen) useUrl(url);
  else if (image.get()) image.clear();
  fit();
}

export function useFile(blob, name = blob.name || "The pasted image") {
  open();
  image.useFile(blob, name);
}

export function useUrl(url, name = "An image of this server") {
  open();
  image.useUrl(url, name);
}

/** Hides what the endpoint does not take, unless it is filled, and lists the names that the server offers. */
export function fit() {
  $("controlnet-field").hidden = !CONTROLNET.isServed && !isOpen;
  $("controlnet").hidden = !isOpen;
  $("controlnet-more").hidden = isOpen;
  $("drop-control").hidden = !CONTROLNET.isServed;
  $("controlnet-names").replaceChildren(...CONTROLNET.names.map((value) => make("option", { value })));
  render();
}

/** What is wrong with the fields, in the shape of the server's own list. */
export function problems() {
  if (!isOpen) return [];
  const found = [];
  const add = (place, msg) => found.push({ loc: ["body", "controlnet", ...place], msg });
  if (!CONTROLNET.isServed) add([], "This model takes no ControlNet: remove it, or choose another model.");
  if ($("controlnet-path").value.trim() === "") add(["path"], "Name one: a URL, or owner/name on the Hugging Face hub.");
  if (!image.get()) add(["control_image_url"], "Choose one.");
  for (const name of NUMBERS) {
    const words = wrong(number(name), LIMITS[name]);
    if (words) add([name], words);
  }
  return found;
}

/** The control and the label of a problem's place, such as `["path"]`. */
export const controlOf = ([name]) => $({ path: "controlnet-path", control_image_url: "control-file" }[name] ?? name);
export const labelOf = ([name]) => LABELS[name];

function open() {
  if (isOpen) return;
  isOpen = true;
  fit();
}

function render() {
  const shown = image.get();
  $("control-set").hidden = shown === null;
  $("control-hint").hidden = shown !== null;
  $("control-clear").hidden = shown === null;
  $("control-choose").textContent = shown ? "Choose another" : "Choose an image";
  const size = shown?.width ? ` · ${shown.width} × ${shown.height}` : "";
  $("control-name").textContent = shown ? `${shown.name}${size}${shown.url ? "" : " · Uploading…"}` : "";
}

async function upload(file) {
  $("controlnet-choose").textContent = "Uploading…";
  try {
    $("controlnet-path").value = await api.upload(file);
    notify();
  } catch (error) {
    refuse("path", `${file.name} could not be uploaded: ${error.message}`);
  } finally {
    $("controlnet-choose").textContent = "Upload a file";
  }
}
