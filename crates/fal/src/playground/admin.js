// The page of administrators: what the server does, and what can be done about it.

import { fill } from "./admin-rows.js";
import { short, size, span, time } from "./admin-words.js";
import * as api from "./api.js";
import * as confirm from "./confirm.js";
import { $, button, make } from "./dom.js";
import * as keyDialog from "./key-dialog.js";
import * as notice from "./notice.js";
import * as serverStatus from "./server-status.js";

const POLL_MS = 2_000;
/** What is stored is added up by the database, which takes a while where there are many files. */
const STORAGE_MS = 30_000;

let timer;
/** Counts the looks, so that an answer that was overtaken is dropped. */
let looks = 0;
/** When storage was asked for last, on the page's clock. */
let storageAt = -STORAGE_MS;

/** Asks for everything, and again after a while, as long as somebody looks and the key is right. */
async function look() {
  clearTimeout(timer);
  looks += 1;
  const own = looks;
  const isRefused = !document.hidden && (await show(own));
  if (own === looks && !isRefused) timer = setTimeout(look, POLL_MS);
}

/** Shows everything; true if that takes another key. */
async function show(own) {
  try {
    const now = performance.now();
    const names = ["requests", "workers", "keys", ...(now - storageAt < STORAGE_MS ? [] : ["storage"])];
    const [requests, workers, keys, storage] = await Promise.all(names.map((name) => api.admin(name)));
    if (own !== looks) return false;
    showQueue(requests, workers);
    showWorkers(workers, requests);
    showKeys(keys);
    if (storage) {
      storageAt = now;
      showStorage(storage);
    }
    showFailures(requests);
    refuse("");
    return false;
  } catch (error) {
    if (own !== looks || error instanceof api.Unreachable) return false;
    if (error.status === 401 && (await keyDialog.ask(api.key.get() !== ""))) return show(own);
    refuse(error.status === 401 ? "This page needs the key of an administrator." : error.message);
    return error.status === 401 || error.status === 403;
  }
}

/** Shows why nothing is shown, or the content again. */
function refuse(words) {
  if ($("refused-words").textContent !== words) $("refused-words").textContent = words;
  $("refused").hidden = words === "";
  $("content").hidden = words !== "";
}

function showQueue({ waiting, running, requests }, { workers }) {
  const devices = new Map(workers.map(({ id, device }) => [id, device]));
  const shown = requests.length < waiting + running ? `, of which ${requests.length} are listed` : "";
  const words = `${waiting} waiting, ${running} running${shown}`;
  if ($("queue-count").textContent !== words) $("queue-count").textContent = words;
  const describe = (request) => ({
    id: request.request_id,
    cells: [stateOf(request), idOf(request), request.endpoint, keyOf(request), span(request.age_seconds), workerOf(request, devices)],
    tone: { running: "good", cancelling: "wrong" }[request.state],
  });
  fill($("queue"), requests, describe, ({ request_id: id, state }) =>
    state === "cancelling" ? null : button("Cancel", () => cancel(id), { "aria-label": `Cancel request ${short(id)}` }),
  );
}

function stateOf({ state, running_seconds: running, priority }) {
  const low = priority === "low" ? ", low priority" : "";
  if (state === "waiting") return `Waiting${low}`;
  return `${state === "running" ? "Running" : "Cancelling"} for ${span(running)}${low}`;
}

const idOf = ({ request_id: id }) => make("a", { className: "quiet", href: `./#request=${id}`, title: id }, short(id));
const keyOf = ({ key, key_name: name }) => name || (key ? short(key) : "–");

function workerOf({ worker, attempt }, devices) {
  if (!worker) return "";
  const again = attempt > 1 ? `, attempt ${attempt}` : "";
  return `${devices.get(worker) ?? short(worker)}${again}`;
}

function showWorkers({ workers, devices }, { requests }) {
  const runs = (id) => requests.filter(({ worker }) => worker === id).length;
  fill($("workers"), workers, (worker) => ({
    id: worker.id,
    cells: [
      worker.device,
      worker.state === "ready" ? "Ready" : "Loading",
      worker.models.join(", "),
      String(runs(worker.id)),
      span(worker.age_seconds),
      `${span(worker.silent_seconds)} ago`,
      make("span", { title: worker.id }, short(worker.id)),
    ],
    tone: worker.state === "ready" ? "good" : "",
  }));
  fill($("devices"), devices, ({ device, set_aside: reason }) => ({
    id: device,
    cells: [device, reason === null ? "In use" : "Set aside", reason ?? ""],
    tone: reason === null ? "good" : "wrong",
  }));
}

function showKeys({ keys }) {
  const describe = (key) => ({
    id: key.id,
    cells: [
      `${key.name || "–"}${key.is_own ? " (this one)" : ""}`,
      make("code", {}, key.id),
      key.scope,
      key.concurrency === null ? String(key.running) : `${key.running} of ${key.concurrency}`,
      time(key.created_at),
      time(key.last_used_at) || "Never",
      key.revoked_at ? `Revoked ${time(key.revoked_at)}` : "Live",
    ],
    tone: key.revoked_at ? "faint" : "",
  });
  fill($("keys"), keys, describe, (key) =>
    key.revoked_at ? null : button("Revoke", () => revoke(key), { "aria-label": `Revoke the key ${key.name || key.id}` }),
  );
}

function showStorage({ stored_bytes: stored, deletable_bytes: deletable, max_bytes: most, adapter_cache_bytes: adapters, disks }) {
  const facts = [
    ["Files of results and uploads", most === null ? size(stored) : `${size(stored)} of ${size(most)}`],
    ["Of them the limit may delete", size(deletable)],
    ["LoRA adapters that are kept", size(adapters)],
  ];
  const list = $("storage");
  if (!list.hasChildNodes()) list.append(...facts.map(([name]) => make("div", {}, make("dt", {}, name), make("dd"))));
  facts.forEach(([, value], at) => (list.children[at].lastChild.textContent = value));
  fill($("disks"), disks, ({ path, free_bytes: free, min_free_bytes: least }) => ({
    id: path,
    cells: [make("code", {}, path), free === null ? "Not known" : size(free), size(least)],
  }));
}

function showFailures({ failures }) {
  fill($("failures"), failures, (request) => ({
    id: request.request_id,
    cells: [time(request.failed_at), idOf(request), request.endpoint, keyOf(request), request.outcome, request.message],
  }));
}

/** Does something, says what became of it, and looks again. */
async function act(promise, words) {
  try {
    await promise;
    notice.show(words);
  } catch (error) {
    notice.show(error.message);
  }
  await look();
}

async function cancel(id) {
  const words = "Its client gets a 499 for a result. What was generated of it is not kept.";
  if (await confirm.ask(`Cancel request ${short(id)}?`, words, "Cancel it")) await act(api.cancel(id), `Request ${short(id)} is cancelled.`);
}

async function revoke({ id, name, is_own: isOwn }) {
  const own = isOwn ? " It is the key that this page uses." : "";
  const words = `It opens nothing any more, and cannot be brought back. What it submitted goes on.${own}`;
  if (await confirm.ask(`Revoke the key ${name || id}?`, words, "Revoke it")) await act(api.revoke(id), `The key ${name || id} is revoked.`);
}

async function drain() {
  const words = "It accepts nothing new, finishes what runs, and ends. What waits stays in the queue. A service manager may start it again.";
  if (await confirm.ask("Drain this server?", words, "Drain it")) await act(api.drain(), "The server finishes what runs, and ends.");
}

function start() {
  keyDialog.start(() => {});
  $("refused-key").addEventListener("click", async () => (await keyDialog.ask(false)) && look());
  $("drain").addEventListener("click", drain);
  addEventListener("visibilitychange", look);
  serverStatus.start(look);
  look();
}

start();
