// A network that a request of the form brings, with an image: where its files are, the image, and how it is applied.

import * as api from "./api.js";
import { $, make, onFile } from "./dom.js";
import { imageField } from "./image-field.js";
import { DEFAULTS, LIMITS } from "./limits.js";
import { build } from "./network-fields.js";
import { number, wrong } from "./numbers.js";

/**
 * The fields of a network. `field` is the input's field, `title` and `article` are for people, and `served` says whether the
 * endpoint takes one, and the names that the operator gave some. `image` has the field of its image, the `id` that the
 * elements of the image begin with, and its label; `rows` have the numbers, each with its field, its `id` in the form and its
 * label, and `isSent` where it has no default on the server. `encoder` is the field of a second file, that of a named one.
 */
export function network(spec) {
  const { field, title, served, image, encoder } = spec;
  const numbers = spec.rows.flat();
  const part = (name) => $(`${field}-${name}`);
  const ofImage = (name) => $(`${image.id}-${name}`);
  let notify = () => {};
  let refuse = () => {};
  let isOpen = false;
  build(spec);
  const picture = imageField(ofImage("preview"), () => (render(), notify()), (text) => refuse(image.name, text));
  const path = () => part("path").value.trim();
  const isNamed = () => served.names.includes(path());

  /** `changed` is called when another value is given, `refused(name, text)` when the file of a field cannot be uploaded. */
  function start(changed, refused) {
    [notify, refuse] = [changed, refused];
    part("add").addEventListener("click", () => {
      open();
      part("path").focus();
      notify();
    });
    part("remove").addEventListener("click", () => {
      set(null);
      part("add").focus();
      notify();
    });
    part("path").addEventListener("input", render);
    ofImage("clear").addEventListener("click", () => {
      picture.clear();
      ofImage("file").focus();
    });
    ofImage("url").addEventListener("change", ({ target }) => {
      const url = target.value.trim();
      target.value = "";
      if (url === "") return;
      useUrl(url, /^data:/i.test(url) ? "A data URI" : url);
      ofImage("file").focus();
    });
    onFile(part("file"), upload);
    onFile(ofImage("file"), (file) => useFile(file));
  }

  /** The value of the field, without what is as by default; `null` where there is none. */
  function get() {
    if (!isOpen) return null;
    const url = picture.get()?.url;
    const values = numbers.map(({ id, name, isSent }) => [name, number(id), isSent || number(id) !== DEFAULTS[id]]);
    return {
      path: path(),
      ...(encoder && { [encoder.name]: isNamed() ? path() : part("encoder").value.trim() }),
      ...(url && { [image.name]: url }),
      ...Object.fromEntries(values.filter(([, , isSent]) => isSent)),
    };
  }

  /** Shows this network, or none. */
  function set(value) {
    isOpen = Boolean(value);
    part("path").value = value?.path ?? "";
    // That of a named network is the network's own.
    if (encoder) part("encoder").value = [undefined, value?.path].includes(value?.[encoder.name]) ? encoder.usual : value[encoder.name];
    for (const { id, name } of numbers) {
      const slider = $(field).querySelector(`[data-for="${id}"]`);
      $(id).value = slider.value = value?.[name] ?? DEFAULTS[id];
    }
    if (isOpen) useUrl(value[image.name] ?? null);
    else if (picture.get()) picture.clear();
    fit();
  }

  function useFile(blob, name = blob.name || "The pasted image") {
    open();
    picture.useFile(blob, name);
  }

  function useUrl(url, name = "An image of this server") {
    open();
    picture.useUrl(url, name);
  }

  /** Hides what the endpoint does not take, unless it is filled, and lists the names that the server offers. */
  function fit() {
    part("field").hidden = !served.isServed && !isOpen;
    $(field).hidden = !isOpen;
    part("more").hidden = isOpen;
    $(`drop-${image.id}`).hidden = !served.isServed;
    part("names").replaceChildren(...served.names.map((value) => make("option", { value })));
    render();
  }

  /** What is wrong with the fields, in the shape of the server's own list. */
  function problems() {
    if (!isOpen) return [];
    const found = [];
    const add = (place, msg) => found.push({ loc: ["body", field, ...place], msg });
    if (!served.isServed) add([], `This model takes no ${title}: remove it, or choose another model.`);
    if (path() === "") add(["path"], "Name one: a URL, or owner/name on the Hugging Face hub.");
    if (encoder && !isNamed() && part("encoder").value.trim() === "") add([encoder.name], "Name one: owner/name on the Hugging Face hub.");
    if (!picture.get()) add([image.name], "Choose one.");
    for (const { id, name } of numbers) {
      const words = wrong(number(id), LIMITS[id]);
      if (words) add([name], words);
    }
    return found;
  }

  /** The control and the label of a problem's place, such as `["path"]`. */
  function controlOf([name]) {
    if (name === image.name) return ofImage("file");
    if (encoder && name === encoder.name && !isNamed()) return part("encoder");
    return $(numbers.find((one) => one.name === name)?.id) ?? part("path");
  }

  function labelOf([name]) {
    const labels = { path: "File", [image.name]: image.label, ...(encoder && { [encoder.name]: encoder.label }) };
    return labels[name] ?? numbers.find((one) => one.name === name)?.label;
  }

  /** Brings its image into view. */
  function show() {
    $("settings").open = true;
    part("field").scrollIntoView({ block: "nearest" });
    ofImage("file").focus();
  }

  function open() {
    if (isOpen) return;
    isOpen = true;
    fit();
  }

  function render() {
    const shown = picture.get();
    if (encoder) part("encoder-row").hidden = isNamed();
    ofImage("set").hidden = ofImage("clear").hidden = shown === null;
    ofImage("hint").hidden = ofImage("url").hidden = shown !== null;
    ofImage("choose").textContent = shown ? "Choose another" : "Choose an image";
    const size = shown?.width ? ` · ${shown.width} × ${shown.height}` : "";
    ofImage("name").textContent = shown ? `${shown.name}${size}${shown.url ? "" : " · Uploading…"}` : "";
  }

  async function upload(file) {
    part("choose").textContent = "Uploading…";
    try {
      part("path").value = await api.upload(file);
      render();
      notify();
    } catch (error) {
      refuse("path", `${file.name} could not be uploaded: ${error.message}`);
    } finally {
      part("choose").textContent = "Upload a file";
    }
  }

  return { field, served, imageLabel: image.label, image: picture, start, get, set, useFile, useUrl, fit, problems, controlOf, labelOf, show };
}
