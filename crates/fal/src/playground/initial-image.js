// The initial image of the form: a file that is uploaded to the server's storage, or an image that is there already.

import * as api from "./api.js";
import { $, onFile } from "./dom.js";
import * as keyDialog from "./key-dialog.js";

/** `{ url, name, width, height }`, without a URL while it is uploaded; `null` where there is none. */
let image = null;
/** The upload in progress. */
let upload = Promise.resolve();
let notify = () => {};
let refuse = () => {};

/** `changed` is called when there is another image, `refused(text)` when one cannot be used. */
export function start(changed, refused) {
  [notify, refuse] = [changed, refused];
  onFile($("initial-file"), (file) => useFile(file));
  $("initial-clear").addEventListener("click", () => {
    replace(null);
    $("initial-file").focus();
  });
}

export const get = () => image;
/** Resolves when nothing is being uploaded. */
export const ready = () => upload;

/** Uploads a file and uses it; `name` is for people. */
export function useFile(blob, name = blob.name || "The pasted image") {
  const chosen = { name };
  replace(chosen, URL.createObjectURL(blob));
  upload = send(chosen, blob);
}

/** Uses an image that has a URL, or none. */
export function useUrl(url, name = "An image of this server") {
  if (url === (image?.url ?? null)) return;
  const own = url && api.imageUrl(url);
  replace(url ? { url, name } : null, own?.startsWith(api.BASE) ? own : "");
}

async function send(chosen, blob) {
  try {
    const url = await api.upload(blob);
    if (image !== chosen) return;
    image.url = url;
    render();
    notify();
  } catch (error) {
    if (image !== chosen) return;
    if (error.status === 401 && (await keyDialog.ask(api.key.get() !== ""))) return send(chosen, blob);
    replace(null);
    refuse(`It could not be uploaded: ${error.message}`);
  }
}

/** Shows another image, and learns its size where the browser can decode it. */
function replace(next, preview) {
  const element = $("initial-preview");
  URL.revokeObjectURL(element.src);
  image = next;
  element.hidden = !preview;
  if (preview) {
    element.src = preview;
    element.decode().then(measured, undecoded);
  } else {
    element.removeAttribute("src");
  }
  render();
  notify();

  function measured() {
    if (image !== next) return;
    [next.width, next.height] = [element.naturalWidth, element.naturalHeight];
    render();
    notify();
  }

  // The server reads more formats than a browser shows.
  function undecoded() {
    if (image === next) element.hidden = true;
  }
}

function render() {
  $("initial").classList.toggle("is-set", image !== null);
  $("initial-set").hidden = image === null;
  $("initial-hint").hidden = image !== null;
  $("initial-choose").textContent = image ? "Choose another" : "Choose an image";
  const size = image?.width ? ` · ${image.width} × ${image.height}` : "";
  $("initial-name").textContent = image ? `${image.name}${size}${image.url ? "" : " · Uploading…"}` : "";
}
