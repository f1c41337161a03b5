// The mask of the form's initial image: what of it is generated anew. It is painted, or a file.

import { $, onFile } from "./dom.js";
import { imageField } from "./image-field.js";
import * as editor from "./mask-editor.js";
import { coverage, draw, fit } from "./mask-painting.js";

/** The longer side of what is shown over the small initial image. */
const SHOWN_SIDE = 512;

const picture = new Image();
let notify = () => {};
let refuse = () => {};
/** The initial image, and the mask that is shown. */
let [masked, shown] = [null, null];

const field = imageField(picture, changed, (text) => refuse(text));

/** `another` is called when there is another mask, `refused(text)` when one cannot be used. */
export function start(another, refused) {
  [notify, refuse] = [another, refused];
  editor.start();
  onFile($("mask-file"), (file) => useFile(file));
  $("mask-paint").addEventListener("click", edit);
  $("mask-remove").addEventListener("click", () => {
    field.clear();
    $("mask-paint").focus();
  });
}

export const { get, ready } = field;

export const useFile = (blob, name = blob.name || "The mask") => field.useFile(blob, name);
export const useUrl = (url, name = "A mask of this server") => field.useUrl(url, name);

/** Takes note of the initial image; a mask is of one image, and another one has none. */
export function fitTo(image) {
  if (image !== masked) editor.forget();
  if (image !== masked && field.get()) field.clear();
  masked = image;
  render();
}

function changed() {
  if (field.get() !== shown) editor.forget();
  shown = field.get();
  render();
  notify();
}

function edit() {
  const image = { source: $("initial-preview").src, width: masked.width, height: masked.height };
  editor.open(image, field.get()?.width ? picture : null, (file) => {
    if (file) useFile(file, "Painted");
    else field.clear();
    $("mask-paint").focus();
  });
}

function render() {
  const mask = field.get();
  $("drop-mask").hidden = masked === null;
  // What the browser cannot show nobody can paint over.
  $("mask-paint").hidden = !masked?.width;
  $("mask-paint").textContent = mask?.width ? "Edit the mask" : "Paint a mask";
  $("mask-choose").textContent = mask ? "Choose another file" : "Choose a file";
  $("mask-remove").hidden = mask === null;
  const overlay = $("mask-preview");
  overlay.hidden = !mask?.width || !masked?.width;
  let part = "";
  if (!overlay.hidden) {
    fit(overlay, masked, SHOWN_SIDE);
    draw(overlay, picture);
    part = ` · ${editor.percent(coverage(overlay))} is generated anew`;
  }
  const name = mask ? `${mask.name}${part}${mask.url ? "" : " · Uploading…"}` : "";
  $("mask-name").textContent = name || "Only what is painted over is generated anew; the rest is kept.";
}
