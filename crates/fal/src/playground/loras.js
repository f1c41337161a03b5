// The LoRA adapters of the form: a list of paths with scales, where the server's endpoint takes them.

import * as api from "./api.js";
import { $, button, make, onFile } from "./dom.js";
import { LORAS } from "./limits.js";

let notify = () => {};
let refuse = () => {};

/** `changed` is called when a row comes, goes or is filled, `refused(text)` when a file cannot be uploaded. */
export function start(changed, refused) {
  [notify, refuse] = [changed, refused];
  $("lora-add").addEventListener("click", () => {
    const row = add();
    row.querySelector("input").focus();
    notify();
  });
  onFile($("lora-file"), upload);
}

/** The value of the field; `null` where there is no row. */
export function get() {
  const values = rows().map((row) => {
    const [path, scale] = row.querySelectorAll("input");
    return { path: path.value.trim(), scale: scale.value.trim() === "" ? null : Number(scale.value.replace(",", ".")) };
  });
  return values.length > 0 ? values : null;
}

/** Shows these adapters. */
export function set(values) {
  if (JSON.stringify(values ?? null) === JSON.stringify(get())) return;
  $("loras").replaceChildren();
  for (const { path, scale = LORAS.scale.default } of values ?? []) add(path, scale);
  fit();
}

/** Hides what the endpoint does not take, unless it is filled. */
export function fit() {
  const count = rows().length;
  $("loras-field").hidden = !LORAS.isServed && count === 0;
  $("lora-more").hidden = !LORAS.isServed || count >= LORAS.max;
}

/** What is wrong with the rows, in the shape of the server's own list. */
export function problems() {
  const found = [];
  const { min, max } = LORAS.scale;
  (get() ?? []).forEach(({ path, scale }, at) => {
    if (!LORAS.isServed) found.push([[at], "This model takes no LoRA: remove it, or choose another model."]);
    if (path === "") found.push([[at, "path"], "Name a file: a URL, or owner/name on the Hugging Face hub."]);
    if (!(scale >= min && scale <= max) || scale === null) found.push([[at, "scale"], `A scale from ${min} to ${max}.`]);
  });
  return found.map(([place, msg]) => ({ loc: ["body", "loras", ...place], msg }));
}

/** The fields of a problem's place, such as `[0, "path"]`. */
export function controlsOf([at, name]) {
  const inputs = [...(rows()[at]?.querySelectorAll("input") ?? [])];
  return name === "scale" ? inputs.slice(1) : inputs.slice(0, 1);
}

const rows = () => [...$("loras").children];

function add(path = "", scale = LORAS.scale.default) {
  const remove = button("Remove", () => {
    row.remove();
    fit();
    $("lora-add").focus();
    notify();
  });
  remove.setAttribute("aria-label", "Remove this LoRA");
  const row = make(
    "li",
    {},
    make("input", { value: path, placeholder: "URL, or owner/name on the hub", "aria-label": "LoRA file", "aria-describedby": "problem-loras" }),
    make("input", { value: scale, inputMode: "decimal", "aria-label": "Scale", "aria-describedby": "problem-loras" }),
    remove,
  );
  $("loras").append(row);
  fit();
  return row;
}

async function upload(file) {
  $("lora-choose").textContent = "Uploading…";
  try {
    add(await api.upload(file));
    notify();
  } catch (error) {
    refuse(`${file.name} could not be uploaded: ${error.message}`);
  } finally {
    $("lora-choose").textContent = "Upload a file";
  }
}
