// The page: connects the form, the result view, the history and the server.

import * as commands from "./commands.js";
import * as api from "./api.js";
import * as codeView from "./code-view.js";
import { $, onFile } from "./dom.js";
import * as drop from "./drop.js";
import * as deletions from "./deletions.js";
import * as form from "./form.js";
import * as gallery from "./gallery.js";
import * as history from "./history.js";
import { imageActions } from "./image-actions.js";
import * as keyDialog from "./key-dialog.js";
import * as initialImage from "./initial-image.js";
import { DEFAULTS, learn, load } from "./limits.js";
import * as models from "./models.js";
import * as mask from "./mask.js";
import { NETWORKS } from "./networks.js";
import { restore } from "./restore.js";
import * as result from "./result.js";
import * as serverStatus from "./server-status.js";
import * as session from "./session.js";
import * as store from "./store.js";
import * as tabs from "./tabs.js";
import * as viewer from "./viewer.js";

const HASH = /^#request=([\w-]+)$/;

/** Renders what depends on the requests. */
function render() {
  const entry = session.shown();
  const listed = session.listed();
  result.render(entry, { size: form.size(), count: form.read().num_images, isFirst: listed.length === 0 }, commands);
  history.render(listed, entry, commands.choose);
  gallery.render(listed);
  codeView.render({ shown: entry });
}

/** The settings in the form are others now. */
function formChanged() {
  store.draft.set(form.input());
  codeView.render({ input: form.input() });
  if (!session.shown()) render();
}

/** Shows the request that the address names, or one that still runs. */
function openAddress() {
  const id = HASH.exec(location.hash)?.[1];
  if (id) session.open(id);
  else session.show(session.all().find(({ state }) => state === "running") ?? null);
}

/** The log of an earlier request is fetched when somebody opens it. */
async function tabOpened(view) {
  const entry = session.shown();
  gallery.render(session.listed());
  if (view !== "log" || entry?.state !== "done" || entry.live) return;
  const { logs } = await api.status(entry.id).catch(() => ({ logs: [] }));
  entry.live = { logs };
  render();
}

/** A server that is back may be another one: its models and limits are asked for again. */
async function serverReturned() {
  await Promise.all([load(), models.refresh()]);
  learn(models.current());
  form.fit();
}

function startKeys() {
  const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
  $("shortcut").textContent = isMac ? "⌘ ↵" : "Ctrl ↵";
  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    commands.generate();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") return escaped(event);
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || document.querySelector("dialog[open]")) return;
    event.preventDefault();
    if (!$("generate").disabled) commands.generate();
  });
}

/** Escape cancels what is being generated, unless it closes something. */
function escaped(event) {
  const entry = session.shown();
  const isBusy = entry?.state === "running" && entry.live?.status && !entry.live.cancelling;
  if (isBusy && !event.isComposing && !event.target.matches("[type=search]") && !document.querySelector("dialog[open]")) commands.cancel();
}

async function start() {
  form.start(formChanged);
  codeView.start();
  tabs.start(tabOpened);
  keyDialog.start(() => codeView.render());
  viewer.start((entry, index) => imageActions(entry, index, commands));
  const useIn = ({ useFile }) => (file) => useFile(file);
  const ofNetworks = { control: useIn(NETWORKS.controlnet), "image-prompt": useIn(NETWORKS.ip_adapter) };
  drop.start({ initial: useIn(initialImage), ...ofNetworks, mask: useIn(mask), settings: restore });
  onFile($("settings-file"), restore);
  gallery.start(commands);
  startKeys();
  if (matchMedia("(max-width: 60rem)").matches) $("settings").open = false;
  await session.start(render);
  // What was deleted earlier is erased: what is deleted from now on can be undone, also while the server is asked for more.
  const erased = deletions.start();
  await Promise.all([models.start(commands.swapModel, commands.usePrompt), load()]);
  learn(models.current());
  form.fit();
  form.write(store.draft.get() ?? DEFAULTS);
  openAddress();
  addEventListener("hashchange", openAddress);
  formChanged();
  serverStatus.start(serverReturned);
  await erased;
  await session.checkEarlier();
}

start();
