// The page: connects the form, the result view, the history and the server.

import * as api from "./api.js";
import * as codeView from "./code-view.js";
import { $ } from "./dom.js";
import * as form from "./form.js";
import * as history from "./history.js";
import * as keyDialog from "./key-dialog.js";
import { DEFAULTS, learn } from "./limits.js";
import * as models from "./models.js";
import * as result from "./result.js";
import * as store from "./store.js";
import * as tabs from "./tabs.js";
import { follow, settled } from "./watch.js";
import { plain } from "./words.js";

/** A key that may not erase on the server still clears this browser. */
const NOT_ERASED = "Removed from this browser alone: on the server only the key of an administrator deletes.";

const HASH = /^#request=([\w-]+)$/;

/** Every request that this browser remembers, the newest first. */
let entries = [];
/** The one in the frame; `null` before the first. */
let shown = null;
/** Ends the watch of the one in the frame. */
let watch = new AbortController();
/** Requests in the background that are being waited for. */
const awaited = new Map();

function render() {
  result.show(shown, form.input(), acts);
  history.draw(entries.filter(({ state }) => state !== "failed"), shown, choose);
}

/** What a person may do with the image in the frame. */
const acts = {
  example(prompt) {
    form.write({ ...form.read(), prompt });
    changed();
    $("prompt").focus();
  },
  async cancel() {
    const entry = shown;
    entry.live.cancelling = true;
    render();
    // The end comes by the stream, also where the request was quicker than this call.
    await api.cancel(entry.id).catch((error) => {
      entry.live.cancelling = false;
      if (error.status !== 400) form.showProblems([{ msg: error.message }]);
      render();
    });
  },
  async again() {
    await take(shown, shown.input);
    generate();
  },
  async remove() {
    const entry = shown;
    form.clearProblems();
    try {
      await api.erase(entry.id);
    } catch (error) {
      if (error.status === 401 && (await keyDialog.ask(api.key.get() !== ""))) return acts.remove();
      // Without an answer, or with another refusal, the image stays here, so that it can be deleted later.
      if (error.status !== 404) form.showProblems([{ msg: error.status === 403 ? NOT_ERASED : error.message }]);
      if (error.status !== 404 && error.status !== 403) return;
    }
    entries = entries.filter((other) => other !== entry);
    show(null);
    await store.remove(entry.id);
  },
  seed(number) {
    $("seed").value = number;
    $("seed").dispatchEvent(new Event("input", { bubbles: true }));
  },
  async missing(entry) {
    if (entry.gone || !(await api.isGone(entry.output.images[0].url))) return;
    entry.gone = true;
    await keep(entry);
    render();
  },
  seen(entry, image) {
    if (entry.thumb || entry.gone) return;
    entry.thumb = history.thumbnail(image);
    keep(entry);
    render();
  },
};

/** Sends the form. */
async function generate() {
  form.clearProblems();
  if (form.showProblems(form.check()) > 0) return form.focusProblem();
  const input = form.input();
  $("generate").disabled = true;
  try {
    const endpoint = models.current();
    const { request_id: id } = await api.submit(endpoint, input);
    const entry = { id, at: Date.now(), endpoint, input, state: "running" };
    entries.unshift(entry);
    await keep(entry);
    show(entry);
    tabs.open("image");
    if (matchMedia("(max-width: 60rem)").matches) $("frame").scrollIntoView({ block: "center" });
  } catch (error) {
    await refused(error, input);
  } finally {
    $("generate").disabled = false;
  }
}

/** The server did not take the request, or nobody was there. */
async function refused(error, input) {
  if (error.status === 401 && (await keyDialog.ask(api.key.get() !== ""))) return generate();
  if (error.problems?.length > 0) {
    form.showProblems(error.problems);
    return form.focusProblem();
  }
  show({ id: "", at: Date.now(), input, state: "failed", error: plain(error) });
}

/** Puts a request into the frame and watches it. */
function show(entry) {
  const left = shown;
  if (left?.state === "failed" && left !== entry) entries = entries.filter((other) => other !== left);
  watch.abort();
  watch = new AbortController();
  shown = entry;
  const hash = entry?.id ? `#request=${entry.id}` : "";
  if (location.hash !== hash) globalThis.history.replaceState(null, "", hash || location.pathname + location.search);
  if (entry?.state === "running") watchShown(entry, watch.signal);
  wait();
  render();
}

async function watchShown(entry, signal) {
  awaited.get(entry.id)?.abort();
  await follow(entry.id, signal, {
    progress(event) {
      const { cancelling } = entry.live ?? {};
      entry.live = { ...event, preview: event.preview ?? entry.live?.preview, cancelling };
      render();
    },
    lost() {
      entry.live = { logs: [], ...entry.live, lost: true };
      render();
    },
    end: (outcome) => end(entry, outcome),
  });
}

/** Waits for the running requests that are not in the frame. */
function wait() {
  for (const entry of entries) {
    if (entry.state !== "running" || entry === shown || awaited.has(entry.id)) continue;
    const control = new AbortController();
    awaited.set(entry.id, control);
    settled(entry.id, control.signal).then((outcome) => {
      awaited.delete(entry.id);
      if (outcome && !control.signal.aborted) end(entry, outcome);
    });
  }
}

/** A request is over. */
async function end(entry, { output, error, notes }) {
  if (error?.status === 401 && entry === shown) {
    if (await keyDialog.ask(api.key.get() !== "")) return show(entry);
  }
  if (output) {
    Object.assign(entry, { state: "done", output, notes });
    entry.input ??= inputOf(output);
    await keep(entry);
  } else {
    const unknown = error.status === 404;
    Object.assign(entry, { state: "failed", error: { ...plain(error), unknown } });
    if (error.status !== 401) await store.remove(entry.id);
    if (entry === shown && error.problems?.length > 0) {
      form.showProblems(error.problems);
      form.focusProblem();
    }
  }
  render();
}

/** The input as far as its output has it, where another browser sent it. */
function inputOf({ prompt, seed, images }) {
  const [{ width, height }] = images;
  return { prompt, seed, image_size: { width, height }, num_images: images.length };
}

async function keep(entry) {
  const dropped = await store.put(entry);
  entries = entries.filter(({ id }) => !dropped.includes(id));
}

/** An earlier image, and its settings with the seed that made it. */
async function choose(entry) {
  const { input, output } = entry;
  if (input) await take(entry, output ? { ...input, seed: output.seed } : input);
  show(entry);
  tabs.open("image");
}

/** Puts an input into the form, and the model that an earlier request was sent to. */
async function take({ endpoint }, input) {
  if (models.pick(endpoint)) await learn(endpoint);
  form.fit();
  form.write(input);
  changed();
}

/** Another model: what was as by default is so still, and the defaults are others. */
async function swap() {
  const input = form.input();
  await learn(models.current());
  await take({}, input);
}

/** The settings are others now. */
function changed() {
  store.draft.set(form.input());
  codeView.draw(form.input());
  if (!shown) render();
}

/** Shows the request that the address names; one that this browser does not know is asked for. */
function openAddress() {
  const id = HASH.exec(location.hash)?.[1];
  if (!id) return show(entries.find(({ state }) => state === "running") ?? null);
  if (id === shown?.id) return;
  let entry = entries.find((each) => each.id === id);
  if (!entry) {
    entry = { id, at: Date.now(), input: null, state: "running" };
    entries.unshift(entry);
  }
  show(entry);
}

/** Says how the server is, for as long as somebody looks. */
async function beat() {
  const words = {
    ready: "Ready",
    loading: "Loading the model",
    "no worker": "No worker runs",
    "every device is set aside": "Every device has failed",
    stopping: "Stopping",
    gone: "No answer",
  };
  if (!document.hidden) {
    const word = await api.health();
    $("server").textContent = words[word] ?? "";
    $("server").dataset.state = word;
  }
  setTimeout(beat, $("server").dataset.state === "ready" ? 15_000 : 3_000);
}

async function start() {
  form.start(changed);
  codeView.start();
  tabs.start(async (view) => {
    const entry = shown;
    if (view !== "log" || entry?.state !== "done" || entry.live) return;
    const { logs } = await api.status(entry.id).catch(() => ({ logs: [] }));
    entry.live = { logs };
    render();
  });
  keyDialog.start(() => codeView.draw(form.input()));
  const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
  $("shortcut").textContent = isMac ? "⌘ ↵" : "Ctrl ↵";
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    generate();
  });
  addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || $("key-dialog").open) return;
    event.preventDefault();
    if (!$("generate").disabled) generate();
  });
  if (matchMedia("(max-width: 60rem)").matches) $("settings").open = false;
  [entries] = await Promise.all([store.all(), models.start(swap).then(() => learn(models.current()))]);
  form.fit();
  form.write(store.draft.get() ?? DEFAULTS);
  openAddress();
  addEventListener("hashchange", openAddress);
  changed();
  beat();
  for (const entry of entries.filter(({ state }) => state === "done")) await acts.missing(entry);
}

start();
