// The initial image of the form.

import { $, onFile } from "./dom.js";
import { imageField } from "./image-field.js";

let notify = () => {};
let refuse = () => {};

const field = imageField($("initial-preview"), () => (render(), notify()), (text) => refuse(text));

/** `changed` is called when there is another image, `refused(text)` when one cannot be used. */
export function start(changed, refused) {
  [notify, refuse] = [changed, refused];
  onFile($("initial-file"), (file) => useFile(file));
  $("initial-clear").addEventListener("click", () => {
    field.clear();
    $("initial-file").focus();
  });
}

export const { get, ready } = field;

export const useFile = (blob, name = blob.name || "The pasted image") => field.useFile(blob, name);
export const useUrl = (url, name = "An image of this server") => field.useUrl(url, name);

function render() {
  const image = field.get();
  $("initial").classList.toggle("is-set", image !== null);
  $("initial-set").hidden = image === null;
  $("initial-hint").hidden = image !== null;
  $("initial-choose").textContent = image ? "Choose another" : "Choose an image";
  const size = image?.width ? ` · ${image.width} × ${image.height}` : "";
  $("initial-name").textContent = image ? `${image.name}${size}${image.url ? "" : " · Uploading…"}` : "";
}
