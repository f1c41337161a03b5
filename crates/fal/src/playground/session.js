// The requests of this browser and the one that is shown: sends, follows and keeps them.

import * as api from "./api.js";
import * as form from "./form.js";
import * as keyDialog from "./key-dialog.js";
import * as store from "./store.js";
import { thumbnailOf } from "./thumbnail.js";
import { follow, settled } from "./watch.js";
import { plain } from "./words.js";

/** Every request that this browser remembers, the newest first. */
let entries = [];
/** The one in the frame; `null` before the first. */
let current = null;
/** Ends the watch of the one in the frame. */
let watch = new AbortController();
/** Requests in the background that are being waited for. */
const awaited = new Map();
let notify = () => {};

/** Reads what this browser kept; `changed` is called whenever a request changes. */
export async function start(changed) {
  notify = changed;
  entries = await store.all();
}

/** Says that a request was changed from outside. */
export const changed = () => notify();
export const shown = () => current;
export const all = () => entries;
/** Those that a person may look at. */
export const listed = () => entries.filter(({ state, deleted }) => state !== "failed" && !deleted);
export const find = (id) => entries.find((entry) => entry.id === id);

/** Sends an input and shows the request; `size` is that of its images, `[width, height]`, `model` the one that answers. */
export async function send(endpoint, input, { size, model }) {
  try {
    const { request_id: id } = await api.submit(endpoint, input);
    await add({ id, at: Date.now(), endpoint, input, size, model, state: "running" });
    return true;
  } catch (error) {
    if (error.status === 401 && (await keyDialog.ask(api.key.get() !== ""))) return send(endpoint, input, { size, model });
    if (!form.showRefusal(error)) show({ id: "", at: Date.now(), endpoint, input, size, state: "failed", error: plain(error) });
    return false;
  }
}

async function add(entry) {
  entries.unshift(entry);
  await keep(entry);
  show(entry);
}

/** Puts a request into the frame and watches it. */
export function show(entry) {
  const left = current;
  if (left?.state === "failed" && left !== entry) entries = entries.filter((other) => other !== left);
  watch.abort();
  watch = new AbortController();
  current = entry;
  const hash = entry?.id ? `#request=${entry.id}` : "";
  if (location.hash !== hash) globalThis.history.replaceState(null, "", hash || location.pathname + location.search);
  if (entry?.state === "running") watchShown(entry, watch.signal);
  waitForOthers();
  notify();
}

/** Shows a request by its id; one that this browser does not know is asked for. */
export function open(id) {
  if (id === current?.id) return;
  let entry = find(id);
  if (!entry) {
    entry = { id, at: Date.now(), input: null, state: "running" };
    entries.unshift(entry);
  }
  show(entry);
}

/** Keeps a request as it is now. */
export async function keep(entry) {
  const dropped = await store.put(entry);
  if (dropped.length > 0) entries = entries.filter(({ id }) => !dropped.includes(id));
}

/** Takes requests out of this browser. */
export async function forget(gone) {
  entries = entries.filter((entry) => !gone.includes(entry));
  for (const { id } of gone) await store.remove(id);
}

async function watchShown(entry, signal) {
  awaited.get(entry.id)?.abort();
  await follow(entry.id, signal, {
    progress(event) {
      const { cancelling } = entry.live ?? {};
      entry.live = { ...event, preview: event.preview ?? entry.live?.preview, cancelling };
      notify();
    },
    lost() {
      entry.live = { logs: [], ...entry.live, lost: true };
      notify();
    },
    end: (outcome) => end(entry, outcome),
  });
}

/** Waits for the running requests that are not in the frame. */
function waitForOthers() {
  for (const entry of entries) {
    if (entry.state !== "running" || entry === current || awaited.has(entry.id)) continue;
    const control = new AbortController();
    awaited.set(entry.id, control);
    const progress = (live) => {
      entry.live = { logs: [], ...live };
      notify();
    };
    settled(entry.id, control.signal, progress).then((outcome) => {
      awaited.delete(entry.id);
      if (outcome && !control.signal.aborted) end(entry, outcome);
    });
  }
}

/** A request is over. */
async function end(entry, { output, error, notes }) {
  if (error?.status === 401 && entry === current && (await keyDialog.ask(api.key.get() !== ""))) return show(entry);
  if (output) {
    Object.assign(entry, { state: "done", output, notes });
    entry.input ??= inputOf(output);
    await keep(entry);
    addThumbnail(entry);
  } else {
    Object.assign(entry, { state: "failed", error: { ...plain(error), unknown: error.status === 404 } });
    if (error.status !== 401) await store.remove(entry.id);
    if (entry === current) form.showRefusal(error);
  }
  notify();
}

/** The input as far as its output has it, where another browser sent it. */
function inputOf({ prompt, seed, images }) {
  const [{ width, height }] = images;
  return { prompt, seed, image_size: { width, height }, num_images: images.length };
}

async function addThumbnail(entry) {
  entry.thumb = await thumbnailOf(api.imageUrl(entry.output.images[0].url)).catch(() => undefined);
  if (!entry.thumb) return checkFiles(entry);
  await keep(entry);
  notify();
}

/** Marks a finished request whose images the server no longer has. */
export async function checkFiles(entry) {
  if (entry.gone || !(await api.isGone(entry.output.images[0].url))) return;
  entry.gone = true;
  await keep(entry);
  notify();
}

/** Checks requests of earlier visits: are their files still there, and is there a thumbnail of each? */
export async function checkEarlier() {
  for (const entry of listed().filter(({ state }) => state === "done").slice(0, CHECKED)) {
    await checkFiles(entry);
    if (!entry.thumb && !entry.gone) await addThumbnail(entry);
  }
}

/** As many requests of earlier visits are checked, the newest. */
const CHECKED = 60;
